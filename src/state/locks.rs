//! Who may change what: a lock per service, one for what services share, one between users and removers of images.

use super::Paths;
use crate::error::{Context, Result};
use crate::resolve::ServiceName;
use crate::sys::file::{self, Lock, LockMode};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Somebody else holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// What the holder said of itself, e.g. `steading install postgres@14 (process 4711)`; empty when it said nothing.
    pub holder: String,
}

/// The right to change one service. Exclusive.
#[derive(Debug)]
pub struct NameLock {
    path: PathBuf,
    _lock: Lock,
}

impl NameLock {
    /// Takes the lock of `name` unless somebody holds it; `what` tells others what is being done.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn attempt(paths: &Paths, name: &ServiceName, what: &str) -> Result<Result<NameLock, Busy>> {
        file::create_dir_all(&paths.services(), 0o700)?;
        let path = paths.services().join(format!(".{name}.lock"));
        loop {
            let Some(lock) = Lock::attempt(&path, LockMode::Exclusive)? else {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                return Ok(Err(Busy { holder: holder.trim_end().to_owned() }));
            };
            // The last holder may have removed the file (`forget`) between our open and our flock.
            if same_file(&lock, &path)? {
                // Only for people: a failure to say who we are does not matter.
                let _ = fs::write(&path, format!("{what} (process {})\n", std::process::id()));
                return Ok(Ok(NameLock { path, _lock: lock }));
            }
        }
    }

    /// Removes the lock file with the lock, for a service of which nothing is left.
    ///
    /// # Errors
    /// Those of unlink.
    pub fn forget(self) -> Result<()> {
        fs::remove_file(&self.path).context(|| format!("cannot remove `{}`", self.path.display()))
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // After `forget` the path is gone or another's. Truncated so that no stale holder is named.
        if same_file(&self._lock, &self.path).unwrap_or(false) {
            let _ = fs::OpenOptions::new().write(true).truncate(true).open(&self.path);
        }
    }
}

pub(super) fn same_file(lock: &Lock, path: &Path) -> Result<bool> {
    use nix::sys::stat::{fstat, stat};
    let held = fstat(lock.as_fd()).context(|| format!("cannot look at the lock `{}`", path.display()))?;
    match stat(path) {
        Ok(there) => Ok((held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)),
        Err(nix::errno::Errno::ENOENT) => Ok(false),
        Err(errno) => Err(io::Error::from(errno)).context(|| format!("cannot look at the lock `{}`", path.display())),
    }
}

/// A lock on what all services share.
#[derive(Debug)]
pub struct SharedLock(#[allow(dead_code, reason = "held for its lock")] Lock);

impl SharedLock {
    /// The right to change ports, shared units and the set of services. Held for moments only; `None` while another holds it.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn shared_state(paths: &Paths) -> Result<Option<SharedLock>> {
        Self::attempt(paths, ".shared.lock", LockMode::Exclusive)
    }

    /// Keeps images from being removed: held while an install relies on an image that no plan names yet.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn use_images(paths: &Paths) -> Result<Option<SharedLock>> {
        Self::attempt(paths, ".images.lock", LockMode::Shared)
    }

    /// The right to remove images; `None` while an install uses them.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn remove_images(paths: &Paths) -> Result<Option<SharedLock>> {
        Self::attempt(paths, ".images.lock", LockMode::Exclusive)
    }

    fn attempt(paths: &Paths, name: &str, mode: LockMode) -> Result<Option<SharedLock>> {
        file::create_dir_all(&paths.services(), 0o700)?;
        let path = paths.services().join(name);
        loop {
            let Some(lock) = Lock::attempt(&path, mode)? else { return Ok(None) };
            if same_file(&lock, &path)? {
                return Ok(Some(SharedLock(lock)));
            }
        }
    }

    /// Removes the lock files of this module that nobody holds, when no service is left.
    ///
    /// # Errors
    /// Those of locking and unlink.
    pub fn sweep(paths: &Paths) -> Result<()> {
        for name in [".shared.lock", ".images.lock"] {
            let path = paths.services().join(name);
            if path.exists()
                && let Some(lock) = Lock::attempt(&path, LockMode::Exclusive)?
                && same_file(&lock, &path)?
            {
                fs::remove_file(&path).context(|| format!("cannot remove `{}`", path.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let name: ServiceName = "postgres@14".parse().unwrap();
        let first = NameLock::attempt(&paths, &name, "steading install postgres@14").unwrap().unwrap();
        let busy = NameLock::attempt(&paths, &name, "steading remove postgres@14").unwrap().unwrap_err();
        assert_eq!(busy.holder, format!("steading install postgres@14 (process {})", std::process::id()));
        drop(first);
        let again = NameLock::attempt(&paths, &name, "x").unwrap().unwrap();
        again.forget().unwrap();
        assert_eq!(fs::read_dir(paths.services()).unwrap().count(), 0);
    }

    #[test]
    fn installs_share_images_and_removers_wait() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let one = SharedLock::use_images(&paths).unwrap().unwrap();
        let two = SharedLock::use_images(&paths).unwrap().unwrap();
        assert!(SharedLock::remove_images(&paths).unwrap().is_none());
        SharedLock::sweep(&paths).unwrap();
        assert!(paths.services().join(".images.lock").exists());
        drop((one, two));
        assert!(SharedLock::remove_images(&paths).unwrap().is_some());
        SharedLock::sweep(&paths).unwrap();
        assert_eq!(fs::read_dir(paths.services()).unwrap().count(), 0);
    }
}
