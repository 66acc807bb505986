//! The tree that the server shows, apart from FUSE: `by-image` and `by-user`, each with one directory per image.

use crate::image::Digest;
use crate::yard::View;
use crate::yard::journal;
use crate::yard::node::{Place, SLOTS};
use crate::yard::objects::Objects;
use crate::yard::source::{Image, Kind, Meta, Source};
use nix::errno::Errno;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Images never change, so what is known about their content holds for ever (the kernel's clock of jiffies takes this much).
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1 << 31);
/// Names of images come and go.
pub(crate) const BRIEF: Duration = Duration::from_secs(1);
const NOW: Duration = Duration::ZERO;

/// What stat(2) shows of a node.
#[derive(Clone, Debug)]
pub(crate) struct Attr {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: SystemTime,
    pub(crate) nlink: u32,
    pub(crate) rdev: u32,
    /// How long the kernel may keep this.
    pub(crate) valid: Duration,
}

/// A directory entry: the name is valid for `valid`, what it names for `attr.valid`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) attr: Attr,
    pub(crate) valid: Duration,
}

/// Answer to a lookup.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Entry(Entry),
    /// There is no such name, and there will be none.
    Never,
}

/// One entry of a listing; `next` continues after it.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) entry: Entry,
    pub(crate) next: u64,
}

struct Loaded<I> {
    digest: Digest,
    image: I,
}

struct Images<I> {
    by_digest: HashMap<Digest, Arc<Loaded<I>>>,
    by_slot: HashMap<u32, Arc<Loaded<I>>>,
}

/// All images of a [`Source`] as one tree. Holds open images and descriptors, but no state that a new server would miss.
pub(crate) struct Tree<S: Source> {
    source: S,
    images: RwLock<Images<S::Image>>,
    objects: Objects,
    /// Nodes whose content was found bad, so that each is reported once.
    reported: Mutex<HashSet<u64>>,
}

impl<S: Source> fmt::Debug for Tree<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

type Answer<T> = std::result::Result<T, Errno>;

impl<S: Source> Tree<S> {
    pub(crate) fn new(source: S) -> Self {
        let images = RwLock::new(Images { by_digest: HashMap::new(), by_slot: HashMap::new() });
        Tree { source, images, objects: Objects::default(), reported: Mutex::new(HashSet::new()) }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &[u8]) -> Answer<Found> {
        let place = Place::of(parent).ok_or(Errno::ESTALE)?;
        // `.` and `..` come when the kernel decodes a file handle (overlayfs does, to keep inode numbers over a copy-up).
        if name == b"." {
            return Ok(Found::Entry(Entry { attr: self.attr(parent)?, valid: NOW }));
        }
        if name == b".." {
            let number = self.parent(place)?.number().ok_or(Errno::EIO)?;
            return Ok(Found::Entry(Entry { attr: self.attr(number)?, valid: NOW }));
        }
        match place {
            Place::Root => match View::of_dir(name) {
                Some(view) => Ok(Found::Entry(Entry { attr: self.view_attr(view), valid: FOR_EVER })),
                None => Ok(Found::Never),
            },
            Place::View(view) => {
                let digest = image_name(name).ok_or(Errno::ENOENT)?;
                let loaded = self.by_digest(&digest)?;
                Ok(Found::Entry(Entry { attr: node_attr(view, &loaded.image, loaded.image.root())?, valid: BRIEF }))
            }
            Place::Node { view, slot, node } => {
                let loaded = self.by_slot(slot)?;
                match loaded.image.lookup(node, name) {
                    Some(child) => Ok(Found::Entry(Entry { attr: node_attr(view, &loaded.image, child)?, valid: FOR_EVER })),
                    None => Ok(Found::Never),
                }
            }
        }
    }

    pub(crate) fn attr(&self, number: u64) -> Answer<Attr> {
        match Place::of(number).ok_or(Errno::ESTALE)? {
            Place::Root => Ok(dir_attr(1, 4, UNIX_EPOCH, FOR_EVER)),
            Place::View(view) => Ok(self.view_attr(view)),
            Place::Node { view, slot, node } => node_attr(view, &self.by_slot(slot)?.image, node),
        }
    }

