//! What the container's set-up tells the supervisor, over a `SOCK_SEQPACKET` pair that closes at exec.

use crate::error::{Error, Kind};
use crate::sys::socket::{recv_fds_from, send_fds};
use nix::unistd::Pid;
use std::error::Error as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest message; an error with its causes is cut to it.
const MOST: usize = 8192;

/// A message of the set-up.
#[derive(Debug)]
pub(super) enum Message {
    /// Process id of the service in the supervisor's pid namespace.
    Pid(i32),
    /// The listener of the notification filter, and the process that sent it, which executes the service next.
    Listener(OwnedFd, Option<Pid>),
    /// Our side of the program's terminal; exec follows.
    Terminal(OwnedFd),
    /// Set-up failed; nothing follows.
    Failed(Error),
    /// The other side is closed: exec succeeded, or the process died.
    Closed,
}

/// Carries a foreign error's text through the socket.
#[derive(Debug)]
struct Cause(String);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// Sends the service's process id.
pub(super) fn send_pid(socket: BorrowedFd<'_>, pid: i32) -> io::Result<()> {
    send_fds(socket, format!("pid\0{pid}").as_bytes(), &[]).map(drop)
}

/// Sends the listener.
pub(super) fn send_listener(socket: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> io::Result<()> {
    send_fds(socket, b"listener", &[listener]).map(drop)
}

/// Sends the side of a terminal that is not the program's.
pub(super) fn send_terminal(socket: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> io::Result<()> {
    send_fds(socket, b"terminal", &[terminal]).map(drop)
}

/// Sends an error: kind, what, causes joined, hint.
pub(super) fn send_failure(socket: BorrowedFd<'_>, error: &Error) -> io::Result<()> {
    let kind = error.kind().exit_code();
    let causes = if error.source().is_some() { error.causes().join(": ") } else { String::new() };
    let text = format!("failed\0{kind}\0{}\0{causes}\0{}", error.what(), error.find_hint().unwrap_or_default());
    let bytes = text.as_bytes();
    send_fds(socket, &bytes[..bytes.len().min(MOST)], &[]).map(drop)
}

/// Waits for the next message.
///
/// # Errors
/// Those of recvmsg(2); `InvalidData` for a message that is none of ours.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<Message> {
    let mut buffer = [0; MOST];
    let (length, mut fds, sender) = recv_fds_from(socket.as_fd(), &mut buffer)?;
    if length == 0 {
        return Ok(Message::Closed);
    }
    let text = String::from_utf8_lossy(&buffer[..length]);
    let mut parts = text.split('\0');
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an unknown message from the container's set-up");
    match parts.next() {
        Some("pid") => Ok(Message::Pid(parts.next().and_then(|pid| pid.parse().ok()).ok_or_else(odd)?)),
        Some("listener") => Ok(Message::Listener(fds.pop().ok_or_else(odd)?, sender)),
        Some("terminal") => Ok(Message::Terminal(fds.pop().ok_or_else(odd)?)),
        Some("failed") => {
            let kind = match parts.next() {
                Some("2") => Kind::Usage,
                Some("3") => Kind::NotFound,
                Some("4") => Kind::HostCannot,
                Some("126") => Kind::NotExecutable,
                Some("127") => Kind::NoProgram,
                _ => Kind::Failed,
            };
            let mut error = Error::new(kind, parts.next().unwrap_or("the container could not be set up"));
            if let Some(causes) = parts.next().filter(|text| !text.is_empty()) {
                error = error.because(Cause(causes.to_owned()));
            }
            if let Some(hint) = parts.next().filter(|text| !text.is_empty()) {
                error = error.hint(hint);
            }
            Ok(Message::Failed(error))
        }
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn an_error_crosses_with_kind_cause_and_hint() {
        let (a, b) = pair();
        let error = Error::host("cannot mount").because(io::Error::from_raw_os_error(libc::EPERM)).hint("see doctor");
        send_failure(a.as_fd(), &error).unwrap();
        let Message::Failed(back) = receive(&b).unwrap() else { panic!("no failure") };
        assert_eq!((back.kind(), back.what(), back.find_hint()), (Kind::HostCannot, "cannot mount", Some("see doctor")));
        assert_eq!(back.causes(), error.causes());
    }

    #[test]
    fn pid_then_closed_and_nonsense_is_refused() {
        let (a, b) = pair();
        send_pid(a.as_fd(), 42).unwrap();
        send_fds(a.as_fd(), b"what\0", &[]).unwrap();
        drop(a);
        assert!(matches!(receive(&b).unwrap(), Message::Pid(42)));
        assert!(receive(&b).is_err());
        assert!(matches!(receive(&b).unwrap(), Message::Closed));
    }
}
