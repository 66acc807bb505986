//! Signals of the supervisor: blocked, and read from a signalfd(2) in the loop.

use crate::error::{Context, Error, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::fs;

/// Signals that are taken: child ended, stop, systemd's watchdog, and those passed on to the service as they are.
const TAKEN: [Signal; 11] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGABRT,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Blocks the signals and opens a descriptor to read them from.
pub(super) fn take() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in TAKEN {
        set.add(signal);
    }
    set.thread_block().context(|| "cannot block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context(|| "cannot open a signal descriptor")
}

/// The signal a recipe or image names: `SIGINT`, `INT` or `2`.
pub(super) fn parse(name: &str) -> Result<Signal> {
    let by_number = || name.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    let by_name = || name.parse::<Signal>().or_else(|_| format!("SIG{name}").parse()).ok();
    by_number().or_else(by_name).ok_or_else(|| {
        Error::usage(format!("`{}` is no signal", name.escape_debug())).hint("e.g. SIGTERM, SIGINT, SIGQUIT, SIGUSR1")
    })
}

/// What a signal would do to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// Its default action, or the process cannot be looked at. The first process of a pid namespace is not ended by the default
    /// action of a signal (pid_namespaces(7)): sending one it does not catch does nothing at all.
    Default,
    /// The process ignores it.
    Ignored,
    /// A handler runs, or it waits to be taken by sigwait(3) or a signalfd(2).
    Caught,
}

/// What `signal` would do to the process.
pub(super) fn disposition(pid: Pid, signal: Signal) -> Disposition {
    disposition_in(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(), signal)
}

fn disposition_in(status: &str, signal: Signal) -> Disposition {
    let mask = |key: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        text.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0)
    };
    let bit = 1 << (signal as i32 - 1);
    if (mask("SigCgt:") | mask("SigBlk:")) & bit != 0 {
        Disposition::Caught
    } else if mask("SigIgn:") & bit != 0 {
        Disposition::Ignored
    } else {
        Disposition::Default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_in_three_ways() {
        for text in ["SIGINT", "INT", "2"] {
            assert_eq!(parse(text).unwrap(), Signal::SIGINT);
        }
        for text in ["", "SIG", "0", "999", "sigint\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_a_signal_does_is_read_from_the_masks() {
        // SIGTERM (15) caught, SIGHUP (1) ignored, SIGINT (2) blocked.
        let status = "SigBlk:\t0000000000000002\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000004000\n";
        assert_eq!(disposition_in(status, Signal::SIGTERM), Disposition::Caught);
        assert_eq!(disposition_in(status, Signal::SIGINT), Disposition::Caught);
        assert_eq!(disposition_in(status, Signal::SIGHUP), Disposition::Ignored);
        assert_eq!(disposition_in(status, Signal::SIGQUIT), Disposition::Default);
        assert_eq!(disposition_in("", Signal::SIGTERM), Disposition::Default);
    }
}
