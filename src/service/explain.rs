//! Why a job of systemd failed: its own reason, then the service's last words.

use super::journal;
use crate::error::{Error, Result};
use crate::resolve::ServiceName;
use crate::systemd::{JobOutcome, UnitStatus};
use std::time::SystemTime;

/// Lines of the journal that an error carries.
const LINES: u64 = 12;

/// The unit's status after a job that was done; else an error that begins with `what`.
pub(super) async fn require(outcome: JobOutcome, what: &str, name: &ServiceName, since: SystemTime) -> Result<UnitStatus> {
    let error = match outcome.require(what) {
        Ok(status) => return Ok(status),
        Err(error) => error,
    };
    let lines = journal::last_lines(name, since, LINES).await;
    Err(with_journal(error, &lines, name))
}

fn with_journal(error: Error, lines: &[String], name: &ServiceName) -> Error {
    if lines.is_empty() {
        return error;
    }
    let why = error.causes().join(": ");
    let journal = Error::failed(format!("the last lines of its journal are\n{}", lines.join("\n")));
    Error::new(error.kind(), error.what())
        .because(Error::failed(why).because(journal))
        .hint(format!("all of it: steading logs {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_before_the_journal() {
        let error = Error::failed("`a` did not start").because("it exited with code 1").hint("x");
        let name: ServiceName = "a".parse().unwrap();
        let told = with_journal(error, &["one".into(), "two".into()], &name);
        assert_eq!(told.causes(), ["it exited with code 1", "the last lines of its journal are\none\ntwo"]);
        assert_eq!((told.what(), told.find_hint()), ("`a` did not start", Some("all of it: steading logs a")));
    }
}
