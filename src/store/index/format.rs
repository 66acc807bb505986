//! The layout of an index file: constants, header, records. Checked reads only; nothing here trusts its input.

use crate::image::Digest;
use std::ops::Range;

pub(crate) const MAGIC: [u8; 8] = *b"STDNGIDX";
pub(crate) const VERSION: u32 = 1;
/// Features a reader must know to read the file at all. None exist yet.
pub(crate) const KNOWN_INCOMPAT: u32 = 0;

pub(crate) const HEADER_LEN: usize = 256;
pub(crate) const NODE_LEN: usize = 64;
pub(crate) const DIRENT_LEN: usize = 12;
pub(crate) const XATTR_LEN: usize = 16;
pub(crate) const DIGEST_LEN: usize = 32;

/// "No node", "no digest": a whiteout's dirent, an empty file's data.
pub(crate) const NONE: u32 = u32::MAX;

/// A directory that hides everything below it in lower layers. Layer indexes only.
pub(crate) const FLAG_OPAQUE: u32 = 1;
/// A directory the layer never described, only put something into. Layer indexes only.
pub(crate) const FLAG_IMPLICIT: u32 = 2;
/// A hard link to a path of a lower layer; the path lies where a symlink's target would. Layer indexes only.
pub(crate) const FLAG_LOWER: u32 = 4;

/// Longest file name (`NAME_MAX`).
pub(crate) const NAME_MAX: usize = 255;
/// Longest symlink target (`PATH_MAX` with its NUL).
pub(crate) const TARGET_MAX: usize = 4095;
/// Longest xattr value (`XATTR_SIZE_MAX`).
pub(crate) const XATTR_VALUE_MAX: usize = 65536;

pub(crate) const TYPE_MASK: u32 = 0o170_000;
pub(crate) const TYPE_FILE: u32 = 0o100_000;
pub(crate) const TYPE_DIR: u32 = 0o040_000;
pub(crate) const TYPE_SYMLINK: u32 = 0o120_000;
pub(crate) const TYPE_FIFO: u32 = 0o010_000;
pub(crate) const TYPE_CHAR: u32 = 0o020_000;
pub(crate) const TYPE_BLOCK: u32 = 0o060_000;
pub(crate) const TYPE_SOCKET: u32 = 0o140_000;

/// What an index describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A whole root file system.
    Image = 1,
    /// The changes of one layer: may have whiteouts, opaque and implicit directories, links to lower layers.
    Layer = 2,
}

/// The parts of the file after the header, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Nodes = 0,
    Dirents = 1,
    Xattrs = 2,
    Digests = 3,
    Names = 4,
    Values = 5,
}

pub(crate) const SECTIONS: usize = 6;
/// Bytes of one record of each section; heaps have records of one byte.
pub(crate) const RECORD_LEN: [usize; SECTIONS] = [NODE_LEN, DIRENT_LEN, XATTR_LEN, DIGEST_LEN, 1, 1];

const AT_VERSION: usize = 8;
const AT_CONTENT: usize = 12;
const AT_INCOMPAT: usize = 24;
const AT_LENGTH: usize = 32;
const AT_SECTIONS: usize = 40;
pub(crate) const AT_BODY_DIGEST: usize = 192;
const AT_HEADER_DIGEST: usize = 224;

/// A header whose digest, version, features, lengths and section table are right.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) content: Content,
    pub(crate) sections: [Range<usize>; SECTIONS],
    pub(crate) body: Digest,
}

pub(crate) fn align(at: usize) -> Option<usize> {
    at.checked_add(7).map(|at| at & !7)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn digest_at(bytes: &[u8], at: usize) -> Option<Digest> {
    Some(Digest::from_bytes(bytes.get(at..at.checked_add(DIGEST_LEN)?)?.try_into().ok()?))
}

impl Header {
    /// Reads the header of a whole index file.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub(crate) fn read(file: &[u8]) -> Result<Header, String> {
        let header = file.get(..HEADER_LEN).ok_or("it is shorter than its header")?;
        if header.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err("it is not an index".into());
        }
        // The version comes before the digest: another version may have another header.
        match u32_at(header, AT_VERSION) {
            Some(VERSION) => {}
            other => return Err(format!("its format is version {}, this steading knows {VERSION}", other.unwrap_or(0))),
        }
        if digest_at(header, AT_HEADER_DIGEST) != header.get(..AT_HEADER_DIGEST).map(Digest::of) {
            return Err("its header is damaged".into());
        }
        let incompat = u32_at(header, AT_INCOMPAT).unwrap_or(NONE);
        if incompat & !KNOWN_INCOMPAT != 0 {
            return Err(format!("it has features that this steading does not know (incompat {incompat:#x})"));
        }
        let content = match u32_at(header, AT_CONTENT) {
            Some(1) => Content::Image,
            Some(2) => Content::Layer,
            _ => return Err("it describes neither an image nor a layer".into()),
        };
        if u64_at(header, AT_LENGTH) != Some(file.len() as u64) {
            return Err("it is cut short or too long".into());
        }
        let sections = Self::read_sections(header, file.len()).ok_or("its section table is wrong")?;
        let body = digest_at(header, AT_BODY_DIGEST).ok_or("its header is damaged")?;
        Ok(Header { content, sections, body })
    }

    /// Sections follow each other, each at the next multiple of 8, and end where the file ends.
    fn read_sections(header: &[u8], length: usize) -> Option<[Range<usize>; SECTIONS]> {
        let mut sections: [Range<usize>; SECTIONS] = Default::default();
        let mut next = HEADER_LEN;
        for (index, section) in sections.iter_mut().enumerate() {
            let at = AT_SECTIONS + index * 16;
            let start = usize::try_from(u64_at(header, at)?).ok()?;
            let size = usize::try_from(u64_at(header, at + 8)?).ok()?;
            let end = start.checked_add(size)?;
            if start != next || end > length || size % RECORD_LEN.get(index)? != 0 {
                return None;
            }
            *section = start..end;
            next = align(end)?;
        }
        (next == length).then_some(sections)
    }
}

