//! A connection to the user's service manager.

use super::connect::{self, error_name, refused};
use super::proxy::SystemdProxy;
use super::status::{UnitState, UnitStatus};
use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use zbus::Connection;
use zbus::OwnedObjectPath;
use zbus::fdo::PropertiesProxy;
use zbus::names::InterfaceName;
use zbus::proxy::CacheProperties;

/// The user's service manager.
#[derive(Clone, Debug)]
pub struct Manager {
    pub(super) connection: Connection,
    pub(super) proxy: SystemdProxy<'static>,
}

impl Manager {
    /// Connects over the session bus, or the bus in `$XDG_RUNTIME_DIR` if no manager is on that one.
    ///
    /// # Errors
    /// [`Kind::HostCannot`](crate::error::Kind::HostCannot) with a remedy when none does.
    pub async fn connect() -> Result<Manager> {
        Self::subscribed(connect::connect().await?).await
    }

    pub(super) async fn subscribed((connection, proxy): (Connection, SystemdProxy<'static>)) -> Result<Manager> {
        // Without it the manager sends no signals.
        proxy.subscribe().await.map_err(|error| refused("cannot subscribe to systemd's signals".into(), "", &error))?;
        Ok(Manager { connection, proxy })
    }

    /// Version of systemd, e.g. 257.
    ///
    /// # Errors
    /// When the manager does not answer or tells no number.
    pub async fn version(&self) -> Result<u32> {
        let text =
            self.proxy.version().await.map_err(|error| refused("cannot ask systemd for its version".into(), "", &error))?;
        parse_version(&text).ok_or_else(|| Error::failed(format!("systemd's version `{}` is not a number", text.escape_debug())))
    }

    /// The manager's own control group, relative to the cgroup root, e.g. `/user.slice/.../user@1000.service`.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn control_group(&self) -> Result<String> {
        self.proxy.control_group().await.map_err(|error| refused("cannot ask systemd for its cgroup".into(), "", &error))
    }

    /// The cgroup controllers that the manager's units may be limited by; `None` where the host tells none (no cgroup v2).
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn controllers(&self) -> Result<Option<Vec<String>>> {
        let text = fs::read_to_string(self.group().await?.join("cgroup.controllers"));
        Ok(text.ok().map(|text| text.split_ascii_whitespace().map(str::to_owned).collect()))
    }

