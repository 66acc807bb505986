//! Reading an index: the metadata of an image (or layer), served straight from a memory map.
//!
//! The layout is in the documentation of [`crate::store`]. Every access is checked, so a damaged file gives `None` or a
//! short listing, never a panic or bytes of something else; whether it is *right* is established by a full check when
//! an index is made, by [`Index::open_bytes`] and by fsck.

mod check;
pub(crate) mod format;
mod write;

use crate::error::{Error, Result};
use crate::image::Digest;
use crate::sys::mmap::Map;
use format::{
    Content, DIGEST_LEN, DIRENT_LEN, DirentRecord, FLAG_LOWER, Header, NODE_LEN, NONE, NodeRecord, Section, XattrRecord,
};
use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

/// Symlinks followed in one [`Index::resolve`], as many as Linux follows.
const SYMLINKS_MAX: u32 = 40;

/// Number of a node: its position in the node table. The root directory is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: NodeId = NodeId(0);
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Socket.
    Socket,
}

/// The metadata of one file, directory, ...; hard links are one node with several names.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky (07777).
    pub mode: u32,
    /// Owner in the image.
    pub uid: u32,
    /// Group in the image.
    pub gid: u32,
    /// Bytes of a file or of a symlink's target; 0 otherwise.
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Number of names; for a directory 2 and one for each directory in it.
    pub nlink: u32,
    /// Major and minor number of a device.
    pub rdev: (u32, u32),
    /// The content of a regular file that is not empty.
    pub object: Option<Digest>,
    target: &'a [u8],
    xattrs: (u32, u32),
    index: &'a Index,
}

impl<'a> Node<'a> {
    /// Where a symlink points; empty for others.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.target
    }

    /// Extended attributes (name, value), sorted by name.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let index = self.index;
        let (first, count) = self.xattrs;
        (0..count).map_while(move |nth| index.xattr(first.checked_add(nth)?))
    }
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name, without `/`.
    pub name: &'a [u8],
    /// What it names.
    pub node: NodeId,
}

#[derive(Debug)]
enum Bytes {
    Map(Map),
    Heap(Vec<u8>),
}

/// The metadata of one image, shareable between threads.
#[derive(Debug)]
pub struct Index {
    bytes: Bytes,
    header: Header,
    slot: u32,
    /// Open with a shared lock: while it lives, gc keeps the image's objects.
    #[allow(dead_code, reason = "held for its lock")]
    hold: Option<crate::sys::file::Lock>,
}

