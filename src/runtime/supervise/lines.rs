//! The service's output, read back from the journal: its standard output *is* the journal's stream, so nobody else sees the bytes.
//!
//! `journalctl` follows the lines of this invocation of the unit until the text was seen; then it is ended.

use crate::error::{Context, Error, Result};
use crate::ready::Search;
use crate::resolve::ServiceName;
use crate::sys::process::{fork, reset_signals};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execvp, pipe2};
use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where journalctl cannot be executed.
const NOT_THERE: i32 = 127;

/// Longest complaint of journalctl that is told.
const MOST: usize = 300;

/// A running journalctl.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) pid: Pid,
    out: File,
    errors: File,
    search: Search,
}

impl Follower {
    /// Follows what this invocation of the service `name` says since `since`, its beginning.
    ///
    /// journald learns the invocation from the process that wrote a line, and finds none for one that has ended already, such as
    /// an `echo` of an entrypoint. Its identifier (`SyslogIdentifier=`) it always has.
    ///
    /// # Errors
    /// When systemd did not start this process, or no process can be made.
    pub(super) fn start(name: &ServiceName, text: &str, since: SystemTime) -> Result<Follower> {
        let invocation = env::var("INVOCATION_ID").ok().filter(|id| id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()));
        let Some(invocation) = invocation else {
            return Err(Error::failed("probe `log` reads the journal, and this is not a service of systemd (no INVOCATION_ID)"));
        };
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros());
        let unit = format!("_SYSTEMD_INVOCATION_ID={invocation}");
        let identifier = format!("SYSLOG_IDENTIFIER={name}");
        // `+` is "or".
        let args = ["journalctl", "--user", "--follow", "--no-tail", "--output=cat", &since, &unit, "+", &identifier];
        let args = args.iter().map(|arg| CString::new(*arg)).collect::<std::result::Result<Vec<_>, _>>();
        let args = args.context(|| "cannot name the invocation")?;
        let what = || "cannot start journalctl";
        let (out, out_writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).context(what)?;
        let (errors, errors_writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).context(what)?;
        let pid = fork(|| become_journalctl(&args, &out_writer, &errors_writer)).context(what)?;
        Ok(Follower { pid, out: out.into(), errors: errors.into(), search: Search::new(text) })
    }

    /// Reads what there is. Whether the text was in it.
    pub(super) fn advance(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.out.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) if self.search.feed(&buffer[..count]) => return true,
                // One piece in one turn: others want to be heard, too.
                Ok(_) => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Why it ended by itself, which it should not.
    pub(super) fn why(&mut self, code: Option<i32>) -> Error {
        let mut said = String::new();
        // Not to the end: another holder of the pipe would be waited for.
        let mut buffer = [0; MOST];
        if let Ok(count) = self.errors.read(&mut buffer) {
            said = String::from_utf8_lossy(&buffer[..count]).trim().replace('\n', "; ");
        }
        let why = match code {
            Some(NOT_THERE) => "there is no `journalctl`".to_owned(),
            _ if said.is_empty() => format!("journalctl ended with code {}", code.unwrap_or(-1)),
            _ => said,
        };
        Error::host("cannot read the service's output from the journal")
            .because(std::io::Error::other(why))
            .hint("a user reads the own journal where it is kept on disk (`Storage=persistent` of journald.conf) or as a member of `systemd-journal`")
    }

    /// The end of it.
    pub(super) fn end(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }
}

fn become_journalctl(args: &[CString], out: &OwnedFd, errors: &OwnedFd) -> i32 {
    let set_up = || -> std::io::Result<()> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        dup2_stdin(File::open("/dev/null")?)?;
        dup2_stdout(out)?;
        dup2_stderr(errors)?;
        // The other end does not want to wait, this one has to.
        for fd in [out, errors] {
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
        }
        reset_signals()
    };
    if set_up().is_ok()
        && let Some(program) = args.first()
    {
        let _ = execvp(program, args);
    }
    NOT_THERE
}
