//! Start, stop, restart: a job of systemd, its end, and why it failed.

use super::{Context, explain};
use crate::error::{Error, Result};
use crate::resolve::ServiceName;
use crate::state::Services;
use crate::systemd::{Manager, UnitOrigin};
use std::time::SystemTime;

/// Starts a service and waits until it is ready.
///
/// # Errors
/// When it is not installed; when systemd says that it did not start, with the last lines of its journal.
pub async fn start(context: &Context, name: &ServiceName) -> Result<()> {
    let manager = prepare(context, name, Verb::Start).await?;
    start_unit(context, &manager, name).await
}

/// As [`start`], for a unit that is known to be there.
pub(super) async fn start_unit(context: &Context, manager: &Manager, name: &ServiceName) -> Result<()> {
    context.reporter.step(&format!("starting {name}"));
    let since = SystemTime::now();
    let outcome = manager.start(&name.unit(), &mut tell(context, name)).await?;
    explain::require(outcome, &format!("`{name}` did not start"), name, since).await.map(drop)
}

/// Stops a service and waits until it is down.
///
/// # Errors
/// When it is not installed; when systemd says that it did not stop.
pub async fn stop(context: &Context, name: &ServiceName) -> Result<()> {
    let manager = prepare(context, name, Verb::Stop).await?;
    context.reporter.step(&format!("stopping {name}"));
    let since = SystemTime::now();
    let outcome = manager.stop(&name.unit()).await?;
    explain::require(outcome, &format!("`{name}` did not stop"), name, since).await.map(drop)
}

/// Stops and starts a service and waits until it is ready again.
///
/// # Errors
/// As [`start`].
pub async fn restart(context: &Context, name: &ServiceName) -> Result<()> {
    let manager = prepare(context, name, Verb::Start).await?;
    context.reporter.step(&format!("restarting {name}"));
    let since = SystemTime::now();
    let outcome = manager.restart(&name.unit(), &mut tell(context, name)).await?;
    explain::require(outcome, &format!("`{name}` did not restart"), name, since).await.map(drop)
}

/// Passes on what the service says of itself while it starts.
fn tell<'a>(context: &'a Context, name: &'a ServiceName) -> impl FnMut(&str) + Send + 'a {
    // What the supervisor says of every service tells nothing that the step does not.
    let usual = ["", "starting", "running", "stopping"];
    move |text| {
        if !usual.contains(&text) {
            context.reporter.step(&format!("{name}: {text}"));
        }
    }
}

/// What is to be done with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
}

async fn prepare(context: &Context, name: &ServiceName, verb: Verb) -> Result<Manager> {
    let services = Services::new(&context.paths);
    if !services.is_installed(name) {
        return Err(services.missing(name));
    }
    let manager = Manager::connect().await?;
    // A masked unit that runs can be stopped, as with systemctl.
    if manager.status(&name.unit()).await?.load == "masked" {
        return match verb {
            Verb::Stop => Ok(manager),
            Verb::Start => Err(Error::failed(format!("the unit of `{name}` is masked"))
                .hint(format!("somebody ran `systemctl --user mask {name}`; undo it: systemctl --user unmask {name}"))),
        };
    }
    let lost = |what: String| Error::failed(what).hint(format!("`steading remove {name}` keeps its data; then install it again"));
    match manager.unit_origin(&name.unit()).await? {
        UnitOrigin::Ours(_) => Ok(manager),
        UnitOrigin::Absent => Err(lost(format!("the unit file of `{name}` is missing"))),
        UnitOrigin::Foreign(path) => Err(lost(format!("the unit of `{name}` is not steading's but `{}`", path.display()))),
    }
}
