//! The full check of an index: after it, every accessor answers, and the tree is one.

use super::format::{
    self, Content, FLAG_IMPLICIT, FLAG_LOWER, FLAG_OPAQUE, HEADER_LEN, NAME_MAX, NONE, NodeRecord, Section, TARGET_MAX,
    XATTR_VALUE_MAX,
};
use super::{Index, Kind, NodeId, kind_of, slice};
use crate::image::Digest;

type Check = Result<(), String>;

pub(super) fn check(index: &Index) -> Check {
    let body = index.bytes().get(HEADER_LEN..).unwrap_or_default();
    if Digest::of(body) != index.header.body {
        return Err("its content is damaged".into());
    }
    // A right digest tells that it is what was written; the rest tells that what was written makes sense.
    check_digests(index)?;
    let names = check_nodes(index)?;
    check_names(index, &names)
}

fn check_digests(index: &Index) -> Check {
    let raw = index.section(Section::Digests);
    let sorted = raw.chunks_exact(format::DIGEST_LEN).is_sorted_by(|a, b| a < b);
    if sorted { Ok(()) } else { Err("its digests are not sorted".into()) }
}

/// Names found for each node, and the directory it was found in.
struct Found {
    count: u32,
    subdirs: u32,
}

/// Records alone, then every directory's slice. Directories number their children after themselves, so a parent that
/// comes first and one name per directory make every node reachable and no loop possible.
fn check_nodes(index: &Index) -> Result<Vec<Found>, String> {
    let mut found: Vec<Found> = (0..index.len()).map(|_| Found { count: 0, subdirs: 0 }).collect();
    let root = index.record(NodeId::ROOT).ok_or("it has no root")?;
    if kind_of(root.mode) != Some(Kind::Dir) || root.parent != 0 {
        return Err("its root is not a directory".into());
    }
    let mut dirents = 0;
    for id in 0..index.len() {
        let record = index.record(NodeId(id)).ok_or("a node is cut short")?;
        check_record(index, &record).map_err(|why| format!("node {id}: {why}"))?;
        if kind_of(record.mode) == Some(Kind::Dir) {
            if record.data != dirents {
                return Err(format!("node {id}: its names are not where they belong"));
            }
            check_dir(index, id, &record, &mut found).map_err(|why| format!("directory {id}: {why}"))?;
            dirents = dirents.checked_add(record.count).ok_or("too many names")?;
        }
    }
    let table = index.section(Section::Dirents).len() / format::DIRENT_LEN;
    if dirents as usize != table { Err("names belong to no directory".into()) } else { Ok(found) }
}

fn check_record(index: &Index, record: &NodeRecord) -> Check {
    let kind = kind_of(record.mode).ok_or("its kind is unknown")?;
    if record.mode & !(format::TYPE_MASK | 0o7777) != 0 || record.mtime_ns >= 1_000_000_000 {
        return Err("its mode or time is out of range".into());
    }
    if record.uid == NONE || record.gid == NONE {
        return Err("its owner is not an id".into());
    }
    let layer = index.content() == Content::Layer;
    let allowed = match kind {
        Kind::Dir if layer => FLAG_OPAQUE | FLAG_IMPLICIT,
        Kind::File if layer => FLAG_LOWER,
        _ => 0,
    };
    if record.flags & !allowed != 0 {
        return Err("it has flags that do not belong there".into());
    }
    let target_max = if index.lower(record).is_some() { usize::MAX } else { TARGET_MAX };
    let text = || {
        let length = u32::try_from(record.size).ok()?;
        index.name(record.data, length).filter(|text| !text.is_empty() && text.len() <= target_max && !text.contains(&0))
    };
    let fine = match kind {
        Kind::File if record.flags & FLAG_LOWER != 0 => text().is_some(),
        Kind::File if record.size == 0 => record.data == NONE && record.count == 0,
        Kind::File => i64::try_from(record.size).is_ok() && index.digest(record.data).is_some() && record.count == 0,
        Kind::Symlink => text().is_some() && record.count == 0,
        Kind::Char | Kind::Block | Kind::Dir => record.size == 0,
        Kind::Fifo | Kind::Socket => record.size == 0 && record.data == NONE && record.count == 0,
    };
    if !fine || (kind != Kind::Dir && record.parent != 0) {
        return Err("its size or data is wrong".into());
    }
    check_xattrs(index, record)
}

fn check_xattrs(index: &Index, record: &NodeRecord) -> Check {
    let end = record.xattr_first.checked_add(record.xattr_count).ok_or("its attributes are out of range")?;
    let mut last: &[u8] = b"";
    for at in record.xattr_first..end {
        let (name, value) = index.xattr(at).ok_or("its attributes are out of range")?;
        // Also refuses an empty name, as the first is compared with one.
        if name <= last || name.len() > NAME_MAX || name.contains(&0) || value.len() > XATTR_VALUE_MAX {
            return Err("its attributes are not valid or not sorted".into());
        }
        last = name;
    }
    Ok(())
}

fn check_dir(index: &Index, id: u32, record: &NodeRecord, found: &mut [Found]) -> Check {
    let mut last: &[u8] = b"";
    for nth in 0..record.count {
        let dirent = index.dirent(record.data.saturating_add(nth)).ok_or("its names are out of range")?;
        let name = slice(index.section(Section::Names), dirent.name, dirent.name_len).ok_or("a name is out of range")?;
        if name <= last || name.len() > NAME_MAX || name == b"." || name == b".." || name.iter().any(|c| matches!(c, 0 | b'/')) {
            return Err("its names are not valid or not sorted".into());
        }
        last = name;
        if dirent.node == NONE {
            if index.content() == Content::Layer {
                continue;
            }
            return Err("a name names nothing".into());
        }
        let child = index.record(NodeId(dirent.node)).ok_or("a name names a node that does not exist")?;
        let slot = found.get_mut(dirent.node as usize).ok_or("a name names a node that does not exist")?;
        slot.count = slot.count.saturating_add(1);
        if kind_of(child.mode) == Some(Kind::Dir) {
            if dirent.node <= id || child.parent != id {
                return Err("a directory in it does not know its parent".into());
            }
            let own = found.get_mut(id as usize).ok_or("it does not exist")?;
            own.subdirs = own.subdirs.saturating_add(1);
        }
    }
    Ok(())
}

/// Every node has as many names as it says, a directory exactly one (the root none).
fn check_names(index: &Index, found: &[Found]) -> Check {
    for (id, found) in (0..).zip(found) {
        let record = index.record(NodeId(id)).ok_or("a node is cut short")?;
        let fine = if kind_of(record.mode) == Some(Kind::Dir) {
            found.count == u32::from(id != 0) && record.nlink == found.subdirs.saturating_add(2)
        } else {
            found.count > 0 && record.nlink == found.count
        };
        if !fine {
            return Err(format!("node {id}: it has {} names, which does not fit", found.count));
        }
    }
    Ok(())
}
