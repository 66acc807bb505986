//! The loop: what is due, and everything that can happen.

use super::super::handover::Handover;
use super::super::policy::Policies;
use super::super::signals;
use super::lines::Follower;
use super::probes::Running;
use super::process::Main;
use super::progress::{self, Work};
use super::relay::Relay;
use super::stop::{self, Stopping, Why};
use super::tell::Teller;
use super::{Confinement, Ending, Outside, Start};
use crate::error::{Context, Error, Result};
use crate::ready::{Deadline, Tracker, Wants};
use crate::resolve::Plan;
use crate::sys::notify::Notify;
use crate::sys::process::pidfd;
use crate::yard::journal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

/// How long a container may go on after its main process ended, before that is a failure: the reaper needs a moment to tell.
const GRACE: Duration = Duration::from_secs(2);

/// One running service.
#[derive(Debug)]
pub(super) struct Supervisor<'a> {
    pub(super) plan: &'a Plan,
    pub(super) began: Instant,
    pub(super) clock: SystemTime,
    /// Pid 1 of the container, our child.
    pub(super) init: Pid,
    pub(super) init_fd: OwnedFd,
    pub(super) main: Main,
    pub(super) reaper: Option<OwnedFd>,
    /// How the reaper says that the service ended.
    pub(super) reported: Option<Ending>,
    listener: Option<OwnedFd>,
    pub(super) handover: Handover,
    pub(super) relay: Option<Relay>,
    pub(super) lines: Option<Follower>,
    pub(super) lost_readers: u32,
    /// When another one is started.
    pub(super) reader_due: Option<Instant>,
    signals: &'a SignalFd,
    pub(super) tell: Teller<'a>,
    /// The stop signal.
    pub(super) signal: Signal,
    pub(super) tracker: Tracker,
    pub(super) probe: Option<Running>,
    /// When the start is given up; `None` once ready.
    pub(super) deadline: Option<Deadline>,
    pub(super) policies: Policies,
    /// Files of the host; the work done by a first start, which is progress, is seen in one of them.
    pub(super) outside: Outside,
    /// What is still to be given up, once ready.
    pub(super) confinement: Option<Confinement<'a>>,
    pub(super) stopping: Option<Stopping>,
    ending: Option<Ending>,
    pub(super) failure: Option<Error>,
}

