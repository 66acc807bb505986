//! Unit files of a service, and those that all services share: written with the first, removed with the last.

use super::Context;
use super::transaction::Transaction;
use crate::error::{Context as _, Error, Result};
use crate::resolve::ServiceName;
use crate::state::{RunLock, Services, remove_dir_if_empty, remove_tree};
use crate::systemd::{self, Manager, UnitOrigin};
use crate::unit::{self, RUN, SLICE, Shared, Units, YARD};
use std::fs;
use std::path::{Path, PathBuf};

/// The user's service manager and the directory that it reads units from.
#[derive(Debug)]
pub(super) struct UserUnits {
    /// The manager.
    pub(super) manager: Manager,
    /// Where our unit files lie.
    pub(super) dir: PathBuf,
    /// Where the user's own unit files, drop-ins and masks lie, and the links of enabled units.
    pub(super) own_dir: PathBuf,
}

impl UserUnits {
    pub(super) async fn connect(context: &Context) -> Result<UserUnits> {
        let manager = Manager::connect().await?;
        let dir = manager.unit_dir(context.paths.units()).await?;
        Ok(UserUnits { manager, dir, own_dir: context.paths.user_config_units() })
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
        for directory in [&self.dir, &self.own_dir] {
            let path = directory.join(name.unit());
            if path.exists() && !is_ours(&path)? {
                let what = format!("there is a unit file already, which steading did not write: {}", path.display());
                return Err(Error::failed(what).hint("choose another name with --name"));
            }
        }
        Ok(())
    }

    /// Fails when a unit that services or runs share belongs to somebody else.
    pub(super) async fn check_shared(&self) -> Result<()> {
        for unit in [YARD, SLICE, RUN] {
            if let UnitOrigin::Foreign(path) = self.manager.unit_origin(unit).await? {
                return Err(Error::failed(format!("there is a unit `{unit}` already, which steading did not write"))
                    .because(path.display().to_string())
                    .hint("remove that unit, or rename it"));
            }
        }
        Ok(())
    }

    /// Writes the units that runs need. Tells whether anything changed.
    pub(super) fn install_shared(&self, shared: &Shared) -> Result<bool> {
        [&shared.slice, &shared.yard, &shared.run]
            .into_iter()
            .try_fold(false, |changed, unit| Ok(systemd::install_unit(&self.dir, unit)? || changed))
    }

    /// Writes the units that all services share.
    pub(super) fn write_shared(&self, rendered: &Units, steps: &mut Transaction) -> Result<()> {
        for unit in [&rendered.slice, &rendered.yard] {
            steps.write_shared(&self.dir.join(&unit.name), unit.text.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    /// Ends and removes what services share when none is left. The caller holds the lock on it.
    pub(super) async fn remove_shared_if_unused(&self, context: &Context) -> Result<()> {
        if !Services::new(&context.paths).names()?.is_empty() {
            return Ok(());
        }
        // Containers that run once stand on the yard, too; the next one that removes a service cleans up.
        let Some(_alone) = RunLock::alone(&context.paths)? else { return Ok(()) };
        for unit in [RUN, YARD, SLICE] {
            // One that systemd does not know does not run.
            let status = self.manager.status(unit).await?;
            if status.is_active() || status.active == "activating" {
                self.manager.stop(unit).await?;
            }
            systemd::remove_unit(&self.dir, unit)?;
        }
        self.manager.reload().await?;
        for unit in [RUN, YARD, SLICE] {
            self.manager.reset_failed(unit).await?;
        }
        // The yard's socket and mount point; no mount is left, since its namespace ended with it.
        remove_tree(context.paths.runtime())
    }

    /// Stops and disables the unit of a service and removes its file, and a copy that `systemctl --user edit --full` made. With
    /// `purge` the user's drop-ins and mask for it go too.
    pub(super) async fn remove(&self, context: &Context, name: &ServiceName, purge: bool) -> Result<()> {
        let unit = name.unit();
        // Whether its file is still there or not: nothing may run on directories that are about to go.
        if !matches!(self.manager.unit_origin(&unit).await?, UnitOrigin::Foreign(_)) {
            context.reporter.step(&format!("stopping {name}"));
            self.stop_and_disable(&unit).await?;
        }
        for directory in [&self.dir, &self.own_dir] {
            let path = directory.join(&unit);
            if path.exists() && is_ours(&path)? {
                systemd::remove_unit(directory, &unit)?;
            }
        }
        if purge {
            systemd::remove_drop_ins(&self.dir, &unit)?;
            systemd::remove_drop_ins(&self.own_dir, &unit)?;
            if fs::read_link(self.own_dir.join(&unit)).is_ok_and(|target| target == Path::new("/dev/null")) {
                systemd::remove_unit(&self.own_dir, &unit)?;
            }
        }
        self.manager.reload().await?;
        self.manager.reset_failed(&unit).await
    }

    /// Removes directories of units in which nothing is left.
    pub(super) fn tidy(&self) -> Result<()> {
        for directory in [&self.dir, &self.own_dir] {
            remove_dir_if_empty(&directory.join("default.target.wants"))?;
            remove_dir_if_empty(directory)?;
            directory.parent().map_or(Ok(()), remove_dir_if_empty)?;
        }
        Ok(())
    }

    /// Stops a unit and takes it from the boot, its file stays. An error when it does not end.
    pub(super) async fn stop_and_disable(&self, unit: &str) -> Result<()> {
        let is_down = |active: &str| matches!(active, "inactive" | "failed");
        if !is_down(&self.manager.status(unit).await?.active) {
            self.manager.stop(unit).await?;
            let active = self.manager.status(unit).await?.active;
            if !is_down(&active) {
                return Err(Error::failed(format!("`{unit}` does not stop: it is {active}"))
                    .hint("somebody else starts it at this moment? try again"));
            }
        }
        self.manager.disable(unit).await.map(drop)
    }
}

fn is_ours(unit: &Path) -> Result<bool> {
    let bytes = fs::read(unit).context(|| format!("cannot read the unit file `{}`", unit.display()))?;
    Ok(std::str::from_utf8(&bytes).is_ok_and(unit::is_ours))
}
