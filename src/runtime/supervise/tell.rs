//! What the supervisor says: notifications to systemd, lines in the journal.

use crate::sys::notify::Notify;
use std::time::{Duration, Instant};

/// Between two status texts. A service may send thousands in a second; each costs its user's manager a message on the bus.
const PAUSE: Duration = Duration::from_millis(100);

/// Notices that a service may have passed on at once, and how long one more takes.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_millis(100);

/// Tells systemd about the service. A lost message is not worth the service's life, so nothing here fails.
#[derive(Debug)]
pub(super) struct Teller<'a> {
    notify: &'a Notify,
    told: String,
    wanted: String,
    next: Option<Instant>,
    left: u32,
    refilled: Instant,
}

impl<'a> Teller<'a> {
    pub(super) fn new(notify: &'a Notify) -> Self {
        Teller { notify, told: String::new(), wanted: String::new(), next: None, left: BURST, refilled: Instant::now() }
    }

    /// Sends a notification at once.
    pub(super) fn send(&self, state: &str) {
        let _ = self.notify.send(state);
    }

    /// Asks systemd for `more` time from now on.
    pub(super) fn extend(&self, more: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", more.as_micros()));
    }

    /// Shows `text` as the unit's status, soon.
    pub(super) fn status(&mut self, now: Instant, text: &str) {
        text.clone_into(&mut self.wanted);
        self.due(now);
    }

    /// Whether `text` is what is shown, or will be.
    pub(super) fn shows(&self, text: &str) -> bool {
        self.wanted == text
    }

    /// Sends a status text that waits and may go now. Returns when to look again.
    pub(super) fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.wanted == self.told {
            return None;
        }
        if let Some(next) = self.next.filter(|next| now < *next) {
            return Some(next);
        }
        self.next = now.checked_add(PAUSE);
        self.send(&format!("STATUS={}", self.wanted));
        self.told.clone_from(&self.wanted);
        None
    }

    /// Whether one more thing that the service said may be passed on.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let grown = now.saturating_duration_since(self.refilled).as_millis() / REFILL.as_millis();
        if grown > 0 {
            self.left = self.left.saturating_add(u32::try_from(grown).unwrap_or(BURST)).min(BURST);
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_many_texts_is_told_after_a_pause() {
        let notify = Notify::none();
        let mut teller = Teller::new(&notify);
        let start = Instant::now();
        teller.status(start, "one");
        assert_eq!(teller.told, "one");
        teller.status(start, "two");
        teller.status(start, "three");
        assert_eq!(teller.due(start), Some(start + PAUSE));
        assert_eq!(teller.told, "one");
        assert_eq!(teller.due(start + PAUSE), None);
        assert_eq!(teller.told, "three");
        teller.status(start + PAUSE, "three");
        assert_eq!(teller.due(start + PAUSE), None);
    }

    #[test]
    fn a_flood_is_passed_on_in_part() {
        let notify = Notify::none();
        let mut teller = Teller::new(&notify);
        let start = teller.refilled;
        assert_eq!((0..1000).filter(|_| teller.allows(start)).count(), BURST as usize);
        assert!(teller.allows(start + REFILL) && !teller.allows(start + REFILL));
    }
}
