//! Unit files: a service's own; the yard's, the slice and that of containers that run once, which all share.

use super::{escape, template};
use crate::error::{Error, Result};
use crate::resolve::{Limits, Plan, ServiceName};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Unit of the yard.
pub const YARD: &str = "steading-yard.service";

/// Unit that holds the yard for containers that run once.
pub const RUN: &str = "steading-run.service";

/// Slice of all services and the yard.
pub const SLICE: &str = "steading.slice";

/// What systemd gives a start beyond what the supervisor allows itself, so that the better message wins.
pub const START_MARGIN: Duration = Duration::from_secs(15);

/// Room in the descriptor store beyond one place per port.
const SPARE_DESCRIPTORS: usize = 8;

/// A unit file: its name and its whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    /// File name, e.g. `postgres@14.service`.
    pub name: String,
    /// Content.
    pub text: String,
}

/// The unit files of one service. Yard and slice are the same for all services of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// `NAME.service`.
    pub service: UnitFile,
    /// [`YARD`].
    pub yard: UnitFile,
    /// [`SLICE`].
    pub slice: UnitFile,
}

/// Renders the units of `plan`. `exe` is steading's own binary; `places` are environment variables (`XDG_DATA_HOME`, ...)
/// which the installing user had set, so that the run lane finds the same directories.
///
/// # Errors
/// When `exe`, a place or a limit cannot be said in a unit file.
pub fn render(plan: &Plan, exe: &Path, places: &[(String, String)]) -> Result<Units> {
    let program = escape::program(exe)?;
    let environment = environment(places)?;
    let Shared { yard, slice, .. } = shared(exe, places)?;
    let name = plan.name.as_str();
    let description = escape::text(&format!("{} {} ({name})", plan.recipe.title, plan.recipe.version));
    let start_timeout = match plan.ready.start_timeout_s {
        0 => "infinity".to_owned(),
        seconds => timespan(seconds.saturating_add(START_MARGIN.as_secs())),
    };
    let descriptors = plan.ports.len() + SPARE_DESCRIPTORS;
    let service = template::fill(
        include_str!("../../units/service.in"),
        &[
            ("name", name),
            ("description", &description),
            ("environment", &environment),
            ("program", &program),
            ("start_timeout", &start_timeout),
            ("stop_timeout", &timespan(plan.stop.timeout_s)),
            ("descriptors", &descriptors.to_string()),
            ("life", &life(plan)),
            // With `continue` systemd would not tell an OOM kill from any other (`Result=oom-kill` only comes with `stop` and `kill`). The
            // sub-groups of a service that makes its own are its own affair.
            ("oom_policy", if plan.isolation.cgroup_writable { "continue" } else { "stop" }),
            // `mixed` kills what the main process leaves behind. Where nothing may be killed systemd would also refuse to start beside it;
            // the supervisor stops it first.
            ("kill_mode", if plan.stop.no_sigkill { "process" } else { "mixed" }),
            ("limits", &limits(&plan.limits)?),
        ],
    )?;
    Ok(Units { service: UnitFile { name: plan.name.unit(), text: service }, yard, slice })
}

/// The unit files that belong to no service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// [`YARD`].
    pub yard: UnitFile,
    /// [`SLICE`].
    pub slice: UnitFile,
    /// [`RUN`].
    pub run: UnitFile,
}

/// Renders them; arguments as for [`render`].
///
/// # Errors
/// When `exe` or a place cannot be said in a unit file.
pub fn shared(exe: &Path, places: &[(String, String)]) -> Result<Shared> {
    let values = [("environment", environment(places)?), ("program", escape::program(exe)?)];
    let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
    let unit = |name: &str, text: &str| Ok(UnitFile { name: name.to_owned(), text: template::fill(text, &values)? });
    Ok(Shared {
        yard: unit(YARD, include_str!("../../units/yard.in"))?,
        slice: unit(SLICE, include_str!("../../units/slice.in"))?,
        run: unit(RUN, include_str!("../../units/run.in"))?,
    })
}

fn environment(places: &[(String, String)]) -> Result<String> {
    let mut lines = String::new();
    for (key, value) in places {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "Environment={}", escape::assignment(key, value)?);
    }
    Ok(lines)
}

/// Seconds as a time span; beyond 30 years systemd's microseconds have no room to spare, and nobody waits that long.
fn timespan(seconds: u64) -> String {
    if seconds > 1_000_000_000 { "infinity".to_owned() } else { format!("{seconds}s") }
}

/// Properties of systemd.resource-control(5) that a plan's limits are, with the cgroup controller that enforces each and the value.
fn properties(limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    [
        ("MemoryMax", "memory", number(limits.memory_bytes)),
        ("MemoryHigh", "memory", number(limits.memory_high_bytes)),
        ("CPUQuota", "cpu", limits.cpu_percent.map(|percent| format!("{percent}%"))),
        ("CPUWeight", "cpu", number(limits.cpu_weight.map(u64::from))),
        ("IOWeight", "io", number(limits.io_weight.map(u64::from))),
        ("TasksMax", "pids", number(limits.tasks)),
    ]
    .into_iter()
    .filter_map(|(property, controller, value)| Some((property, controller, value?)))
    .collect()
}

/// What is not the same for every service: its watchdog, whether it may be killed.
fn life(plan: &Plan) -> String {
    let mut lines = String::new();
    if let Some(seconds) = plan.ready.watchdog_s {
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "WatchdogSec={}", timespan(seconds));
    }
    if plan.stop.no_sigkill {
        // The record of a container that outlived its unit has to outlive it, too: by it the next start finds and ends it. A supervisor
        // that ends as it should empties the directory itself.
        lines.push_str("SendSIGKILL=no\nRuntimeDirectoryPreserve=yes\n");
    }
    lines
}

fn limits(limits: &Limits) -> Result<String> {
    let mut lines = String::new();
    for (key, _, value) in properties(limits) {
        if matches!(value.as_str(), "0" | "0%") {
            return Err(Error::usage(format!("a limit `{key}={value}` would let nothing run")));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(lines, "{key}={value}");
    }
    if let Some(score) = limits.oom_score_adjust {
        let _ = writeln!(lines, "OOMScoreAdjust={score}");
    }
    Ok(lines)
}

/// What of `limits` a service manager cannot enforce that has only `controllers`: each property with the controller it lacks.
#[must_use]
pub fn unenforced(limits: &Limits, controllers: &[String]) -> Vec<(String, &'static str)> {
    properties(limits)
        .into_iter()
        .filter(|(_, controller, _)| !controllers.iter().any(|name| name == controller))
        .map(|(property, controller, value)| (format!("{property}={value}"), controller))
        .collect()
}

/// What the marker section of one of our unit files says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A service of this name.
    Service(ServiceName),
    /// The yard.
    Yard,
    /// The slice.
    Slice,
    /// What holds the yard for containers that run once.
    Run,
}

/// Reads the `[X-Steading]` section, which systemd itself ignores. `None`: the file is not ours.
#[must_use]
pub fn marker(text: &str) -> Option<Marker> {
    let mut lines = text.lines().map(str::trim);
    lines.by_ref().find(|line| *line == "[X-Steading]")?;
    lines.take_while(|line| !line.starts_with('[')).find_map(|line| match line.split_once('=')? {
        ("Service", name) => name.parse().ok().map(Marker::Service),
        ("Yard", "yes") => Some(Marker::Yard),
        ("Slice", "yes") => Some(Marker::Slice),
        ("Run", "yes") => Some(Marker::Run),
        _ => None,
    })
}

/// Whether a unit file's text was written by us.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    marker(text).is_some()
}
