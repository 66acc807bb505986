//! The supervisor of one service: systemd's main process of the unit.

use super::child::Setup;
use super::container::{self, Started};
use super::enter::{self, Command};
use super::handover::Handover;
use super::launch::Program;
use super::policy::Policies;
use super::privileges::Privileges;
use super::{cgroup, etc, harden, record, signals, sockets};
use crate::error::{Context, Error, Result};
use crate::ready::{Step, Tracker};
use crate::resolve::{IdKind, Plan, Probe, ServiceName};
use crate::rootfs::Hybrid;
use crate::state::{Paths, Services};
use crate::sys::file::create_dir_all;
use crate::sys::notify::{Notify, take_listen_fds};
use crate::sys::process;
use crate::yard::{self, View};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How a supervised service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Code(i32),
    Signal(Signal),
}

/// Runs the service `name` until it ends, then ends as it did: with its exit code, or by its signal.
///
/// # Errors
/// What kept it from starting or becoming ready. The service's own failure is no error here.
pub fn supervise(paths: &Paths, name: &ServiceName) -> Result<i32> {
    let notify = Notify::from_env().context(|| "cannot reach the service manager")?;
    let stored = take_listen_fds();
    let signals = signals::take()?;
    let plan = Services::new(paths).load(name)?;
    let run_dir = etc::run_dir(paths, name);
    let result = start(paths, &plan, &run_dir, stored, &notify).and_then(|(started, handover, policies)| {
        let recorded = record::write(&run_dir, started.pid);
        let mut service = Supervisor::new(&plan, started, handover, policies, &notify, &signals)?;
        if let Err(error) = recorded {
            service.fail(error);
        }
        Ok(service.run())
    });
    let cleaned = etc::remove(&run_dir);
    match result?? {
        Ending::Code(code) => cleaned.map(|()| code),
        Ending::Signal(signal) => process::die_of(signal),
    }
}

fn start(
    paths: &Paths,
    plan: &Plan,
    run_dir: &Path,
    stored: Vec<(String, OwnedFd)>,
    notify: &Notify,
) -> Result<(Started, Handover, Policies)> {
    let service = paths.service(&plan.name);
    let published = sockets::published(&plan.ports, stored, notify)?;
    etc::write(plan, &service.secrets(), run_dir)?;
    let target = service.path().join("upper/root");
    for (directory, mode) in [(service.upper(), 0o755), (service.work(), 0o700), (target.clone(), 0o700)] {
        create_dir_all(&directory, mode)?;
    }
    let volumes: Vec<PathBuf> =
        plan.volumes.iter().filter(|volume| volume.source.is_none()).map(|volume| service.volume(&volume.name)).collect();
    for volume in &volumes {
        create_dir_all(volume, 0o700)?;
    }
    let spec_file = service.runtime_spec();
    let text = fs::read(&spec_file).context(|| format!("cannot read `{}`", spec_file.display()))?;
    let spec = serde_json::from_slice(&text).context(|| format!("`{}` is no runtime spec", spec_file.display()))?;
    let policies = Policies::load(&service, &text)?;
    let joined = yard::join(paths)?;
    let view = match plan.isolation.ids {
        IdKind::User => View::ByUser,
        IdKind::Range | IdKind::Private => View::ByImage,
    };
    let setup = Setup {
        spec,
        image: yard::image_path(paths, view, &plan.image.digest),
        upper: service.upper(),
        work: service.work(),
        target,
        run_dir: run_dir.to_owned(),
        volumes,
        ids: plan.isolation.ids,
        program: Program {
            args: plan.process.args.iter().map(Into::into).collect(),
            env: enter::environment(plan),
            cwd: (&plan.process.cwd).into(),
            user: (plan.process.uid, plan.process.gid),
            privileges: Privileges::of(&plan.isolation),
            policy: policies.service.clone(),
        },
        init: plan.process.init,
        cgroup: if plan.isolation.cgroup_writable { Some(cgroup::divide()?) } else { None },
        driver: Box::new(Hybrid),
        foreground: None,
    };
    let started = container::start(&setup, &joined, || harden::confine(&joined, run_dir, &policies.supervisor))?;
    Ok((started, Handover::new(published), policies))
}

