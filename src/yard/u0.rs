//! U0: the user's long-lived user and mount namespace in which the images are mounted.
//!
//! A child process makes the namespaces and the mount, hands the descriptors over and ends; the descriptors keep
//! everything alive, so U0 has no process of its own.

use crate::error::{Context, Error, Result};
use crate::idmap::{self, Helpers, IdMaps};
use crate::sys::process;
use crate::sys::socket::{recv_fds, send_fds};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The descriptors that are U0.
#[derive(Debug)]
pub(crate) struct U0 {
    /// `/dev/fuse`, mounted.
    pub(crate) fuse: OwnedFd,
    /// The user namespace.
    pub(crate) user: OwnedFd,
    /// The mount namespace.
    pub(crate) mount: OwnedFd,
}

/// How U0 maps ids.
enum Mapping {
    /// The user's own id at 0 and the range of subordinate ids after it. setgroups(2) is allowed, as in all maps made by newgidmap(1),
    /// and so it is in the services' namespaces.
    Range(Helpers, IdMaps),
    /// The user's own id at 0. The kernel wants setgroups(2) denied for that, here and in all that is nested.
    Own,
}

impl Mapping {
    /// The one place that decides: a range where this user and this host have all that it takes.
    fn choose() -> Mapping {
        let found = idmap::subordinate().unwrap_or_else(|error| {
            warn("the yard goes on without subordinate ids", &error);
            idmap::Subordinate::default()
        });
        match Helpers::find().filter(|_| found.is_usable()) {
            Some(helpers) => Mapping::Range(helpers, idmap::u0(geteuid().as_raw(), getegid().as_raw(), Some(&found))),
            None => Mapping::Own,
        }
    }

    fn write(&self, child: Pid) -> Result<()> {
        match self {
            Mapping::Range(helpers, maps) => helpers.write(child, maps),
            Mapping::Own => idmap::write_own(child, geteuid().as_raw(), getegid().as_raw())
                .map_err(|error| explain(Step::Maps, errno_of(&error))),
        }
    }
}

fn warn(what: &str, error: &Error) {
    super::journal::warn(&format!(
        "{what}: {error}{}",
        error.causes().iter().map(|cause| format!(": {cause}")).collect::<String>()
    ));
}

/// The child's steps, in order; it reports the one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Namespaces,
    Maps,
    Propagation,
    Device,
    Mount,
    Handles,
}

impl Step {
    const ALL: [Step; 6] = [Step::Namespaces, Step::Maps, Step::Propagation, Step::Device, Step::Mount, Step::Handles];
}

// Messages of the two processes. Those of the child that are not one of these are a step and an errno.
const UNSHARED: &[u8] = b"unshared";
const MAPPED: &[u8] = b"mapped";
const DONE: &[u8] = b"done";

impl U0 {
    /// Makes U0 with a file system mounted on `mount_point` that waits for its server. Needs a process with one thread.
    pub(crate) fn make(mount_point: &Path) -> Result<U0> {
        let mapping = Mapping::choose();
        match Self::make_with(mount_point, &mapping) {
            // Services with the one-line map need no range.
            Err(error) if matches!(mapping, Mapping::Range(..)) => {
                warn("the yard goes on without subordinate ids", &error);
                Self::make_with(mount_point, &Mapping::Own)
            }
            made => made,
        }
    }

    fn make_with(mount_point: &Path, mapping: &Mapping) -> Result<U0> {
        let failed = |error: io::Error| Error::failed("cannot make the yard's namespace").because(error);
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = pair.map_err(|errno| failed(errno.into()))?;
        let child = process::fork(|| {
            // Ends with its parent, so that nothing is left when the parent is killed in between.
            let _ = set_pdeathsig(Signal::SIGKILL);
            let report = match build(theirs.as_fd(), mount_point) {
                Ok(()) => return 0,
                Err((step, errno)) => {
                    let mut report = vec![step as u8];
                    report.extend_from_slice(&(errno as i32).to_ne_bytes());
                    report
                }
            };
            let _ = send_fds(theirs.as_fd(), &report, &[]);
            1
        })
        .map_err(failed)?;
        drop(theirs);
        let made = direct(ours.as_fd(), child, mapping);
        drop(ours);
        if made.is_err() {
            // It may wait for an answer that will not come.
            let _ = kill(child, Signal::SIGKILL);
        }
        let _ = waitpid(child, None);
        made
    }

