//! What is installed and how it does, as the disk and systemd know it.

use super::{Context, access};
use crate::error::{Error, Result};
use crate::resolve::{Isolation, PlanImage, PlanPort, ServiceName};
use crate::state::{Services, Unreadable};
use crate::systemd::{Manager, UnitStatus};
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs and is ready.
    Running,
    /// It is on its way to running.
    Starting,
    /// It failed, and systemd starts it again in a moment.
    Restarting,
    /// It is on its way down.
    Stopping,
    /// It does not run.
    Stopped,
    /// It does not run, since something went wrong.
    Failed,
    /// Its unit is missing or cannot be loaded.
    Broken,
    /// systemd could not be asked.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Running => "running",
            State::Starting => "starting",
            State::Restarting => "restarting",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Failed => "failed",
            State::Broken => "broken",
            State::Unknown => "unknown",
        })
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl State {
    fn of(unit: &UnitStatus) -> State {
        match (unit.load.as_str(), unit.active.as_str(), unit.sub.as_str()) {
            (_, "active" | "reloading", _) => State::Running,
            (_, "activating", "auto-restart" | "auto-restart-queued") => State::Restarting,
            (_, "activating", _) => State::Starting,
            (_, "deactivating", _) => State::Stopping,
            ("loaded" | "masked", "failed", _) => State::Failed,
            ("loaded" | "masked", _, _) => State::Stopped,
            _ => State::Broken,
        }
    }
}

/// All that is worth telling of a service.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: ServiceName,
    /// How it does.
    pub state: State,
    /// Since when it runs.
    pub since: Option<SystemTime>,
    /// Title and version of the software; empty when the plan cannot be read.
    pub title: String,
    /// Recipe it was made from.
    pub recipe: String,
    /// Version in the recipe.
    pub version: String,
    /// Its image.
    pub image: Option<PlanImage>,
    /// Published ports.
    pub ports: Vec<PlanPort>,
    /// How it departs from the default isolation.
    pub isolation: Isolation,
    /// URL with secrets hidden.
    pub url: Option<String>,
    /// Its directory.
    pub directory: PathBuf,
    /// Generation in force.
    pub generation: Option<u32>,
    /// What systemd knows.
    pub unit: Option<UnitStatus>,
    /// Why it cannot be told about, or why it does not run.
    pub problem: Option<String>,
}

impl Status {
    /// `PostgreSQL 14`.
    #[must_use]
    pub fn software(&self) -> String {
        format!("{} {}", self.title, self.version).trim().to_owned()
    }
}

/// How one service does.
///
/// # Errors
/// When it is not installed, or systemd cannot be asked.
pub async fn status(context: &Context, name: &ServiceName) -> Result<Status> {
    let services = Services::new(&context.paths);
    if !services.is_installed(name) {
        return Err(services.missing(name));
    }
    let unit = Manager::connect().await?.status(&name.unit()).await?;
    Ok(assemble(context, name, Some(unit)))
}

/// How all services do, sorted by name. Without systemd their state is unknown, which is warned of.
///
/// # Errors
/// Those of listing the services.
pub async fn list(context: &Context) -> Result<Vec<Status>> {
    let names = Services::new(&context.paths).names()?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let manager = Manager::connect().await;
    let manager = manager.inspect_err(|error| context.reporter.warn(&format!("states are unknown: {}", line(error)))).ok();
    let mut list = Vec::with_capacity(names.len());
    for name in names {
        let unit = match &manager {
            Some(manager) => Some(manager.status(&name.unit()).await?),
            None => None,
        };
        list.push(assemble(context, &name, unit));
    }
    Ok(list)
}

fn assemble(context: &Context, name: &ServiceName, unit: Option<UnitStatus>) -> Status {
    let directory = context.paths.service(name);
    let plan = Services::new(&context.paths).load(name).map_err(|error| Unreadable { name: name.clone(), error });
    let state = unit.as_ref().map_or(State::Unknown, State::of);
    let since = unit.as_ref().filter(|_| state == State::Running).and_then(|unit| unit.active_since_us);
    let mut status = Status {
        name: name.clone(),
        state,
        since: since.map(|time| UNIX_EPOCH + Duration::from_micros(time)),
        title: String::new(),
        recipe: String::new(),
        version: String::new(),
        image: None,
        ports: Vec::new(),
        isolation: Isolation::default(),
        url: None,
        directory: directory.path().to_owned(),
        generation: directory.current_number(),
        problem: unit.as_ref().filter(|_| state != State::Running && state != State::Starting).and_then(UnitStatus::why),
        unit,
    };
    match plan {
        Ok(plan) => {
            status.url = access::public_url(&plan.connect);
            status.title = plan.recipe.title;
            status.recipe = plan.recipe.name;
            status.version = plan.recipe.version;
            status.image = Some(plan.image);
            status.ports = plan.ports;
            status.isolation = plan.isolation;
        }
        Err(unreadable) => status.problem = Some(line(&unreadable.error)),
    }
    status
}

/// An error with its causes in one line.
fn line(error: &Error) -> String {
    let causes = error.causes();
    std::iter::once(error.what()).chain(causes.iter().map(String::as_str)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_systemd_become_words() {
        for (load, active, sub, state) in [
            ("loaded", "active", "running", State::Running),
            ("loaded", "activating", "start", State::Starting),
            ("loaded", "activating", "auto-restart", State::Restarting),
            ("loaded", "deactivating", "stop-sigterm", State::Stopping),
            ("loaded", "inactive", "dead", State::Stopped),
            ("masked", "inactive", "dead", State::Stopped),
            ("loaded", "failed", "failed", State::Failed),
            ("not-found", "inactive", "dead", State::Broken),
            // The file was removed under a running service.
            ("not-found", "active", "running", State::Running),
        ] {
            let unit = UnitStatus { load: load.into(), active: active.into(), sub: sub.into(), ..UnitStatus::default() };
            assert_eq!(State::of(&unit), state, "{load} {active} {sub}");
        }
    }
}
