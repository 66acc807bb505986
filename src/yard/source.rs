//! What the server needs to know about images, as traits: the store is one implementation, tests have another.

use crate::error::Result;
use crate::image::Digest;
use std::path::PathBuf;
use std::time::SystemTime;

/// What kind of file a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Char,
    Block,
    Socket,
}

/// Metadata of one node, as the image has it.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) nlink: u32,
    pub(crate) rdev: (u32, u32),
    /// Content of a regular file that is not empty.
    pub(crate) object: Option<Digest>,
}

/// One immutable image. Nodes are small numbers that mean the same in every process that opens the image.
pub(crate) trait Image: Send + Sync + 'static {
    /// A number that no other image of the store has or will have.
    fn slot(&self) -> u32;
    fn root(&self) -> u32;
    fn meta(&self, node: u32) -> Option<Meta>;
    fn lookup(&self, dir: u32, name: &[u8]) -> Option<u32>;
    fn parent(&self, dir: u32) -> u32;
    /// Calls `each` with name and node of the entries of `dir` from position `from` on, until it returns `false`.
    fn entries(&self, dir: u32, from: usize, each: &mut dyn FnMut(&[u8], u32) -> bool);
    /// Target of a symbolic link.
    fn target(&self, node: u32) -> Option<&[u8]>;
    /// Calls `each` with name and value of every extended attribute, until it returns `false`.
    fn xattrs(&self, node: u32, each: &mut dyn FnMut(&[u8], &[u8]) -> bool);
}

/// The set of images. It grows and shrinks while the server runs; nothing in one image ever changes.
pub(crate) trait Source: Send + Sync + 'static {
    type Image: Image;
    /// Whether the image is there now; cheap.
    fn has(&self, digest: &Digest) -> bool;
    fn open(&self, digest: &Digest) -> Result<Option<Self::Image>>;
    fn list(&self) -> Result<Vec<Digest>>;
    /// When an image was last added or removed.
    fn changed(&self) -> SystemTime;
    fn object_path(&self, object: &Digest) -> PathBuf;
}