/// A running probe.
#[derive(Debug)]
struct Running {
    pid: Pid,
    deadline: Instant,
}

/// A stop under way.
#[derive(Debug)]
struct Stopping {
    /// When the default action takes the place of a signal that is not caught.
    patience: Instant,
    /// The program that got the signal; another one (exec) has not heard of it.
    told: Option<PathBuf>,
}

/// How long a process may take to catch its stop signal: an entrypoint that is just about to become the service.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a stopping process is looked at again.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Supervisor<'a> {
    plan: &'a Plan,
    pid: Pid,
    pidfd: OwnedFd,
    listener: Option<OwnedFd>,
    handover: Handover,
    policies: Policies,
    notify: &'a Notify,
    signals: &'a SignalFd,
    stop: Signal,
    tracker: Tracker,
    probe: Option<Running>,
    /// When the start is given up; `None` once ready.
    deadline: Option<Instant>,
    stopping: Option<Stopping>,
    ending: Option<Ending>,
    failure: Option<Error>,
}

impl<'a> Supervisor<'a> {
    fn new(
        plan: &'a Plan,
        started: Started,
        handover: Handover,
        policies: Policies,
        notify: &'a Notify,
        signals: &'a SignalFd,
    ) -> Result<Self> {
        Ok(Supervisor {
            plan,
            pid: started.pid,
            pidfd: process::pidfd(started.pid).context(|| "cannot open the service's process")?,
            listener: started.listener,
            handover,
            policies,
            notify,
            signals,
            stop: signals::parse(&plan.stop.signal)?,
            tracker: Tracker::new(&plan.ready),
            probe: None,
            deadline: Instant::now().checked_add(Duration::from_secs(plan.ready.start_timeout_s)),
            stopping: None,
            ending: None,
            failure: None,
        })
    }

    fn run(mut self) -> Result<Ending> {
        self.tell("STATUS=Starting");
        loop {
            if let Some(ending) = self.ending {
                // systemd shows the last text until the next start.
                self.tell("STATUS=");
                return match self.failure.take() {
                    Some(error) => Err(error),
                    None => Ok(ending),
                };
            }
            let waited = self.step().and_then(|due| self.wait(due));
            if let Err(error) = waited {
                self.fail(error);
            }
        }
    }

    /// Something of our own failed. The service is stopped as it should be, and the error is told once it has ended.
    fn fail(&mut self, error: Error) {
        if self.failure.is_none() {
            self.failure = Some(error);
        }
        self.stop();
    }

    /// A lost message is not worth the service's life.
    fn tell(&self, state: &str) {
        let _ = self.notify.send(state);
    }

    /// Does what is due now; returns when to look again.
    fn step(&mut self) -> Result<Option<Instant>> {
        let now = Instant::now();
        if self.stopping.is_some() {
            self.send_stop(now);
            return Ok(now.checked_add(STOP_INTERVAL));
        }
        if let Some(probe) = &self.probe
            && now >= probe.deadline
        {
            // Its end is seen as any child's.
            let _ = kill(probe.pid, Signal::SIGKILL);
        }
        let mut due = self.probe.as_ref().map(|probe| probe.deadline).filter(|deadline| *deadline > now);
        match self.tracker.next(now, self.handover.all_listening()) {
            Step::Ready => {
                self.deadline = None;
                self.tell("READY=1\nSTATUS=Running");
                // What the start needed is not needed to wait. Not to get it back is no failure.
                let _ = crate::sys::memory::release();
            }
            Step::Probe => {
                // One that cannot be started (too many tasks, no memory) is one that failed.
                match self.start_probe(now) {
                    Ok(probe) => due = Some(self.probe.insert(probe).deadline),
                    Err(_) => self.tracker.probe_ended(now, false),
                }
                if self.probe.is_none() {
                    due = now.checked_add(STOP_INTERVAL);
                }
            }
            Step::Wait(at) => due = earliest(due, at),
            Step::Settled => {}
        }
        if let Some(deadline) = self.deadline {
            if now >= deadline {
                self.give_up();
                return Ok(None);
            }
            due = earliest(due, Some(deadline));
        }
        Ok(due)
    }

