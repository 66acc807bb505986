//! Host checks: what steading needs of a machine, whether it is there, and what to do when it is not. Nothing is changed.
//!
//! [`Facts`] are gathered first (files, D-Bus, probes that really try the thing in a child of their own); every check is a pure
//! function of them in the table [`CHECKS`], so each bad host can be tested without being there.
//!
//! The command line runs `steading doctor`, and its hidden child `steading doctor --probe NAME`, which calls [`probe`] in a
//! process with one thread and writes the [`Outcome`] as JSON to stdout.

mod checks;
mod facts;
mod ids;
mod probe;
mod report;
#[cfg(test)]
mod tests;

pub use checks::{CHECKS, Check};
pub use facts::{Absent, Facts, ManagerFacts, RuntimeDir, Sysctls};
pub use ids::IdFacts;
pub use probe::{Outcome, Probe, probe};
pub use report::{Finding, Report, Severity};

use crate::state::Paths;

/// Looks at this host. Without `paths` (no home, no run-time directory) what depends on them is said to be unknown.
pub async fn examine(paths: Option<&Paths>) -> Report {
    check(&Facts::gather(paths).await)
}

/// Runs every check on `facts`.
#[must_use]
pub fn check(facts: &Facts) -> Report {
    Report { findings: CHECKS.iter().map(|check| (check.run)(facts).named(check.name)).collect() }
}
