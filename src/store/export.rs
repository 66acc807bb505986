//! An image's files as a plain directory tree, for programs that do not know the yard.

use super::index::{Index, Kind, Node, NodeId};
use super::root::{Store, with_space_hint};
use crate::error::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Permission bits that are kept. Everything belongs to the user afterwards: a set-user-id bit would let others run the image's
/// programs as the user.
const KEPT: u32 = 0o1777;

impl Store {
    /// Copies the directory `from` of an image to `to`, which must not exist, sharing disk blocks where the file system can. Names,
    /// contents, links, permission bits (without set-id) and times are the image's; everything belongs to the user. Devices and
    /// sockets, which a user cannot make, and extended attributes are left out.
    ///
    /// # Errors
    /// When an object is missing, the disk is full, `to` exists.
    pub fn export(&self, index: &Index, from: NodeId, to: &Path) -> Result<()> {
        let mut export = Export { store: self, index, links: HashMap::new() };
        export.directory(from, to).map_err(with_space_hint)
    }
}

struct Export<'a> {
    store: &'a Store,
    index: &'a Index,
    /// Where files with several names lie.
    links: HashMap<NodeId, PathBuf>,
}

impl Export<'_> {
    fn node(&self, id: NodeId) -> Result<Node<'_>> {
        self.index.node(id).ok_or_else(|| Error::failed("the index of the image is damaged").hint("run `steading fsck`"))
    }

    fn directory(&mut self, root: NodeId, to: &Path) -> Result<()> {
        // A stack of our own: a tree may be deeper than ours allows. Each directory is made before what is in it, so that no path
        // leads through anything but directories of ours, and is closed again in the opposite order.
        let mut made = Vec::new();
        let mut open = vec![(root, to.to_owned())];
        while let Some((id, path)) = open.pop() {
            DirBuilder::new().mode(0o700).create(&path).context(|| format!("cannot make the directory `{}`", path.display()))?;
            for entry in self.index.entries(id) {
                let place = path.join(OsStr::from_bytes(entry.name));
                if self.node(entry.node)?.kind == Kind::Dir {
                    open.push((entry.node, place));
                } else {
                    self.file(entry.node, place)?;
                }
            }
            made.push((id, path));
        }
        for (id, path) in made.iter().rev() {
            finish(&self.node(*id)?, path)?;
        }
        Ok(())
    }

    fn file(&mut self, id: NodeId, place: PathBuf) -> Result<()> {
        let node = self.node(id)?;
        let what = || format!("cannot write `{}`", place.display());
        if let Some(first) = self.links.get(&id) {
            return fs::hard_link(first, &place).context(what);
        }
        match node.kind {
            Kind::File => {
                match &node.object {
                    Some(object) => {
                        let from = self.store.object_path(object);
                        fs::copy(&from, &place).map(drop).map_err(|error| {
                            let missing = error.kind() == std::io::ErrorKind::NotFound && !from.exists();
                            let hint =
                                if missing { "an object is missing; `steading fsck` repairs it" } else { "is there space left?" };
                            Error::failed(what()).because(error).hint(hint)
                        })?;
                    }
                    None => fs::write(&place, b"").context(what)?,
                }
                finish(&node, &place)?;
            }
            Kind::Symlink => {
                symlink(OsStr::from_bytes(node.target()), &place).context(what)?;
                set_time(&node, &place)?;
            }
            Kind::Fifo => {
                mkfifo(&place, Mode::S_IRUSR | Mode::S_IWUSR).context(what)?;
                finish(&node, &place)?;
            }
            Kind::Dir | Kind::Char | Kind::Block | Kind::Socket => return Ok(()),
        }
        if node.nlink > 1 {
            self.links.insert(id, place);
        }
        Ok(())
    }
}

/// Permission bits and times, last of all.
fn finish(node: &Node<'_>, path: &Path) -> Result<()> {
    let permissions = Permissions::from_mode(node.mode & KEPT);
    fs::set_permissions(path, permissions).context(|| format!("cannot set the mode of `{}`", path.display()))?;
    set_time(node, path)
}

fn set_time(node: &Node<'_>, path: &Path) -> Result<()> {
    let time = TimeSpec::new(node.mtime.0, node.mtime.1.into());
    match utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink) {
        // A time that this file system cannot say.
        Ok(()) | Err(Errno::EINVAL | Errno::EOVERFLOW) => Ok(()),
        Err(errno) => Err(errno).context(|| format!("cannot set the time of `{}`", path.display())),
    }
}
