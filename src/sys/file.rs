//! Durable files: temp + fsync + rename + fsync of the directory, advisory locks.

use crate::error::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Prefix of temporary names; whoever lists a directory of ours ignores names that begin with it.
pub const TEMP_PREFIX: &str = ".tmp-";

/// A name in the directory of `path` that no other process or thread uses now.
#[must_use]
pub fn temp_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut name = OsString::from(format!("{TEMP_PREFIX}{}-{}-", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Makes `path` hold `bytes` with permission bits `mode`, durably: after a crash it has the old content or the new one.
///
/// # Errors
/// Those of open, write, fsync and rename, with the path.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temp = temp_beside(path);
    let written = (|| -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    })();
    if written.is_err() {
        // The first error is the one to report; a leftover is ignored by every reader and swept by fsck.
        let _ = fs::remove_file(&temp);
    }
    written.context(|| format!("cannot write `{}`", path.display()))?;
    sync_parent(path)
}

/// Makes `path` a symbolic link to `target`, replacing what was there, durably.
///
/// # Errors
/// Those of symlink, rename and fsync, with the path.
pub fn symlink_atomic(target: &Path, path: &Path) -> Result<()> {
    let temp = temp_beside(path);
    std::os::unix::fs::symlink(target, &temp)
        .and_then(|()| fs::rename(&temp, path))
        .inspect_err(|_| drop(fs::remove_file(&temp)))
        .context(|| format!("cannot link `{}` to `{}`", path.display(), target.display()))?;
    sync_parent(path)
}

/// fsync of a directory, which makes renames and unlinks in it durable.
///
/// # Errors
/// Those of open and fsync, with the path.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).context(|| format!("cannot sync the directory `{}`", path.display()))
}

/// [`sync_dir`] of the directory that holds `path`.
///
/// # Errors
/// As [`sync_dir`].
pub fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Opens a directory to name it only (`O_PATH`).
///
/// # Errors
/// Those of open(2), with the path.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("cannot open the directory `{}`", path.display()))
}

/// Creates a directory and its parents with permission bits `mode`; one that exists is fine.
///
/// # Errors
/// Those of mkdir, with the path.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .context(|| format!("cannot make the directory `{}`", path.display()))
}

/// An advisory lock (flock) on a file, released on drop or death.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its lock")] nix::fcntl::Flock<File>);

/// How a [`Lock`] is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl Lock {
    /// Takes the lock on `path` (made when missing), waiting for it.
    ///
    /// # Errors
    /// Those of open and flock, with the path.
    pub fn wait(path: &Path, mode: LockMode) -> Result<Lock> {
        match Self::take(path, mode, true)? {
            Some(lock) => Ok(lock),
            None => Err(crate::error::Error::failed(format!("cannot lock `{}`", path.display()))),
        }
    }

    /// Takes the lock if nobody holds it now; `None` if somebody does.
    ///
    /// # Errors
    /// Those of open and flock, with the path.
    pub fn attempt(path: &Path, mode: LockMode) -> Result<Option<Lock>> {
        Self::take(path, mode, false)
    }

    fn take(path: &Path, mode: LockMode, wait: bool) -> Result<Option<Lock>> {
        use nix::fcntl::{Flock, FlockArg};
        let arg = match (mode, wait) {
            (LockMode::Shared, true) => FlockArg::LockShared,
            (LockMode::Shared, false) => FlockArg::LockSharedNonblock,
            (LockMode::Exclusive, true) => FlockArg::LockExclusive,
            (LockMode::Exclusive, false) => FlockArg::LockExclusiveNonblock,
        };
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = open().context(|| format!("cannot open the lock `{}`", path.display()))?;
        loop {
            match Flock::lock(file, arg) {
                Ok(lock) => return Ok(Some(Lock(lock))),
                Err((back, nix::errno::Errno::EINTR)) => file = back,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno).context(|| format!("cannot lock `{}`", path.display())),
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_content_and_leaves_no_temp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.toml");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_exclusive_lock_keeps_a_second_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::wait(&path, LockMode::Exclusive).unwrap();
        assert!(Lock::attempt(&path, LockMode::Shared).unwrap().is_none());
        drop(first);
        assert!(Lock::attempt(&path, LockMode::Shared).unwrap().is_some());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = write_atomic(Path::new("/nonexistent-dir/x"), b"", 0o600).unwrap_err();
        assert!(error.to_string().contains("/nonexistent-dir/x"));
    }
}
