//! The file a blob is written to while it is under way. Blocking; runs on tokio's blocking threads.

use crate::error::{Context, Error, Result};
use crate::image::{Digest, Hasher};
use crate::sys::file::{Lock, LockMode, sync_parent};
use bytes::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc::Receiver;

/// Bytes gathered before they are written, and read at a time for hashing.
const BUFFER: usize = 512 << 10;

/// `sha256-HEX.partial`, locked. Its first `len` bytes are what `hasher` has seen.
///
/// The lock is on the file itself, so no lock file is left over. Whoever waited for it must look whether the path still names
/// what was locked: the holder may have renamed or removed it.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    _lock: Lock,
    pub len: u64,
    hasher: Hasher,
    gone: bool,
}

impl Partial {
    /// Opens and locks; `None` when another holds it now.
    pub fn attempt(path: PathBuf) -> Result<Option<Partial>> {
        let Some(lock) = Lock::attempt(&path, LockMode::Exclusive)? else { return Ok(None) };
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context(|| format!("cannot open `{}`", path.display()))?,
        };
        let held = nix::sys::stat::fstat(lock.as_fd()).map_err(io::Error::from);
        let same = held.and_then(|held| Ok((held.st_dev, held.st_ino) == file.metadata().map(|meta| (meta.dev(), meta.ino()))?));
        if !same.context(|| format!("cannot examine `{}`", path.display()))? {
            return Ok(None);
        }
        Ok(Some(Partial { path, file, _lock: lock, len: 0, hasher: Hasher::new(), gone: false }))
    }

    /// Takes in what an earlier try left. What is longer than the whole blob is of no use.
    pub fn recover(&mut self, size: u64) -> Result<()> {
        let there = self.file.metadata().map(|meta| meta.len());
        if there.context(|| format!("cannot examine `{}`", self.path.display()))? > size {
            return self.restart();
        }
        let read = || format!("cannot read `{}`", self.path.display());
        self.file.rewind().context(read)?;
        (self.hasher, self.len) = hash(&mut self.file, size).context(read)?;
        Ok(())
    }

    /// Begins anew.
    pub fn restart(&mut self) -> Result<()> {
        self.hasher = Hasher::new();
        self.len = 0;
        self.file.set_len(0).context(|| format!("cannot empty `{}`", self.path.display()))
    }

    /// The digest of what is there.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Appends what `chunks` brings until it ends.
    ///
    /// # Errors
    /// Those of writing. A full disk also gives back what the file took, as this host is to be as it was before.
    pub fn pour(&mut self, mut chunks: Receiver<Bytes>) -> Result<()> {
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut poured = self.file.seek(SeekFrom::Start(self.len)).map(drop);
        while poured.is_ok()
            && let Some(chunk) = chunks.blocking_recv()
        {
            self.hasher.update(&chunk);
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= BUFFER {
                poured = self.drain(&mut buffer);
            }
        }
        let poured = poured.and_then(|()| self.drain(&mut buffer));
        poured.map_err(|error| {
            let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
            let failed = Error::failed(format!("cannot write `{}`", self.path.display())).because(error);
            if !full {
                return failed;
            }
            self.remove();
            failed.hint(space_hint(&self.path))
        })
    }

    fn drain(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.file.write_all(buffer)?;
        self.len += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    /// Makes it the finished blob, durably. The caller has verified it.
    pub fn finish(mut self, path: &Path) -> Result<()> {
        let finish = || format!("cannot finish `{}`", path.display());
        self.file.sync_all().context(finish)?;
        fs::rename(&self.path, path).context(finish)?;
        self.gone = true;
        sync_parent(path)
    }

    /// Removes the file.
    pub fn remove(&mut self) {
        if !self.gone {
            // If it cannot be removed, the next download empties it.
            let _ = fs::remove_file(&self.path);
            self.gone = true;
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing in it is worth resuming; still locked here, so nobody else's file is removed.
        if self.len == 0 {
            self.remove();
        }
    }
}

/// Reads `file` from where it stands to its end, at most `most` bytes.
fn hash(file: &mut File, most: u64) -> io::Result<(Hasher, u64)> {
    let mut file = file.take(most);
    let mut hasher = Hasher::new();
    let mut len = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher, len)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                len += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether `path` is a finished blob of that digest and size; a file that is not, is removed.
pub(super) fn is_finished(path: &Path, digest: Digest, size: u64) -> Result<bool> {
    let read = || format!("cannot read `{}`", path.display());
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.context(read)?,
    };
    let whole = file.metadata().context(read)?.len() == size && hash(&mut file, size).context(read)?.0.finish() == digest;
    if !whole {
        fs::remove_file(path).context(|| format!("cannot remove `{}`, which is damaged,", path.display()))?;
    }
    Ok(whole)
}

/// Refuses what cannot fit, before the disk is full.
pub(super) fn check_space(path: &Path, needed: u64) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    let stat = nix::sys::statvfs::statvfs(dir).context(|| format!("cannot examine the file system of `{}`", dir.display()))?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    // File systems that do not count (a tmpfs without limit) say that they have no blocks at all.
    if stat.blocks() == 0 || free >= needed {
        return Ok(());
    }
    let (needed, free) = (needed.div_ceil(1 << 20), free >> 20);
    Err(Error::failed(format!("no space for `{}`", path.display()))
        .because(format!("{needed} MiB are needed, {free} MiB are free"))
        .hint(space_hint(path)))
}

fn space_hint(path: &Path) -> String {
    let dir = path.parent().unwrap_or(path).display();
    format!("free space on the file system of `{dir}`, or set XDG_CACHE_HOME to another; finished downloads are kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_so_with_a_hint_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sha256-x.partial");
        // The kernel's own full device.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut partial = Partial::attempt(path).unwrap().unwrap();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        sender.blocking_send(Bytes::from_static(b"content")).unwrap();
        drop(sender);
        let error = partial.pour(receiver).unwrap_err();
        assert!(error.causes()[0].contains("No space left"), "{error:?}");
        assert!(error.find_hint().unwrap().contains("XDG_CACHE_HOME"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_on_a_file_that_was_renamed_meanwhile_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (path, done) = (dir.path().join("sha256-x.partial"), dir.path().join("sha256-x"));
        let first = Partial::attempt(path.clone()).unwrap().unwrap();
        assert!(Partial::attempt(path.clone()).unwrap().is_none());
        first.finish(&done).unwrap();
        let second = Partial::attempt(path.clone()).unwrap().unwrap();
        drop(second);
        assert!(done.exists() && !path.exists(), "an empty part goes, the finished blob stays");
    }
}