    /// Calls `each` with the entries of a directory from `offset` on, until it returns `false`.
    pub(crate) fn list(&self, number: u64, offset: u64, each: &mut dyn FnMut(Listed<'_>) -> bool) -> Answer<()> {
        let place = Place::of(number).ok_or(Errno::ESTALE)?;
        let up = self.parent(place)?.number().ok_or(Errno::EIO)?;
        for (next, name, number) in [(1, &b"."[..], number), (2, b"..", up)] {
            if offset < next && !each(Listed { name, entry: Entry { attr: self.attr(number)?, valid: NOW }, next }) {
                return Ok(());
            }
        }
        let from = usize::try_from(offset.saturating_sub(2)).map_err(|_| Errno::EINVAL)?;
        let mut next = offset.max(2);
        match place {
            Place::Root => {
                for view in View::ALL.into_iter().skip(from) {
                    next += 1;
                    let entry = Entry { attr: self.view_attr(view), valid: FOR_EVER };
                    if !each(Listed { name: view.dir().as_bytes(), entry, next }) {
                        break;
                    }
                }
            }
            Place::View(view) => {
                let digests = self.source.list().map_err(|error| unreadable("cannot list the images", &error))?;
                for digest in digests.iter().skip(from) {
                    next += 1;
                    // One that cannot be opened is passed over: the journal has it, and the others are fine.
                    let Ok(loaded) = self.by_digest(digest) else { continue };
                    let entry = Entry { attr: node_attr(view, &loaded.image, loaded.image.root())?, valid: BRIEF };
                    if !each(Listed { name: dir_name(digest).as_bytes(), entry, next }) {
                        break;
                    }
                }
            }
            Place::Node { view, slot, node } => {
                let loaded = self.by_slot(slot)?;
                if kind_of(&loaded.image, node)? != Kind::Dir {
                    return Err(Errno::ENOTDIR);
                }
                loaded.image.entries(node, from, &mut |name, child| {
                    next += 1;
                    let Ok(attr) = node_attr(view, &loaded.image, child) else { return true };
                    each(Listed { name, entry: Entry { attr, valid: FOR_EVER }, next })
                });
            }
        }
        Ok(())
    }

    /// Target of a symbolic link.
    pub(crate) fn target(&self, number: u64) -> Answer<Vec<u8>> {
        let (_, loaded, node) = self.node(number)?;
        loaded.image.target(node).map(<[u8]>::to_vec).ok_or(Errno::EINVAL)
    }

    /// Appends up to `size` bytes of a file's content from `offset` on to `buffer`.
    pub(crate) fn read(&self, number: u64, offset: u64, size: usize, buffer: &mut Vec<u8>) -> Answer<()> {
        let (_, loaded, node) = self.node(number)?;
        let meta = loaded.image.meta(node).ok_or(Errno::ESTALE)?;
        match meta.kind {
            Kind::File => {}
            Kind::Dir => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let rest = usize::try_from(meta.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let size = size.min(rest);
        if size == 0 {
            return Ok(());
        }
        let bad = |why: &dyn fmt::Display| {
            self.report(number, &loaded, node, why);
            Errno::EIO
        };
        let Some(object) = meta.object else { return Err(bad(&"it has a size, but no content")) };
        let path = || self.source.object_path(&object);
        let start = buffer.len();
        buffer.resize(start + size, 0);
        let filled = self
            .objects
            .get(&object, path)
            .and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&*file, &mut buffer[start..], offset));
        filled.map_err(|error| {
            buffer.truncate(start);
            self.objects.forget(&object);
            let path = path();
            match error.kind() {
                std::io::ErrorKind::UnexpectedEof => bad(&format_args!("`{}` is too short", path.display())),
                _ => bad(&format_args!("`{}`: {error}", path.display())),
            }
        })
    }

    /// The value of an extended attribute.
    pub(crate) fn xattr(&self, number: u64, wanted: &[u8]) -> Answer<Vec<u8>> {
        let mut found = Err(Errno::ENODATA);
        if !hidden(wanted) {
            self.xattrs(number, &mut |name, value| {
                if name == wanted {
                    found = Ok(value.to_vec());
                }
                found.is_err()
            })?;
        }
        found
    }

    /// The names of all extended attributes, each followed by a zero byte.
    pub(crate) fn xattr_names(&self, number: u64) -> Answer<Vec<u8>> {
        let mut list = Vec::new();
        self.xattrs(number, &mut |name, _| {
            if !hidden(name) {
                list.extend_from_slice(name);
                list.push(0);
            }
            true
        })?;
        Ok(list)
    }

    fn xattrs(&self, number: u64, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Answer<()> {
        if let Place::Node { slot, node, .. } = Place::of(number).ok_or(Errno::ESTALE)? {
            self.by_slot(slot)?.image.xattrs(node, each);
        }
        Ok(())
    }

    fn node(&self, number: u64) -> Answer<(View, Arc<Loaded<S::Image>>, u32)> {
        match Place::of(number).ok_or(Errno::ESTALE)? {
            Place::Node { view, slot, node } => Ok((view, self.by_slot(slot)?, node)),
            _ => Err(Errno::EISDIR),
        }
    }

    fn parent(&self, place: Place) -> Answer<Place> {
        Ok(match place {
            Place::Root | Place::View(_) => Place::Root,
            Place::Node { view, slot, node } => {
                let loaded = self.by_slot(slot)?;
                if node == loaded.image.root() {
                    Place::View(view)
                } else {
                    Place::Node { view, slot, node: loaded.image.parent(node) }
                }
            }
        })
    }

    fn view_attr(&self, view: View) -> Attr {
        // The time tells the kernel whether its copy of the listing is still good.
        let number = Place::View(view).number().unwrap_or_default();
        dir_attr(number, 2, self.source.changed(), NOW)
    }

    /// The image with this digest, if the store has it now.
    fn by_digest(&self, digest: &Digest) -> Answer<Arc<Loaded<S::Image>>> {
        if !self.source.has(digest) {
            // Whoever still uses a removed image keeps it by its slot.
            self.images.write().unwrap_or_else(PoisonError::into_inner).by_digest.remove(digest);
            return Err(Errno::ENOENT);
        }
        if let Some(loaded) = self.images.read().unwrap_or_else(PoisonError::into_inner).by_digest.get(digest) {
            return Ok(Arc::clone(loaded));
        }
        let opened = self.source.open(digest).map_err(|error| unreadable(&format!("cannot open the image {digest}"), &error))?;
        let image = opened.ok_or(Errno::ENOENT)?;
        if image.slot() >= SLOTS {
            journal::warn(&format!("the image {digest} has the number {}, and only {SLOTS} fit", image.slot()));
            return Err(Errno::EOVERFLOW);
        }
        let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
        let loaded = match images.by_slot.get(&image.slot()) {
            Some(loaded) if loaded.digest == *digest => Arc::clone(loaded),
            _ => Arc::new(Loaded { digest: *digest, image }),
        };
        images.by_slot.insert(loaded.image.slot(), Arc::clone(&loaded));
        images.by_digest.insert(*digest, Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The image in this slot. A server that took over from another one meets slots that it has not looked up itself.
    fn by_slot(&self, slot: u32) -> Answer<Arc<Loaded<S::Image>>> {
        let known = || self.images.read().unwrap_or_else(PoisonError::into_inner).by_slot.get(&slot).map(Arc::clone);
        if let Some(loaded) = known() {
            return Ok(loaded);
        }
        for digest in self.source.list().map_err(|error| unreadable("cannot list the images", &error))? {
            if let Ok(loaded) = self.by_digest(&digest)
                && loaded.image.slot() == slot
            {
                return Ok(loaded);
            }
        }
        known().ok_or(Errno::ESTALE)
    }

    fn report(&self, number: u64, loaded: &Loaded<S::Image>, node: u32, why: &dyn fmt::Display) {
        if self.reported.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
            let path = path_of(&loaded.image, node);
            let path = String::from_utf8_lossy(&path);
            let digest = loaded.digest;
            journal::warn(&format!("image {digest}: `{}` cannot be read: {why}", path.escape_debug()));
        }
    }
}

/// Name of an image's directory.
pub(crate) fn dir_name(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

fn image_name(name: &[u8]) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix(b"sha256-")?)
}

/// Attributes that are not shown. `trusted.` is for the host's root; POSIX ACLs name ids of no mapping and the kernel refuses
/// them here; `user.overlay.` would steer the overlay that is mounted on top.
fn hidden(name: &[u8]) -> bool {
    [&b"trusted."[..], b"system.", b"user.overlay."].iter().any(|prefix| name.starts_with(prefix))
}

fn unreadable(what: &str, error: &crate::error::Error) -> Errno {
    let mut text = format!("{what}: {error}");
    for cause in error.causes() {
        text.push_str(": ");
        text.push_str(&cause);
    }
    journal::warn(&text);
    Errno::EIO
}

fn kind_of(image: &impl Image, node: u32) -> Answer<Kind> {
    image.meta(node).map(|meta| meta.kind).ok_or(Errno::EIO)
}

fn node_attr(view: View, image: &impl Image, node: u32) -> Answer<Attr> {
    let number = Place::Node { view, slot: image.slot(), node }.number().ok_or(Errno::EOVERFLOW)?;
    let Meta { kind, mode, uid, gid, size, mtime, nlink, rdev, .. } = image.meta(node).ok_or(Errno::ESTALE)?;
    let (uid, gid) = match view {
        View::ByImage => (uid, gid),
        View::ByUser => (0, 0),
    };
    Ok(Attr { number, kind, mode, uid, gid, size, mtime: time(mtime), nlink, rdev: device(rdev), valid: FOR_EVER })
}

fn dir_attr(number: u64, nlink: u32, mtime: SystemTime, valid: Duration) -> Attr {
    Attr { number, kind: Kind::Dir, mode: 0o555, uid: 0, gid: 0, size: 0, mtime, nlink, rdev: 0, valid }
}

fn time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let whole = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    whole.and_then(|time| time.checked_add(Duration::from_nanos(u64::from(nanoseconds)))).unwrap_or(UNIX_EPOCH)
}

/// The kernel's 32 bits for a device number (`new_encode_dev`).
fn device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

/// A path of `node`, for messages: nodes do not know their names, so the tree is searched.
fn path_of(image: &impl Image, node: u32) -> Vec<u8> {
    let mut todo = vec![(image.root(), Vec::new())];
    while let Some((dir, path)) = todo.pop() {
        let mut found = None;
        image.entries(dir, 0, &mut |name, child| {
            let mut below = path.clone();
            below.push(b'/');
            below.extend_from_slice(name);
            if child == node {
                found = Some(below);
                return false;
            }
            if kind_of(image, child) == Ok(Kind::Dir) {
                todo.push((child, below));
            }
            true
        });
        if let Some(path) = found {
            return path;
        }
    }
    format!("node {node}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yard::testing::{HandMade, Shelf};

    struct Yard {
        _dir: tempfile::TempDir,
        shelf: Arc<Shelf>,
        tree: Tree<Arc<Shelf>>,
    }

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    fn yard() -> Yard {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::new(dir.path()));
        let tree = Tree::new(Arc::clone(&shelf));
        Yard { _dir: dir, shelf, tree }
    }

    /// `/etc/shadow` (0:42 0640, `user.a`, `trusted.b`, `user.overlay.opaque`), `/bin/su` (4755), `/lib -> usr/lib`, `/dev/sda1`
    fn image(shelf: &Shelf, slot: u32) -> HandMade {
        let mut image = HandMade::new(slot);
        let etc = image.add(0, "etc", Kind::Dir, 0o755);
        let shadow = image.add(etc, "shadow", Kind::File, 0o640);
        let node = image.at(shadow);
        (node.meta.gid, node.meta.size, node.meta.object) = (42, 6, Some(shelf.put(b"secret")));
        for name in ["user.a", "trusted.b", "user.overlay.opaque", "security.capability", "system.posix_acl_access"] {
            node.xattrs.push((name.as_bytes().to_vec(), b"value".to_vec()));
        }
        let bin = image.add(0, "bin", Kind::Dir, 0o755);
        image.add(bin, "su", Kind::File, 0o4755);
        let lib = image.add(0, "lib", Kind::Symlink, 0o777);
        image.at(lib).target = Some(b"usr/lib".to_vec());
        let dev = image.add(0, "dev", Kind::Dir, 0o755);
        let disk = image.add(dev, "sda1", Kind::Block, 0o660);
        image.at(disk).meta.rdev = (8, 257);
        image
    }

    fn walk(yard: &Yard, path: &str) -> Answer<Attr> {
        let mut number = 1;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            number = match yard.tree.lookup(number, part.as_bytes())? {
                Found::Entry(entry) => entry.attr.number,
                Found::Never => return Err(Errno::ENOENT),
            };
        }
        yard.tree.attr(number)
    }

