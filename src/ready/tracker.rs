//! Follows one start, then feeds the watchdog. Pure.

use crate::resolve::{Probe, Ready};
use std::time::{Duration, Instant};

/// Between the first two tries; it doubles until the recipe's interval is reached.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// What the supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing until something happens or the instant has come.
    Wait(Option<Instant>),
    /// Run the probe now, and tell by [`Tracker::ended`].
    Probe,
    /// See whether the service's process does, and tell by [`Tracker::ended`].
    Look,
    /// The service is ready (told once).
    Ready,
}

/// What a result means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Feed the watchdog.
    pub feed: bool,
    /// A line for the journal: a change, not a state.
    pub news: Option<String>,
}

/// Follows one start and what comes after.
#[derive(Debug)]
pub struct Tracker {
    kind: Kind,
    interval: Duration,
    /// How often a ready service is looked at: a third of the watchdog's time.
    pace: Option<Duration>,
    last: Option<Instant>,
    tries: u32,
    probing: bool,
    passed: bool,
    ready: bool,
    failing: bool,
    feeds_itself: bool,
    last_failure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Started,
    Listen,
    /// Something comes from the service: a notice, a line.
    Heard,
    /// Something is tried again and again.
    Tried,
}

impl Tracker {
    /// For a service that was just executed.
    #[must_use]
    pub fn new(ready: &Ready) -> Self {
        let kind = match ready.probe {
            Probe::Started => Kind::Started,
            Probe::Listen => Kind::Listen,
            Probe::Notify | Probe::Log { .. } => Kind::Heard,
            Probe::Exec { .. } | Probe::Tcp { .. } | Probe::Http { .. } => Kind::Tried,
        };
        Tracker {
            kind,
            interval: Duration::from_millis(ready.interval_ms.max(1)),
            pace: ready.watchdog_s.map(|seconds| Duration::from_secs(seconds.max(1)) / 3),
            last: None,
            tries: 0,
            probing: false,
            passed: false,
            ready: false,
            failing: false,
            feeds_itself: false,
            last_failure: None,
        }
    }

