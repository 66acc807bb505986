//! `steading hold`, the process of `steading-run.service`: the yard ends with the last unit that wants it, and a container that
//! runs once is no unit, since telling systemd takes longer than the whole run. So one unit wants the yard for all of them, and
//! ends some time after the last.

use crate::error::{Context, Error, Result};
use crate::state::{Keeper, Paths, RunLock};
use crate::sys::notify::Notify;
use std::time::Duration;

/// How long the next run is waited for.
const IDLE: Duration = Duration::from_secs(60);

/// Runs until no container has run for a minute.
///
/// # Errors
/// When another process does this already; those of the locks.
pub fn hold(paths: &Paths) -> Result<()> {
    let notify = Notify::from_env().context(|| "cannot reach the service manager")?;
    let Some(_keeper) = Keeper::attempt(paths)? else {
        return Err(Error::failed("the yard is held already").hint("`systemctl --user status steading-run` shows by whom"));
    };
    // The run that this was started for has not said so yet.
    RunLock::share(paths)?.touch()?;
    notify.send("READY=1").context(|| "cannot tell the service manager that the yard is held")?;
    loop {
        // Not polled: this waits for the end of the last run.
        let alone = RunLock::wait_alone(paths)?;
        match IDLE.checked_sub(alone.idle()?).filter(|left| !left.is_zero()) {
            // With the lock: who comes now waits, and finds nobody who holds the yard.
            None => return Ok(()),
            Some(left) => {
                drop(alone);
                std::thread::sleep(left);
            }
        }
    }
}