    fn names(yard: &Yard, number: u64) -> Vec<String> {
        // Two entries at a time, as a kernel with a small buffer would ask.
        let (mut list, mut offset) = (Vec::new(), 0);
        loop {
            let mut count = 0;
            yard.tree
                .list(number, offset, &mut |listed| {
                    if count == 2 {
                        return false;
                    }
                    count += 1;
                    offset = listed.next;
                    list.push(String::from_utf8(listed.name.to_vec()).unwrap());
                    true
                })
                .unwrap();
            if count == 0 {
                return list;
            }
        }
    }

    #[test]
    fn owners_are_the_images_in_one_view_and_zero_in_the_other() {
        let yard = yard();
        yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
        let name = dir_name(&digest(1));
        let own = walk(&yard, &format!("by-image/{name}/etc/shadow")).unwrap();
        assert_eq!((own.uid, own.gid, own.mode, own.size), (0, 42, 0o640, 6));
        let squashed = walk(&yard, &format!("by-user/{name}/etc/shadow")).unwrap();
        assert_eq!((squashed.uid, squashed.gid, squashed.mode, squashed.size), (0, 0, 0o640, 6));
        assert_ne!(own.number, squashed.number);
        assert_eq!(walk(&yard, &format!("by-user/{name}/bin/su")).unwrap().mode, 0o4755);
        assert_eq!(walk(&yard, &format!("by-image/{name}/dev/sda1")).unwrap().rdev, 0x0010_0801);
    }

