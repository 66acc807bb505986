//! A datagram of sd_notify(3), as a service in a container sends it. Pure; whatever it holds, reading it does no harm.

use std::time::Duration;

/// Longest datagram that is looked at; systemd's own limit (`NOTIFY_BUFFER_MAX`).
pub const MOST: usize = 4096;

/// Longest status text that is passed on, in characters.
const MOST_STATUS: usize = 200;

/// What a service says of itself. Descriptors, `FDSTORE`, `BUSERROR` and the like are not passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// `READY=1`.
    pub ready: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `STATUS=`, one line without control characters.
    pub status: Option<String>,
    /// `MAINPID=`, in the sender's pid namespace.
    pub main_pid: Option<i32>,
    /// `WATCHDOG=`.
    pub watchdog: Option<Watchdog>,
    /// `EXTEND_TIMEOUT_USEC=`.
    pub extend: Option<Duration>,
}

/// `WATCHDOG=` of a service that has a watchdog of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// `1`: it is alive.
    Alive,
    /// `trigger`: it asks to be restarted.
    Trigger,
}

impl Notice {
    /// Reads a datagram. `None`: too long, with a NUL byte, or without anything that is known here.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Notice> {
        if datagram.len() > MOST || datagram.contains(&0) {
            return None;
        }
        let mut notice = Notice::default();
        for line in datagram.split(|byte| *byte == b'\n') {
            let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (&line[..at], &line[at + 1..]);
            match (key, value) {
                (b"READY", b"1") => notice.ready = true,
                (b"RELOADING", b"1") => notice.reloading = true,
                (b"STOPPING", b"1") => notice.stopping = true,
                (b"WATCHDOG", b"1") => notice.watchdog = Some(Watchdog::Alive),
                (b"WATCHDOG", b"trigger") => notice.watchdog = Some(Watchdog::Trigger),
                (b"STATUS", text) => notice.status = std::str::from_utf8(text).ok().map(one_line),
                (b"MAINPID", text) => notice.main_pid = number(text).and_then(|n| i32::try_from(n).ok()).filter(|n| *n > 0),
                (b"EXTEND_TIMEOUT_USEC", text) => notice.extend = number(text).map(Duration::from_micros),
                _ => {}
            }
        }
        (notice != Notice::default()).then_some(notice)
    }
}

/// Digits alone: no sign, no blank.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What can be shown on a terminal and cannot pass for another line.
fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() || is_format(c) { ' ' } else { c };
    text.trim().chars().take(MOST_STATUS).map(plain).collect::<String>().trim_end().to_owned()
}

/// Line separators, and marks that turn the direction of writing: what follows them would be read in another order.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_fields_that_are_passed_on_are_read() {
        let text =
            b"READY=1\nSTATUS=serving 3 of 4\nMAINPID=17\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=2000000\nRELOADING=1\nSTOPPING=1\nX=y";
        let notice = Notice::parse(text).unwrap();
        assert!(notice.ready && notice.reloading && notice.stopping);
        assert_eq!(notice.status.as_deref(), Some("serving 3 of 4"));
        assert_eq!((notice.main_pid, notice.watchdog), (Some(17), Some(Watchdog::Alive)));
        assert_eq!(notice.extend, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_unknown_broken_or_too_long_says_nothing() {
        let long = [b"READY=1\nSTATUS=".as_slice(), &[b'a'; MOST]].concat();
        for text in [
            &b""[..],
            b"\n\n=\n",
            b"READY=0",
            b"READY=1\0",
            b"ready=1",
            b" READY=1",
            b"FDSTORE=1\nFDNAME=x",
            b"BARRIER=1",
            b"MAINPID=-1",
            b"MAINPID=0",
            b"MAINPID=99999999999",
            b"MAINPID=+1",
            b"MAINPID= 1",
            b"EXTEND_TIMEOUT_USEC=99999999999999999999",
            b"STATUS=\xff",
            b"WATCHDOG=2",
            &long,
        ] {
            assert_eq!(Notice::parse(text), None, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        let status = |text: &str| Notice::parse(format!("STATUS={text}").as_bytes()).unwrap().status.unwrap();
        assert_eq!(status("a\u{1b}[31mb\u{202e}c\td\r"), "a [31mb c d");
        assert_eq!(status(&"é".repeat(1000)).chars().count(), MOST_STATUS);
        assert_eq!(status(""), "");
    }

    proptest! {
        #[test]
        fn no_datagram_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            if let Some(notice) = Notice::parse(&bytes) {
                prop_assert!(bytes.len() <= MOST);
                if let Some(status) = notice.status {
                    prop_assert!(status.chars().count() <= MOST_STATUS && !status.chars().any(char::is_control));
                }
                prop_assert!(notice.main_pid.is_none_or(|pid| pid > 0));
            }
        }

        #[test]
        fn any_status_comes_through_in_one_line(text in "\\PC{0,300}", more in "[\\x00-\\x7f]{0,40}") {
            let datagram = format!("STATUS={text}\n{more}");
            if let Some(notice) = Notice::parse(datagram.as_bytes()) {
                prop_assert!(notice.status.is_none_or(|status| !status.contains('\n')));
            }
        }
    }
}
