//! The supervisor of one service: systemd's main process of the unit.
//!
//! [`service`] is the loop, one poll(2) over everything that can happen; the parts of the work lie beside it: `probes` (readiness and
//! watchdog), `relay` (the service's own sd_notify), `lines` (its output, read back from the journal), `process` (which process is
//! the service's main one), `stop`, `tell` (systemd and the journal).

mod lines;
mod probes;
mod process;
mod progress;
mod relay;
mod service;
mod stop;
mod tell;

use super::child::Setup;
use super::container::{self, Started};
use super::handover::Handover;
use super::launch::Program;
use super::policy::{Policies, Policy};
use super::reaper::Ending;
use super::{cgroup, etc, harden, ids, record, signals, sockets};
use crate::error::{Context, Error, Result};
use crate::resolve::{Plan, Probe, ServiceName};
use crate::rootfs::Hybrid;
use crate::state::{Paths, Services};
use crate::sys::file::create_dir_all;
use crate::sys::notify::{Notify, take_listen_fds};
use crate::sys::process::die_of;
use crate::yard;
use nix::sys::signalfd::SignalFd;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// What the supervisor keeps of a start.
struct Start<'a> {
    began: Instant,
    clock: SystemTime,
    container: Started,
    handover: Handover,
    /// Its volumes were empty.
    is_first: bool,
    relay: Option<OwnedFd>,
    lines: Option<lines::Follower>,
    policies: Policies,
    outside: Outside,
    confinement: Option<Confinement<'a>>,
}

/// What the supervisor gives up once nothing more of the host is needed.
#[derive(Debug)]
struct Confinement<'a> {
    yard: yard::Joined,
    run_dir: &'a Path,
    policy: Policy,
}

impl Confinement<'_> {
    fn begin(&self) -> Result<()> {
        harden::confine(&self.yard, self.run_dir, &self.policy)
    }
}

/// Files that a confined supervisor could not open any more.
#[derive(Debug)]
struct Outside {
    null: File,
    work: Option<progress::Work>,
    memory: Option<File>,
}

impl Outside {
    fn open(now: Instant) -> Result<Outside> {
        let null = File::options().read(true).write(true).open("/dev/null").context(|| "cannot open `/dev/null`")?;
        Ok(Outside { null, work: progress::Work::watch(now), memory: progress::memory_events() })
    }
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
    stop::end_former(&plan, &run_dir, &notify, &signals)?;
    let result =
        start(paths, &plan, &run_dir, stored, &notify).and_then(|start| watch(&plan, &run_dir, start, &notify, &signals));
    let cleaned = etc::remove(&run_dir);
    match result? {
        Ending::Code(code) => cleaned.map(|()| code),
        Ending::Signal(signal) => die_of(signal),
    }
}

fn watch(plan: &Plan, run_dir: &Path, start: Start<'_>, notify: &Notify, signals: &SignalFd) -> Result<Ending> {
    let recorded = record::write(run_dir, start.container.pid);
    let mut service = service::Supervisor::new(plan, start, notify, signals)?;
    if let Err(error) = recorded {
        service.fail(error);
    }
    service.run()
}

fn start<'a>(
    paths: &Paths,
    plan: &Plan,
    run_dir: &'a Path,
    stored: Vec<(String, OwnedFd)>,
    notify: &Notify,
) -> Result<Start<'a>> {
    let (began, clock) = (Instant::now(), SystemTime::now());
    let service = paths.service(&plan.name);
    let published = sockets::published(&plan.ports, stored, notify)?;
    etc::write(plan, &service.secrets(), run_dir)?;
    let target = service.path().join("upper/root");
    for (directory, mode) in [(service.upper(), 0o755), (service.work(), 0o700), (target.clone(), 0o700)] {
        create_dir_all(&directory, mode)?;
    }
    let mut volumes = Vec::with_capacity(plan.volumes.len());
    for volume in plan.volumes.iter().filter(|volume| !volume.read_only) {
        volumes.push(match &volume.source {
            Some(path) => path.as_path().to_owned(),
            None => service.volume(&volume.name),
        });
    }
    let own: Vec<_> =
        plan.volumes.iter().filter(|volume| volume.source.is_none()).map(|volume| service.volume(&volume.name)).collect();
    for volume in &own {
        create_dir_all(volume, 0o700)?;
    }
    let is_first = !volumes.is_empty() && volumes.iter().all(|volume| progress::is_empty(volume));
    let relay = match plan.ready.probe {
        Probe::Notify => Some(relay::open(run_dir)?),
        _ => None,
    };
    let lines = match &plan.ready.probe {
        Probe::Log { text } => Some(lines::Follower::start(&plan.name, text, clock)?),
        _ => None,
    };
    let spec_file = service.runtime_spec();
    let text = fs::read(&spec_file).context(|| format!("cannot read `{}`", spec_file.display()))?;
    let spec = serde_json::from_slice(&text).context(|| format!("`{}` is no runtime spec", spec_file.display()))?;
    let policies = Policies::load(&service, &text)?;
    let joined = yard::join(paths)?;
    // Before the unit's control group is divided: what counts there is the whole unit.
    let outside = Outside::open(began)?;
    let handover = Handover::new(published).context(|| "cannot prepare the handover of sockets")?;
    let mut program = Program::of(plan, policies.service.clone());
    program.env.extend(notify_environment(plan));
    let setup = Setup {
        spec,
        image: ids::image_path(paths, plan),
        upper: service.upper(),
        work: service.work(),
        target,
        run_dir: run_dir.to_owned(),
        volumes: own,
        ids: plan.isolation.ids,
        program,
        orphaned: if plan.stop.no_sigkill { Some(signals::parse(&plan.stop.signal)?) } else { None },
        init: plan.process.init,
        cgroup: if plan.isolation.cgroup_writable { Some(cgroup::divide()?) } else { None },
        driver: Box::new(Hybrid),
        foreground: None,
    };
    // The journal's reader may have to be started again: that takes a program of the host.
    let is_later = lines.is_some();
    let confine = || if is_later { Ok(()) } else { harden::confine(&joined, run_dir, &policies.supervisor) };
    let container = container::start(&setup, &joined, confine)?;
    let confinement =
        if is_later { Some(Confinement { yard: joined, run_dir, policy: policies.supervisor.clone() }) } else { None };
    Ok(Start { began, clock, container, handover, is_first, relay, lines, policies, outside, confinement })
}

/// What a service that speaks sd_notify(3) is told: where to, and how often its watchdog wants to hear of it.
fn notify_environment(plan: &Plan) -> BTreeMap<String, OsString> {
    let mut env = BTreeMap::new();
    if plan.ready.probe == Probe::Notify {
        env.insert("NOTIFY_SOCKET".into(), etc::NOTIFY_SOCKET.into());
        if let Some(seconds) = plan.ready.watchdog_s {
            env.insert("WATCHDOG_USEC".into(), seconds.saturating_mul(1_000_000).to_string().into());
            // Below a reaper it is the second process of its namespace.
            env.insert("WATCHDOG_PID".into(), if plan.process.init { "2" } else { "1" }.into());
        }
    }
    env
}

/// An error of a start or run that is about the service as a whole.
fn failed(plan: &Plan, what: &str, why: String) -> Error {
    Error::failed(format!("`{}` {what}", plan.name))
        .because(std::io::Error::other(why))
        .hint(format!("`journalctl --user -u {}` has what it said", plan.name))
}
