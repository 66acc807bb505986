//! Readiness and watchdog: when to probe, what the results mean, and the probes that need no process.
//!
//! | probe | ready when | the watchdog is fed when |
//! |---|---|---|
//! | `started` | the program was executed | its process is there and not stopped |
//! | `listen` | it called listen(2) on every published TCP port | as `started` |
//! | `log` | a text appeared in its output | as `started` |
//! | `notify` | it sent `READY=1` | it sends `WATCHDOG=1`; until its first one as `started` |
//! | `tcp`, `http`, `exec` | it listens, and the probe succeeds | the probe succeeds |
//!
//! [`Tracker`], [`Deadline`] and [`Notice`] are pure; the supervisor carries out what they say.

mod deadline;
mod dial;
mod http;
mod notice;
mod search;
mod tracker;

pub use deadline::Deadline;
pub use dial::{Dial, Wants};
pub use notice::{MOST as MOST_NOTICE, Notice, Watchdog};
pub use search::Search;
pub use tracker::{Step, Tracker, Verdict};
