//! Carrying out probes: commands in the container, connections, a look at the process; and what their results lead to.

use super::super::enter::{self, Command};
use super::super::reaper::Ending;
use super::service::Supervisor;
use super::stop::Why;
use crate::error::{Context, Error, Result};
use crate::ready::{Dial, Step, Wants};
use crate::resolve::Probe;
use crate::sys::process;
use crate::sys::socket::accept_queue;
use crate::yard::journal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Before something that cannot be started is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Between two looks at what the kernel reports to nobody.
const TICK: Duration = Duration::from_millis(10);

/// Times that the journal's reader may end by itself before a start is given up.
const LOST_READERS: u32 = 3;

/// A running probe.
#[derive(Debug)]
pub(super) struct Running {
    kind: Kind,
    deadline: Instant,
    expired: bool,
}

#[derive(Debug)]
enum Kind {
    /// A child that entered the container.
    Command(Pid),
    /// A connection, and the index of its port.
    Dial(Dial, usize),
}

impl Running {
    /// The connection, if that is what it is.
    pub(super) fn dial(&self) -> Option<&Dial> {
        match &self.kind {
            Kind::Dial(dial, _) => Some(dial),
            Kind::Command(_) => None,
        }
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let tick = match self.dial().map(Dial::wants) {
            Some(Wants::Time) => now.checked_add(TICK),
            _ => None,
        };
        let deadline = Some(self.deadline).filter(|_| !self.expired);
        super::service::earliest(tick, deadline)
    }
}

/// How a command in the container ended, for people. 128 + N is what joining makes of a signal.
pub(super) fn describe(ending: Ending) -> String {
    match ending {
        Ending::Code(126 | 127) => "it cannot be executed in the container".into(),
        Ending::Code(code @ 129..=192) => format!("it was ended by signal {}", code - 128),
        Ending::Code(code) => format!("exit code {code}"),
        Ending::Signal(signal) => format!("it was ended by {signal}"),
    }
}