    /// How soon the manager itself would be killed when memory ends (`oom_score_adj`). No unit of a user can ask for less
    /// (proc_pid_oom_score_adj(5)). `None` where the host does not tell.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub async fn oom_score(&self) -> Result<Option<i32>> {
        let group = self.group().await?;
        let read = || -> Option<i32> {
            let processes = fs::read_to_string(group.join("init.scope/cgroup.procs")).ok()?;
            let pid: u32 = processes.lines().next()?.parse().ok()?;
            fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
        };
        Ok(read())
    }

    async fn group(&self) -> Result<PathBuf> {
        Ok(Path::new("/sys/fs/cgroup").join(self.control_group().await?.trim_start_matches('/')))
    }

    /// The directory for the user's own unit files. That is `preferred` when the manager reads it; otherwise (the manager has
    /// another `XDG_CONFIG_HOME` than we) the one that the manager has for this purpose.
    ///
    /// # Errors
    /// When the manager does not answer or has no such directory.
    pub async fn unit_dir(&self, preferred: &Path) -> Result<PathBuf> {
        let paths =
            self.proxy.unit_path().await.map_err(|error| refused("cannot ask systemd where units lie".into(), "", &error))?;
        choose_unit_dir(preferred, &paths).ok_or_else(|| {
            Error::failed(format!("the systemd of this user reads no units from `{}`", preferred.display()))
                .because(format!("it looks into {}", paths.join(", ")))
                .hint("unset XDG_CONFIG_HOME, or set it for the whole login session")
        })
    }

    /// Reads all unit files again.
    ///
    /// # Errors
    /// Those of the manager.
    pub async fn reload(&self) -> Result<()> {
        self.proxy.reload().await.map_err(|error| refused("systemd cannot reload its units".into(), "", &error))
    }

    /// Enables a unit by its file; true when links were made. No reload is needed before, one is due after.
    ///
    /// # Errors
    /// Those of the manager: no such file, a foreign link in the way, ...
    pub async fn enable(&self, unit: &str) -> Result<bool> {
        let done = self.proxy.enable_unit_files(&[unit], false, false).await;
        let (_, changes) = done.map_err(|error| refused(format!("cannot enable `{unit}`"), unit, &error))?;
        Ok(!changes.is_empty())
    }

    /// Disables a unit; true when links were removed. A unit without a file is disabled already.
    ///
    /// # Errors
    /// Those of the manager.
    pub async fn disable(&self, unit: &str) -> Result<bool> {
        match self.proxy.disable_unit_files(&[unit], false).await {
            Ok(changes) => Ok(!changes.is_empty()),
            Err(error) if is_no_such_unit(&error) => Ok(false),
            Err(error) => Err(refused(format!("cannot disable `{unit}`"), unit, &error)),
        }
    }

    /// Forgets that a unit failed; one that is not loaded has nothing to forget.
    ///
    /// # Errors
    /// Those of the manager.
    pub async fn reset_failed(&self, unit: &str) -> Result<()> {
        match self.proxy.reset_failed_unit(unit).await {
            Err(error) if !is_no_such_unit(&error) => Err(refused(format!("cannot reset `{unit}`"), unit, &error)),
            _ => Ok(()),
        }
    }

    /// States of several units in one call, in the order of `units`. Units that do not exist have `load` `not-found`.
    ///
    /// # Errors
    /// Those of the manager.
    pub async fn states(&self, units: &[&str]) -> Result<Vec<UnitState>> {
        let listed = self.proxy.list_units_by_names(units).await;
        let listed = listed.map_err(|error| refused("cannot list units".into(), "", &error))?;
        let mut states: Vec<UnitState> = listed.into_iter().map(UnitState::from).collect();
        states.sort_by_key(|state| units.iter().position(|unit| *unit == state.name));
        Ok(states)
    }

    /// All about one unit. A unit that does not exist has `load` `not-found`.
    ///
    /// # Errors
    /// Those of the manager.
    pub async fn status(&self, unit: &str) -> Result<UnitStatus> {
        let wrong = |error: &zbus::Error| refused(format!("cannot look at `{unit}`"), unit, error);
        let path = self.load(unit).await?;
        let properties = PropertiesProxy::builder(&self.connection)
            .destination("org.freedesktop.systemd1")
            .path(path)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(|error| wrong(&error))?;
        let of_unit = properties.get_all(InterfaceName::from_static_str_unchecked("org.freedesktop.systemd1.Unit"));
        let of_service = properties.get_all(InterfaceName::from_static_str_unchecked("org.freedesktop.systemd1.Service"));
        let (of_unit, of_service) = tokio::join!(of_unit, of_service);
        let mut all = of_unit.map_err(|error| wrong(&error.into()))?;
        // Only services have the second interface.
        if unit.ends_with(".service") {
            all.extend(of_service.map_err(|error| wrong(&error.into()))?);
        }
        Ok(UnitStatus::from_properties(&all))
    }

    /// The object path of a unit, which the manager loads when it has not yet.
    pub(super) async fn load(&self, unit: &str) -> Result<OwnedObjectPath> {
        self.proxy.load_unit(unit).await.map_err(|error| refused(format!("cannot load `{unit}`"), unit, &error))
    }
}

fn is_no_such_unit(error: &zbus::Error) -> bool {
    error_name(error).is_some_and(|name| name == "org.freedesktop.systemd1.NoSuchUnit")
}

/// `257.13-1~deb13u1` -> 257.
fn parse_version(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// The manager lists `X.control` before the directory X that is for the user's own units, once for the disk and once for /run.
fn choose_unit_dir(preferred: &Path, unit_path: &[String]) -> Option<PathBuf> {
    if unit_path.iter().any(|dir| Path::new(dir) == preferred) {
        return Some(preferred.to_owned());
    }
    let control = unit_path.iter().find_map(|dir| dir.strip_suffix(".control"))?;
    unit_path.iter().find(|dir| *dir == control).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, number) in [("257.13-1~deb13u1", 257), ("252", 252), ("v250", 250)] {
            assert_eq!(parse_version(text), Some(number), "{text}");
        }
        assert_eq!(parse_version("main"), None);
        assert_eq!(parse_version("99999999999"), None);
    }

    #[test]
    fn the_manager_decides_where_units_lie() {
        let paths: Vec<String> = [
            "/h/.config/systemd/user.control",
            "/run/user/1/systemd/user.control",
            "/h/.config/systemd/user",
            "/etc/systemd/user",
        ]
        .map(String::from)
        .to_vec();
        let choose = |dir: &str| choose_unit_dir(Path::new(dir), &paths);
        assert_eq!(choose("/h/.config/systemd/user"), Some("/h/.config/systemd/user".into()));
        assert_eq!(choose("/else/systemd/user"), Some("/h/.config/systemd/user".into()));
        assert_eq!(choose_unit_dir(Path::new("/x"), &[]), None);
    }
}
