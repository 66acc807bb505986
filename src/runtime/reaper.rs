//! A small pid 1 for services that do not reap: passes signals on, reaps orphans, ends when the service has ended.
//!
//! Pid 1 of a namespace cannot end itself by a signal, and an exit code of 128 + N may be the service's own. So the reaper tells
//! the supervisor how the service ended over a link of its own, and asks whether that is the end: a service that named another
//! process as its main one (`MAINPID=`) goes on with that.

use crate::sys::socket::{recv_fds, send_fds};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::BorrowedFd;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(Signal),
}

impl Ending {
    /// The process and its ending, if this is one.
    pub(super) fn of(status: WaitStatus) -> Option<(Pid, Ending)> {
        match status {
            WaitStatus::Exited(pid, code) => Some((pid, Ending::Code(code))),
            WaitStatus::Signaled(pid, signal, _) => Some((pid, Ending::Signal(signal))),
            _ => None,
        }
    }
}

/// Runs until the service has ended; returns the exit code. All signals are blocked, `service` is a child.
pub(super) fn run(service: Pid, link: BorrowedFd<'_>) -> i32 {
    // Not sigwait(3), which unblocks what it waits for: the supervisor would see signals that nobody takes.
    let Ok(signals) = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC) else { return 1 };
    let mut main = service;
    loop {
        let signal = signals.read_signal().ok().flatten().and_then(|info| i32::try_from(info.ssi_signo).ok());
        match signal.map(Signal::try_from) {
            Some(Ok(Signal::SIGCHLD)) => {
                while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                    if status == WaitStatus::StillAlive {
                        break;
                    }
                    let Some((pid, ending)) = Ending::of(status).filter(|(pid, _)| *pid == main) else { continue };
                    match ask(link, pid, ending) {
                        // One that has ended already was reaped here as anybody's orphan.
                        Some(next) if kill(next, None).is_ok() => main = next,
                        _ => return code(ending),
                    }
                }
            }
            Some(Ok(signal)) => drop(kill(main, signal)),
            _ => {}
        }
    }
}

/// What shells report, for whoever sees no more than an exit code.
fn code(ending: Ending) -> i32 {
    match ending {
        Ending::Code(code) => code,
        Ending::Signal(signal) => 128 + signal as i32,
    }
}

/// Tells how the main process ended; returns the one that is main now. Without a supervisor there is none.
fn ask(link: BorrowedFd<'_>, pid: Pid, ending: Ending) -> Option<Pid> {
    let (kind, value) = match ending {
        Ending::Code(code) => (0, code),
        Ending::Signal(signal) => (1, signal as i32),
    };
    let mut question = [0; 12];
    for (part, number) in question.chunks_exact_mut(4).zip([pid.as_raw(), kind, value]) {
        part.copy_from_slice(&number.to_ne_bytes());
    }
    send_fds(link, &question, &[]).ok()?;
    let mut answer = [0; 4];
    match recv_fds(link, &mut answer) {
        Ok((4, _)) => Some(i32::from_ne_bytes(answer)).filter(|pid| *pid > 0).map(Pid::from_raw),
        _ => None,
    }
}

/// The supervisor's end: which process ended (numbered as in the container) and how. The service could trace its reaper, so what
/// comes is checked. `None`: nobody will ask any more.
pub(super) fn question(link: BorrowedFd<'_>) -> io::Result<Option<(i32, Ending)>> {
    let mut bytes = [0; 12];
    let (count, _) = recv_fds(link, &mut bytes)?;
    if count == 0 {
        return Ok(None);
    }
    let mut numbers = bytes.chunks_exact(4).map(|part| part.try_into().map(i32::from_ne_bytes).unwrap_or_default());
    let (pid, kind, value) = (numbers.next(), numbers.next(), numbers.next());
    let ending = match (kind, value) {
        (Some(0), Some(code)) => Some(Ending::Code(code & 0xff)),
        (Some(1), Some(number)) => Signal::try_from(number).ok().map(Ending::Signal),
        _ => None,
    };
    match (count, pid, ending) {
        (12, Some(pid), Some(ending)) => Ok(Some((pid, ending))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown message from the container's reaper")),
    }
}

/// The supervisor's answer: go on with `next` (numbered as in the container), or end.
pub(super) fn answer(link: BorrowedFd<'_>, next: Option<i32>) {
    // A reaper that is gone needs none.
    let _ = send_fds(link, &next.unwrap_or(0).to_ne_bytes(), &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::fd::{AsFd, OwnedFd};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn endings_cross_and_an_answer_comes_back() {
        let (a, b) = pair();
        for (ending, next) in [(Ending::Code(7), None), (Ending::Signal(Signal::SIGSEGV), Some(12))] {
            answer(b.as_fd(), next);
            assert_eq!(ask(a.as_fd(), Pid::from_raw(2), ending), next.map(Pid::from_raw));
            assert_eq!(question(b.as_fd()).unwrap(), Some((2, ending)));
        }
        drop(a);
        assert_eq!(question(b.as_fd()).unwrap(), None);
    }

    #[test]
    fn nonsense_is_no_ending_and_a_lost_supervisor_is_the_end() {
        let (a, b) = pair();
        let bad_signal: Vec<u8> = [2_i32, 1, 999].iter().flat_map(|n| n.to_ne_bytes()).collect();
        for bytes in [&b"x"[..], &[0xff; 12], &[0; 11], &bad_signal] {
            send_fds(a.as_fd(), bytes, &[]).unwrap();
            assert!(question(b.as_fd()).is_err(), "{bytes:?}");
        }
        drop(b);
        assert_eq!(ask(a.as_fd(), Pid::from_raw(2), Ending::Code(0)), None);
    }
}
