//! The run lane: `ExecStart=steading supervise NAME`, and joining a running container.
//!
//! The supervisor is unprivileged and has one thread:
//!
//! ```text
//! supervisor (host)                    joiner (a fork)                 service (sibling of the joiner)
//!   open or take back the sockets
//!   join the yard: U0's descriptors
//!   fork ------------------------------> setns U0 (user, mount)
//!                                        gives files to the service's ids (`ids.rs`)
//!                                        clone3 of seven namespaces ---> waits
//!                                        writes uid_map, gid_map
//!                                        "go" -------------------------> overlay, mounts, pivot, /etc, loopback
//!   confines itself (harden.rs)
//!   <-- pid                              exits                           limits, no_new_privs, policy, capabilities, Landlock, notify filter
//!   <---------------------------------------- listener (SCM_RIGHTS) ---  exec of the image's entrypoint
//!   poll: signals, notifications, probes, the service's own sd_notify
//! ```
//!
//! It is the service's parent (`CLONE_PARENT`), so that it gets its exit status, and the owner of its user namespace, so
//! that it may read its memory (notifications) and enter its namespaces (probes) without any privilege on the host.

mod cgroup;
mod child;
mod clock;
mod compile;
mod condense;
mod container;
mod enter;
mod etc;
mod handover;
mod harden;
mod hold;
mod identity;
mod ids;
mod launch;
mod message;
mod mounts;
mod oneoff;
mod places;
mod policy;
mod privileges;
mod reaper;
mod record;
mod signals;
mod sockets;
mod supervise;
mod terminal;

pub use enter::{Command, exec};
pub use etc::{run_dir, write as write_etc};
pub use hold::hold;
pub use mounts::masks_of_host;
pub use oneoff::{enter_yard, run_once};
pub use policy::{Policies, Policy};
pub use supervise::supervise;
pub use terminal::{attend, is_interactive};