    #[test]
    fn an_image_that_comes_later_appears_and_one_that_goes_keeps_its_nodes() {
        let yard = yard();
        let name = dir_name(&digest(1));
        let by_image = walk(&yard, "by-image").unwrap().number;
        assert_eq!(yard.tree.lookup(by_image, name.as_bytes()).unwrap_err(), Errno::ENOENT, "not one that may be kept");
        yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
        let Found::Entry(entry) = yard.tree.lookup(by_image, name.as_bytes()).unwrap() else { panic!("not found") };
        assert_eq!((entry.valid, entry.attr.valid), (BRIEF, FOR_EVER));
        yard.shelf.images.lock().unwrap().clear();
        assert_eq!(yard.tree.lookup(by_image, name.as_bytes()).unwrap_err(), Errno::ENOENT);
        assert!(yard.tree.lookup(entry.attr.number, b"etc").is_ok());
    }

    #[test]
    fn a_new_server_understands_the_numbers_of_the_old_one() {
        let yard = yard();
        for (n, slot) in [(1, 3), (2, 4)] {
            yard.shelf.images.lock().unwrap().insert(digest(n), image(&yard.shelf, slot));
        }
        let old = walk(&yard, &format!("by-user/{}/etc/shadow", dir_name(&digest(2)))).unwrap();
        let next = Tree::new(Arc::clone(&yard.shelf));
        assert_eq!(next.attr(old.number).unwrap().size, 6);
        let mut content = Vec::new();
        next.read(old.number, 0, 4096, &mut content).unwrap();
        assert_eq!(content, b"secret");
        let gone = Place::Node { view: View::ByUser, slot: 9, node: 0 }.number().unwrap();
        assert_eq!(next.attr(gone).unwrap_err(), Errno::ESTALE);
    }

