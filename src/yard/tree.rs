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
        let (loaded, node) = self.node(number)?;
        loaded.image.target(node).map(<[u8]>::to_vec).ok_or(Errno::EINVAL)
    }

    /// Appends up to `size` bytes of a file's content from `offset` on to `buffer`.
    pub(crate) fn read(&self, number: u64, offset: u64, size: usize, buffer: &mut Vec<u8>) -> Answer<()> {
        let (loaded, node) = self.node(number)?;
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

    fn node(&self, number: u64) -> Answer<(Arc<Loaded<S::Image>>, u32)> {
        match Place::of(number).ok_or(Errno::ESTALE)? {
            Place::Node { slot, node, .. } => Ok((self.by_slot(slot)?, node)),
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
mod tests;
