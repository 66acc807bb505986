//! Garbage collection: mark from the images, sweep the rest.

use super::index::Index;
use super::index::format::Content;
use super::recover::remove;
use super::root::Store;
use crate::error::{Context, Result};
use crate::image::Digest;
use crate::sys::file::{self, Lock, LockMode};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What [`Store::prune`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Removed images that were taken apart.
    pub images: u64,
    /// Layer indexes.
    pub layers: u64,
    /// Contents.
    pub objects: u64,
    /// Bytes on the disk of those contents.
    pub bytes: u64,
}

impl Store {
    /// Frees what no image needs: contents, layers, removed images that no reader holds, leftovers of dead writers.
    ///
    /// # Errors
    /// When the store is in use by a pull (nothing is removed then), or an image cannot be read: what it needs would be
    /// unknown.
    pub fn prune(&self) -> Result<Freed> {
        let lock = self.alone()?;
        let mut freed = Freed::default();
        let mut live = HashSet::new();
        let mut layers = HashSet::new();
        for name in self.list(&self.root.join("trash"))? {
            let dir = self.root.join("trash").join(name);
            if let Some(_gone) = Lock::attempt(&dir.join("slot"), LockMode::Exclusive)? {
                remove(&dir)?;
                freed.images += 1;
            } else if let Some(index) = Index::open_file(&dir.join("index"), Content::Image)? {
                live.extend(index.digests());
            }
        }
        for digest in self.image_digests()? {
            if let Some(index) = self.image(&digest)? {
                live.extend(index.digests());
                layers.extend(self.image_layers(&self.image_dir(&digest))?);
            }
        }
        for (diff_id, path) in self.layers()? {
            // A damaged layer index is of no use: the layer is unpacked again when it is needed.
            let index = if layers.contains(&diff_id) { self.layer(&diff_id).ok().flatten() } else { None };
            match index {
                Some(index) => live.extend(index.digests()),
                None => {
                    remove(&path)?;
                    freed.layers += 1;
                }
            }
        }
        // After a power cut there must be no layer without its objects.
        file::sync_dir(&self.root.join("layers"))?;
        self.sweep(&live, &mut freed)?;
        self.sweep_temporary()?;
        self.settled(&lock)?;
        Ok(freed)
    }

    fn sweep(&self, live: &HashSet<Digest>, freed: &mut Freed) -> Result<()> {
        self.each_object(|digest, path| {
            if !live.contains(&digest) {
                let found = fs::symlink_metadata(path).context(|| format!("cannot read `{}`", path.display()))?;
                remove(path)?;
                freed.objects += 1;
                freed.bytes += found.blocks() * 512;
            }
            Ok(())
        })
    }
}
