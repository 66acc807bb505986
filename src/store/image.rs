//! Images: committing, reading, listing, removing.

use super::index::format::Content;
use super::index::{Index, Kind, NodeId};
use super::recover::{digest_of, remove};
use super::root::{Store, with_space_hint};
use super::tree::Tree;
use crate::error::{Context, Error, Result};
use crate::image::{Digest, ImageConfig};
use crate::sys::file::{self, Lock, LockMode};
use crate::sys::sync;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// An image to commit; its layers are imported.
#[derive(Clone, Debug)]
pub struct ImageRecord<'a> {
    /// Digest of `manifest`; names the image.
    pub digest: Digest,
    /// The manifest as the registry sent it.
    pub manifest: &'a [u8],
    /// The config blob.
    pub config: &'a [u8],
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: &'a [Digest],
    /// What the user calls it.
    pub reference: Option<&'a str>,
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Digest of its manifest.
    pub digest: Digest,
    /// What it is called, sorted.
    pub references: Vec<String>,
    /// Digests of its uncompressed layers, lowest first.
    pub layers: Vec<Digest>,
    /// Its number, see [`Index::slot`].
    pub slot: u32,
    /// Files, directories, ... in it.
    pub entries: u32,
    /// Bytes of its distinct contents; images share contents.
    pub size: u64,
    /// When it was committed here.
    pub created: SystemTime,
}

impl Store {
    pub(super) fn image_dir(&self, digest: &Digest) -> PathBuf {
        self.root.join("images").join(format!("sha256-{}", digest.hex()))
    }

    /// Whether the image is here and can be opened.
    #[must_use]
    pub fn has_image(&self, digest: &Digest) -> bool {
        matches!(self.image(digest), Ok(Some(_)))
    }

