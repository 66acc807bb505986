//! The service's own sd_notify(3): a socket in the run-time directory, bound into the container.
//!
//! What comes is believed when the kernel says that a process of the container sent it. As with systemd, a sender that is gone before
//! it could be looked at is not.

use super::super::etc;
use super::process::PidNamespace;
use super::service::Supervisor;
use super::stop::Why;
use crate::error::{Context, Result};
use crate::ready::{MOST_NOTICE, Notice, Watchdog};
use crate::sys::socket::recv_datagram;
use nix::fcntl::{OFlag, open as open_file};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Datagrams that are read at once; then there is a pause. Who sends more waits, as the socket's queue is short.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

/// Longest time that a service gets for one `EXTEND_TIMEOUT_USEC=`.
const MOST_EXTENSION: Duration = Duration::from_secs(3600);

/// Between two searches for a process that is not the sender.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// Makes the socket.
pub(super) fn open(run_dir: &Path) -> Result<OwnedFd> {
    let path = run_dir.join(etc::NOTIFY_FILE);
    let what = || format!("cannot make the socket `{}`", path.display());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(what),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None).context(what)?;
    setsockopt(&fd, sockopt::PassCred, &true).context(what)?;
    // A path in sun_path has 107 bytes at most, ours may have more.
    let dir = open_file(run_dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).context(what)?;
    let short = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), etc::NOTIFY_FILE);
    bind(fd.as_raw_fd(), &UnixAddr::new(short.as_str()).context(what)?).context(what)?;
    // Any user of the container may send; on the host nobody else gets into the directory.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).context(what)?;
    Ok(fd)
}

/// The socket of a running service.
#[derive(Debug)]
pub(super) struct Relay {
    socket: OwnedFd,
    /// That of the container; nobody is believed when it could not be seen, since the service had ended already.
    space: Option<PidNamespace>,
    resume: Option<Instant>,
    searched: Option<Instant>,
    pub(super) reloading: bool,
    pub(super) stopping: bool,
}

impl Relay {
    pub(super) fn new(socket: OwnedFd, init: Pid) -> Relay {
        let space = PidNamespace::of(init);
        Relay { socket, space, resume: None, searched: None, reloading: false, stopping: false }
    }

    /// What to poll, unless there is a pause; then until when.
    pub(super) fn source(&self, now: Instant) -> std::result::Result<BorrowedFd<'_>, Instant> {
        match self.resume.filter(|resume| now < *resume) {
            Some(resume) => Err(resume),
            None => Ok(self.socket.as_fd()),
        }
    }

    /// The next notice of a process of the container. `None`: no more for now.
    fn receive(&mut self, read: &mut usize, now: Instant) -> Option<(Pid, Notice)> {
        while *read < AT_ONCE {
            *read += 1;
            let mut buffer = [0; MOST_NOTICE];
            // Looked at first: who waits for its barrier to be closed (sd_notify_barrier(3)) may end as soon as it was received.
            let sender = recv_datagram(self.socket.as_fd(), &mut [], true).ok()?.sender;
            let sender = sender.filter(|sender| self.space.is_some() && PidNamespace::of(*sender) == self.space);
            let datagram = recv_datagram(self.socket.as_fd(), &mut buffer, false).ok()?;
            if datagram.cut || datagram.sender != sender {
                continue;
            }
            if let (Some(sender), Some(notice)) = (sender, buffer.get(..datagram.length).and_then(Notice::parse)) {
                return Some((sender, notice));
            }
        }
        self.resume = now.checked_add(PAUSE);
        None
    }
}

impl Supervisor<'_> {
    /// Reads and carries out what the service said.
    pub(super) fn on_notices(&mut self) {
        let now = Instant::now();
        let mut read = 0;
        while let Some((sender, notice)) = self.relay.as_mut().and_then(|relay| relay.receive(&mut read, now)) {
            self.on_notice(now, sender, notice);
        }
    }

    fn on_notice(&mut self, now: Instant, sender: Pid, notice: Notice) {
        if let Some(inside) = notice.main_pid {
            self.on_main_pid(now, inside, sender);
        }
        if let Some(status) = &notice.status {
            self.tell.status(now, status);
        }
        let Some(relay) = &mut self.relay else { return };
        if notice.reloading && !relay.reloading && self.tracker.is_ready() && self.tell.allows(now) {
            relay.reloading = true;
            // The service's own MONOTONIC_USEC= may be that of another time namespace.
            let clock = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
            self.tell.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock.as_micros()));
        }
        if notice.ready {
            self.tracker.heard();
            if std::mem::take(&mut relay.reloading) {
                self.tell.send("READY=1");
            }
        }
        if notice.stopping && !relay.stopping && self.tracker.is_ready() {
            relay.stopping = true;
            self.tell.send("STOPPING=1");
        }
        match notice.watchdog {
            Some(watchdog) if self.tracker.is_ready() && self.plan.ready.watchdog_s.is_some() => {
                self.tracker.feeds_itself();
                if self.tell.allows(now) {
                    self.tell.send(if watchdog == Watchdog::Alive { "WATCHDOG=1" } else { "WATCHDOG=trigger" });
                }
            }
            _ => {}
        }
        if let Some(more) = notice.extend.filter(|_| self.tell.allows(now)) {
            self.on_extension(now, more.min(MOST_EXTENSION));
        }
    }

    /// The service says that another process of it is the main one.
    fn on_main_pid(&mut self, now: Instant, inside: i32, sender: Pid) {
        if inside == self.main.inside && self.main.gone.is_none() {
            return;
        }
        let Some(relay) = &mut self.relay else { return };
        // Looking through all processes is work that one datagram should not cost often.
        if relay.searched.and_then(|at| at.checked_add(SEARCH_PAUSE)).is_some_and(|next| now < next) {
            return;
        }
        relay.searched = Some(now);
        // A number that names no process of this container is not heard.
        if let Some(pid) = relay.space.and_then(|space| space.find(inside, sender)) {
            let main = super::process::Main::of(pid, self.init);
            if main.inside == inside && main.gone.is_none() {
                self.main = main;
            }
        }
    }

    /// Below a reaper: its idea of the main process has ended.
    pub(super) fn on_reaper(&mut self) -> Result<()> {
        let Some(link) = &self.reaper else { return Ok(()) };
        let asked = super::super::reaper::question(link.as_fd()).context(|| "cannot hear the container's reaper");
        let Some((inside, ending)) = asked? else {
            self.reaper = None;
            return Ok(());
        };
        // What it said before it ended, MAINPID= perhaps, comes first.
        self.on_notices();
        let goes_on =
            inside != self.main.inside && self.main.gone.is_none() && self.main.liveness() != Err("its process has ended".into());
        if !goes_on {
            self.reported = Some(ending);
        }
        if let Some(link) = &self.reaper {
            super::super::reaper::answer(link.as_fd(), goes_on.then_some(self.main.inside));
        }
        Ok(())
    }

    /// Its main process has been gone for a while, and the container goes on.
    pub(super) fn on_lost_main(&mut self) {
        let error = super::failed(self.plan, "lost its main process", "the process it named by MAINPID= has ended".into());
        if self.stopping.is_none() {
            self.failure.get_or_insert(error);
            self.stop(Why::Failed);
        }
    }
}