    fn give_up(&mut self) {
        let seconds = self.plan.ready.start_timeout_s;
        let why = self.handover.missing().unwrap_or_else(|| "its readiness probe does not succeed".into());
        self.fail(
            Error::failed(format!("`{}` was not ready within {seconds} s", self.plan.name))
                .because(std::io::Error::other(why))
                .hint(format!("`journalctl --user -u {}` has what it said", self.plan.name)),
        );
    }

    fn start_probe(&self, now: Instant) -> Result<Running> {
        let Probe::Exec { command } = &self.plan.ready.probe else {
            return Err(Error::failed("this readiness needs no probe"));
        };
        let command = Command { args: command.iter().map(Into::into).collect(), ..Command::default() };
        let program = enter::program(self.plan, &command, &self.policies.service);
        let namespaces = enter::namespaces(self.plan);
        let pid = process::fork(|| {
            // What a probe says is not what the service says: only its exit code counts.
            let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
            if let Ok(null) = null {
                let _ = nix::unistd::dup2_stdin(&null);
                let _ = nix::unistd::dup2_stdout(&null);
                let _ = nix::unistd::dup2_stderr(&null);
            }
            drop(enter::enter(&self.pidfd, &program, namespaces));
            126
        })
        .context(|| "cannot fork for a probe")?;
        let deadline = now.checked_add(Duration::from_millis(self.plan.ready.timeout_ms)).unwrap_or(now);
        Ok(Running { pid, deadline })
    }

    /// Waits for signals, notifications or `due`.
    fn wait(&mut self, due: Option<Instant>) -> Result<()> {
        let timeout = match due {
            None => PollTimeout::NONE,
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => return Ok(()),
            other => other.context(|| "cannot wait for events")?,
        };
        let happened = |at: usize| fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        let (signalled, notified) = (happened(0), happened(1));
        if let Some(listener) = &self.listener {
            if notified.contains(PollFlags::POLLIN) {
                let handled = self.handover.handle(listener.as_fd()).context(|| "cannot answer a notification");
                if handled.is_err() {
                    self.listener = None;
                }
                handled?;
            } else if notified.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                // No process has the filter any more.
                self.listener = None;
            }
        }
        if signalled.contains(PollFlags::POLLIN) {
            while let Some(info) = self.signals.read_signal().context(|| "cannot read signals")? {
                self.on_signal(i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()));
            }
        }
        Ok(())
    }

    fn on_signal(&mut self, signal: Option<Signal>) {
        match signal {
            Some(Signal::SIGCHLD) => self.reap(),
            Some(Signal::SIGTERM | Signal::SIGINT) => self.stop(),
            Some(other) => drop(kill(self.pid, other)),
            None => {}
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            let (pid, ending) = match status {
                WaitStatus::Exited(pid, code) => (pid, Ending::Code(code)),
                WaitStatus::Signaled(pid, signal, _) => (pid, Ending::Signal(signal)),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if pid == self.pid {
                self.ending = Some(ending);
            } else if self.probe.as_ref().is_some_and(|probe| probe.pid == pid) {
                self.probe = None;
                self.tracker.probe_ended(Instant::now(), ending == Ending::Code(0));
            }
        }
    }

    fn stop(&mut self) {
        if self.stopping.is_none() {
            self.tell("STOPPING=1\nSTATUS=Stopping");
            let now = Instant::now();
            self.stopping = Some(Stopping { patience: now.checked_add(PATIENCE).unwrap_or(now), told: None });
            self.send_stop(now);
        }
    }

    /// Sends the stop signal to a program that has not had it yet. The signal's default action does not end the first process
    /// of a pid namespace, though it would end any other: one that does not catch it is killed after some patience.
    fn send_stop(&mut self, now: Instant) {
        let Some(stopping) = &mut self.stopping else { return };
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).ok();
        if stopping.told.is_some() && stopping.told == program {
            return;
        }
        if signals::is_caught(self.pid, self.stop) {
            let _ = kill(self.pid, self.stop);
            stopping.told = program;
        } else if now >= stopping.patience {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
