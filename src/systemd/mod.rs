//! The user's service manager: its D-Bus interface, unit files on disk, linger, the journal. The only `zbus`.
//!
//! Order of an install: [`install_unit`] for each file, [`Manager::enable`] (works on files, needs no reload before it), one
//! [`Manager::reload`], [`Manager::start`]. Removal: [`Manager::stop`], [`Manager::disable`], [`remove_unit`], [`remove_drop_ins`],
//! [`Manager::reload`], [`Manager::reset_failed`].

mod connect;
mod files;
mod job;
mod journal;
mod login;
mod manager;
mod origin;
mod proxy;
mod status;

pub use files::{install_unit, remove_drop_ins, remove_unit};
pub use job::{JobOutcome, JobResult};
pub use journal::journal_command;
pub use login::{lingering, set_linger};
pub use manager::Manager;
pub use origin::UnitOrigin;
pub use status::{UnitState, UnitStatus};