impl Index {
    /// An index of an image from bytes in memory, fully checked.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn open_bytes(bytes: impl Into<Vec<u8>>) -> Result<Index> {
        let index = Self::open_any(bytes.into())?;
        match index.header.content {
            Content::Image => Ok(index),
            Content::Layer => Err(damaged("the index in memory", "it describes a layer, not an image")),
        }
    }

    /// An index of an image or a layer from bytes in memory, fully checked.
    pub(crate) fn open_any(bytes: Vec<u8>) -> Result<Index> {
        let name = "the index in memory";
        let header = Header::read(&bytes).map_err(|why| damaged(name, why))?;
        let index = Index { bytes: Bytes::Heap(bytes), header, slot: 0, hold: None };
        index.check().map_err(|why| damaged(name, why))?;
        Ok(index)
    }

    /// Maps the index at `path`; the header is checked, the rest on access. `None` when there is no such file.
    pub(crate) fn open_file(path: &Path, content: Content) -> Result<Option<Index>> {
        let name = || format!("the index `{}`", path.display());
        let unread = |error: std::io::Error| Error::failed(format!("cannot read {}", name())).because(error);
        let map = match File::open(path) {
            Ok(file) => Map::of(&file).map_err(unread)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unread(error)),
        };
        let header = Header::read(&map).map_err(|why| damaged(&name(), why))?;
        if header.content != content {
            return Err(damaged(&name(), "it describes something else than its name says"));
        }
        Ok(Some(Index { bytes: Bytes::Map(map), header, slot: 0, hold: None }))
    }

    /// The same, knowing its slot and keeping gc off while it lives.
    pub(crate) fn held(mut self, slot: u32, hold: crate::sys::file::Lock) -> Index {
        self.slot = slot;
        self.hold = Some(hold);
        self
    }

    /// Checks every byte: digest, bounds, order, links, reachability.
    ///
    /// # Errors
    /// What is wrong, as a text.
    pub fn check(&self) -> std::result::Result<(), String> {
        check::check(self)
    }

    /// A small number unique to this image in its store, never given to another image; 0 when not from a store.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> NodeId {
        NodeId::ROOT
    }

    /// Number of nodes; ids are `0..len()`.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::try_from(self.section(Section::Nodes).len() / NODE_LEN).unwrap_or(u32::MAX)
    }

    /// Whether there is no node at all, which no valid index has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any node has extended attributes.
    #[must_use]
    pub fn has_xattrs(&self) -> bool {
        !self.section(Section::Xattrs).is_empty()
    }

    /// The node, unless the id is out of range or the index is damaged.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<Node<'_>> {
        let record = self.record(id)?;
        let kind = kind_of(record.mode)?;
        let object = match kind {
            Kind::File if record.data != NONE => Some(self.digest(record.data)?),
            _ => None,
        };
        let target = if kind == Kind::Symlink { self.name(record.data, u32::try_from(record.size).ok()?)? } else { &[] };
        Some(Node {
            kind,
            mode: record.mode & 0o7777,
            uid: record.uid,
            gid: record.gid,
            size: record.size,
            mtime: (record.mtime_s, record.mtime_ns),
            nlink: record.nlink,
            rdev: if matches!(kind, Kind::Char | Kind::Block) { (record.data, record.count) } else { (0, 0) },
            object,
            target,
            xattrs: (record.xattr_first, record.xattr_count),
            index: self,
        })
    }

    /// The node that `name` names in `dir`.
    #[must_use]
    pub fn lookup(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        let record = self.directory(dir)?;
        let (mut low, mut high) = (0, record.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let dirent = self.dirent(record.data.checked_add(middle)?)?;
            match self.name(dirent.name, dirent.name_len)?.cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return (dirent.node != NONE).then_some(NodeId(dirent.node)),
            }
        }
        None
    }

    /// The names in `dir`, sorted; none when it is not a directory. `nth` of the iterator is cheap.
    pub fn entries(&self, dir: NodeId) -> Entries<'_> {
        let (first, count) = self.directory(dir).map_or((0, 0), |record| (record.data, record.count));
        Entries { index: self, next: first, end: first.saturating_add(count) }
    }

    /// The directory that holds directory `dir`; the root for the root and for what is no directory.
    #[must_use]
    pub fn parent(&self, dir: NodeId) -> NodeId {
        self.directory(dir).map_or(NodeId::ROOT, |record| NodeId(record.parent))
    }

    /// Walks `path` from the root, following symlinks (also the last) inside the image.
    #[must_use]
    pub fn resolve(&self, path: &[u8]) -> Option<NodeId> {
        let mut rest: VecDeque<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let mut at = NodeId::ROOT;
        let mut symlinks = 0;
        while let Some(name) = rest.pop_front() {
            match name {
                b"" | b"." => {}
                b".." => at = self.parent(at),
                name => {
                    let child = self.lookup(at, name)?;
                    let node = self.node(child)?;
                    if node.kind != Kind::Symlink {
                        at = child;
                        continue;
                    }
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return None;
                    }
                    if node.target().starts_with(b"/") {
                        at = NodeId::ROOT;
                    }
                    for part in node.target().split(|byte| *byte == b'/').rev() {
                        rest.push_front(part);
                    }
                }
            }
        }
        Some(at)
    }

    /// The digests of all contents, each once, sorted.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.section(Section::Digests).chunks_exact(DIGEST_LEN).filter_map(|raw| Some(Digest::from_bytes(raw.try_into().ok()?)))
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Map(map) => map,
            Bytes::Heap(bytes) => bytes,
        }
    }

    fn section(&self, section: Section) -> &[u8] {
        self.header.sections.get(section as usize).and_then(|range| self.bytes().get(range.clone())).unwrap_or_default()
    }

    pub(crate) fn content(&self) -> Content {
        self.header.content
    }

    pub(crate) fn record(&self, id: NodeId) -> Option<NodeRecord> {
        NodeRecord::decode(self.section(Section::Nodes), id.0)
    }

    fn directory(&self, id: NodeId) -> Option<NodeRecord> {
        self.record(id).filter(|record| record.mode & format::TYPE_MASK == format::TYPE_DIR)
    }

    pub(crate) fn is_dir(&self, id: NodeId) -> bool {
        self.directory(id).is_some()
    }

    fn dirent(&self, index: u32) -> Option<DirentRecord> {
        DirentRecord::decode(self.section(Section::Dirents), index)
    }

    fn name(&self, start: u32, length: u32) -> Option<&[u8]> {
        slice(self.section(Section::Names), start, length)
    }

    fn digest(&self, index: u32) -> Option<Digest> {
        let start = usize::try_from(index).ok()?.checked_mul(DIGEST_LEN)?;
        let raw = self.section(Section::Digests).get(start..start.checked_add(DIGEST_LEN)?)?;
        Some(Digest::from_bytes(raw.try_into().ok()?))
    }

    fn xattr(&self, index: u32) -> Option<(&[u8], &[u8])> {
        let record = XattrRecord::decode(self.section(Section::Xattrs), index)?;
        let name = self.name(record.name, record.name_len)?;
        Some((name, slice(self.section(Section::Values), record.value, record.value_len)?))
    }

    /// All names of a layer's directory; `None` is a whiteout.
    pub(crate) fn changes(&self, dir: NodeId) -> impl Iterator<Item = (&[u8], Option<NodeId>)> {
        let (first, count) = self.directory(dir).map_or((0, 0), |record| (record.data, record.count));
        (first..first.saturating_add(count)).map_while(|index| {
            let dirent = self.dirent(index)?;
            let node = (dirent.node != NONE).then_some(NodeId(dirent.node));
            Some((self.name(dirent.name, dirent.name_len)?, node))
        })
    }

    /// The lower layers' path that a layer's node is a hard link to.
    pub(crate) fn lower(&self, record: &NodeRecord) -> Option<&[u8]> {
        (record.flags & FLAG_LOWER != 0).then(|| self.name(record.data, u32::try_from(record.size).ok()?))?
    }
}

