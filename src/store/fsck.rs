//! Checking everything, and removing what cannot be trusted so that the next pull brings it again.

use super::index::Index;
use super::recover::remove;
use super::root::Store;
use crate::error::Result;
use crate::image::{Digest, ImageConfig};
use crate::report::Reporter;
use crate::sys::file::{Lock, LockMode};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

/// What [`Store::fsck`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// Contents whose hash was computed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that are not what their name says.
    pub torn: Vec<Digest>,
    /// Contents that an image or a layer needs and that do not exist.
    pub missing: Vec<Digest>,
    /// Images and layers that cannot be used, with why.
    pub damaged: Vec<(String, String)>,
    /// Files that do not belong where they are.
    pub foreign: Vec<PathBuf>,
    /// Contents that nothing needs; harmless, prune frees them.
    pub orphans: u64,
    /// Leftovers of writers; harmless, prune frees them.
    pub leftovers: u64,
}

impl FsckReport {
    /// Whether every image can be relied on.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.torn.is_empty() && self.missing.is_empty() && self.damaged.is_empty()
    }
}

impl Store {
    /// Hashes every content, checks every index and what it needs. With `repair`, torn contents and the layers and images
    /// that cannot be used are removed, so that pulling the image again restores it; that needs the store alone.
    ///
    /// # Errors
    /// When the store cannot be read or, with `repair`, is in use.
    pub fn fsck(&self, repair: bool, reporter: &dyn Reporter) -> Result<FsckReport> {
        let _lock = if repair { self.alone()? } else { Lock::wait(&self.root.join("lock"), LockMode::Shared)? };
        let mut report = FsckReport::default();
        let good = self.check_objects(repair, reporter, &mut report)?;
        let mut needed = HashSet::new();
        let mut check = |what: String, index: std::result::Result<Index, String>, report: &mut FsckReport| -> bool {
            let index = match index.and_then(|index| index.check().map(|()| index)) {
                Ok(index) => index,
                Err(why) => {
                    report.damaged.push((what, why));
                    return false;
                }
            };
            let mut whole = true;
            for digest in index.digests() {
                needed.insert(digest);
                if !good.contains_key(&digest) {
                    whole = false;
                    report.missing.push(digest);
                }
            }
            if whole && !sizes_agree(&index, &good) {
                report.damaged.push((what.clone(), "a file has another size than its content".into()));
                return false;
            }
            if !whole {
                report.damaged.push((what, "contents are missing or torn".into()));
            }
            whole
        };
        for (diff_id, path) in self.layers()? {
            let index = self.layer(&diff_id).map_err(|error| why(&error)).and_then(|index| index.ok_or("it vanished".into()));
            if !check(format!("layer {diff_id}"), index, &mut report) && repair {
                remove(&path)?;
            }
        }
        let mut slots = BTreeMap::new();
        let images = self.image_digests()?;
        let mut gone = HashSet::new();
        for digest in &images {
            let index = match self.image(digest) {
                // Removed since it was listed.
                Ok(None) => continue,
                Ok(Some(index)) => self.check_image(digest, index, &mut slots),
                Err(error) => Err(why(&error)),
            };
            if !check(format!("image {digest}"), index, &mut report) && repair {
                self.discard(digest)?;
                gone.insert(*digest);
            }
        }
        for digest in self.references()?.into_keys() {
            let dangling = images.binary_search(&digest).is_err();
            if dangling {
                report.damaged.push((format!("reference to {digest}"), "that image is not here".into()));
            }
            if repair && (dangling || gone.contains(&digest)) {
                self.drop_references(&digest)?;
            }
        }
        report.missing.sort_unstable();
        report.missing.dedup();
        report.orphans = good.keys().filter(|digest| !needed.contains(*digest)).count() as u64;
        report.leftovers = self.temporary()?.len() as u64;
        Ok(report)
    }

    /// Contents that are right, with their sizes.
    fn check_objects(&self, repair: bool, reporter: &dyn Reporter, report: &mut FsckReport) -> Result<HashMap<Digest, u64>> {
        let mut found = Vec::new();
        self.each_object(|digest, path| {
            found.push((digest, path.to_owned()));
            Ok(())
        })?;
        for shard in self.list(&self.objects())? {
            let dir = self.objects().join(&shard);
            let belongs = |name: &std::ffi::OsString| {
                Digest::from_hex(name.as_encoded_bytes()).is_some()
                    && name.as_encoded_bytes().starts_with(shard.as_encoded_bytes())
            };
            report.foreign.extend(self.list(&dir)?.into_iter().filter(|name| !belongs(name)).map(|name| dir.join(name)));
        }
        let mut good = HashMap::with_capacity(found.len());
        let transfer = reporter.transfer("check contents", found.len() as u64);
        for (digest, path) in found {
            let size = std::fs::symlink_metadata(&path).map_or(0, |found| found.len());
            report.objects += 1;
            report.bytes += size;
            if self.object_is_right(&digest, &path)? {
                good.insert(digest, size);
            } else {
                report.torn.push(digest);
                if repair {
                    remove(&path)?;
                }
            }
            reporter.advance(transfer, 1);
        }
        reporter.finish(transfer);
        Ok(good)
    }

    /// What an image says of itself fits together.
    fn check_image(
        &self,
        digest: &Digest,
        index: Index,
        slots: &mut BTreeMap<u32, Digest>,
    ) -> std::result::Result<Index, String> {
        let manifest = self.manifest(digest).map_err(|error| why(&error))?;
        if Digest::of(&manifest) != *digest {
            return Err("its manifest is damaged".into());
        }
        let config = self.config(digest).map_err(|error| why(&error))?;
        let named: Option<Digest> = serde_json::from_slice::<serde_json::Value>(&manifest)
            .ok()
            .and_then(|manifest| manifest.get("config")?.get("digest")?.as_str()?.parse().ok());
        if named.is_some_and(|named| named != Digest::of(&config)) {
            return Err("its config is damaged".into());
        }
        let layers = self.image_layers(&self.image_dir(digest)).map_err(|error| why(&error))?;
        if ImageConfig::parse(&config).map_or(true, |config| config.diff_ids != layers) {
            return Err("its list of layers is damaged".into());
        }
        match slots.insert(index.slot(), *digest) {
            Some(other) => Err(format!("it has the same slot as {other}")),
            None => Ok(index),
        }
    }
}

fn sizes_agree(index: &Index, sizes: &HashMap<Digest, u64>) -> bool {
    (0..index.len())
        .filter_map(|id| index.node(super::NodeId(id)))
        .all(|node| node.object.is_none_or(|object| sizes.get(&object).is_some_and(|size| *size == node.size)))
}

fn why(error: &crate::error::Error) -> String {
    error.causes().into_iter().next_back().unwrap_or_else(|| error.to_string())
}