impl Supervisor<'_> {
    /// Starts `args` in the container. What a probe says is not what the service says: only its exit code counts, unless it `speaks`.
    pub(super) fn run_inside(&self, args: &[String], speaks: bool) -> Result<Pid> {
        let command = Command { args: args.iter().map(Into::into).collect(), ..Command::default() };
        let program = enter::program(self.plan, &command, &self.policies.service);
        let namespaces = enter::namespaces(self.plan);
        process::fork(|| {
            let null = &self.outside.null;
            let silent = nix::unistd::dup2_stdin(null).and_then(|()| match speaks {
                true => Ok(()),
                false => nix::unistd::dup2_stdout(null).and_then(|()| nix::unistd::dup2_stderr(null)),
            });
            if silent.is_ok() {
                drop(enter::enter(&self.init_fd, &program, namespaces));
            }
            126
        })
        .context(|| "cannot fork")
    }

    /// What readiness and watchdog ask for now. Returns when to look again.
    pub(super) fn step_probes(&mut self, now: Instant) -> Option<Instant> {
        self.advance_dial(now);
        self.expire_probe(now);
        match self.tracker.next(now, self.handover.all_listening()) {
            Step::Ready => {
                self.on_ready(now);
                // What comes after: the watchdog.
                return self.step_probes(now);
            }
            Step::Probe => match self.start_probe(now) {
                Ok(probe) => self.probe = Some(probe),
                Err(why) => {
                    // One that cannot be started (too many tasks, no memory, nobody listens) is one that failed.
                    self.probe_ended(now, Err(why));
                    return now.checked_add(RETRY);
                }
            },
            Step::Look => {
                let alive = self.main.liveness();
                self.probe_ended(now, alive);
            }
            Step::Wait(at) => return super::service::earliest(at, self.probe.as_ref().and_then(|probe| probe.due(now))),
        }
        Some(now)
    }

    fn on_ready(&mut self, now: Instant) {
        if let Some(confinement) = self.confinement.take()
            && let Err(error) = confinement.begin()
        {
            return self.fail(error);
        }
        self.deadline = None;
        self.outside.work = None;
        self.tell.send("READY=1");
        let said = matches!(self.plan.ready.probe, Probe::Notify);
        // A service that speaks for itself has said what it wants to say.
        if !said || self.is_own_status() {
            self.tell.status(now, "running");
        }
        journal::note(&format!("ready after {:.1} s", now.saturating_duration_since(self.began).as_secs_f32()));
        // What the start needed is not needed to wait. Not to get it back is no failure.
        let _ = crate::sys::memory::release();
    }

    fn start_probe(&self, now: Instant) -> std::result::Result<Running, String> {
        let kind = match &self.plan.ready.probe {
            Probe::Exec { command } => Kind::Command(self.run_inside(command, false).map_err(|error| error.to_string())?),
            Probe::Tcp { port } => self.dial(port, None)?,
            Probe::Http { port, path } => self.dial(port, Some(path))?,
            _ => return Err("this readiness needs no probe".into()),
        };
        let deadline = now.checked_add(Duration::from_millis(self.plan.ready.timeout_ms)).unwrap_or(now);
        Ok(Running { kind, deadline, expired: false })
    }

    fn dial(&self, port: &str, path: Option<&str>) -> std::result::Result<Kind, String> {
        let at = self.handover.published().iter().position(|published| published.port.name == port);
        let at = at.ok_or_else(|| format!("there is no port `{port}`"))?;
        let address = self.handover.published().get(at).map(|published| published.port.host);
        Dial::start(address.ok_or("there is no such port")?, path).map(|dial| Kind::Dial(dial, at))
    }

    fn advance_dial(&mut self, now: Instant) {
        let Some(Running { kind: Kind::Dial(dial, at), .. }) = &mut self.probe else { return };
        let queue = self.handover.published().get(*at).and_then(|published| accept_queue(published.socket.as_fd()).ok());
        if let Some(result) = dial.advance(queue) {
            self.probe = None;
            self.probe_ended(now, result);
        }
    }

    /// Ends a probe that takes too long.
    fn expire_probe(&mut self, now: Instant) {
        let Some(probe) = self.probe.as_mut().filter(|probe| !probe.expired && now >= probe.deadline) else { return };
        match &probe.kind {
            Kind::Command(pid) => {
                probe.expired = true;
                // Its end is seen as any child's.
                let _ = kill(*pid, Signal::SIGKILL);
            }
            Kind::Dial(dial, _) => {
                let why = format!("{} within {}", dial.waiting_for(), self.probe_timeout());
                self.probe = None;
                self.probe_ended(now, Err(why));
            }
        }
    }

    fn probe_timeout(&self) -> String {
        format!("{} s", Duration::from_millis(self.plan.ready.timeout_ms).as_secs_f32())
    }

    /// A child ended: the probe, if it is that one.
    pub(super) fn on_probe_child(&mut self, now: Instant, pid: Pid, ending: Ending) -> bool {
        let Some(Running { kind: Kind::Command(own), expired, .. }) = &self.probe else { return false };
        if *own != pid {
            return false;
        }
        let result = match ending {
            _ if *expired => Err(format!("no end within {}", self.probe_timeout())),
            Ending::Code(0) => Ok(()),
            ending => Err(describe(ending)),
        };
        self.probe = None;
        if let Ending::Code(code) = ending {
            self.on_phase(now, code);
        }
        self.probe_ended(now, result);
        true
    }

    /// The exit code of a probe may say what the service does before it is ready.
    fn on_phase(&mut self, now: Instant, code: i32) {
        if self.tracker.is_ready() {
            return;
        }
        if let Some(text) = self.plan.ready.phases.get(&code.to_string()) {
            self.tell.status(now, text);
            self.on_progress(now);
        }
    }

    fn probe_ended(&mut self, now: Instant, result: std::result::Result<(), String>) {
        let verdict = self.tracker.ended(now, result);
        if verdict.feed {
            self.tell.send("WATCHDOG=1");
        }
        if self.tracker.is_ready() {
            // As after the start: between two looks of the watchdog nothing is needed.
            let _ = crate::sys::memory::release();
        }
        if let Some(news) = verdict.news {
            if news.starts_with("probe fails") {
                journal::warn(&news);
            } else {
                journal::note(&news);
            }
        }
    }

    /// The journal's reader has something.
    pub(super) fn on_lines(&mut self) {
        if self.lines.as_mut().is_some_and(super::lines::Follower::advance) {
            if let Some(lines) = self.lines.take() {
                lines.end();
            }
            self.tracker.heard();
        }
    }

    /// The journal's reader ended by itself: a new user's journal may not be there yet, so it is tried again.
    pub(super) fn on_lines_child(&mut self, now: Instant, pid: Pid, ending: Ending) {
        let Some(mut lines) = self.lines.take_if(|lines| lines.pid == pid) else { return };
        // What it wrote last may be what is looked for.
        if lines.advance() {
            return self.tracker.heard();
        }
        self.lost_readers += 1;
        let code = match ending {
            Ending::Code(code) => Some(code),
            Ending::Signal(_) => None,
        };
        let why = lines.why(code);
        if self.lost_readers >= LOST_READERS {
            return self.fail(why);
        }
        self.reader_due = now.checked_add(RETRY);
    }

    /// Starts the journal's reader again when it is time; returns when it will be.
    pub(super) fn step_reader(&mut self, now: Instant) -> Option<Instant> {
        if self.reader_due.take_if(|due| now >= *due).is_some()
            && let Probe::Log { text } = &self.plan.ready.probe
        {
            match super::lines::Follower::start(&self.plan.name, text, self.clock) {
                Ok(lines) => self.lines = Some(lines),
                Err(error) => self.fail(error),
            }
        }
        self.reader_due
    }

    /// The start goes on: it gets more time, here and of systemd.
    pub(super) fn on_progress(&mut self, now: Instant) {
        if let Some(more) = self.deadline.as_mut().and_then(|deadline| deadline.progress(now)) {
            self.tell.extend(more.saturating_add(crate::unit::START_MARGIN));
        }
    }

    /// The service asks for more time, to start or to stop.
    pub(super) fn on_extension(&mut self, now: Instant, more: Duration) {
        if let Some(stopping) = &mut self.stopping {
            if let Some(more) = stopping.extend(now, more) {
                self.tell.extend(more);
            }
        } else if let Some(more) = self.deadline.as_mut().and_then(|deadline| deadline.extend(now, more)) {
            self.tell.extend(more.saturating_add(crate::unit::START_MARGIN));
        }
    }

    /// The start took too long.
    pub(super) fn give_up(&mut self, now: Instant) {
        let waited = now.saturating_duration_since(self.began).as_secs();
        let why = self.handover.missing().unwrap_or_else(|| match (&self.plan.ready.probe, self.tracker.last_failure()) {
            (_, Some(why)) => format!("its readiness probe fails: {why}"),
            (Probe::Notify, None) => "it does not say READY=1 to its NOTIFY_SOCKET".into(),
            (Probe::Log { text }, None) => format!("its output does not have the text `{text}`"),
            _ => "its readiness probe does not succeed".into(),
        });
        let error = super::failed(self.plan, &format!("was not ready within {waited} s"), why);
        self.failure.get_or_insert(error);
        self.stop(Why::Failed);
    }

    /// systemd's watchdog has not been fed for too long.
    pub(super) fn on_watchdog(&mut self) {
        let seconds = self.plan.ready.watchdog_s.map(|seconds| format!("its watchdog was not fed for {seconds} s"));
        let why = self.tracker.last_failure().map(|why| format!("; probe fails: {why}")).unwrap_or_default();
        let why = seconds.unwrap_or_else(|| "it was sent SIGABRT".into()) + &why;
        let error: Error = super::failed(self.plan, "hangs and is stopped", why);
        self.failure.get_or_insert(error);
        self.stop(Why::Hung);
    }
}
