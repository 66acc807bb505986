//! Writing objects: a file each, named by the sha256 of its content.

use crate::error::{Context, Result};
use crate::image::{Digest, Hasher};
use crate::sys::file::temp_beside;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Holes are hashed in pieces of this many zeros.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Where the object of `digest` lies below the directory `objects`.
pub(crate) fn place(objects: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    let mut path = PathBuf::with_capacity(objects.as_os_str().len() + 4 + hex.len());
    path.push(objects);
    path.push(hex.get(..2).unwrap_or_default());
    path.push(&hex);
    path
}

/// Puts contents into the store. They are not durable before the file system is synced.
#[derive(Debug)]
pub(crate) struct Objects {
    dir: PathBuf,
}

impl Objects {
    pub(crate) fn new(dir: PathBuf) -> Objects {
        Objects { dir }
    }

    /// Stores `bytes` unless they are there.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = place(&self.dir, &digest);
        if !present(&path, bytes.len() as u64) {
            let temp = temp_beside(&path);
            let written = (|| {
                create(&temp)?.write_all(bytes)?;
                fs::rename(&temp, &path)
            })();
            written.inspect_err(|_| drop(fs::remove_file(&temp))).context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(digest)
    }

    /// Starts an object whose content comes in pieces.
    pub(crate) fn begin(&mut self) -> Result<Growing<'_>> {
        // Its shard is known only at the end; within one file system a rename to another directory costs the same.
        let temp = temp_beside(&self.dir.join("object"));
        let file = create(&temp).context(|| format!("cannot write `{}`", temp.display()))?;
        Ok(Growing { dir: &self.dir, temp, file, hasher: Hasher::new(), length: 0, hole: 0, renamed: false })
    }
}

/// An object under way; removed when dropped unfinished.
#[derive(Debug)]
pub(crate) struct Growing<'a> {
    dir: &'a Path,
    temp: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
    /// Bytes at the end of `length` that are a hole not yet made.
    hole: u64,
    renamed: bool,
}

impl Growing<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut write = || -> io::Result<()> {
            if self.hole > 0 {
                self.file.set_len(self.length)?;
                io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length))?;
                self.hole = 0;
            }
            self.file.write_all(bytes)
        };
        write().context(|| format!("cannot write `{}`", self.temp.display()))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to offset `end`, which take no space on the disk.
    pub(crate) fn hole_until(&mut self, end: u64) -> Result<()> {
        let mut left = end.saturating_sub(self.length);
        self.hole += left;
        self.length += left;
        while left > 0 {
            let count = left.min(ZEROS.len() as u64);
            self.hasher.update(ZEROS.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default());
            left -= count;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Digest> {
        let digest = std::mem::take(&mut self.hasher).finish();
        let path = place(self.dir, &digest);
        let mut finish = || -> io::Result<()> {
            if self.hole > 0 {
                self.file.set_len(self.length)?;
            }
            if !present(&path, self.length) {
                fs::rename(&self.temp, &path)?;
                self.renamed = true;
            }
            Ok(())
        };
        finish().context(|| format!("cannot write `{}`", path.display()))?;
        Ok(digest)
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // What remains is ignored by every reader and swept by prune.
            let _ = fs::remove_file(&self.temp);
        }
    }
}

fn create(temp: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o444).open(temp)
}

/// Whether the object is there with its whole length. A torn one (see "Durability") is written again.
fn present(path: &Path, length: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn objects() -> (tempfile::TempDir, Objects) {
        let dir = tempfile::tempdir().unwrap();
        for shard in 0..=255_u8 {
            fs::create_dir(dir.path().join(format!("{shard:02x}"))).unwrap();
        }
        let objects = Objects::new(dir.path().to_owned());
        (dir, objects)
    }

    #[test]
    fn holes_hash_as_zeros_and_take_no_space() {
        let (dir, mut objects) = objects();
        let mut growing = objects.begin().unwrap();
        growing.hole_until(1 << 20).unwrap();
        growing.write(b"x").unwrap();
        growing.hole_until(3 << 20).unwrap();
        let digest = growing.finish().unwrap();
        let path = place(dir.path(), &digest);
        let content = fs::read(&path).unwrap();
        assert_eq!((content.len(), Digest::of(&content)), (3 << 20, digest));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_torn_object_is_replaced_and_nothing_temporary_stays() {
        let (dir, mut objects) = objects();
        let digest = objects.put(b"hello").unwrap();
        let path = place(dir.path(), &digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(objects.put(b"hello").unwrap(), digest);
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        drop(objects.begin().unwrap());
        assert!(fs::read_dir(dir.path()).unwrap().all(|entry| entry.unwrap().file_name().len() == 2));
    }
}
