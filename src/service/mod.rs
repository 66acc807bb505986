//! Use cases: what the verbs of the command line do. Nothing is printed here; progress goes to a [`Reporter`].
//!
//! Whoever changes a service holds its [`crate::state::NameLock`]. An install is a transaction: what it wrote is taken back on
//! any failure and on an interrupt, except images and finished downloads, which the next try uses. These outlive each other:
//!
//! | | remove | remove --purge | failed install |
//! |---|---|---|---|
//! | units, generations, upper directory | goes | goes | goes |
//! | data, secrets | stays | goes | goes if the install made it |
//! | image | stays (`image prune`) | goes with the last service that uses it | stays |

mod access;
mod bundle;
mod context;
mod control;
mod discard;
mod enter;
mod explain;
mod fsck;
mod ids;
mod images;
mod install;
mod interrupt;
mod journal;
mod limits;
mod oneoff;
mod ports;
mod pull;
mod remove;
mod status;
mod transaction;
mod units;

pub use access::{environment, url};
pub use bundle::{bundle, run_by};
pub use context::Context;
pub use control::{restart, start, stop};
pub use enter::{exec, shell};
pub use fsck::{Finding, fsck};
pub use images::{ImageReport, images, prune, pull_image, remove_all_images, remove_image, show_image};
pub use install::{Installed, Request, install, plan};
pub use journal::journal_command;
pub use oneoff::{RunRequest, prepare, run};
pub use remove::{Removed, remove};
pub use status::{State, Status, list, status};