/// The names in a directory, see [`Index::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    index: &'a Index,
    next: u32,
    end: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = DirEntry<'a>;

    fn next(&mut self) -> Option<DirEntry<'a>> {
        while self.next < self.end {
            let dirent = self.index.dirent(self.next)?;
            self.next += 1;
            // A whiteout (in a layer's index) names nothing.
            if dirent.node != NONE {
                let name = self.index.name(dirent.name, dirent.name_len)?;
                return Some(DirEntry { name, node: NodeId(dirent.node) });
            }
        }
        None
    }

    fn nth(&mut self, count: usize) -> Option<DirEntry<'a>> {
        // Only an image's index is free of whiteouts, which do not count.
        if self.index.content() == Content::Image {
            self.next = self.next.saturating_add(u32::try_from(count).ok()?);
            return self.next();
        }
        (0..count).try_for_each(|_| self.next().map(drop))?;
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Dirents beyond the table do not exist, whatever a damaged directory claims.
        let table = self.index.section(Section::Dirents).len() / DIRENT_LEN;
        (0, Some(table.min((self.end - self.next.min(self.end)) as usize)))
    }
}

fn slice(heap: &[u8], start: u32, length: u32) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    heap.get(start..start.checked_add(usize::try_from(length).ok()?)?)
}

fn kind_of(mode: u32) -> Option<Kind> {
    Some(match mode & format::TYPE_MASK {
        format::TYPE_FILE => Kind::File,
        format::TYPE_DIR => Kind::Dir,
        format::TYPE_SYMLINK => Kind::Symlink,
        format::TYPE_FIFO => Kind::Fifo,
        format::TYPE_CHAR => Kind::Char,
        format::TYPE_BLOCK => Kind::Block,
        format::TYPE_SOCKET => Kind::Socket,
        _ => return None,
    })
}

fn damaged(name: &str, why: impl Into<String>) -> Error {
    Error::failed(format!("{name} cannot be used"))
        .because(why.into())
        .hint("`steading fsck` shows what is damaged; pulling the image again repairs it")
}
