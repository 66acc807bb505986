//! A child process that is root in a user namespace of its own, over all ids of this user.

use super::{Helpers, IdMaps, IdRange};
use crate::error::{Context, Error, Result};
use crate::sys::process;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

/// Maps the user's own ids alone, to 0, in the user namespace that `pid` has just made. The kernel lets a plain user do so without
/// help once setgroups(2) is denied (user_namespaces(7)).
///
/// # Errors
/// Those of writing the files.
pub fn write_own(pid: Pid, uid: u32, gid: u32) -> io::Result<()> {
    let write = |file: &str, text: String| fs::write(format!("/proc/{pid}/{file}"), text);
    write("setgroups", "deny".to_owned())?;
    write("uid_map", IdRange::single(0, uid).to_string())?;
    write("gid_map", IdRange::single(0, gid).to_string())
}

/// Runs `work` in a forked child that is root in a new user namespace with `maps`, and returns its exit code. The process must have one
/// thread.
///
/// # Errors
/// When the namespace cannot be made or mapped, or the child dies of a signal.
pub fn run_as_root(helpers: &Helpers, maps: &IdMaps, work: impl FnOnce() -> i32) -> Result<i32> {
    let what = || "cannot make a user namespace with this user's subordinate ids";
    let (made, made_there) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(what)?;
    let (go_there, go) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).context(what)?;
    let mut ours = Some((made, go));
    let mut theirs = Some((made_there, go_there));
    let child = process::fork(|| {
        let _ = set_pdeathsig(Signal::SIGKILL);
        drop(ours.take());
        theirs.take().map_or(1, |(made, go)| inside(made, go, work))
    })
    .context(what)?;
    drop(theirs);
    let mapped = ours.take().map_or(Ok(()), |(made, go)| map(child, made, go, helpers, maps));
    let ended = waitpid(child, None).context(what)?;
    mapped?;
    match ended {
        WaitStatus::Exited(_, code) => Ok(code),
        other => Err(Error::failed(what()).because(io::Error::other(format!("the child ended: {other:?}")))),
    }
}

fn map(child: Pid, made: OwnedFd, go: OwnedFd, helpers: &Helpers, maps: &IdMaps) -> Result<()> {
    let mut errno = [0; 4];
    File::from(made).read_exact(&mut errno).context(|| "the child that makes a user namespace ended early")?;
    match i32::from_ne_bytes(errno) {
        0 => {}
        errno => {
            return Err(Error::host("this host does not let users make user namespaces")
                .because(io::Error::from_raw_os_error(errno))
                .hint("`steading doctor` looks at user namespaces"));
        }
    }
    // Dropped without a byte the pipe tells the child that it was in vain.
    helpers.write(child, maps)?;
    File::from(go).write_all(b"g").context(|| "cannot go on in the user namespace")
}

fn inside(made: OwnedFd, go: OwnedFd, work: impl FnOnce() -> i32) -> i32 {
    let result = unshare(CloneFlags::CLONE_NEWUSER);
    let errno = result.err().map_or(0, |errno| errno as i32);
    if File::from(made).write_all(&errno.to_ne_bytes()).is_err() || errno != 0 {
        return 1;
    }
    match File::from(go).read(&mut [0]) {
        Ok(1) => work(),
        _ => 1,
    }
}
