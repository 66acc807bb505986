//! What every use case needs.

use crate::error::{Context as _, Error, Result};
use crate::report::Reporter;
use crate::resolve::ServiceName;
use crate::state::{Busy, NameLock, Paths, Settings, SharedLock};
use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Variables that say where things lie. Those that are set go into the units, so that the run lane finds the same places.
const PLACES: [&str; 3] = ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"];

/// How often a lock that another holds is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// The user's places and settings, and somebody to tell about progress.
#[derive(Clone, Debug)]
pub struct Context {
    /// Places on disk.
    pub paths: Paths,
    /// `config.toml`.
    pub settings: Settings,
    /// Receives progress.
    pub reporter: Arc<dyn Reporter>,
}

impl Context {
    /// From the environment and `config.toml`.
    ///
    /// # Errors
    /// When the environment does not tell where things lie, or the settings are wrong.
    pub fn load(reporter: Arc<dyn Reporter>) -> Result<Context> {
        let paths = Paths::from_env()?;
        let settings = Settings::load(&paths.settings_file())?;
        let paths = paths.with_store(settings.store.clone());
        Ok(Context { paths, settings, reporter })
    }

    /// The lock of a service; waits for its holder, and says so. `verb` is what others are told about us.
    pub(super) async fn lock(&self, name: &ServiceName, verb: &str) -> Result<NameLock> {
        let what = format!("`steading {verb} {name}`");
        let mut said = false;
        loop {
            let Busy { holder } = match NameLock::attempt(&self.paths, name, &what)? {
                Ok(lock) => return Ok(lock),
                Err(busy) => busy,
            };
            if !std::mem::replace(&mut said, true) {
                let holder = if holder.is_empty() { "another steading".to_owned() } else { holder };
                self.reporter.step(&format!("waiting for {holder}"));
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    /// The lock on what services share; held for moments by whoever has it.
    pub(super) async fn lock_shared(&self) -> Result<SharedLock> {
        let mut said = false;
        loop {
            if let Some(lock) = SharedLock::shared_state(&self.paths)? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut said, true) {
                self.reporter.step("waiting for another steading that changes ports and units");
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    /// Keeps images from being removed while an install relies on them.
    pub(super) async fn lock_images(&self) -> Result<SharedLock> {
        let mut said = false;
        loop {
            if let Some(lock) = SharedLock::use_images(&self.paths)? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut said, true) {
                self.reporter.step("waiting for another steading that removes images");
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }
}

/// The program that units start: this one.
pub(super) fn executable() -> Result<PathBuf> {
    let path = env::current_exe().context(|| "cannot find out which program this is")?;
    // What the kernel says of a program whose file was replaced or removed.
    if path.to_str().is_some_and(|path| path.ends_with(" (deleted)")) {
        return Err(Error::failed(format!("the program `{}` was replaced while it runs", path.display())).hint("run it again"));
    }
    Ok(path)
}

/// [`PLACES`] that are set to something usable.
pub(super) fn places() -> Result<Vec<(String, String)>> {
    let mut list = Vec::new();
    for key in PLACES {
        let Some(value) = env::var_os(key).filter(|value| PathBuf::from(value).is_absolute()) else { continue };
        let value = value.into_string().map_err(|value| {
            Error::host(format!("`{key}` is `{}`, which a unit file cannot say", value.display()))
                .hint("units are UTF-8; use such a path")
        })?;
        list.push((key.to_owned(), value));
    }
    Ok(list)
}
