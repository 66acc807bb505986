//! After a power cut: what was written and not synced is checked, see "Durability" in the module documentation.

use super::root::{Store, is_temp};
use crate::error::{Context, Result};
use crate::image::{Digest, Hasher};
use crate::sys::file::{self, Lock, LockMode};
use crate::sys::sync;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

impl Store {
    fn pending(&self) -> PathBuf {
        self.root.join("pending")
    }

    /// The boot id that left something unsynced.
    fn pending_boot(&self) -> Result<Option<String>> {
        match fs::read_to_string(self.pending()) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot read `{}`", self.pending().display())),
        }
    }

    /// Checks what a boot that ended left behind; does nothing when none did.
    pub(super) fn recover(&self) -> Result<()> {
        let stale = || -> Result<bool> { Ok(self.pending_boot()?.is_some_and(|boot| boot != boot_id().unwrap_or_default())) };
        if !stale()? {
            return Ok(());
        }
        let lock = Lock::wait(&self.root.join("lock"), LockMode::Exclusive)?;
        // Another process may have done it while this one waited.
        if !stale()? {
            return Ok(());
        }
        let safe = self.vouched()?;
        self.each_object(|digest, path| {
            if !safe.contains(&digest) && digest_of(path)? != digest {
                remove(path)?;
            }
            Ok(())
        })?;
        for (diff_id, path) in self.layers()? {
            let whole = self.layer(&diff_id).is_ok_and(|index| {
                index.is_some_and(|index| {
                    index.check().is_ok() && index.digests().all(|digest| self.object_path(&digest).exists())
                })
            });
            if !whole {
                remove(&path)?;
            }
        }
        self.sweep_temporary()?;
        self.settled(&lock)
    }

    /// Objects that some committed image needed, which its commit made durable.
    fn vouched(&self) -> Result<HashSet<Digest>> {
        let mut safe = HashSet::new();
        for digest in self.image_digests()? {
            // An image that cannot be read vouches for nothing.
            if let Ok(Some(index)) = self.image(&digest) {
                safe.extend(index.digests());
            }
        }
        Ok(safe)
    }

    /// Before the first write of this boot: notes, durably, that something may be torn if the power goes.
    pub(super) fn begin_writing(&self) -> Result<()> {
        if self.pending_boot()?.is_none() {
            file::write_atomic(&self.pending(), boot_id()?.as_bytes(), 0o600).map_err(super::root::with_space_hint)?;
        }
        Ok(())
    }

    /// Everything is on the disk and nobody writes (the exclusive lock says so): nothing is pending any more.
    pub(super) fn settled(&self, _alone: &Lock) -> Result<()> {
        if self.pending_boot()?.is_some() {
            sync::file_system_of(&self.root)?;
            remove(&self.pending())?;
        }
        Ok(())
    }

    /// Calls `each` with every object.
    pub(super) fn each_object(&self, mut each: impl FnMut(Digest, &Path) -> Result<()>) -> Result<()> {
        for shard in self.list(&self.objects())? {
            let shard = self.objects().join(shard);
            for name in self.list(&shard)? {
                // A name that is no digest is not ours to judge here; fsck tells of it.
                if let Some(digest) = Digest::from_hex(name.as_encoded_bytes()) {
                    each(digest, &shard.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// All layer indexes.
    pub(super) fn layers(&self) -> Result<Vec<(Digest, PathBuf)>> {
        let dir = self.root.join("layers");
        let names = self.list(&dir)?;
        Ok(names.into_iter().filter_map(|name| Some((Digest::from_hex(name.as_encoded_bytes())?, dir.join(name)))).collect())
    }

    /// Removes what writers that died left under temporary names. Only under the exclusive lock. Returns their number.
    pub(super) fn sweep_temporary(&self) -> Result<u64> {
        let mut swept = 0;
        for path in self.temporary()? {
            remove(&path)?;
            swept += 1;
        }
        Ok(swept)
    }

    pub(super) fn temporary(&self) -> Result<Vec<PathBuf>> {
        let mut dirs = vec![self.root.clone(), self.objects()];
        dirs.extend(["layers", "images", "refs", "trash"].iter().map(|name| self.root.join(name)));
        dirs.extend(self.list(&self.objects())?.into_iter().map(|shard| self.objects().join(shard)));
        let mut found = Vec::new();
        for dir in dirs {
            found.extend(self.list_all(&dir)?.into_iter().filter(|name| is_temp(name)).map(|name| dir.join(name)));
        }
        Ok(found)
    }
}

/// Removes a file or a directory with all in it; one that is gone is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// The digest of a file's content.
pub(super) fn digest_of(path: &Path) -> Result<Digest> {
    let read = || -> io::Result<Digest> {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    read().context(|| format!("cannot read `{}`", path.display()))
}

/// Differs after every boot (random(4)).
fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path).context(|| format!("cannot read `{path}`"))
}
