//! Probes: the thing itself is tried, in a child process of its own, which ends right after and leaves nothing.

use crate::error::{Context, Error, Result};
use crate::idmap::{self, Helpers};
use crate::sys::mount::{Attr, attach, new_mount};
use crate::sys::socket::{recv_fds, send_fds};
use crate::sys::{caps, file, identity, process, seccomp};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket, socketpair};
use nix::sys::stat::{Mode, fstat};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{getgid, getuid};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// A user namespace with mounts in it, and all the namespaces of a service nested in it.
    Userns,
    /// A kernel overlay with `userxattr` on the file system of the services.
    Overlay,
    /// A FUSE mount in a user namespace, up to the kernel's first request.
    Fuse,
    /// A user namespace with all of the user's subordinate ids.
    Range,
    /// The handover: a descriptor swapped into a program that calls bind(2).
    Seccomp,
}

impl Probe {
    /// All of them.
    pub const ALL: [Probe; 5] = [Probe::Userns, Probe::Overlay, Probe::Fuse, Probe::Range, Probe::Seccomp];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Probe::Userns => "userns",
            Probe::Overlay => "overlay",
            Probe::Fuse => "fuse",
            Probe::Range => "range",
            Probe::Seccomp => "seccomp",
        }
    }
}

impl FromStr for Probe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Probe::ALL
            .into_iter()
            .find(|probe| probe.name() == text)
            .ok_or_else(|| Error::usage(format!("there is no probe `{}`", text.escape_debug())))
    }
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It works; a detail worth telling, or nothing.
    Works(String),
    /// A step failed.
    Fails {
        /// Which step.
        step: String,
        /// Why.
        error: String,
        /// The errno, 0 when there is none.
        errno: i32,
    },
}

impl Outcome {
    pub(super) fn failed(step: &str, error: &io::Error) -> Outcome {
        Outcome::Fails { step: step.to_owned(), error: error.to_string(), errno: error.raw_os_error().unwrap_or(0) }
    }
}

type Step<T> = std::result::Result<T, Outcome>;

fn at<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> Outcome {
    move |error| Outcome::failed(step, &error.into())
}

/// Tries `what` in this process, which enters namespaces and should end afterwards. `dir` is where services will lie.
///
/// # Errors
/// When the process has more than one thread.
pub fn probe(what: Probe, dir: &Path) -> Result<Outcome> {
    if process::thread_count().context(|| "cannot count the threads of this process")? != 1 {
        return Err(Error::failed("a probe needs a process with one thread"));
    }
    let done = match what {
        Probe::Userns => userns(),
        Probe::Overlay => overlay(dir),
        Probe::Fuse => fuse(),
        Probe::Range => range(),
        Probe::Seccomp => handover(),
    };
    Ok(match done {
        Ok(detail) => Outcome::Works(detail),
        Err(outcome) => outcome,
    })
}

/// Makes this process root in a user and mount namespace of its own. The first mount shows whether that root can do anything:
/// where a security module restricts user namespaces, making one succeeds and using it fails.
fn become_root() -> Step<()> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(at("make a user namespace"))?;
    map_ids(uid.as_raw(), gid.as_raw())?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(at("mount in a user namespace"))
}

fn map_ids(uid: u32, gid: u32) -> Step<()> {
    let write = |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text);
    write("setgroups", "deny".into())
        .and_then(|()| write("uid_map", format!("0 {uid} 1\n")))
        .and_then(|()| write("gid_map", format!("0 {gid} 1\n")))
        .map_err(at("write the id map of a user namespace"))
}

fn userns() -> Step<String> {
    become_root()?;
    // As in the yard: a service's namespaces are nested in the user's.
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(all).map_err(at("make nested namespaces"))?;
    map_ids(0, 0)?;
    crate::sys::net::loopback_up().map_err(at("bring loopback up in a network namespace"))?;
    Ok(String::new())
}

/// Works too where there is no range; whether there is one is another question.
fn range() -> Step<String> {
    let step = "map the subordinate ids";
    let failed = |error: Error| {
        let causes: String = error.causes().iter().map(|cause| format!(": {cause}")).collect();
        Outcome::failed(step, &io::Error::other(format!("{error}{causes}")))
    };
    let (Some(helpers), Ok(found)) = (Helpers::find(), idmap::subordinate()) else { return Ok(String::new()) };
    if !found.is_usable() {
        return Ok(String::new());
    }
    let maps = idmap::u0(getuid().as_raw(), getgid().as_raw(), Some(&found));
    // To become somebody else, and to have no groups, is what these ids are for.
    let code = idmap::run_as_root(&helpers, &maps, || identity::switch(1, 1, &[]).map_or(1, |()| 0)).map_err(failed)?;
    if code == 0 { Ok(String::new()) } else { Err(Outcome::failed(step, &io::Error::other("they cannot be switched to"))) }
}