/// Puts the sections behind a header into one file.
///
/// `None` when it would not fit the address space.
pub(crate) fn assemble(content: Content, parts: [&[u8]; SECTIONS]) -> Option<Vec<u8>> {
    let total = parts.iter().try_fold(HEADER_LEN, |at, part| align(at.checked_add(part.len())?))?;
    let mut file = Vec::with_capacity(total);
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&(content as u32).to_le_bytes());
    file.resize(AT_LENGTH, 0); // compat, ro-compat, incompat, reserved: none set
    file.extend_from_slice(&(total as u64).to_le_bytes());
    let mut start = HEADER_LEN;
    for part in parts {
        file.extend_from_slice(&(start as u64).to_le_bytes());
        file.extend_from_slice(&(part.len() as u64).to_le_bytes());
        start = align(start.checked_add(part.len())?)?;
    }
    file.resize(HEADER_LEN, 0);
    for part in parts {
        file.extend_from_slice(part);
        file.resize(align(file.len())?, 0);
    }
    let body = Digest::of(file.get(HEADER_LEN..)?);
    file.get_mut(AT_BODY_DIGEST..AT_HEADER_DIGEST)?.copy_from_slice(body.as_bytes());
    let head = Digest::of(file.get(..AT_HEADER_DIGEST)?);
    file.get_mut(AT_HEADER_DIGEST..HEADER_LEN)?.copy_from_slice(head.as_bytes());
    Some(file)
}

/// One record of the node table. What `data` and `count` mean depends on the kind, see the module documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    pub(crate) size: u64,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) parent: u32,
    pub(crate) data: u32,
    pub(crate) count: u32,
    pub(crate) xattr_first: u32,
    pub(crate) xattr_count: u32,
    pub(crate) flags: u32,
}

impl NodeRecord {
    pub(crate) fn encode(&self, table: &mut Vec<u8>) {
        table.extend_from_slice(&self.size.to_le_bytes());
        table.extend_from_slice(&self.mtime_s.to_le_bytes());
        for word in [
            self.mtime_ns,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.parent,
            self.data,
            self.count,
            self.xattr_first,
            self.xattr_count,
            self.flags,
            0,
        ] {
            table.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn decode(table: &[u8], index: u32) -> Option<NodeRecord> {
        let start = usize::try_from(index).ok()?.checked_mul(NODE_LEN)?;
        let record: &[u8; NODE_LEN] = table.get(start..start.checked_add(NODE_LEN)?)?.try_into().ok()?;
        let word = |at: usize| u32_at(record, 16 + at * 4);
        Some(NodeRecord {
            size: u64_at(record, 0)?,
            mtime_s: i64::from_le_bytes(record.get(8..16)?.try_into().ok()?),
            mtime_ns: word(0)?,
            mode: word(1)?,
            uid: word(2)?,
            gid: word(3)?,
            nlink: word(4)?,
            parent: word(5)?,
            data: word(6)?,
            count: word(7)?,
            xattr_first: word(8)?,
            xattr_count: word(9)?,
            flags: word(10)?,
        })
    }
}

/// One record of the dirent table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirentRecord {
    pub(crate) name: u32,
    pub(crate) name_len: u32,
    pub(crate) node: u32,
}

impl DirentRecord {
    pub(crate) fn encode(&self, table: &mut Vec<u8>) {
        for word in [self.name, self.name_len, self.node] {
            table.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn decode(table: &[u8], index: u32) -> Option<DirentRecord> {
        let start = usize::try_from(index).ok()?.checked_mul(DIRENT_LEN)?;
        let record: &[u8; DIRENT_LEN] = table.get(start..start.checked_add(DIRENT_LEN)?)?.try_into().ok()?;
        Some(DirentRecord { name: u32_at(record, 0)?, name_len: u32_at(record, 4)?, node: u32_at(record, 8)? })
    }
}

/// One record of the xattr table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XattrRecord {
    pub(crate) name: u32,
    pub(crate) name_len: u32,
    pub(crate) value: u32,
    pub(crate) value_len: u32,
}

impl XattrRecord {
    pub(crate) fn encode(&self, table: &mut Vec<u8>) {
        for word in [self.name, self.name_len, self.value, self.value_len] {
            table.extend_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn decode(table: &[u8], index: u32) -> Option<XattrRecord> {
        let start = usize::try_from(index).ok()?.checked_mul(XATTR_LEN)?;
        let record: &[u8; XATTR_LEN] = table.get(start..start.checked_add(XATTR_LEN)?)?.try_into().ok()?;
        Some(XattrRecord {
            name: u32_at(record, 0)?,
            name_len: u32_at(record, 4)?,
            value: u32_at(record, 8)?,
            value_len: u32_at(record, 12)?,
        })
    }
}