    /// Whether the file system's connection is up.
    pub(crate) fn is_connected(&self) -> bool {
        crate::sys::fuse::is_connected(self.fuse.as_fd())
    }

    /// Starts a child that enters U0 and looks at the mount, as a service does. Needs a process with one thread; the server may
    /// start afterwards, the child waits for it.
    pub(crate) fn probe(&self, mount_point: &Path) -> io::Result<Probe> {
        let child = process::fork(|| {
            let seen = enter(self.user.as_fd(), self.mount.as_fd()).and_then(|()| {
                // After the change of credentials, which clears it.
                set_pdeathsig(Signal::SIGKILL)?;
                let kind = statfs(mount_point)?.filesystem_type();
                let view = fs::metadata(mount_point.join(super::View::ByImage.dir())).map_err(|error| errno_of(&error))?;
                if kind == FUSE_SUPER_MAGIC && view.is_dir() { Ok(()) } else { Err(Errno::ENODEV) }
            });
            seen.map_or_else(|errno| errno as i32, |()| 0)
        })?;
        Ok(Probe(child))
    }
}

/// A child that looks at the mount; see [`U0::probe`].
#[derive(Debug)]
pub(crate) struct Probe(Pid);

impl Probe {
    /// Waits for the child's finding, at most `limit`.
    pub(crate) fn wait(self, limit: Duration) -> io::Result<()> {
        let end = Instant::now() + limit;
        loop {
            match waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    return Err(io::Error::other(format!("the look was ended by {signal}")));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if Instant::now() >= end {
                let _ = kill(self.0, Signal::SIGKILL);
                let _ = waitpid(self.0, None);
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", limit.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Moves the calling process, which must have one thread, into U0.
pub(crate) fn enter(user: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> nix::Result<()> {
    setns(user, CloneFlags::CLONE_NEWUSER)?;
    setns(mount, CloneFlags::CLONE_NEWNS)
}

/// The parent's side: writes the child's maps and takes the descriptors.
fn direct(socket: BorrowedFd<'_>, child: Pid, mapping: &Mapping) -> Result<U0> {
    expect(socket, UNSHARED)?;
    mapping.write(child).context(|| "cannot write the id map of the yard's user namespace")?;
    let failed = |error: io::Error| Error::failed("cannot make the yard's namespace").because(error);
    send_fds(socket, MAPPED, &[]).map_err(failed)?;
    let fds: [OwnedFd; 3] = expect(socket, DONE)?
        .try_into()
        .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "the child sent the wrong number of descriptors")))?;
    let [fuse, user, mount] = fds;
    Ok(U0 { fuse, user, mount })
}

/// Receives a message of the child that should be `wanted`.
fn expect(socket: BorrowedFd<'_>, wanted: &[u8]) -> Result<Vec<OwnedFd>> {
    let failed = |error: io::Error| Error::failed("cannot make the yard's namespace").because(error);
    let mut buffer = [0; 32];
    let (length, fds) = recv_fds(socket, &mut buffer).map_err(failed)?;
    match &buffer[..length] {
        message if message == wanted => Ok(fds),
        [step, a, b, c, d] => {
            let errno = Errno::from_raw(i32::from_ne_bytes([*a, *b, *c, *d]));
            let step = Step::ALL.into_iter().find(|known| *known as u8 == *step).unwrap_or(Step::Namespaces);
            Err(explain(step, errno))
        }
        _ => Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, "the child ended early"))),
    }
}