    /// The index of an image; `None` when it is not here. While the index lives, prune keeps what it refers to.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn image(&self, digest: &Digest) -> Result<Option<Index>> {
        let dir = self.image_dir(digest);
        let slot_file = dir.join("slot");
        if !dir.is_dir() {
            return Ok(None);
        }
        // The lock before the index: once the index opens by its name, nobody can have begun to take the image apart.
        let lock = match Lock::attempt(&slot_file, LockMode::Shared) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            Err(_) if !dir.is_dir() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(index) = Index::open_file(&dir.join("index"), Content::Image)? else {
            if !dir.is_dir() {
                return Ok(None);
            }
            return Err(broken(digest, "it has no index"));
        };
        let slot = fs::read_to_string(&slot_file).ok().and_then(|text| text.trim_end().parse().ok());
        let slot = slot.ok_or_else(|| broken(digest, "it has no slot"))?;
        Ok(Some(index.held(slot, lock)))
    }

    /// The config blob of an image.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] when the image is not here.
    pub fn config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.blob(digest, "config.json")
    }

    /// The manifest of an image.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] when the image is not here.
    pub fn manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.blob(digest, "manifest.json")
    }

    fn blob(&self, digest: &Digest, name: &str) -> Result<Vec<u8>> {
        let path = self.image_dir(digest).join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("the image {digest} is not here")))
            }
            other => other.context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Merges the imported layers to the image's index and makes the image durable under its digest, and its reference.
    /// One that is here already costs nothing but its reference; a damaged one is replaced.
    ///
    /// # Errors
    /// When a layer is missing or refused, the record contradicts itself, or the disk fails or is full.
    pub fn commit_image(&self, image: &ImageRecord<'_>) -> Result<()> {
        self.commit(image).map_err(with_space_hint)
    }

    fn commit(&self, image: &ImageRecord<'_>) -> Result<()> {
        let _hold = self.hold()?;
        if Digest::of(image.manifest) != image.digest {
            return Err(Error::failed(format!("the manifest of the image is not {}", image.digest)));
        }
        if ImageConfig::parse(image.config)?.diff_ids != image.diff_ids {
            return Err(Error::failed("the config of the image names other layers"));
        }
        if !self.is_whole(&image.digest) {
            let mut tree = Tree::new();
            for diff_id in image.diff_ids {
                let layer = self.layer(diff_id)?.ok_or_else(|| Error::failed(format!("the layer {diff_id} was not imported")))?;
                tree.apply(&layer).context(|| format!("cannot use the layer {diff_id}"))?;
            }
            let index = tree.index(Content::Image)?;
            // Everything a reader relies on is established here, once.
            Index::open_bytes(index.clone())?;
            self.begin_writing()?;
            let temp = file::temp_beside(&self.image_dir(&image.digest));
            self.write_image(image, &index, &temp).inspect_err(|_| drop(fs::remove_dir_all(&temp)))?;
        }
        image.reference.map_or(Ok(()), |reference| self.set_reference(reference, &image.digest))
    }

    fn write_image(&self, image: &ImageRecord<'_>, index: &[u8], temp: &Path) -> Result<()> {
        file::create_dir_all(temp, 0o700)?;
        let layers: String = image.diff_ids.iter().map(|diff_id| format!("{diff_id}\n")).collect();
        for (name, bytes) in
            [("index", index), ("manifest.json", image.manifest), ("config.json", image.config), ("layers", layers.as_bytes())]
        {
            self.place(&temp.join(name), bytes)?;
        }
        sync::file_system_of(&self.root)?;
        let _commit = Lock::wait(&self.root.join("commit.lock"), LockMode::Exclusive)?;
        let place = self.image_dir(&image.digest);
        if place.exists() {
            if self.is_whole(&image.digest) {
                // Another process was quicker, with the same bytes.
                return remove(temp);
            }
            self.discard(&image.digest)?;
        }
        let slot = self.next_slot()?;
        file::write_atomic(&temp.join("slot"), format!("{slot}\n").as_bytes(), 0o600)?;
        fs::rename(temp, &place).context(|| format!("cannot write `{}`", place.display()))?;
        file::sync_parent(&place)
    }

    /// Takes the next slot; it is used up even if nothing comes of it. Only under `commit.lock`.
    fn next_slot(&self) -> Result<u32> {
        let path = self.root.join("slots");
        let next: u32 = match fs::read_to_string(&path) {
            Ok(text) => text.trim_end().parse().context(|| format!("`{}` is damaged", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error).context(|| format!("cannot read `{}`", path.display())),
        };
        let after = next.checked_add(1).ok_or_else(|| Error::failed("the store has given out all its slots"))?;
        file::write_atomic(&path, format!("{after}\n").as_bytes(), 0o600)?;
        Ok(next)
    }

    /// Whether an image passes the full check of its index and all its contents exist.
    pub(super) fn is_whole(&self, digest: &Digest) -> bool {
        let Ok(Some(index)) = self.image(digest) else { return false };
        index.check().is_ok()
            && self.manifest(digest).is_ok_and(|manifest| Digest::of(&manifest) == *digest)
            && index.digests().all(|object| self.object_path(&object).exists())
    }

    /// Digests of all images, sorted, whether or not they can be opened.
    pub(crate) fn image_digests(&self) -> Result<Vec<Digest>> {
        let names = self.list(&self.root.join("images"))?;
        let hex = |name: &std::ffi::OsString| Digest::from_hex(name.as_encoded_bytes().strip_prefix(b"sha256-")?);
        let mut digests: Vec<Digest> = names.iter().filter_map(hex).collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// All images, sorted by digest. A damaged one is an error that names it.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn images(&self) -> Result<Vec<ImageInfo>> {
        let mut references = self.references()?;
        let mut list = Vec::new();
        for digest in self.image_digests()? {
            // Removed meanwhile is fine.
            let Some(index) = self.image(&digest)? else { continue };
            let created = fs::metadata(self.image_dir(&digest).join("index")).and_then(|found| found.modified());
            list.push(ImageInfo {
                digest,
                references: references.remove(&digest).unwrap_or_default(),
                layers: self.image_layers(&self.image_dir(&digest))?,
                slot: index.slot(),
                entries: index.len(),
                size: content_size(&index),
                created: created.context(|| format!("cannot read the image {digest}"))?,
            });
        }
        Ok(list)
    }

    pub(super) fn image_layers(&self, dir: &Path) -> Result<Vec<Digest>> {
        let path = dir.join("layers");
        let text = fs::read_to_string(&path).context(|| format!("cannot read `{}`", path.display()))?;
        text.lines().map(|line| line.parse().context(|| format!("`{}` is damaged", path.display()))).collect()
    }

    /// Forgets an image and its references. Whether it is needed is the caller's decision; readers that hold its index
    /// keep what they have, and [`Store::prune`] frees the space when they are gone. `false` when it was not here.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_image(&self, digest: &Digest) -> Result<bool> {
        let _hold = self.hold()?;
        let _commit = Lock::wait(&self.root.join("commit.lock"), LockMode::Exclusive)?;
        self.drop_references(digest)?;
        if !self.image_dir(digest).exists() {
            return Ok(false);
        }
        self.discard(digest)?;
        Ok(true)
    }

    /// Moves an image to the trash, durably. Only under `commit.lock`.
    pub(super) fn discard(&self, digest: &Digest) -> Result<()> {
        let place = self.image_dir(digest);
        let trash = self.root.join("trash");
        file::create_dir_all(&trash, 0o700)?;
        // Unique: a process does not give a name twice, and two processes differ in their ids or their times.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let to = trash.join(format!("sha256-{}.{}.{now}", digest.hex(), std::process::id()));
        fs::rename(&place, &to).context(|| format!("cannot remove `{}`", place.display()))?;
        file::sync_dir(&trash)?;
        file::sync_parent(&place)
    }

    /// The content of a regular file of an image, found as [`Index::resolve`] does. `None` when there is none.
    ///
    /// # Errors
    /// When it has more than `most` bytes, is no regular file, or its object is missing or damaged.
    pub fn read_file(&self, index: &Index, path: &[u8], most: u64) -> Result<Option<Vec<u8>>> {
        let Some(node) = index.resolve(path).and_then(|id| index.node(id)) else {
            return Ok(None);
        };
        let what = || format!("cannot read `{}` of the image", String::from_utf8_lossy(path).escape_debug());
        if node.kind != Kind::File {
            return Err(Error::failed(what()).because("it is not a regular file"));
        }
        if node.size > most {
            return Err(Error::failed(what()).because(format!("it has {} bytes, at most {most} make sense", node.size)));
        }
        let Some(object) = node.object else { return Ok(Some(Vec::new())) };
        let content = fs::read(self.object_path(&object)).context(what)?;
        if Digest::of(&content) != object {
            return Err(Error::failed(what()).because(format!("the object {object} is damaged")).hint("run `steading fsck`"));
        }
        Ok(Some(content))
    }

    /// Whether an object has its content; see [`Store::fsck`].
    pub(super) fn object_is_right(&self, digest: &Digest, path: &Path) -> Result<bool> {
        Ok(digest_of(path)? == *digest)
    }
}

fn content_size(index: &Index) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let nodes = (0..index.len()).filter_map(|id| index.node(NodeId(id)));
    nodes.filter(|node| node.object.is_some_and(|object| seen.insert(object))).map(|node| node.size).sum()
}

fn broken(digest: &Digest, why: &str) -> Error {
    Error::failed(format!("the image {digest} cannot be used")).because(why).hint("pulling the image again repairs it")
}
