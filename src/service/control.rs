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
    let manager = prepare(context, name).await?;
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
    let manager = prepare(context, name).await?;
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
    let manager = prepare(context, name).await?;
    context.reporter.step(&format!("restarting {name}"));
    let since = SystemTime::now();
    let outcome = manager.restart(&name.unit(), &mut tell(context, name)).await?;
    explain::require(outcome, &format!("`{name}` did not restart"), name, since).await.map(drop)
}

/// Passes on what the service says of itself while it starts.
fn tell<'a>(context: &'a Context, name: &'a ServiceName) -> impl FnMut(&str) + Send + 'a {
    move |text| context.reporter.step(&format!("{name}: {text}"))
}

async fn prepare(context: &Context, name: &ServiceName) -> Result<Manager> {
    let services = Services::new(&context.paths);
    if !services.is_installed(name) {
        return Err(services.missing(name));
    }
    let manager = Manager::connect().await?;
    let lost = |what: String| Error::failed(what).hint(format!("`steading remove {name}` keeps its data; then install it again"));
    match manager.unit_origin(&name.unit()).await? {
        UnitOrigin::Ours(_) => Ok(manager),
        UnitOrigin::Absent => Err(lost(format!("the unit file of `{name}` is missing"))),
        UnitOrigin::Foreign(path) if path.as_os_str() == "/dev/null" => {
            let unmask = format!("systemctl --user unmask {name}");
            Err(Error::failed(format!("the unit of `{name}` is masked")).hint(unmask))
        }
        UnitOrigin::Foreign(path) => Err(lost(format!("the unit of `{name}` is not steading's but `{}`", path.display()))),
    }
}
