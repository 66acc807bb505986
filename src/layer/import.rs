//! From tar entries to objects and a tree.

use super::Limits;
use super::archive::{Archive, Entry, EntryKind};
use super::decode::{Compression, decode};
use super::path::components;
use super::refusal::{refuse, refuse_layer};
use crate::error::{Context, Error, Result};
use crate::image::Digest;
use crate::report::Reporter;
use crate::resolve::PlanLayer;
use crate::store::format::{NAME_MAX, TARGET_MAX, XATTR_VALUE_MAX};
use crate::store::{Body, Item, ItemId, Meta, NoDir, Objects, ROOT, Tree, Xattrs};
use std::fs::File;
use std::io::BufRead;
use std::path::Path;

/// Files up to this size are hashed before anything is written, so that a content the store has costs no write.
const IN_MEMORY: u64 = 1 << 20;

const WHITEOUT: &[u8] = b".wh.";
/// Prefix of names that mean something to the tool that made the layer; only `OPAQUE` means something to others.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks `blob` into `objects` and returns the layer's tree, all digests and sizes verified.
pub(crate) fn unpack(
    objects: &mut Objects,
    layer: &PlanLayer,
    blob: &Path,
    limits: &Limits,
    reporter: &dyn Reporter,
) -> Result<Tree> {
    let compression = Compression::of(&layer.media_type)?;
    let open = || -> std::io::Result<(File, u64)> {
        let file = File::open(blob)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    let (file, size) = open().context(|| format!("cannot read the layer `{}`", blob.display()))?;
    if size != layer.size {
        return Err(refuse_layer(format!("its blob has {size} bytes, the manifest says {}", layer.size)));
    }
    let transfer = reporter.transfer(&format!("unpack {}", layer.digest.short()), size);
    let result = decode(file, compression, limits.max_layer_bytes, (reporter, transfer), |pipe| read(pipe, objects, limits));
    reporter.finish(transfer);
    let (tree, digest) = result.context(|| format!("cannot unpack the layer {}", layer.digest))?;
    if digest != layer.diff_id {
        return Err(Error::failed(format!("the layer {} is not what the image says", layer.digest))
            .because(format!("uncompressed it is {digest}, not {}", layer.diff_id))
            .hint("the image is broken or hostile; nothing of it is used"));
    }
    Ok(tree)
}

/// Reads a whole uncompressed layer.
pub(super) fn read(source: impl BufRead, objects: &mut Objects, limits: &Limits) -> Result<Tree> {
    let mut archive = Archive::new(source, limits);
    let mut reading = Reading { tree: Tree::new(), objects, limits, buffer: Vec::new() };
    while let Some(entry) = archive.next()? {
        reading.take(entry, &mut archive)?;
    }
    Ok(reading.tree)
}

struct Reading<'a> {
    tree: Tree,
    objects: &'a mut Objects,
    limits: &'a Limits,
    buffer: Vec<u8>,
}

