//! Containers that run once: their directories, which go with them, and what keeps the yard up meanwhile.
//!
//! ```text
//! $XDG_DATA_HOME/steading/runs/NAME/   {diff,work} of the overlay, data/VOLUME; flock on the directory while it runs
//! $XDG_RUNTIME_DIR/steading/runs/NAME/ hosts, hostname, ...
//! $XDG_RUNTIME_DIR/steading/run.lock   shared: a container runs; exclusive: whoever ends what all of them stand on
//! $XDG_RUNTIME_DIR/steading/hold.lock  exclusive: the process of steading-run.service, which holds the yard
//! ```

use super::locks::same_file;
use super::{Paths, remove_dir_if_empty, remove_tree};
use crate::error::{Context, Error, Result};
use crate::resolve::ServiceName;
use crate::sys::file::{Lock, LockMode, create_dir_all};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often names are tried; each is used by nobody, but for a clock that goes backwards.
const TRIES: u32 = 100;

/// The directories of one run.
#[derive(Debug)]
pub struct RunDir {
    /// Name of the container.
    pub name: ServiceName,
    /// Directory on the disk.
    pub data: PathBuf,
    /// Directory of run-time files.
    pub runtime: PathBuf,
    _lock: Flock<File>,
}

fn data_of(paths: &Paths) -> PathBuf {
    paths.data().join("runs")
}

fn runtime_of(paths: &Paths) -> PathBuf {
    paths.runtime().join("runs")
}

impl RunDir {
    /// Makes the directories of a new run, and removes those of runs that were killed.
    ///
    /// # Errors
    /// Those of mkdir and flock, with the path.
    pub fn create(paths: &Paths) -> Result<RunDir> {
        let all = data_of(paths);
        sweep(paths)?;
        let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let name = format!("run-{:x}-{:x}", std::process::id(), now.as_nanos() & 0xffff_ffff);
            let data = all.join(&name);
            create_dir_all(&all, 0o700)?;
            match fs::DirBuilder::new().mode(0o700).create(&data) {
                // Somebody has removed `runs` after its last run, or has taken the name.
                Err(reason) if matches!(reason.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                    error = reason;
                    continue;
                }
                other => other.context(|| format!("cannot make the directory `{}`", data.display()))?,
            }
            // One that sweeps may have been quicker.
            let Some(lock) = lock(&data)? else { continue };
            if !fs::metadata(&data).is_ok_and(|there| lock.metadata().is_ok_and(|held| held.ino() == there.ino())) {
                continue;
            }
            let runtime = runtime_of(paths).join(&name);
            create_dir_all(&runtime, 0o700)?;
            return Ok(RunDir { name: name.parse()?, data, runtime, _lock: lock });
        }
        Err(Error::failed(format!("cannot make a directory in `{}`", all.display())).because(error))
    }

    /// Removes the directories; nothing may run on them any more.
    ///
    /// # Errors
    /// The first file that could not be removed.
    pub fn remove(self) -> Result<()> {
        remove_tree(&self.runtime)?;
        // The directories of all runs stay for the next one; they go with the last service, or with the login.
        remove_data(&self.data)
    }

    /// Removes the directory of all runs, if none is left.
    ///
    /// # Errors
    /// Those of rmdir, with the path.
    pub fn tidy(paths: &Paths) -> Result<()> {
        remove_dir_if_empty(&data_of(paths))
    }
}

/// The lock on a run's directory; `None` while its run holds it, or when it is gone.
fn lock(dir: &Path) -> Result<Option<Flock<File>>> {
    let file = match File::open(dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("cannot open `{}`", dir.display())),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).context(|| format!("cannot lock `{}`", dir.display())),
    }
}

/// Removes what killed runs have left.
fn sweep(paths: &Paths) -> Result<()> {
    let all = data_of(paths);
    let entries = match fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context(|| format!("cannot read `{}`", all.display())),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if let Some(_lock) = lock(&path)? {
            // What cannot be removed, since it belongs to an id that the user has lost, keeps nobody else from running.
            let _ = remove_tree(&runtime_of(paths).join(entry.file_name()));
            let _ = remove_data(&path);
        }
    }
    Ok(())
}

fn remove_data(path: &Path) -> Result<()> {
    // Overlay leaves this one with mode 000, the usual reason for the slow way through all that is there.
    let _ = fs::set_permissions(path.join("work/work"), fs::Permissions::from_mode(0o700));
    remove_tree(path)
}

/// A share in `run.lock`, or all of it.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    _lock: Lock,
}