    #[test]
    fn listings_continue_where_they_stopped_and_have_dots() {
        let yard = yard();
        yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
        assert_eq!(names(&yard, 1), [".", "..", "by-image", "by-user"]);
        let name = dir_name(&digest(1));
        assert_eq!(names(&yard, walk(&yard, "by-user").unwrap().number), [".", "..", &name]);
        let root = walk(&yard, &format!("by-user/{name}")).unwrap().number;
        assert_eq!(names(&yard, root), [".", "..", "bin", "dev", "etc", "lib"]);
        let Found::Entry(up) = yard.tree.lookup(root, b"..").unwrap() else { panic!("no parent") };
        assert_eq!(up.attr.number, walk(&yard, "by-user").unwrap().number);
        let shadow = walk(&yard, &format!("by-user/{name}/etc/shadow")).unwrap().number;
        assert_eq!(yard.tree.list(shadow, 2, &mut |_| true).unwrap_err(), Errno::ENOTDIR);
    }

    #[test]
    fn reads_end_with_the_file_and_links_have_targets() {
        let yard = yard();
        yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
        let name = dir_name(&digest(1));
        let shadow = walk(&yard, &format!("by-user/{name}/etc/shadow")).unwrap().number;
        for (offset, size, content) in [(0, 3, &b"sec"[..]), (3, 100, b"ret"), (6, 10, b""), (u64::MAX, 10, b""), (0, 0, b"")] {
            let mut buffer = Vec::new();
            yard.tree.read(shadow, offset, size, &mut buffer).unwrap();
            assert_eq!(buffer, content);
        }
        let link = walk(&yard, &format!("by-user/{name}/lib")).unwrap().number;
        assert_eq!(yard.tree.target(link).unwrap(), b"usr/lib");
        assert_eq!(yard.tree.target(shadow).unwrap_err(), Errno::EINVAL);
        assert_eq!(yard.tree.read(1, 0, 1, &mut Vec::new()).unwrap_err(), Errno::EISDIR);
    }

