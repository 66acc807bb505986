//! Signals of the supervisor: blocked, and read from a signalfd(2) in the loop.

use crate::error::{Context, Error, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::fs;

/// Signals that are taken: child ended, stop, and those passed on to the service as they are.
const TAKEN: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
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

/// Whether the process would see `signal`. The first process of a pid namespace is not ended by the default action of a
/// signal (pid_namespaces(7)): sending one it does not catch does nothing at all.
pub(super) fn is_caught(pid: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |key: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        text.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0)
    };
    // A blocked signal waits to be taken by sigwait(3) or a signalfd(2).
    (mask("SigCgt:") | mask("SigBlk:")) & (1 << (signal as i32 - 1)) != 0
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
}