/// What poll(2) may wake us for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Calls,
    Notices,
    Lines,
    Reaper,
    Main,
    /// Its state is looked at in any case.
    Probe,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(plan: &'a Plan, start: Start<'a>, notify: &'a Notify, signals: &'a SignalFd) -> Result<Self> {
        let now = Instant::now();
        let Start { began, clock, container, handover, is_first, relay, lines, policies, mut outside, confinement } = start;
        let mut tell = Teller::new(notify);
        let first = plan.ready.first_start.as_deref().filter(|_| is_first);
        tell.status(now, first.unwrap_or("starting"));
        outside.work = outside.work.filter(|_| first.is_some());
        Ok(Supervisor {
            plan,
            began,
            clock,
            init: container.pid,
            init_fd: pidfd(container.pid).context(|| "cannot open the container's process")?,
            main: Main::of(container.main, container.pid),
            reaper: container.reaper,
            reported: None,
            listener: container.listener,
            handover,
            relay: relay.map(|socket| Relay::new(socket, container.pid)),
            lines,
            lost_readers: 0,
            reader_due: None,
            signals,
            tell,
            signal: signals::parse(&plan.stop.signal)?,
            tracker: Tracker::new(&plan.ready),
            probe: None,
            deadline: Some(Deadline::new(now, Duration::from_secs(plan.ready.start_timeout_s))),
            policies,
            outside,
            confinement,
            stopping: None,
            ending: None,
            failure: None,
        })
    }

    pub(super) fn run(mut self) -> Result<Ending> {
        loop {
            if let Some(ending) = self.ending {
                return self.end(ending);
            }
            let due = self.step();
            if let Err(error) = self.wait(due) {
                self.fail(error);
            }
        }
    }

    fn end(&mut self, ending: Ending) -> Result<Ending> {
        // systemd shows the last text until the next start.
        self.tell.send("STATUS=");
        if let Some(lines) = &self.lines {
            lines.end();
        }
        let replaced = self.stopping.as_ref().is_some_and(|stopping| stopping.replaced);
        let ending = match (ending, self.reported) {
            // Our SIGKILL stood for the default action of the stop signal.
            (Ending::Signal(Signal::SIGKILL), _) if replaced => Ending::Signal(self.signal),
            // The reaper ended as it should; if it was killed, that is how the service ended.
            (Ending::Code(_), Some(reported)) => reported,
            (ending, _) => ending,
        };
        if ending == Ending::Signal(Signal::SIGKILL) && progress::ran_out_of_memory(self.outside.memory.as_ref()) {
            journal::warn("the kernel has killed it for want of memory");
        }
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(ending),
        }
    }

    /// Something of our own failed. The service is stopped as it should be, and the error is told once it has ended.
    pub(super) fn fail(&mut self, error: Error) {
        if self.failure.is_none() {
            self.failure = Some(error);
        }
        self.stop(Why::Failed);
    }

    /// Whether the status is still ours, and not a text of the service.
    pub(super) fn is_own_status(&self) -> bool {
        let first = self.plan.ready.first_start.as_deref();
        self.tell.shows("starting") || first.is_some_and(|text| self.tell.shows(text))
    }

    /// Does what is due now; returns when to look again.
    fn step(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let status = self.tell.due(now);
        if let Some(gone) = self.main.gone {
            let end = gone.checked_add(GRACE).unwrap_or(gone);
            if now >= end {
                self.on_lost_main();
            }
        }
        if self.stopping.is_some() {
            self.step_stop(now);
            return earliest(status, now.checked_add(stop::INTERVAL));
        }
        let mut due = earliest(status, self.step_probes(now));
        due = earliest(due, self.step_reader(now));
        if let Some(gone) = self.main.gone {
            due = earliest(due, gone.checked_add(GRACE));
        }
        if self.outside.work.as_mut().and_then(|work| work.look(now)) == Some(true) {
            self.on_progress(now);
        }
        due = earliest(due, self.outside.work.as_ref().and_then(Work::next));
        if self.deadline.as_ref().is_some_and(|deadline| deadline.is_over(now)) {
            self.give_up(now);
            return Some(now);
        }
        earliest(due, self.deadline.as_ref().and_then(Deadline::at))
    }

    /// Waits for something to happen, or for `due`.
    fn wait(&mut self, due: Option<Instant>) -> Result<()> {
        let now = Instant::now();
        let (happened, signalled) = {
            let (sources, due) = self.sources(now, due);
            let timeout = match due {
                None => PollTimeout::NONE,
                // poll(2) counts in milliseconds: one more, or it would wake too early and spin.
                Some(due) if due > now => PollTimeout::try_from(due - now + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
                Some(_) => PollTimeout::ZERO,
            };
            let mut fds: Vec<_> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => return Ok(()),
                other => other.context(|| "cannot wait for events")?,
            };
            let mut happened = Vec::with_capacity(fds.len());
            let mut signalled = false;
            for ((source, ..), fd) in sources.iter().zip(&fds) {
                match fd.revents() {
                    Some(events) if !events.is_empty() && *source == Source::Signals => signalled = true,
                    Some(events) if !events.is_empty() => happened.push((*source, events)),
                    _ => {}
                }
            }
            (happened, signalled)
        };
        for (source, events) in happened {
            match source {
                Source::Calls => self.on_calls(events)?,
                Source::Notices => self.on_notices(),
                Source::Lines => self.on_lines(),
                Source::Reaper => self.on_reaper()?,
                Source::Main => self.main.gone = Some(Instant::now()),
                Source::Probe | Source::Signals => {}
            }
        }
        if signalled {
            while let Some(info) = self.signals.read_signal().context(|| "cannot read signals")? {
                self.on_signal(i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()));
            }
        }
        Ok(())
    }

    /// What to poll, and when to look again at the latest.
    fn sources<'s>(&'s self, now: Instant, due: Option<Instant>) -> (Vec<(Source, BorrowedFd<'s>, PollFlags)>, Option<Instant>) {
        let mut list = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        let mut due = due;
        let mut add = |source, fd: Option<BorrowedFd<'s>>| list.extend(fd.map(|fd| (source, fd, PollFlags::POLLIN)));
        add(Source::Calls, self.listener.as_ref().map(AsFd::as_fd));
        add(Source::Lines, self.lines.as_ref().map(AsFd::as_fd));
        add(Source::Reaper, self.reaper.as_ref().map(AsFd::as_fd));
        // The end of pid 1 comes by SIGCHLD.
        let main = self.main.fd.as_ref().filter(|_| self.main.pid != self.init && self.main.gone.is_none());
        add(Source::Main, main.map(AsFd::as_fd));
        match self.relay.as_ref().map(|relay| relay.source(now)) {
            Some(Ok(fd)) => add(Source::Notices, Some(fd)),
            Some(Err(resume)) => due = earliest(due, Some(resume)),
            None => {}
        }
        if let Some(dial) = self.probe.as_ref().and_then(Running::dial) {
            match dial.wants() {
                Wants::Writable => list.push((Source::Probe, dial.as_fd(), PollFlags::POLLOUT)),
                Wants::Readable => list.push((Source::Probe, dial.as_fd(), PollFlags::POLLIN)),
                Wants::Time => {}
            }
        }
        (list, due)
    }

    fn on_calls(&mut self, events: PollFlags) -> Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        if events.contains(PollFlags::POLLIN) {
            let handled = self.handover.handle(listener.as_fd()).context(|| "cannot answer a notification");
            if handled.is_err() {
                self.listener = None;
            }
            return handled;
        }
        if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            // No process has the filter any more.
            self.listener = None;
        }
        Ok(())
    }

    fn on_signal(&mut self, signal: Option<Signal>) {
        match signal {
            Some(Signal::SIGCHLD) => self.reap(),
            Some(Signal::SIGTERM | Signal::SIGINT) => self.stop(Why::Asked),
            // WatchdogSignal= of systemd.service(5).
            Some(Signal::SIGABRT) => self.on_watchdog(),
            Some(other) => self.main.send(other),
            None => {}
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return;
            }
            let Some((pid, ending)) = Ending::of(status) else { continue };
            let now = Instant::now();
            if pid == self.init {
                // Its last words may tell how the service ended, and what it says of itself.
                if self.reaper.is_some() && self.reported.is_none() {
                    let _ = self.on_reaper();
                }
                self.ending = Some(ending);
            } else if !self.handover.on_helper(self.listener.as_ref().map(AsFd::as_fd), pid)
                && !self.on_probe_child(now, pid, ending)
                && !self.on_command_child(now, pid, ending)
            {
                self.on_lines_child(now, pid, ending);
            }
        }
    }
}

/// The earlier of two instants that may not be.
pub(super) fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
