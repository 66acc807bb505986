//! What can go wrong with one request, and when to try again.

use crate::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Numbers of patience; tests make them small.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    /// Tries per endpoint without progress.
    pub tries: u32,
    /// Pause after the first failure; doubles from there.
    pub first_pause: Duration,
    /// Longest pause of our own choice.
    pub longest_pause: Duration,
    /// Longest `Retry-After` that is waited for.
    pub longest_wait: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// Time of silence on a connection.
    pub idle: Duration,
    /// Bytes that count as progress: with them in, the tries begin anew.
    pub progress: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            tries: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
            longest_wait: Duration::from_secs(60),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            progress: 1 << 20,
        }
    }
}

impl Tuning {
    /// The pause after failure number `failures`: half fixed, half random, so that many clients do not come back together.
    fn pause(&self, failures: u32) -> Duration {
        let full = self.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest_pause);
        // A fresh RandomState is seeded by the system: random enough for jitter, without another dependency.
        let random = u32::try_from(RandomState::new().hash_one(failures) % 1000).unwrap_or_default();
        full / 2 + (full / 2).saturating_mul(random) / 1000
    }
}

/// What a fault means for what to do next.
#[derive(Debug)]
pub(super) enum Class {
    /// No connection.
    Unreachable {
        /// Because nothing answered in time: each further try costs as long.
        silent: bool,
    },
    /// It may work again in a moment.
    Passing {
        /// What the server asked us to wait.
        after: Option<Duration>,
    },
    /// The thing is not there.
    Missing,
    /// We are not allowed.
    Denied,
    /// Too many requests.
    Limited {
        /// What the server asked us to wait.
        after: Option<Duration>,
    },
    /// The server cannot be trusted or understood; another endpoint may be better.
    Wrong,
    /// This host lacks what is needed to ask there.
    Host,
    /// This host's own trouble: no endpoint will do better.
    Local(Error),
}

/// One failed request.
#[derive(Debug)]
pub(super) struct Fault {
    pub class: Class,
    /// Why, for people.
    pub why: String,
    /// What to do, when it is something special.
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(class: Class, why: impl Into<String>) -> Self {
        Fault { class, why: why.into(), hint: None }
    }

    pub fn wrong(why: impl Into<String>) -> Self {
        Self::new(Class::Wrong, why)
    }

    pub fn passing(why: impl Into<String>) -> Self {
        Self::new(Class::Passing { after: None }, why)
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::new(Class::Local(error), String::new())
    }
}

/// Counts the tries at one endpoint.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    tuning: &'a Tuning,
    failures: u32,
    progress: u64,
}

impl<'a> Attempts<'a> {
    pub fn new(tuning: &'a Tuning) -> Self {
        Attempts { tuning, failures: 0, progress: 0 }
    }

    /// `bytes` more have arrived for good; enough of them make a link that is often cut still usable.
    pub fn advance(&mut self, bytes: u64) {
        self.progress = self.progress.saturating_add(bytes);
        if self.progress >= self.tuning.progress {
            self.progress = 0;
            self.failures = 0;
        }
    }

    /// Waits until the next try.
    ///
    /// # Errors
    /// Gives the fault back when there is no next try.
    pub async fn again(&mut self, mut fault: Fault) -> Result<(), Fault> {
        self.failures += 1;
        let (most, after) = match &fault.class {
            Class::Unreachable { silent: true } => (self.tuning.tries.min(2), None),
            Class::Unreachable { silent: false } => (self.tuning.tries, None),
            Class::Passing { after } | Class::Limited { after } => (self.tuning.tries, *after),
            Class::Missing | Class::Denied | Class::Wrong | Class::Host | Class::Local(_) => return Err(fault),
        };
        if let Some(wait) = after.filter(|&wait| wait > self.tuning.longest_wait) {
            fault.why = format!("{}, and asks to wait {} s", fault.why, wait.as_secs());
            return Err(fault);
        }
        if self.failures >= most {
            if self.failures > 1 {
                fault.why = format!("{} ({} tries)", fault.why, self.failures);
            }
            return Err(fault);
        }
        tokio::time::sleep(after.unwrap_or_default().max(self.tuning.pause(self.failures))).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_their_jitter_and_stay_below_the_longest() {
        let tuning = Tuning::default();
        for failures in 1..40 {
            let full = Duration::from_millis(250 << (failures - 1).min(5)).min(tuning.longest_pause);
            let pause = tuning.pause(failures);
            assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
        }
    }

    #[tokio::test]
    async fn tries_end_and_progress_renews_them() {
        let tuning = Tuning { tries: 2, first_pause: Duration::from_millis(1), progress: 10, ..Tuning::default() };
        let mut attempts = Attempts::new(&tuning);
        assert!(attempts.again(Fault::passing("cut")).await.is_ok());
        attempts.advance(9);
        assert_eq!(attempts.again(Fault::passing("cut")).await.unwrap_err().why, "cut (2 tries)");
        attempts.advance(1);
        assert!(attempts.again(Fault::passing("cut")).await.is_ok());
        assert!(attempts.again(Fault::wrong("bad")).await.is_err());
    }

    #[tokio::test]
    async fn an_endless_retry_after_is_not_waited_for() {
        let tuning = Tuning::default();
        let fault = Fault::new(Class::Limited { after: Some(Duration::from_secs(3600)) }, "too many requests");
        let why = Attempts::new(&tuning).again(fault).await.unwrap_err().why;
        assert_eq!(why, "too many requests, and asks to wait 3600 s");
    }
}