/// The child's side. Before the first step it is the user; after [`Step::Maps`] it is root in U0, and nothing outside.
fn build(socket: BorrowedFd<'_>, mount_point: &Path) -> std::result::Result<(), (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    let io_at = |step: Step| move |error: io::Error| (step, errno_of(&error));

    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(at(Step::Namespaces))?;
    send_fds(socket, UNSHARED, &[]).map_err(io_at(Step::Maps))?;
    let mut buffer = [0; 32];
    let (length, _) = recv_fds(socket, &mut buffer).map_err(io_at(Step::Maps))?;
    if &buffer[..length] != MAPPED {
        return Err((Step::Maps, Errno::EPROTO));
    }

    // Mounts that appear on the host later must appear here too (a disk with a volume on it), and leave with it.
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(at(Step::Propagation))?;

    // The kernel demands that the device was opened in the user namespace that mounts.
    let device = open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(at(Step::Device))?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device.as_raw_fd());
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    mount(Some("steading"), mount_point, Some("fuse.steading"), flags, Some(options.as_bytes())).map_err(at(Step::Mount))?;

    let handle = |name: &str| open(name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(at(Step::Handles));
    let (user, mount) = (handle("/proc/self/ns/user")?, handle("/proc/self/ns/mnt")?);
    // Only now, after the mount: a device that is not mounted yet refuses to be read.
    send_fds(socket, DONE, &[device.as_fd(), user.as_fd(), mount.as_fd()]).map_err(io_at(Step::Handles))?;
    Ok(())
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Words a failed step: what, and what a user can do about the usual causes.
fn explain(step: Step, errno: Errno) -> Error {
    let (what, hint) = match (step, errno) {
        (Step::Namespaces, Errno::ENOSPC | Errno::EUSERS) => (
            "this host allows no further user namespace",
            "raise it: `sysctl user.max_user_namespaces=15000` (and user.max_mnt_namespaces); too deep a nesting says the same",
        ),
        (Step::Namespaces, _) => (
            "this host does not let users make user namespaces",
            "allow it: `sysctl kernel.unprivileged_userns_clone=1` on Debian; inside a container, its security profile must allow it",
        ),
        (Step::Maps, _) => ("cannot write the id map of the yard's user namespace", "`steading doctor` looks at user namespaces"),
        (Step::Propagation, _) | (Step::Mount, Errno::EACCES | Errno::EPERM) => (
            "this host does not let user namespaces mount",
            "on Ubuntu, AppArmor restricts them: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or a profile for steading",
        ),
        (Step::Device, Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => {
            ("`/dev/fuse` does not exist", "load the module as root: `modprobe fuse`")
        }
        (Step::Device, _) => ("cannot open `/dev/fuse`", "it should be readable and writable for everybody (mode 0666)"),
        (Step::Mount, Errno::ENODEV) => ("the kernel has no FUSE", "load the module as root: `modprobe fuse`"),
        (Step::Mount, _) => ("cannot mount the yard's file system", "`steading doctor` looks at FUSE"),
        (Step::Handles, _) => ("cannot hand over the yard's namespace", "`steading doctor` looks at user namespaces"),
    };
    Error::host(what).because(io::Error::from(errno)).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_each_step_is_understood() {
        for step in Step::ALL {
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
            let mut report = vec![step as u8];
            report.extend_from_slice(&(Errno::EPERM as i32).to_ne_bytes());
            send_fds(theirs.as_fd(), &report, &[]).unwrap();
            let error = expect(ours.as_fd(), DONE).unwrap_err();
            assert_eq!(error.what(), explain(step, Errno::EPERM).what());
            assert_eq!(error.kind(), crate::error::Kind::HostCannot);
            assert!(error.find_hint().is_some());
        }
    }

    #[test]
    fn a_child_that_ends_early_is_an_error() {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        drop(theirs);
        assert!(expect(ours.as_fd(), UNSHARED).is_err());
    }
}