    #[test]
    fn a_missing_or_short_object_is_an_error_of_that_file_only_and_can_be_mended() {
        let yard = yard();
        yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
        let shadow = walk(&yard, &format!("by-user/{}/etc/shadow", dir_name(&digest(1)))).unwrap().number;
        let path = yard.shelf.objects.join(Digest::of(b"secret").hex());
        let read = |buffer: &mut Vec<u8>| yard.tree.read(shadow, 0, 10, buffer);
        let mut buffer = Vec::new();
        std::fs::write(&path, b"sec").unwrap();
        assert_eq!(read(&mut buffer).unwrap_err(), Errno::EIO);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(&mut buffer).unwrap_err(), Errno::EIO);
        assert!(buffer.is_empty());
        std::fs::write(&path, b"secret").unwrap();
        read(&mut buffer).unwrap();
        assert_eq!(buffer, b"secret");
        assert_eq!(yard.tree.reported.lock().unwrap().len(), 1);
    }

    #[test]
    fn the_path_in_a_message_is_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let image = image(&Shelf::new(dir.path()), 3);
        let etc = image.lookup(0, b"etc").unwrap();
        assert_eq!(path_of(&image, image.lookup(etc, b"shadow").unwrap()), b"/etc/shadow");
    }

    #[test]
    fn attributes_of_the_host_and_of_overlays_are_hidden() {
        let yard = yard();
        yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
        let shadow = walk(&yard, &format!("by-user/{}/etc/shadow", dir_name(&digest(1)))).unwrap().number;
        assert_eq!(yard.tree.xattr_names(shadow).unwrap(), b"user.a\0security.capability\0");
        assert_eq!(yard.tree.xattr(shadow, b"user.a").unwrap(), b"value");
        for name in ["trusted.b", "user.overlay.opaque", "system.posix_acl_access", "user.none"] {
            assert_eq!(yard.tree.xattr(shadow, name.as_bytes()).unwrap_err(), Errno::ENODATA, "{name}");
        }
        assert!(yard.tree.xattr_names(1).unwrap().is_empty());
    }

    #[test]
    fn times_before_the_epoch_and_beyond_reason_are_taken() {
        assert_eq!(time((-1, 500_000_000)), UNIX_EPOCH - Duration::from_millis(500));
        assert_eq!(time((i64::MAX, 999_999_999)).duration_since(UNIX_EPOCH).unwrap().as_secs(), i64::MAX as u64);
        time((i64::MIN, 0));
    }
}
