//! A directory tree in memory, from which an index is written: first of one layer, then of a whole image.

use crate::image::Digest;
use std::collections::BTreeMap;

/// Position in [`Tree::items`]. Items that lost their last name stay there and are not written.
pub(crate) type ItemId = usize;

/// The root directory.
pub(crate) const ROOT: ItemId = 0;

/// Symlinks followed on the way to a directory.
const SYMLINKS_MAX: u32 = 40;

/// Extended attributes, sorted by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Permission bits, 07777.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Xattrs,
}

impl Meta {
    /// Of a directory that nobody described: 0755, root, 1970.
    pub(crate) fn implicit() -> Meta {
        Meta { mode: 0o755, ..Meta::default() }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Dir {
    /// `None` is a whiteout.
    pub(crate) children: BTreeMap<Box<[u8]>, Option<ItemId>>,
    /// Hides what lower layers have in it.
    pub(crate) opaque: bool,
    /// Its metadata is made up; that of a lower layer wins.
    pub(crate) implicit: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Dir(Dir),
    File {
        size: u64,
        /// `None` when empty.
        object: Option<Digest>,
    },
    Symlink(Box<[u8]>),
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
    Socket,
    /// A hard link to this path of a lower layer.
    Lower(Box<[u8]>),
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) meta: Meta,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) items: Vec<Item>,
}

/// Why there is no directory to put something into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDir {
    /// Something on the way is neither a directory nor a symlink.
    NotDirectory,
    /// A symlink on the way leads to nothing of this tree, or round and round.
    DeadSymlink,
    /// It does not exist and was not to be made.
    Missing,
}

impl Tree {
    /// A root directory that nobody described.
    pub(crate) fn new() -> Tree {
        let root = Item { meta: Meta::implicit(), body: Body::Dir(Dir { implicit: true, ..Dir::default() }) };
        Tree { items: vec![root] }
    }

    pub(crate) fn item(&self, id: ItemId) -> Option<&Item> {
        self.items.get(id)
    }