    /// Whether the service became ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// What to do at `now`, when the service listens on all its ports or not.
    pub fn next(&mut self, now: Instant, listening: bool) -> Step {
        if self.ready {
            return self.watch(now);
        }
        let ready = match self.kind {
            Kind::Started => true,
            Kind::Listen => listening,
            Kind::Heard | Kind::Tried => self.passed,
        };
        if ready {
            self.ready = true;
            self.last = Some(now);
            return Step::Ready;
        }
        if self.kind != Kind::Tried || !listening || self.probing {
            return Step::Wait(None);
        }
        // Most services are ready a moment after they listen: the first tries follow each other quickly.
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.saturating_sub(1).min(16)).min(self.interval);
        self.when(now, pause, Step::Probe)
    }

    /// After the service was ready.
    fn watch(&mut self, now: Instant) -> Step {
        let Some(pace) = self.pace.filter(|_| !self.probing && !self.feeds_itself) else { return Step::Wait(None) };
        // A failure is looked at more often: the service may need only one success before the watchdog ends it.
        let pause = if self.failing { self.interval.max(Duration::from_secs(1)).min(pace) } else { pace };
        self.when(now, pause, if self.kind == Kind::Tried { Step::Probe } else { Step::Look })
    }

    fn when(&mut self, now: Instant, pause: Duration, step: Step) -> Step {
        match self.last.and_then(|last| last.checked_add(pause)) {
            Some(due) if now < due => Step::Wait(Some(due)),
            _ => {
                self.probing = true;
                step
            }
        }
    }

    /// What [`Step::Probe`] or [`Step::Look`] asked for ended at `now`, in a failure with a reason.
    pub fn ended(&mut self, now: Instant, result: Result<(), String>) -> Verdict {
        self.probing = false;
        self.last = Some(now);
        self.tries = self.tries.saturating_add(1);
        let was_failing = self.failing;
        match result {
            Ok(()) => {
                self.passed = true;
                self.failing = false;
                let news = (self.ready && was_failing).then(|| "probe succeeds again".to_owned());
                Verdict { feed: self.ready, news }
            }
            Err(why) => {
                // Before it is ready, failing is what is expected.
                self.failing = self.ready;
                let news = (self.ready && !was_failing).then(|| format!("probe fails: {why}"));
                self.last_failure = Some(why);
                Verdict { feed: false, news }
            }
        }
    }

    /// The service told that it is ready, or its output did.
    pub fn heard(&mut self) {
        if self.kind == Kind::Heard {
            self.passed = true;
        }
    }

    /// The service fed its own watchdog; from now on that is its own affair.
    pub fn feeds_itself(&mut self) {
        self.feeds_itself = true;
    }

    /// Why the last probe failed.
    #[must_use]
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(probe: Probe, watchdog_s: Option<u64>) -> Tracker {
        Tracker::new(&Ready {
            probe,
            interval_ms: 100,
            timeout_ms: 1000,
            start_timeout_s: 60,
            watchdog_s,
            first_start: None,
            phases: std::collections::BTreeMap::new(),
        })
    }

    fn command() -> Probe {
        Probe::Exec { command: vec!["true".into()] }
    }

    const QUIET: Verdict = Verdict { feed: false, news: None };

    #[test]
    fn a_command_is_tried_only_once_the_service_listens_and_then_at_intervals() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tracker = tracker(command(), None);
        assert_eq!(tracker.next(start, false), Step::Wait(None));
        assert_eq!(tracker.next(start, true), Step::Probe);
        assert_eq!(tracker.next(at(1), true), Step::Wait(None), "one probe at a time");
        assert_eq!(tracker.ended(at(10), Err("exit code 1".into())), QUIET);
        assert_eq!(tracker.last_failure(), Some("exit code 1"));
        let mut now = 10;
        for pause in [10, 20, 40, 80, 100, 100] {
            assert_eq!(tracker.next(at(now + 1), true), Step::Wait(Some(at(now + pause))));
            assert_eq!(tracker.next(at(now + pause), true), Step::Probe);
            now += pause;
            assert_eq!(tracker.ended(at(now), Err("exit code 1".into())), QUIET);
        }
        assert_eq!(tracker.next(at(now + 100), true), Step::Probe);
        assert_eq!(tracker.ended(at(now + 120), Ok(())), QUIET, "no watchdog runs before READY=1");
        assert_eq!(tracker.next(at(now + 121), true), Step::Ready);
        assert_eq!(tracker.next(at(now + 122), true), Step::Wait(None), "without a watchdog it is left in peace");
    }

    #[test]
    fn listening_is_enough_where_the_recipe_says_so() {
        let mut tracker = tracker(Probe::Listen, None);
        assert_eq!(tracker.next(Instant::now(), false), Step::Wait(None));
        assert_eq!(tracker.next(Instant::now(), true), Step::Ready);
    }

    #[test]
    fn a_notice_counts_for_who_waits_for_one() {
        let now = Instant::now();
        for (probe, ready) in [(Probe::Notify, true), (Probe::Log { text: "up".into() }, true), (Probe::Listen, false)] {
            let mut tracker = tracker(probe, None);
            assert_eq!(tracker.next(now, false), Step::Wait(None));
            tracker.heard();
            assert_eq!(tracker.next(now, false) == Step::Ready, ready);
        }
    }

    #[test]
    fn the_watchdog_is_fed_three_times_in_its_period_and_only_changes_are_news() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tracker = tracker(command(), Some(30));
        assert_eq!(tracker.next(start, true), Step::Probe);
        tracker.ended(start, Ok(()));
        assert_eq!(tracker.next(start, true), Step::Ready);
        assert_eq!(tracker.next(at(1), true), Step::Wait(Some(at(10_000))));
        assert_eq!(tracker.next(at(10_000), true), Step::Probe);
        assert_eq!(tracker.ended(at(10_100), Ok(())), Verdict { feed: true, news: None });
        assert_eq!(tracker.next(at(20_100), true), Step::Probe);
        let failed = tracker.ended(at(20_200), Err("exit code 2".into()));
        assert_eq!(failed, Verdict { feed: false, news: Some("probe fails: exit code 2".into()) });
        assert_eq!(tracker.next(at(20_201), true), Step::Wait(Some(at(21_200))), "soon again");
        assert_eq!(tracker.next(at(21_200), true), Step::Probe);
        assert_eq!(tracker.ended(at(21_300), Err("exit code 2".into())), QUIET);
        assert_eq!(tracker.next(at(22_300), true), Step::Probe);
        let back = tracker.ended(at(22_400), Ok(()));
        assert_eq!(back, Verdict { feed: true, news: Some("probe succeeds again".into()) });
        assert_eq!(tracker.next(at(22_401), true), Step::Wait(Some(at(32_400))));
    }

    #[test]
    fn who_is_not_tried_is_looked_at_until_it_feeds_itself() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut tracker = tracker(Probe::Notify, Some(3));
        tracker.heard();
        assert_eq!(tracker.next(start, false), Step::Ready);
        assert_eq!(tracker.next(at(1), false), Step::Look);
        assert!(tracker.ended(at(1), Ok(())).feed);
        tracker.feeds_itself();
        assert_eq!(tracker.next(at(9), false), Step::Wait(None));
    }
}