impl Reading<'_> {
    fn take<R: BufRead>(&mut self, entry: Entry, archive: &mut Archive<'_, R>) -> Result<()> {
        let no = |why: &'static str| refuse(&entry.path, why);
        let names = components(&entry.path, self.limits).map_err(no)?;
        let Some((name, parents)) = names.split_last() else {
            return self.root(&entry);
        };
        // AUFS keeps its own things at the top under this prefix; docker skips them wherever they are.
        let meta = |name: &&&[u8]| name.starts_with(WHITEOUT_META);
        if parents.iter().find(meta).is_some() || (name.starts_with(WHITEOUT_META) && *name != OPAQUE) {
            return Ok(());
        }
        if parents.iter().any(|parent| parent.starts_with(WHITEOUT)) {
            return Err(no("it lies in a whiteout"));
        }
        let parent = self.tree.dir_at(parents, true).map_err(|why| {
            no(match why {
                NoDir::NotDirectory => "it lies in something that is not a directory",
                NoDir::DeadSymlink | NoDir::Missing => "it lies behind a symlink that leads to no directory of this layer",
            })
        })?;
        if *name == OPAQUE {
            if let Some(dir) = self.tree.dir_mut(parent) {
                dir.opaque = true;
            }
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(no("it is a whiteout of nothing"));
            }
            self.tree.whiteout(parent, hidden);
            return Ok(());
        }
        if entry.kind == EntryKind::HardLink {
            return self.hard_link(parent, name, &entry);
        }
        let body = match entry.kind {
            EntryKind::Dir => {
                let meta = meta_of(&entry)?;
                self.tree.put_dir(parent, name, meta, false);
                return Ok(());
            }
            EntryKind::Symlink => {
                if entry.link.is_empty() || entry.link.len() > TARGET_MAX || entry.link.contains(&0) {
                    return Err(no("its target is empty, too long or has a NUL byte"));
                }
                Body::Symlink(entry.link.as_slice().into())
            }
            EntryKind::Fifo => Body::Fifo,
            EntryKind::Char => Body::Char(entry.device.0, entry.device.1),
            EntryKind::Block => Body::Block(entry.device.0, entry.device.1),
            EntryKind::File | EntryKind::HardLink => {
                let object = if entry.size == 0 { None } else { Some(self.content(&entry, archive)?) };
                Body::File { size: entry.size, object }
            }
        };
        let item = self.tree.add(Item { meta: meta_of(&entry)?, body });
        self.tree.link(parent, name, item);
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(refuse(&entry.path, "the root is not a directory"));
        }
        let meta = meta_of(entry)?;
        if let Some(root) = self.tree.items.first_mut() {
            root.meta = meta;
        }
        if let Some(dir) = self.tree.dir_mut(ROOT) {
            dir.implicit = false;
        }
        Ok(())
    }

    /// A further name of a file that came earlier in this layer, or else of one in a lower layer (found at the merge).
    fn hard_link(&mut self, parent: ItemId, name: &[u8], entry: &Entry) -> Result<()> {
        let no = |why: &'static str| refuse(&entry.path, why);
        let target = components(&entry.link, self.limits).map_err(|_| no("the path it links to is not allowed"))?;
        if target.is_empty() {
            return Err(no("it is a hard link to the root"));
        }
        if target.iter().any(|name| name.starts_with(WHITEOUT)) {
            return Err(no("it is a hard link to a whiteout"));
        }
        let item = match self.tree.find(&target) {
            Some(item) if self.tree.dir(item).is_some() => return Err(no("it is a hard link to a directory")),
            Some(item) => item,
            None => {
                let path = target.join(&b'/').into_boxed_slice();
                self.tree.add(Item { meta: Meta::default(), body: Body::Lower(path) })
            }
        };
        self.tree.link(parent, name, item);
        Ok(())
    }

    fn content<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<'_, R>) -> Result<Digest> {
        if let Some(extents) = &entry.extents {
            let mut object = self.objects.begin()?;
            let mut extents = extents.iter();
            let mut place = (0, 0);
            archive.data(&entry.path, |mut piece| {
                while !piece.is_empty() {
                    while place.1 == 0 {
                        place = *extents.next().ok_or_else(|| refuse(&entry.path, "its sparse map does not fit its size"))?;
                    }
                    let count = usize::try_from(place.1).unwrap_or(usize::MAX).min(piece.len());
                    let (now, rest) = piece.split_at(count);
                    object.hole_until(place.0)?;
                    object.write(now)?;
                    place = (place.0 + count as u64, place.1 - count as u64);
                    piece = rest;
                }
                Ok(())
            })?;
            object.hole_until(entry.size)?;
            return object.finish();
        }
        if archive.left() > IN_MEMORY {
            let mut object = self.objects.begin()?;
            archive.data(&entry.path, |piece| object.write(piece))?;
            return object.finish();
        }
        if let Some(bytes) = archive.at_hand()? {
            return self.objects.put(bytes);
        }
        let buffer = &mut self.buffer;
        buffer.clear();
        archive.data(&entry.path, |piece| {
            buffer.extend_from_slice(piece);
            Ok(())
        })?;
        self.objects.put(buffer)
    }
}

fn meta_of(entry: &Entry) -> Result<Meta> {
    let xattrs = xattrs_of(&entry.path, &entry.xattrs)?;
    Ok(Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs })
}

/// Sorted; of two of one name the later wins. Overlayfs's own attributes are dropped: taken literally they would make
/// the kernel's overlay on the image read them as its own.
fn xattrs_of(path: &[u8], list: &Xattrs) -> Result<Xattrs> {
    let mut sorted = std::collections::BTreeMap::new();
    for (name, value) in list {
        if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) || value.len() > XATTR_VALUE_MAX {
            return Err(refuse(path, "it has an extended attribute that no Linux file can have"));
        }
        if !name.starts_with(b"user.overlay.") && !name.starts_with(b"trusted.overlay.") {
            sorted.insert(name, value);
        }
    }
    Ok(sorted.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}
