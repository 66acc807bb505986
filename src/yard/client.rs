//! What a supervisor does with the yard: ask for U0.

use crate::error::{Context, Error, Result};
use crate::state::Paths;
use crate::sys::socket::{recv_fds, send_fds};
use crate::yard::{HELLO, WELCOME, u0};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the server may be away: it is started beside the first service, and restarted after a crash.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
const HINT: &str = "`systemctl --user status steading-yard` says more";

/// U0, the yard's namespaces.
#[derive(Debug)]
pub struct Joined {
    /// The user namespace.
    pub user: OwnedFd,
    /// The mount namespace.
    pub mount: OwnedFd,
}

impl Joined {
    /// Moves the calling process into U0, where it is root (and the user outside). It must have one thread; its working
    /// directory becomes U0's root.
    ///
    /// # Errors
    /// Those of setns(2).
    pub fn enter(&self) -> Result<()> {
        u0::enter(self.user.as_fd(), self.mount.as_fd()).context(|| "cannot enter the yard's namespace")
    }
}

/// Asks the yard's server for U0, waiting some seconds for a server that is not there yet.
///
/// # Errors
/// When no server answers, or it refuses.
pub fn join(paths: &Paths) -> Result<Joined> {
    join_within(&paths.yard_socket(), PATIENCE)
}

fn join_within(socket: &Path, patience: Duration) -> Result<Joined> {
    let end = Instant::now() + patience;
    loop {
        let error = match ask(socket) {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        // Not started yet, or ended while it was asked.
        let passing = matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        );
        if !passing || Instant::now() >= end {
            let what = format!("the yard does not answer at `{}`", socket.display());
            return Err(Error::failed(what).because(error).hint(HINT));
        }
        std::thread::sleep(PAUSE);
    }
}

/// One attempt: an I/O error may pass, an answer is final.
fn ask(socket: &Path) -> io::Result<Result<Joined>> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let peer = getsockopt(&stream, PeerCredentials)?.uid();
    if peer != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the server belongs to the user {peer}")));
    }
    send_fds(stream.as_fd(), HELLO.as_bytes(), &[])?;
    let mut buffer = [0; 512];
    let (length, fds) = recv_fds(stream.as_fd(), &mut buffer)?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = String::from_utf8_lossy(&buffer[..length]);
    let answer = answer.trim_end();
    if answer == WELCOME.trim_end()
        && let Ok([user, mount]) = <[OwnedFd; 2]>::try_from(fds)
    {
        return Ok(Ok(Joined { user, mount }));
    }
    let why = answer.strip_prefix("error ").unwrap_or(answer).escape_debug().to_string();
    Ok(Err(Error::failed("the yard refuses this program")
        .because(io::Error::other(why))
        .hint("after an upgrade of steading, `systemctl --user restart steading-yard` brings both to the same version")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn without_a_server_the_error_says_where_to_look() {
        let dir = tempfile::tempdir().unwrap();
        let begin = Instant::now();
        let error = join_within(&dir.path().join("yard.sock"), Duration::from_millis(50)).unwrap_err();
        assert!(begin.elapsed() >= Duration::from_millis(50), "it did not wait for the server");
        assert!(error.find_hint().unwrap().contains("steading-yard"));
        assert!(error.what().contains("yard.sock"));
    }

    #[test]
    fn a_server_that_comes_late_is_waited_for_and_its_refusal_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("yard.sock");
        let late = path.clone();
        let server = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let (mut stream, _) = UnixListener::bind(late).unwrap().accept().unwrap();
            let mut hello = [0; 16];
            stream.read_exact(&mut hello).unwrap();
            assert_eq!(&hello, HELLO.as_bytes());
            stream.write_all(b"error this yard speaks version 2\n").unwrap();
        });
        let error = join_within(&path, PATIENCE).unwrap_err();
        assert_eq!(error.causes(), ["this yard speaks version 2"]);
        server.join().unwrap();
    }
}
