//! Linger: whether the user's services run without a login session, from boot.

use super::connect::plain;
use super::proxy::{LoginProxy, LoginUserProxy};
use crate::error::{Error, Result};
use std::path::Path;
use std::time::Duration;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;

/// Where systemd-logind keeps who lingers, a file for each user.
const LINGER_DIR: &str = "/var/lib/systemd/linger";

const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the user lingers; `None` when neither systemd-logind nor its files tell.
pub async fn lingering(uid: u32) -> Option<bool> {
    match tokio::time::timeout(PATIENCE, ask(uid)).await {
        Ok(Ok(answer)) => Some(answer),
        // No system bus, no logind, or a user that logind does not know now: its file is what counts.
        _ => linger_file(Path::new(LINGER_DIR), &user_name(uid)?),
    }
}

/// Switches linger on or off, without asking anybody for a password.
///
/// # Errors
/// When systemd-logind cannot be reached or does not allow it; the hint is the command for an administrator.
pub async fn set_linger(uid: u32, on: bool) -> Result<()> {
    let verb = if on { "enable" } else { "disable" };
    let why = match tokio::time::timeout(PATIENCE, order(uid, on)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => plain(&error),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    let name = user_name(uid).unwrap_or_else(|| uid.to_string());
    Err(Error::host(format!("cannot {verb} lingering of the user `{name}`"))
        .because(why)
        .hint(format!("an administrator can: sudo loginctl {verb}-linger {name}")))
}

async fn ask(uid: u32) -> zbus::Result<bool> {
    let bus = system_bus().await?;
    let path = LoginProxy::new(&bus).await?.get_user(uid).await?;
    let user = LoginUserProxy::builder(&bus).path(path).cache_properties(CacheProperties::No).build().await?;
    user.linger().await
}

async fn order(uid: u32, on: bool) -> zbus::Result<()> {
    let bus = system_bus().await?;
    LoginProxy::new(&bus).await?.set_user_linger(uid, on, false).await
}

async fn system_bus() -> zbus::Result<Connection> {
    Builder::system().method_timeout(PATIENCE).build().await
}

fn user_name(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name)
}

fn linger_file(dir: &Path, user: &str) -> Option<bool> {
    match dir.join(user).try_exists() {
        Ok(true) => Some(true),
        // Without the directory there is no logind at all.
        Ok(false) if dir.parent().is_some_and(Path::exists) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_tells_who_lingers() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("systemd/linger");
        assert_eq!(linger_file(&dir, "alice"), None);
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(linger_file(&dir, "alice"), Some(false));
        std::fs::write(dir.join("alice"), "").unwrap();
        assert_eq!(linger_file(&dir, "alice"), Some(true));
    }
}
