//! Readiness: when to probe, and what the results mean. Pure; the supervisor carries probes out.

use crate::resolve::{Probe, Ready};
use std::time::{Duration, Instant};

/// What the supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something happens or the instant has come.
    Wait(Option<Instant>),
    /// Run the probe now.
    Probe,
    /// The service is ready (told once).
    Ready,
    /// The service was ready before; nothing to do.
    Settled,
}

/// Follows one start.
#[derive(Debug)]
pub struct Tracker {
    probe: Kind,
    interval: Duration,
    last: Option<Instant>,
    probing: bool,
    passed: bool,
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Started,
    Listen,
    Command,
}

impl Tracker {
    /// For a service that was just executed.
    #[must_use]
    pub fn new(ready: &Ready) -> Self {
        let probe = match ready.probe {
            Probe::Started => Kind::Started,
            Probe::Listen => Kind::Listen,
            Probe::Exec { .. } | Probe::Tcp { .. } | Probe::Http { .. } | Probe::Notify | Probe::Log { .. } => Kind::Command,
        };
        let interval = Duration::from_millis(ready.interval_ms.max(1));
        Tracker { probe, interval, last: None, probing: false, passed: false, told: false }
    }

    /// What to do at `now`, when the service listens on all its ports or not.
    pub fn next(&mut self, now: Instant, listening: bool) -> Step {
        if self.told {
            return Step::Settled;
        }
        let ready = match self.probe {
            Kind::Started => true,
            Kind::Listen => listening,
            Kind::Command => self.passed,
        };
        if ready {
            self.told = true;
            return Step::Ready;
        }
        if self.probe != Kind::Command || !listening || self.probing {
            return Step::Wait(None);
        }
        match self.last.and_then(|last| last.checked_add(self.interval)) {
            Some(due) if now < due => Step::Wait(Some(due)),
            _ => {
                self.probing = true;
                Step::Probe
            }
        }
    }

    /// The probe ended at `now`.
    pub fn probe_ended(&mut self, now: Instant, passed: bool) {
        self.probing = false;
        self.last = Some(now);
        self.passed |= passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(probe: Probe) -> Tracker {
        Tracker::new(&Ready {
            probe,
            interval_ms: 100,
            timeout_ms: 1000,
            start_timeout_s: 60,
            watchdog_s: None,
            first_start: None,
            phases: std::collections::BTreeMap::new(),
        })
    }

    #[test]
    fn a_command_is_tried_only_once_the_service_listens_and_then_at_intervals() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tracker = tracker(Probe::Exec { command: vec!["true".into()] });
        assert_eq!(tracker.next(start, false), Step::Wait(None));
        assert_eq!(tracker.next(start, true), Step::Probe);
        assert_eq!(tracker.next(at(1), true), Step::Wait(None), "one probe at a time");
        tracker.probe_ended(at(10), false);
        assert_eq!(tracker.next(at(11), true), Step::Wait(Some(at(110))));
        assert_eq!(tracker.next(at(110), true), Step::Probe);
        tracker.probe_ended(at(120), true);
        assert_eq!(tracker.next(at(121), true), Step::Ready);
        assert_eq!(tracker.next(at(122), true), Step::Settled);
    }

    #[test]
    fn listening_is_enough_where_the_recipe_says_so() {
        let mut tracker = tracker(Probe::Listen);
        assert_eq!(tracker.next(Instant::now(), false), Step::Wait(None));
        assert_eq!(tracker.next(Instant::now(), true), Step::Ready);
    }
}
