//! The service side of systemd's notification protocol: sd_notify(3), sd_pid_notify_with_fds(3), sd_listen_fds(3).

use crate::sys::socket::send_fds;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A connected notification socket, or nothing when the process was not started by a service manager.
#[derive(Debug)]
pub struct Notify(Option<OwnedFd>);

impl Notify {
    /// Connects to `$NOTIFY_SOCKET`. The socket stays usable after the process has left the manager's mount namespace.
    ///
    /// # Errors
    /// Those of socket(2) and connect(2).
    pub fn from_env() -> io::Result<Notify> {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Ok(Notify(None)) };
        let fd = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let address = match address.as_bytes() {
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            path => UnixAddr::new(OsStr::from_bytes(path))?,
        };
        connect(fd.as_raw_fd(), &address)?;
        Ok(Notify(Some(fd)))
    }

    /// A handle that drops every message.
    #[must_use]
    pub fn none() -> Notify {
        Notify(None)
    }

    /// Whether somebody listens.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.is_some()
    }

    /// Sends `state`, lines of `KEY=VALUE`.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn send(&self, state: &str) -> io::Result<()> {
        self.send_with_fds(state, &[])
    }

    /// Puts `fd` into the unit's descriptor store under `name` (`FDSTORE=1`); at most 255 ASCII characters, no `:`.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn store_fd(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.send_with_fds(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[fd])
    }

    /// Takes all descriptors called `name` out of the store.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn remove_fd(&self, name: &str) -> io::Result<()> {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"))
    }

    fn send_with_fds(&self, state: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        match &self.0 {
            Some(socket) => send_fds(socket.as_fd(), state.as_bytes(), fds).map(drop),
            None => Ok(()),
        }
    }
}

/// Takes the descriptors that the service manager passed (`LISTEN_FDS`, `LISTEN_FDNAMES`), with their names, and marks
/// them close-on-exec. Call once, early, while the process has one thread: a second call would hand out the same descriptors.
#[must_use]
pub fn take_listen_fds() -> Vec<(String, OwnedFd)> {
    const FIRST: i32 = 3;
    const MOST: i32 = 4096;
    static TAKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let number = |key: &str| env::var(key).ok().and_then(|text| text.parse::<i32>().ok());
    let Some(count) = number("LISTEN_FDS").filter(|count| (1..=MOST).contains(count)) else { return Vec::new() };
    let own_pid = i32::try_from(std::process::id()).ok();
    if number("LISTEN_PID") != own_pid || TAKEN.swap(true, std::sync::atomic::Ordering::SeqCst) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut list = Vec::new();
    for raw in FIRST..FIRST + count {
        let name = names.next().unwrap_or("unknown").to_owned();
        // SAFETY: F_SETFD on a number touches no memory; a number that is no descriptor gives EBADF and is passed over.
        if unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) } == 0 {
            // SAFETY: the service manager passed this open descriptor to us alone (LISTEN_PID is our pid), and the
            // TAKEN flag makes sure that it is wrapped once.
            list.push((name, unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_manager_nothing_is_sent_and_nothing_fails() {
        let notify = Notify::none();
        assert!(!notify.is_connected());
        notify.send("READY=1").unwrap();
    }
}
