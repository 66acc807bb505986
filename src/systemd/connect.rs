//! Ways to the user's service manager, tried in turn.
//!
//! The manager's private socket (`$XDG_RUNTIME_DIR/systemd/private`), which `systemctl` uses where there is no bus, is no way for
//! us: on it the manager signs its answers with a well-known name as sender, which zbus refuses ("Invalid unique name").

use crate::error::{Error, Result};
use crate::systemd::proxy::SystemdProxy;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zbus::Connection;
use zbus::address::transport::{Transport, Unix, UnixSocket};
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;

/// How long one way may take to answer; a bus that hangs must not hang us.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer: a reload of a machine with very many units takes seconds.
const ANSWER: Duration = Duration::from_secs(90);

/// One way to the manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The session bus of `$DBUS_SESSION_BUS_ADDRESS`.
    Address(String),
    /// A bus that listens on a socket.
    Bus(PathBuf),
}

impl Way {
    fn name(&self) -> String {
        match self {
            Way::Address(address) => format!("`{address}`"),
            Way::Bus(path) => format!("`{}`", path.display()),
        }
    }

    fn builder(&self) -> Builder<'static> {
        match self {
            Way::Address(address) => Builder::address(address.as_str()),
            Way::Bus(path) => Builder::address(Transport::Unix(Unix::new(UnixSocket::File(path.clone())))),
        }
    }

    async fn attempt(&self) -> zbus::Result<(Connection, SystemdProxy<'static>)> {
        let connection = self.builder().method_timeout(ANSWER).build().await?;
        let proxy = SystemdProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        // A session bus that a program started for itself (dbus-run-session) has no manager on it, the system bus another one.
        if !proxy.unit_path().await?.iter().any(|dir| dir.ends_with("/systemd/user")) {
            return Err(zbus::Error::Failure("the service manager there is not a user's".to_owned()));
        }
        Ok((connection, proxy))
    }
}

/// The ways that the environment offers, best first.
pub(super) fn ways(address: Option<String>, runtime: &Path) -> Vec<Way> {
    let mut ways: Vec<Way> = address.into_iter().filter(|text| !text.is_empty()).map(Way::Address).collect();
    ways.push(Way::Bus(runtime.join("bus")));
    ways
}

/// `$XDG_RUNTIME_DIR`, or what systemd-logind makes for the user.
fn runtime_dir() -> PathBuf {
    let told = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    told.unwrap_or_else(|| PathBuf::from(format!("/run/user/{}", nix::unistd::getuid())))
}

/// Connects by the first way that leads to a manager.
pub(super) async fn connect() -> Result<(Connection, SystemdProxy<'static>)> {
    connect_by(&ways(env::var("DBUS_SESSION_BUS_ADDRESS").ok(), &runtime_dir())).await
}

pub(super) async fn connect_by(ways: &[Way]) -> Result<(Connection, SystemdProxy<'static>)> {
    let mut reasons = Vec::new();
    for way in ways {
        match tokio::time::timeout(PATIENCE, way.attempt()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => reasons.push(format!("{}: {}", way.name(), plain(&error))),
            Err(_) => reasons.push(format!("{}: no answer within {} s", way.name(), PATIENCE.as_secs())),
        }
    }
    Err(Error::host("cannot reach the systemd of this user").because(reasons.join("; ")).hint(
        "log in as the user (ssh, `machinectl shell USER@`), not by `su` or `sudo` alone; on a server run \
         `loginctl enable-linger` once; Debian has the user bus in the package dbus-user-session",
    ))
}

/// The text of a D-Bus error without the names of its types.
pub(super) fn plain(error: &zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(name, text, _) => text.clone().unwrap_or_else(|| name.to_string()),
        zbus::Error::InputOutput(error) => error.to_string(),
        zbus::Error::FDO(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The D-Bus name of an error that the manager answered.
pub(super) fn error_name(error: &zbus::Error) -> Option<String> {
    use zbus::DBusError;
    match error {
        zbus::Error::MethodError(name, _, _) => Some(name.to_string()),
        zbus::Error::FDO(error) => Some(error.name().to_string()),
        _ => None,
    }
}

/// Turns an answer of the manager into our error: `what` could not be done to `unit`.
pub(super) fn refused(what: String, unit: &str, error: &zbus::Error) -> Error {
    let why = plain(error);
    match error_name(error).as_deref() {
        Some("org.freedesktop.systemd1.NoSuchUnit") => Error::not_found(what).because(why),
        Some("org.freedesktop.systemd1.UnitMasked") => {
            Error::failed(what).because(why).hint(format!("take the mask off: systemctl --user unmask {unit}"))
        }
        Some("org.freedesktop.systemd1.BadUnitSetting" | "org.freedesktop.systemd1.LoadFailed") => {
            Error::failed(what).because(why).hint(format!("see what systemd says of it: systemd-analyze --user verify {unit}"))
        }
        _ => Error::failed(what).because(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways_of(address: &str, runtime: &str) -> Vec<Way> {
        ways(Some(address.to_owned()), Path::new(runtime))
    }

    #[test]
    fn an_empty_address_is_no_way() {
        assert_eq!(ways_of("", "/run/user/1"), ways(None, Path::new("/run/user/1")));
        assert_eq!(ways_of("unix:path=/x", "/run/user/1").len(), 2);
    }

    #[tokio::test]
    async fn without_any_manager_the_error_names_every_way_and_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = connect_by(&ways(Some("nonsense".into()), dir.path())).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::HostCannot);
        let why = error.causes().join(" ");
        assert!(why.contains("`nonsense`") && why.contains("/bus`"), "{why}");
        assert!(error.find_hint().is_some_and(|hint| hint.contains("dbus-user-session")));
    }
}