impl RunLock {
    /// Says that a container runs.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn share(paths: &Paths) -> Result<RunLock> {
        let taken = Self::take(paths, LockMode::Shared, true)?;
        taken.ok_or_else(|| Error::failed("cannot lock the run-time directory"))
    }

    /// The right to end what runs stand on; `None` while one runs.
    ///
    /// # Errors
    /// As [`RunLock::share`].
    pub fn alone(paths: &Paths) -> Result<Option<RunLock>> {
        Self::take(paths, LockMode::Exclusive, false)
    }

    /// As [`RunLock::alone`], waiting for the end of all runs.
    ///
    /// # Errors
    /// As [`RunLock::share`].
    pub fn wait_alone(paths: &Paths) -> Result<RunLock> {
        let taken = Self::take(paths, LockMode::Exclusive, true)?;
        taken.ok_or_else(|| Error::failed("cannot lock the run-time directory"))
    }

    fn take(paths: &Paths, mode: LockMode, wait: bool) -> Result<Option<RunLock>> {
        let path = paths.runtime().join("run.lock");
        loop {
            create_dir_all(paths.runtime(), 0o700)?;
            let lock = if wait { Some(Lock::wait(&path, mode)?) } else { Lock::attempt(&path, mode)? };
            let Some(lock) = lock else { return Ok(None) };
            // The run-time directory may have been removed with the last service between our open and our flock.
            if same_file(&lock, &path)? {
                return Ok(Some(RunLock { path, _lock: lock }));
            }
        }
    }

    /// Says that a run has just begun or ended.
    ///
    /// # Errors
    /// Those of utimensat(2).
    pub fn touch(&self) -> Result<()> {
        let touched = fs::OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_modified(SystemTime::now()));
        touched.context(|| format!("cannot touch `{}`", self.path.display()))
    }

    /// How long ago that was.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn idle(&self) -> Result<Duration> {
        let last = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        let last = last.context(|| format!("cannot look at `{}`", self.path.display()))?;
        // A clock that was set back means that nobody knows: begin anew.
        Ok(SystemTime::now().duration_since(last).unwrap_or_default())
    }
}

/// Says that the yard is held for runs. One process at a time.
#[derive(Debug)]
pub struct Keeper(#[allow(dead_code, reason = "held for its lock")] Lock);

impl Keeper {
    fn path(paths: &Paths) -> PathBuf {
        paths.runtime().join("hold.lock")
    }

    /// Becomes the keeper unless there is one.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn attempt(paths: &Paths) -> Result<Option<Keeper>> {
        create_dir_all(paths.runtime(), 0o700)?;
        Ok(Lock::attempt(&Self::path(paths), LockMode::Exclusive)?.map(Keeper))
    }

    /// Whether there is one. It does not end while the caller has a share in the run lock.
    ///
    /// # Errors
    /// Those of making and locking the file.
    pub fn is_there(paths: &Paths) -> Result<bool> {
        Ok(Lock::attempt(&Self::path(paths), LockMode::Shared)?.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_go_with_their_run_and_those_of_a_dead_one_with_the_next() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let first = RunDir::create(&paths).unwrap();
        let second = RunDir::create(&paths).unwrap();
        assert!(first.data.is_dir() && first.runtime.is_dir() && first.name != second.name);
        // As after kill -9: the lock is free, the directory is not.
        let left = second.data.clone();
        fs::create_dir(left.join("upper")).unwrap();
        drop(second);
        let third = RunDir::create(&paths).unwrap();
        assert!(!left.exists() && first.data.exists());
        first.remove().unwrap();
        third.remove().unwrap();
        assert_eq!(fs::read_dir(runtime_of(&paths)).unwrap().count(), 0);
        RunDir::tidy(&paths).unwrap();
        assert!(!data_of(&paths).exists());
    }

    #[test]
    fn runs_share_and_whoever_ends_what_they_stand_on_waits() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let (one, two) = (RunLock::share(&paths).unwrap(), RunLock::share(&paths).unwrap());
        assert!(RunLock::alone(&paths).unwrap().is_none());
        assert!(!Keeper::is_there(&paths).unwrap());
        let keeper = Keeper::attempt(&paths).unwrap().unwrap();
        assert!(Keeper::is_there(&paths).unwrap() && Keeper::attempt(&paths).unwrap().is_none());
        drop((one, two, keeper));
        let alone = RunLock::alone(&paths).unwrap().unwrap();
        alone.touch().unwrap();
        assert!(alone.idle().unwrap() < Duration::from_secs(60) && !Keeper::is_there(&paths).unwrap());
    }
}
