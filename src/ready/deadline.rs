//! How long a start may take: a time-out that moves while there is progress, up to a bound. Pure.

use std::time::{Duration, Instant};

/// A start with progress may take this many times its time-out, however it goes.
pub const MOST_TIMES: u32 = 30;

/// When a start is given up.
#[derive(Debug)]
pub struct Deadline {
    window: Duration,
    /// `None`: never.
    at: Option<Instant>,
    /// Beyond this it does not move.
    last: Option<Instant>,
}

impl Deadline {
    /// For a phase that began at `now` and may take `window` without progress; zero is for ever.
    #[must_use]
    pub fn new(now: Instant, window: Duration) -> Deadline {
        let at = if window.is_zero() { None } else { now.checked_add(window) };
        // Beyond what an Instant can hold nobody waits.
        let last = window.checked_mul(MOST_TIMES).and_then(|most| now.checked_add(most));
        Deadline { window, at, last: at.and(last) }
    }

    /// When it is given up as things stand.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether the time is over.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now >= at)
    }

    /// There is progress. Returns how long it may take from now on, when that changed enough to be told.
    pub fn progress(&mut self, now: Instant) -> Option<Duration> {
        let left = self.at?.saturating_duration_since(now);
        // Progress may be seen ten times a second, which nobody wants to hear of.
        if left > self.window / 4 * 3 { None } else { self.extend(now, self.window) }
    }

    /// The service asks for `more` time from now on. Never shortens. Returns what it gets, when that moved the end.
    pub fn extend(&mut self, now: Instant, more: Duration) -> Option<Duration> {
        let at = self.at?;
        let wanted = now.checked_add(more).or(self.last)?;
        let end = self.last.map_or(wanted, |last| wanted.min(last));
        if end <= at {
            return None;
        }
        self.at = Some(end);
        Some(end.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn without_progress_it_ends_after_its_time_out() {
        let start = Instant::now();
        let deadline = Deadline::new(start, WINDOW);
        assert!(!deadline.is_over(start + Duration::from_secs(9)));
        assert!(deadline.is_over(start + WINDOW));
        assert!(Deadline::new(start, Duration::ZERO).at().is_none());
    }

    #[test]
    fn progress_moves_it_but_not_for_ever() {
        let start = Instant::now();
        let mut deadline = Deadline::new(start, WINDOW);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(deadline.progress(at(1)), None, "too early to be worth telling");
        assert_eq!(deadline.progress(at(4)), Some(WINDOW));
        assert!(!deadline.is_over(at(13)) && deadline.is_over(at(14)));
        let mut second = 4;
        while !deadline.is_over(at(second)) {
            deadline.progress(at(second));
            second += 1;
        }
        assert_eq!(second, 300);
    }

    #[test]
    fn a_service_may_ask_for_more_but_not_for_less_or_for_everything() {
        let start = Instant::now();
        let mut deadline = Deadline::new(start, WINDOW);
        assert_eq!(deadline.extend(start, Duration::from_secs(1)), None);
        assert_eq!(deadline.extend(start, Duration::from_secs(60)), Some(Duration::from_secs(60)));
        assert_eq!(deadline.extend(start, Duration::MAX), Some(WINDOW * MOST_TIMES));
        assert_eq!(deadline.extend(start, Duration::MAX), None);
    }
}
