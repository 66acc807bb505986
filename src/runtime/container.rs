//! Starting a container: fork a joiner, which enters U0 and clones the service's process as our own child.

use super::child::{self, Setup};
use super::ids;
use super::message::{self, Message, send_failure, send_pid};
use crate::error::{Context, Error, Result};
use crate::sys::process::{self, Relation};
use crate::sys::socket::send_fds;
use crate::yard::Joined;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::os::fd::{AsFd, OwnedFd};

/// A service that was executed.
#[derive(Debug)]
pub(super) struct Started {
    /// Pid 1 of its namespace, our child, as it is numbered here: the service or its reaper.
    pub pid: Pid,
    /// The service's own process.
    pub main: Pid,
    /// The reaper's questions, where there is one.
    pub reaper: Option<OwnedFd>,
    /// Notifications of its system calls; every service has them.
    pub listener: Option<OwnedFd>,
    /// Our side of its terminal, if it has one of its own.
    pub terminal: Option<OwnedFd>,
}

/// Namespaces of every container: all but that of time, which some have (`clock.rs`).
pub(super) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWUSER
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Both ends of a socket with messages.
fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    pair.context(|| "cannot make a socket pair")
}

/// The supervisor's ends of what connects it with the container.
struct Ours {
    set_up: OwnedFd,
    reaper: Option<OwnedFd>,
}

/// The container's ends of what connects it with the supervisor and the joiner.
struct Ends {
    supervisor: OwnedFd,
    go: OwnedFd,
    go_writer: OwnedFd,
    link: Option<OwnedFd>,
}

fn connect(setup: &Setup) -> Result<(Ours, Ends)> {
    let ((set_up, supervisor), (go, go_writer)) = (pair()?, pair()?);
    // The one who sends the listener is the service.
    setsockopt(&set_up, sockopt::PassCred, &true).context(|| "cannot ask for senders")?;
    let (reaper, link) = if setup.init { pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))? } else { (None, None) };
    Ok((Ours { set_up, reaper }, Ends { supervisor, go, go_writer, link }))
}

/// Starts the container and returns once its program was executed. `meanwhile` is done while others set it up.
///
/// # Errors
/// What failed in the set-up, as it was told from inside; that of `meanwhile`.
pub(super) fn start(setup: &Setup, yard: &Joined, meanwhile: impl FnOnce() -> Result<()>) -> Result<Started> {
    let (ours, ends) = connect(setup)?;
    // After the fork the parent drops these: an end kept open would hide that the other side closed.
    let mut for_joiner = Some(ends);
    let joiner = process::fork(|| match for_joiner.take() {
        Some(ends) => join(setup, yard, ends),
        None => 1,
    })
    .context(|| "cannot fork")?;
    drop(for_joiner);
    let done = meanwhile();
    let heard = hear(setup, ours);
    // The joiner has told all it had to tell.
    let _ = waitpid(joiner, None);
    if let (Err(_), Ok(started)) = (&done, &heard) {
        end(started.pid);
    }
    done.and(heard)
}

/// As [`start`], by a process that has entered U0 itself and waits for the container there.
///
/// # Errors
/// What failed in the set-up.
pub(super) fn start_here(setup: &Setup) -> Result<Started> {
    let (ours, ends) = connect(setup)?;
    let supervisor = ends.supervisor.try_clone().context(|| "cannot keep a socket")?;
    if let Err(error) = clone_service(setup, Relation::Child, ends) {
        send_failure(supervisor.as_fd(), &error).context(|| "cannot tell of a failure")?;
    }
    drop(supervisor);
    hear(setup, ours)
}

/// What the set-up tells, until the program is executed.
fn hear(setup: &Setup, Ours { set_up, reaper }: Ours) -> Result<Started> {
    let mut pid = None;
    let mut listener = None;
    let mut terminal = None;
    let result = loop {
        match message::receive(&set_up).context(|| "cannot hear from the container's set-up") {
            Ok(Message::Pid(number)) => pid = Some(Pid::from_raw(number)),
            Ok(Message::Listener(fd, sender)) => listener = sender.map(|sender| (fd, sender)),
            Ok(Message::Terminal(fd)) => terminal = Some(fd),
            Ok(Message::Failed(error)) => break Err(error),
            Ok(Message::Closed) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // All that was to come has come; what ended before that has not been executed.
    let is_executed = match &setup.foreground {
        Some(foreground) => foreground.terminal == terminal.is_some(),
        None => listener.is_some(),
    };
    match (result, pid, is_executed) {
        (Ok(()), Some(pid), true) => {
            let main = listener.as_ref().map_or(pid, |(_, sender)| *sender);
            Ok(Started { pid, main, reaper, listener: listener.map(|(fd, _)| fd), terminal })
        }
        (result, pid, _) => {
            // A reaper whose service could not be executed asks what to do: nobody answers, so it ends.
            drop(reaper);
            let ending = pid.map(|pid| format!("{:?}", waitpid(pid, None)));
            Err(result.err().unwrap_or_else(|| {
                Error::failed("the container's set-up ended before it could execute the service")
                    .because(std::io::Error::other(ending.unwrap_or_else(|| "no process was made".into())))
            }))
        }
    }
}

/// Ends a container that nobody waits for any more.
pub(super) fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
}

fn join(setup: &Setup, yard: &Joined, ends: Ends) -> i32 {
    let supervisor = ends.supervisor.try_clone();
    let result = enter(setup, yard).and_then(|()| clone_service(setup, Relation::Sibling, ends));
    match (result, supervisor) {
        (Ok(()), _) => 0,
        (Err(error), Ok(supervisor)) => {
            let _ = send_failure(supervisor.as_fd(), &error);
            1
        }
        (Err(_), Err(_)) => 1,
    }
}

fn enter(setup: &Setup, yard: &Joined) -> Result<()> {
    if let Some(group) = &setup.cgroup {
        // The cgroup namespace begins where its maker is.
        group.enter()?;
    }
    setns(&yard.user, CloneFlags::CLONE_NEWUSER).context(|| "cannot enter the yard's user namespace")?;
    setns(&yard.mount, CloneFlags::CLONE_NEWNS).context(|| "cannot enter the yard's mount namespace")
}

/// Inside U0 as its root: makes the service's process and writes its id maps.
fn clone_service(setup: &Setup, relation: Relation, ends: Ends) -> Result<()> {
    let Ends { supervisor, go, go_writer, link } = ends;
    let maps = ids::nested(&setup.spec)?;
    ids::own(setup, &maps)?;
    let mut for_child = Some((go, go_writer));
    let pid = process::clone_into(NAMESPACES, relation, || match for_child.take() {
        Some((go, writer)) => {
            drop(writer);
            child::run(setup, go, &supervisor, link.as_ref())
        }
        None => 1,
    })
    .map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::ENOSPC) => "a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces",
            Some(libc::EPERM) => "this host does not let plain users make namespaces; see `steading doctor`",
            _ => "see `steading doctor`",
        };
        Error::host("cannot make the container's namespaces").because(error).hint(hint)
    })?;
    let Some((_, writer)) = for_child.take() else { return Ok(()) };
    send_pid(supervisor.as_fd(), pid.as_raw()).context(|| "cannot tell the service's process id")?;
    ids::write(pid, &maps)?;
    let image = ids::image(setup, pid)?;
    let fds: Vec<_> = image.iter().map(AsFd::as_fd).collect();
    send_fds(writer.as_fd(), b"g", &fds).context(|| "cannot start the container")?;
    Ok(())
}