    pub(crate) fn dir(&self, id: ItemId) -> Option<&Dir> {
        match &self.items.get(id)?.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    pub(crate) fn dir_mut(&mut self, id: ItemId) -> Option<&mut Dir> {
        match &mut self.items.get_mut(id)?.body {
            Body::Dir(dir) => Some(dir),
            _ => None,
        }
    }

    /// What `name` in `dir` is here; a whiteout is nothing.
    pub(crate) fn child(&self, dir: ItemId, name: &[u8]) -> Option<ItemId> {
        self.dir(dir)?.children.get(name).copied().flatten()
    }

    pub(crate) fn add(&mut self, item: Item) -> ItemId {
        self.items.push(item);
        self.items.len() - 1
    }

    /// The item at `path` (components), following symlinks to directories on the way but not the last.
    pub(crate) fn find(&mut self, path: &[&[u8]]) -> Option<ItemId> {
        let (last, way) = path.split_last()?;
        let dir = self.dir_at(way, false).ok()?;
        self.child(dir, last)
    }

    /// The directory at `path`, with `make` made where missing (implicit), following symlinks of this tree as
    /// extracting would.
    ///
    /// A directory made where a whiteout stood is opaque: the layer removed the lower one and made its own.
    pub(crate) fn dir_at(&mut self, path: &[&[u8]], make: bool) -> Result<ItemId, NoDir> {
        // The way down, for `..` in symlinks; the last is where we are.
        let mut way = vec![ROOT];
        let mut rest: Vec<Vec<u8>> = Vec::new();
        let mut names = path.iter();
        let mut symlinks = 0;
        loop {
            let linked = rest.pop();
            let name: &[u8] = match (&linked, names.as_slice()) {
                (Some(name), _) => name,
                (None, [name, ..]) => {
                    names.next();
                    name
                }
                (None, []) => return Ok(way.last().copied().unwrap_or(ROOT)),
            };
            let at = way.last().copied().unwrap_or(ROOT);
            match name {
                b"" | b"." => continue,
                b".." => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let existing = self.child(at, name);
            let symlink = match existing.and_then(|id| self.item(id)).map(|item| &item.body) {
                Some(Body::Dir(_)) => None,
                Some(Body::Symlink(target)) => Some(target),
                Some(_) => return Err(NoDir::NotDirectory),
                // What a symlink leads to must be there; a directory is made only where the path itself says so.
                None if linked.is_some() => return Err(NoDir::DeadSymlink),
                None if !make => return Err(NoDir::Missing),
                None => None,
            };
            if let Some(target) = symlink {
                symlinks += 1;
                if symlinks > SYMLINKS_MAX {
                    return Err(NoDir::DeadSymlink);
                }
                rest.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                if target.starts_with(b"/") {
                    way.truncate(1);
                }
                continue;
            }
            way.push(match existing {
                Some(id) => id,
                None => self.put_dir(at, name, Meta::implicit(), true),
            });
        }
    }

    /// Makes `name` in `dir` a directory with `meta`, keeping what a directory there already holds.
    pub(crate) fn put_dir(&mut self, dir: ItemId, name: &[u8], meta: Meta, implicit: bool) -> ItemId {
        if let Some(id) = self.child(dir, name)
            && let Some(item) = self.items.get_mut(id)
            && let Body::Dir(body) = &mut item.body
        {
            if !implicit {
                body.implicit = false;
                item.meta = meta;
            }
            return id;
        }
        // Over a whiteout or over what is no directory: nothing of a lower directory may shine through.
        let opaque = self.dir(dir).is_some_and(|parent| parent.children.contains_key(name));
        let id = self.add(Item { meta, body: Body::Dir(Dir { opaque, implicit, ..Dir::default() }) });
        self.link(dir, name, id);
        id
    }

    /// Gives `item` the name `name` in `dir`, replacing what was there.
    pub(crate) fn link(&mut self, dir: ItemId, name: &[u8], item: ItemId) {
        if let Some(dir) = self.dir_mut(dir) {
            dir.children.insert(name.into(), Some(item));
        }
    }

    /// Notes that `name` is gone from lower layers; what this layer itself put there stays, and hides it anyway.
    pub(crate) fn whiteout(&mut self, dir: ItemId, name: &[u8]) {
        match self.child(dir, name).and_then(|id| self.dir_mut(id)) {
            Some(own) => own.opaque = true,
            None => {
                if let Some(dir) = self.dir_mut(dir) {
                    dir.children.entry(name.into()).or_insert(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symlink(tree: &mut Tree, name: &[u8], target: &[u8]) {
        let id = tree.add(Item { meta: Meta::default(), body: Body::Symlink(target.into()) });
        tree.link(ROOT, name, id);
    }

    #[test]
    fn parents_are_made_and_symlinks_of_the_tree_followed() {
        let mut tree = Tree::new();
        let lib = tree.dir_at(&[b"usr", b"lib"], true).unwrap();
        symlink(&mut tree, b"lib", b"/usr/./x/../../usr/lib");
        // `x` does not exist, so the symlink is dead, as for the kernel.
        assert_eq!(tree.dir_at(&[b"lib"], true), Err(NoDir::DeadSymlink));
        symlink(&mut tree, b"lib", b"../../usr/./lib/");
        assert_eq!(tree.dir_at(&[b"lib"], true), Ok(lib));
        let deep = tree.dir_at(&[b"lib", b"new"], true).unwrap();
        assert_eq!(tree.find(&[b"usr", b"lib", b"new"]), Some(deep));
    }

    #[test]
    fn loops_and_files_on_the_way_are_refused() {
        let mut tree = Tree::new();
        symlink(&mut tree, b"a", b"b");
        symlink(&mut tree, b"b", b"a");
        assert_eq!(tree.dir_at(&[b"a", b"x"], true), Err(NoDir::DeadSymlink));
        let file = tree.add(Item { meta: Meta::default(), body: Body::Fifo });
        tree.link(ROOT, b"f", file);
        assert_eq!(tree.dir_at(&[b"f", b"x"], true), Err(NoDir::NotDirectory));
    }

    #[test]
    fn a_directory_made_over_a_whiteout_is_opaque_in_either_order() {
        let mut tree = Tree::new();
        tree.whiteout(ROOT, b"a");
        let a = tree.dir_at(&[b"a"], true).unwrap();
        assert!(tree.dir(a).unwrap().opaque);
        let b = tree.dir_at(&[b"b"], true).unwrap();
        tree.whiteout(ROOT, b"b");
        assert!(tree.dir(b).unwrap().opaque);
        assert_eq!(tree.child(ROOT, b"b"), Some(b));
    }
}
