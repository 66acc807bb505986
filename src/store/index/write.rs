//! Writing an index from a tree. The same tree gives the same bytes: nodes are numbered breadth first in name order,
//! equal names, values and attribute lists are stored once, digests are sorted.

use super::format::{
    self, Content, DirentRecord, FLAG_IMPLICIT, FLAG_LOWER, FLAG_OPAQUE, NONE, NodeRecord, XattrRecord, assemble,
};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::store::tree::{Body, Item, ItemId, ROOT, Tree, Xattrs};
use std::collections::HashMap;

/// The tables under construction.
#[derive(Default)]
struct Tables<'t> {
    dirents: Vec<u8>,
    xattrs: Vec<u8>,
    names: Vec<u8>,
    values: Vec<u8>,
    known_names: HashMap<&'t [u8], u32>,
    known_values: HashMap<&'t [u8], u32>,
    known_xattrs: HashMap<&'t Xattrs, u32>,
}

/// A node in its place.
struct Placed {
    item: ItemId,
    parent: u32,
    nlink: u32,
    /// First dirent and their number, of a directory.
    slice: (u32, u32),
}

impl Tree {
    /// The bytes of the index of this tree.
    ///
    /// # Errors
    /// When it has more nodes, names or attributes than the format can count.
    pub(crate) fn index(&self, content: Content) -> Result<Vec<u8>> {
        self.tables(content).ok_or_else(|| Error::failed("the image has too many files for one index"))
    }

    fn tables(&self, content: Content) -> Option<Vec<u8>> {
        let mut tables = Tables::default();
        let (placed, digests) = self.place(&mut tables)?;
        let mut nodes = Vec::with_capacity(placed.len().checked_mul(format::NODE_LEN)?);
        for place in &placed {
            self.node(place, content, &mut tables, &digests)?.encode(&mut nodes);
        }
        let mut digest_table = Vec::with_capacity(digests.len().checked_mul(format::DIGEST_LEN)?);
        for digest in &digests {
            digest_table.extend_from_slice(digest.as_bytes());
        }
        assemble(content, [&nodes, &tables.dirents, &tables.xattrs, &digest_table, &tables.names, &tables.values])
    }

