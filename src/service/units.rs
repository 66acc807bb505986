//! Unit files of a service, and those that all services share: written with the first, removed with the last.

use super::Context;
use crate::error::{Error, Result};
use crate::resolve::ServiceName;
use crate::state::{Services, remove_dir_if_empty, remove_tree};
use crate::systemd::{self, Manager, UnitOrigin};
use crate::unit::{SLICE, Units, YARD};
use std::path::{Path, PathBuf};

/// The user's service manager and the directory that it reads units from.
#[derive(Debug)]
pub(super) struct UserUnits {
    /// The manager.
    pub(super) manager: Manager,
    /// Where our unit files lie.
    pub(super) dir: PathBuf,
}

impl UserUnits {
    pub(super) async fn connect(context: &Context) -> Result<UserUnits> {
        let manager = Manager::connect().await?;
        let dir = manager.unit_dir(context.paths.units()).await?;
        Ok(UserUnits { manager, dir })
    }

    /// Fails when a unit of that name belongs to somebody else.
    pub(super) async fn check_name(&self, name: &ServiceName) -> Result<()> {
        for (unit, own) in [(name.unit(), true), (YARD.to_owned(), false), (SLICE.to_owned(), false)] {
            if let UnitOrigin::Foreign(path) = self.manager.unit_origin(&unit).await? {
                let what = match path.as_os_str().is_empty() {
                    true => format!("there is a unit `{unit}` already, which steading did not write"),
                    false => format!("there is a unit `{unit}` already, which steading did not write: {}", path.display()),
                };
                let hint = if own { "choose another name with --name" } else { "remove that unit, or rename it" };
                return Err(Error::failed(what).hint(hint));
            }
        }
        // The manager may not have read a file that was put there since its last reload.
        let path = self.dir.join(name.unit());
        match std::fs::read(&path) {
            Ok(bytes) if std::str::from_utf8(&bytes).is_ok_and(crate::unit::is_ours) => Ok(()),
            Ok(_) => {
                Err(Error::failed(format!("there is a unit file already, which steading did not write: {}", path.display()))
                    .hint("choose another name with --name"))
            }
            Err(_) => Ok(()),
        }
    }

    /// Writes the units that all services share.
    pub(super) fn write_shared(&self, units: &Units) -> Result<()> {
        for unit in [&units.slice, &units.yard] {
            systemd::install_unit(&self.dir, unit)?;
        }
        Ok(())
    }

    /// Ends and removes what services share when none is left. The caller holds the lock on it.
    pub(super) async fn remove_shared_if_unused(&self, context: &Context) -> Result<()> {
        if !Services::new(&context.paths).names()?.is_empty() {
            return Ok(());
        }
        for unit in [YARD, SLICE] {
            // One that systemd does not know does not run.
            if self.manager.status(unit).await?.is_active() || self.manager.status(unit).await?.active == "activating" {
                self.manager.stop(unit).await?;
            }
            systemd::remove_unit(&self.dir, unit)?;
        }
        self.manager.reload().await?;
        for unit in [YARD, SLICE] {
            self.manager.reset_failed(unit).await?;
        }
        // The yard's socket and mount point; no mount is left, since its namespace ended with it.
        remove_tree(context.paths.runtime())
    }

    /// Stops a unit and takes it from the boot, its file stays.
    pub(super) async fn stop_and_disable(&self, unit: &str) -> Result<()> {
        let status = self.manager.status(unit).await?;
        if status.active != "inactive" && status.active != "failed" {
            self.manager.stop(unit).await?;
        }
        self.manager.disable(unit).await.map(drop)
    }
}

/// Removes the directory of units and its parent if nothing is in them.
pub(super) fn remove_empty_unit_dirs(dir: &Path) -> Result<()> {
    remove_dir_if_empty(&dir.join("default.target.wants"))?;
    remove_dir_if_empty(dir)?;
    dir.parent().map_or(Ok(()), remove_dir_if_empty)
}
