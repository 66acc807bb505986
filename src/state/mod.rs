//! Services, generations, ports, secrets and settings on disk. Every write is atomic (`sys::file`), every mutation holds a lock.
//!
//! ```text
//! $XDG_DATA_HOME/steading/services/
//!   .NAME.lock               who changes the service now (flock; the text is for people)
//!   .shared.lock             held while ports, shared units and the set of services are changed
//!   .images.lock             shared: an install needs images that no plan names yet; exclusive: images are removed
//!   NAME/generations/N/      plan.toml, config.json (OCI runtime spec), NAME.service as they were written
//!   NAME/current             -> generations/N; a service is installed if and only if this link exists
//!   NAME/data/VOLUME  NAME/secrets/NAME  NAME/upper/{diff,work}
//!   NAME/ids.toml            a `private` service: which ids of the host it has
//! ```
//!
//! `remove` leaves `data/`, `secrets/` and `ids.toml`, which a later install of the same name takes up again.

mod ids;
mod locks;
mod paths;
mod ports;
mod reclaim;
mod runs;
mod secrets;
mod services;
mod settings;
mod tree;

pub use ids::PrivateIds;
pub use locks::{Busy, NameLock, SharedLock};
pub use paths::{Paths, ServiceDir};
pub use ports::PortUse;
pub use reclaim::reclaim;
pub use runs::{Keeper, RunDir, RunLock};
pub use secrets::Secret;
pub use services::{Services, Unreadable, plan_text};
pub use settings::{RootfsDriver, Settings};
pub use tree::{remove_dir_if_empty, remove_tree};