/// A directory that is made and removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> io::Result<Scratch> {
        let near = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/tmp"));
        let path = file::temp_beside(&near.join("doctor"));
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the names are those that every reader ignores and fsck sweeps.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn overlay(dir: &Path) -> Step<String> {
    // Dropped at the end, still as root of the namespace: the overlay's work directory is closed to everybody else.
    let scratch = Scratch::new(dir).map_err(at("make a directory where services lie"))?;
    let near = |name: &str| scratch.0.join(name);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(near(name)).map_err(at("make a directory where services lie"))?;
    }
    for name in ["changed", "removed"] {
        fs::write(near("lower").join(name), "below").map_err(at("write where services lie"))?;
    }
    become_root()?;
    // Relative, since an option has at most 255 bytes.
    std::env::set_current_dir(&scratch.0).map_err(at("enter the directory"))?;
    let options = [
        ("lowerdir", Some("lower")),
        ("upperdir", Some("upper")),
        ("workdir", Some("work")),
        ("userxattr", None),
        ("xino", Some("on")),
    ];
    let tree = new_mount("overlay", "overlay", &options, Attr::NONE).map_err(at("mount an overlay"))?;
    attach(tree.as_fd(), Path::new("merged")).map_err(at("attach the overlay"))?;
    let used = use_overlay();
    let _ = umount2("merged", MntFlags::MNT_DETACH);
    used.map(|()| String::new())
}

fn use_overlay() -> Step<()> {
    fs::write("merged/changed", "above").map_err(at("write through the overlay"))?;
    fs::remove_file("merged/removed").map_err(at("remove through the overlay"))?;
    let below = fs::read("lower/changed").map_err(at("read below the overlay"))?;
    let above = fs::read("upper/changed").map_err(at("read above the overlay"))?;
    if below == b"below" && above == b"above" && !Path::new("merged/removed").exists() {
        return Ok(());
    }
    Err(Outcome::failed("use the overlay", &io::Error::other("it does not show what was written")))
}

fn fuse() -> Step<String> {
    become_root()?;
    // Opened here: the kernel demands the user namespace that mounts.
    let device = open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(at("open /dev/fuse"))?;
    let number = device.as_raw_fd().to_string();
    let options = [("fd", Some(number.as_str())), ("rootmode", Some("40000")), ("user_id", Some("0")), ("group_id", Some("0"))];
    let mounted = new_mount("fuse", "steading", &options, Attr::NONE).map_err(at("mount FUSE in a user namespace"))?;
    let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    let count = poll(&mut ready, 2000_u16).map_err(at("wait for FUSE"))?;
    let mut request = [0; 65536];
    let length = if count == 0 { 0 } else { nix::unistd::read(&device, &mut request).map_err(at("read from /dev/fuse"))? };
    drop(mounted);
    // struct fuse_in_header: len, opcode (26 is INIT), ...; after 40 bytes struct fuse_init_in: major, minor.
    let word = |at: usize| request.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    if length < 48 || word(4) != 26 {
        return Err(Outcome::failed("speak FUSE", &io::Error::other("the kernel does not begin as the protocol says")));
    }
    Ok(format!("protocol {}.{}", word(40), word(44)))
}

/// A child calls bind(2) on one socket and finds another in its place, put there by us.
fn handover() -> Step<String> {
    let tcp = || socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let ours = tcp().map_err(at("make a socket"))?;
    let (here, there) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(at("make a socket pair"))?;
    let expected = fstat(&ours).map_err(at("look at a socket"))?.st_ino;
    let child = process::fork(|| match bind_notified(there.as_fd(), expected) {
        Ok(true) => 0,
        Ok(false) => 1,
        // Every errno of these calls fits into an exit status.
        Err(errno) => errno as i32,
    })
    .map_err(at("fork"))?;
    drop(there);
    let swapped = swap(here.as_fd(), ours.as_fd());
    if swapped.is_err() {
        // It may wait for an answer that will not come.
        let _ = kill(child, Signal::SIGKILL);
    }
    let ended = waitpid(child, None).map_err(at("wait for a child"))?;
    match (swapped, ended) {
        (Ok(()), WaitStatus::Exited(_, 0)) => Ok(String::new()),
        (Ok(()), _) => Err(Outcome::failed("replace a descriptor", &io::Error::other("the child does not have the new one"))),
        // A child that could not begin says why; what we saw is only its end.
        (Err(_), WaitStatus::Exited(_, errno)) if errno > 1 => {
            Err(Outcome::failed("install a filter with a listener", &io::Error::from_raw_os_error(errno)))
        }
        (Err(outcome), _) => Err(outcome),
    }
}

fn bind_notified(socket_there: BorrowedFd<'_>, expected: u64) -> std::result::Result<bool, Errno> {
    let errno = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    caps::no_new_privileges().map_err(errno)?;
    let mine: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let listener = seccomp::notify_on(&[libc::SYS_bind]).map_err(errno)?;
    send_fds(socket_there, b"x", &[listener.as_fd()]).map_err(errno)?;
    drop(listener);
    bind(mine.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0))?;
    Ok(fstat(&mine)?.st_ino == expected)
}

fn swap(socket_here: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Step<()> {
    let (_, mut fds) = recv_fds(socket_here, &mut [0; 8]).map_err(at("receive a listener"))?;
    let Some(listener) = fds.pop() else {
        return Err(Outcome::failed("receive a listener", &io::Error::from(io::ErrorKind::UnexpectedEof)));
    };
    let listener = listener.as_fd();
    let Some(call) = seccomp::receive(listener).map_err(at("receive a system call"))? else {
        return Err(Outcome::failed("receive a system call", &io::Error::from(io::ErrorKind::UnexpectedEof)));
    };
    let number = i32::try_from(call.args[0]).unwrap_or(-1);
    seccomp::replace_fd(listener, call.id, fd, number, true).map_err(at("replace a descriptor"))?;
    seccomp::answer(listener, call.id, seccomp::Answer::Value(0)).map(drop).map_err(at("answer a system call"))
}