    /// Numbers the nodes and writes the dirents; also collects the digests, sorted.
    fn place<'t>(&'t self, tables: &mut Tables<'t>) -> Option<(Vec<Placed>, Vec<Digest>)> {
        let mut ids = vec![NONE; self.items.len()];
        let mut placed = vec![Placed { item: ROOT, parent: 0, nlink: 2, slice: (0, 0) }];
        let mut digests = Vec::new();
        *ids.first_mut()? = 0;
        let mut next = 0;
        let mut dirents: u32 = 0;
        while let Some(Placed { item, .. }) = placed.get(next) {
            let id = u32::try_from(next).ok()?;
            match &self.item(*item)?.body {
                Body::Dir(dir) => {
                    let count = u32::try_from(dir.children.len()).ok()?;
                    let mut subdirs = 0;
                    for (name, child) in &dir.children {
                        let node = match child {
                            None => NONE,
                            Some(child) => {
                                let known = ids.get_mut(*child)?;
                                if *known == NONE {
                                    *known = u32::try_from(placed.len()).ok().filter(|id| *id != NONE)?;
                                    let is_dir = matches!(self.item(*child)?.body, Body::Dir(_));
                                    subdirs += u32::from(is_dir);
                                    let nlink = if is_dir { 2 } else { 0 };
                                    placed.push(Placed { item: *child, parent: id, nlink, slice: (0, 0) });
                                }
                                let known = *known;
                                let place = placed.get_mut(known as usize)?;
                                if !matches!(self.item(*child)?.body, Body::Dir(_)) {
                                    place.nlink = place.nlink.checked_add(1)?;
                                }
                                known
                            }
                        };
                        let record = DirentRecord { name: tables.name(name)?, name_len: u32::try_from(name.len()).ok()?, node };
                        record.encode(&mut tables.dirents);
                    }
                    let place = placed.get_mut(next)?;
                    place.nlink = place.nlink.checked_add(subdirs)?;
                    place.slice = (dirents, count);
                    dirents = dirents.checked_add(count)?;
                }
                Body::File { object: Some(digest), .. } => digests.push(*digest),
                _ => {}
            }
            next += 1;
        }
        digests.sort_unstable();
        digests.dedup();
        Some((placed, digests))
    }

    fn node<'t>(&'t self, place: &Placed, content: Content, tables: &mut Tables<'t>, digests: &[Digest]) -> Option<NodeRecord> {
        let Item { meta, body } = self.item(place.item)?;
        let (xattr_first, xattr_count) = tables.xattrs(&meta.xattrs)?;
        let mut record = NodeRecord {
            mtime_s: meta.mtime.0,
            mtime_ns: meta.mtime.1,
            mode: meta.mode & 0o7777,
            uid: meta.uid,
            gid: meta.gid,
            nlink: place.nlink,
            data: NONE,
            xattr_first,
            xattr_count,
            ..NodeRecord::default()
        };
        record.mode |= match body {
            Body::Dir(dir) => {
                (record.data, record.count) = place.slice;
                record.parent = place.parent;
                if content == Content::Layer {
                    record.flags = if dir.opaque { FLAG_OPAQUE } else { 0 } | if dir.implicit { FLAG_IMPLICIT } else { 0 };
                }
                format::TYPE_DIR
            }
            Body::File { size, object } => {
                record.size = *size;
                if let Some(object) = object {
                    record.data = u32::try_from(digests.binary_search(object).ok()?).ok()?;
                }
                format::TYPE_FILE
            }
            Body::Symlink(target) => {
                record.size = target.len() as u64;
                record.data = tables.name(target)?;
                format::TYPE_SYMLINK
            }
            Body::Lower(path) => {
                record.size = path.len() as u64;
                record.data = tables.name(path)?;
                record.flags = FLAG_LOWER;
                format::TYPE_FILE
            }
            Body::Char(major, minor) => {
                (record.data, record.count) = (*major, *minor);
                format::TYPE_CHAR
            }
            Body::Block(major, minor) => {
                (record.data, record.count) = (*major, *minor);
                format::TYPE_BLOCK
            }
            Body::Fifo => format::TYPE_FIFO,
            Body::Socket => format::TYPE_SOCKET,
        };
        Some(record)
    }
}

impl<'t> Tables<'t> {
    fn name(&mut self, name: &'t [u8]) -> Option<u32> {
        intern(&mut self.known_names, &mut self.names, name)
    }

    fn xattrs(&mut self, list: &'t Xattrs) -> Option<(u32, u32)> {
        if list.is_empty() {
            return Some((0, 0));
        }
        let count = u32::try_from(list.len()).ok()?;
        if let Some(first) = self.known_xattrs.get(list) {
            return Some((*first, count));
        }
        let first = u32::try_from(self.xattrs.len() / format::XATTR_LEN).ok()?;
        for (name, value) in list {
            let record = XattrRecord {
                name: self.name(name)?,
                name_len: u32::try_from(name.len()).ok()?,
                value: intern(&mut self.known_values, &mut self.values, value)?,
                value_len: u32::try_from(value.len()).ok()?,
            };
            record.encode(&mut self.xattrs);
        }
        self.known_xattrs.insert(list, first);
        Some((first, count))
    }
}

fn intern<'t>(known: &mut HashMap<&'t [u8], u32>, heap: &mut Vec<u8>, text: &'t [u8]) -> Option<u32> {
    if let Some(at) = known.get(text) {
        return Some(*at);
    }
    let at = u32::try_from(heap.len()).ok()?;
    // The end must be countable too.
    u32::try_from(heap.len().checked_add(text.len())?).ok()?;
    heap.extend_from_slice(text);
    known.insert(text, at);
    Some(at)
}
