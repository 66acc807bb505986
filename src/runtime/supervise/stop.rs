//! The end of a service: a command, its stop signal, patience. What remains when the time is over is systemd's to kill, if it may.

use super::super::reaper::Ending;
use super::super::record;
use super::super::signals::{self, Disposition};
use super::probes::describe;
use super::process::children;
use super::service::Supervisor;
use crate::error::{Context, Error, Result};
use crate::ready::Deadline;
use crate::resolve::Plan;
use crate::sys::notify::Notify;
use crate::sys::process::send_signal;
use crate::yard::journal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a process may take to catch its stop signal: an entrypoint that is just about to become the service.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a stopping process is looked at again.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// Why a service is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked for it.
    Asked,
    /// Something went wrong.
    Failed,
    /// systemd's watchdog was not fed.
    Hung,
}

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stopping {
    /// The pre-stop command and when it is ended.
    command: Option<(Pid, Instant)>,
    /// When the default action takes the place of a signal that is not caught.
    patience: Instant,
    /// The process that got the signal and its program; another one (exec) has not heard of it.
    told: Option<(Pid, Option<PathBuf>)>,
    told_children: bool,
    /// The default action of the stop signal was carried out by SIGKILL.
    pub(super) replaced: bool,
    /// What systemd allows, as far as it can be moved.
    end: Deadline,
}

impl Stopping {
    /// The service asks for more time.
    pub(super) fn extend(&mut self, now: Instant, more: Duration) -> Option<Duration> {
        self.end.extend(now, more)
    }
}

impl Supervisor<'_> {
    pub(super) fn stop(&mut self, why: Why) {
        if self.stopping.is_some() {
            return;
        }
        let now = Instant::now();
        self.tell.send("STOPPING=1");
        self.tell.status(now, "stopping");
        let command = match why {
            // A service that hangs, or never ran, has nothing to answer such a command with.
            Why::Asked if self.tracker.is_ready() => self.start_command(now),
            _ => None,
        };
        let patience = now.checked_add(PATIENCE).unwrap_or(now);
        let end = Deadline::new(now, Duration::from_secs(self.plan.stop.timeout_s));
        self.stopping = Some(Stopping { command, patience, told: None, told_children: false, replaced: false, end });
        self.step_stop(now);
    }

    /// The command before the signal may take half of the time; the other half is the service's.
    fn start_command(&mut self, now: Instant) -> Option<(Pid, Instant)> {
        if self.plan.stop.command.is_empty() {
            return None;
        }
        let until = now.checked_add(Duration::from_secs(self.plan.stop.timeout_s) / 2).unwrap_or(now);
        match self.run_inside(&self.plan.stop.command, true) {
            Ok(pid) => {
                self.tell.status(now, "waiting for pre-stop command");
                Some((pid, until))
            }
            Err(error) => {
                journal::warn(&format!("pre-stop command fails: {error}"));
                None
            }
        }
    }

    /// A child ended: the pre-stop command, if it is that one.
    pub(super) fn on_command_child(&mut self, now: Instant, pid: Pid, ending: Ending) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        let Some((_, until)) = stopping.command.take_if(|(own, _)| *own == pid) else { return false };
        let why = if now >= until { "it takes too long".to_owned() } else { describe(ending) };
        if ending != Ending::Code(0) {
            journal::warn(&format!("pre-stop command fails: {why}"));
        }
        stopping.patience = now.checked_add(PATIENCE).unwrap_or(now);
        self.tell.status(now, "stopping");
        self.step_stop(now);
        true
    }

    /// Sends the stop signal to a program that has not had it yet. The signal's default action does not end the first process of a pid
    /// namespace, though it would end any other: its children get the signal, and without children it is killed after some patience.
    pub(super) fn step_stop(&mut self, now: Instant) {
        let signal = self.signal;
        let first = self.main.gone.is_some() || self.main.pid == self.init;
        let pid = if self.main.gone.is_some() { self.init } else { self.main.pid };
        let Some(stopping) = &mut self.stopping else { return };
        if let Some((command, until)) = stopping.command {
            if now >= until {
                // Its end is seen as any child's.
                let _ = kill(command, Signal::SIGKILL);
            }
            return;
        }
        let target = Some((pid, fs::read_link(format!("/proc/{pid}/exe")).ok()));
        if stopping.told == target {
            return;
        }
        let fd = self.main.fd.as_ref().filter(|_| self.main.gone.is_none()).unwrap_or(&self.init_fd);
        if signals::disposition(pid, signal) != Disposition::Default || !first {
            let _ = send_signal(fd.as_fd(), signal);
            // One that is stopped (SIGSTOP) would not hear of it; systemd does the same.
            let _ = send_signal(fd.as_fd(), Signal::SIGCONT);
            stopping.told = target;
            return;
        }
        let _ = send_signal(fd.as_fd(), Signal::SIGCONT);
        if now < stopping.patience {
            return;
        }
        let children = children(pid);
        if children.is_empty() && !self.plan.stop.no_sigkill {
            stopping.replaced = true;
            let _ = send_signal(fd.as_fd(), Signal::SIGKILL);
        } else if !stopping.told_children {
            stopping.told_children = true;
            for child in children {
                let _ = kill(child, signal);
            }
        }
    }
}

/// Where SIGKILL is forbidden, a container outlives a stop that took too long, or a supervisor that was killed. Two of one service on the
/// same data must not be: the former one is stopped first.
pub(super) fn end_former(plan: &Plan, run_dir: &Path, notify: &Notify, signals: &SignalFd) -> Result<()> {
    let time = Duration::from_secs(plan.stop.timeout_s);
    let end = Instant::now().checked_add(time);
    if let Some((pid, fd)) = record::find(run_dir)? {
        journal::warn(&format!("the former container still runs (process {pid}) and is stopped first"));
        let more = time.saturating_add(crate::unit::START_MARGIN).as_micros();
        let _ = notify.send(&format!("STATUS=waiting for the former container\nEXTEND_TIMEOUT_USEC={more}"));
        for signal in [signals::parse(&plan.stop.signal)?, Signal::SIGCONT] {
            match send_signal(fd.as_fd(), signal) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(error).context(|| "cannot stop the former container");
                }
                _ => {}
            }
        }
        wait_for(plan, pid, &fd, end, signals)?;
    }
    // It has files to remove, which are not to be the new ones.
    match record::find_supervisor(run_dir)? {
        Some((pid, fd)) => wait_for(plan, pid, &fd, end, signals),
        None => Ok(()),
    }
}

fn wait_for(plan: &Plan, pid: Pid, fd: &OwnedFd, end: Option<Instant>, signals: &SignalFd) -> Result<()> {
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno).context(|| "cannot wait for the former container"),
            Ok(_) => {}
        }
        let [gone, signalled] = fds.map(|fd| fd.any().unwrap_or(false));
        if gone {
            return Ok(());
        }
        if signalled || left.is_some_and(|left| left.is_zero()) {
            let error = Error::failed(format!("`{}` still runs from a former start (process {pid})", plan.name));
            return Err(error.hint(format!("it did not end at its stop signal; `kill -9 {pid}` ends it without mercy")));
        }
    }
}
