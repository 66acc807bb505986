//! The content-addressed image store. This page is the specification of its format, version 1.
//!
//! ```text
//! STORE/                         0700, of one user
//!   format                       TOML: version, compat, ro-compat, incompat
//!   lock                         flock: shared to import and commit, exclusive to prune and repair
//!   commit.lock                  flock: one at a time gives an image its slot and its name
//!   pending                      boot id of the system that wrote contents not known to be on the disk, see "Durability"
//!   slots                        decimal: the next slot; only grows
//!   objects/ab/abcd...           0444, a file's content, named by its sha256; an empty file has no object
//!   layers/HEX                   0444, index of the layer whose uncompressed tar has that sha256 (its diff id)
//!   images/sha256-HEX/           an image, named by the digest of its manifest
//!     index                      0444, its root file system
//!     manifest.json config.json  the blobs, byte for byte
//!     layers                     diff ids, a line each, lowest first
//!     slot                       decimal; a reader of `index` holds a shared flock on this file
//!   refs/NAME                    two lines: digest of an image, the reference that means it. NAME is the reference with all
//!                                but [A-Za-z0-9-_] as %XX, or `sha256-` and the hex sha256 of it when that is too long
//!   trash/...                    images removed while a reader may still hold them
//!   .tmp-* (anywhere)            being written; ignored by every reader
//! ```
//!
//! # Invariants
//!
//! - Nothing is written in place: a file appears by rename, complete, and is never changed after. Indexes are mapped
//!   into memory on the strength of that.
//! - What a layer index refers to is in `objects`. What an image index refers to is in `objects`, and its manifest has
//!   the digest that names it.
//! - A slot belongs to one image for ever: the yard builds node ids from it, which the kernel remembers.
//! - The same layers give the same index, byte for byte.
//!
//! # Index
//!
//! One format for images and layers; little-endian; no pointers but offsets. A 256 byte header, then six sections, each
//! at the next multiple of 8, zeros between them.
//!
//! | offset | header |
//! |---|---|
//! | 0 | `STDNGIDX` |
//! | 8 | u32 version, 1 |
//! | 12 | u32 content: 1 image, 2 layer |
//! | 16, 20, 24 | u32 features: compat, ro-compat, incompat; a reader refuses unknown incompat bits |
//! | 32 | u64 length of the file |
//! | 40 | six times u64 offset and u64 length: nodes, dirents, xattrs, digests, names, values |
//! | 192 | sha256 of everything behind the header |
//! | 224 | sha256 of the 224 bytes before |
//!
//! | section | records |
//! |---|---|
//! | nodes | 64 bytes: u64 size, i64 mtime, then u32: mtime nanoseconds, mode with type, uid, gid, nlink, parent, data, count, first xattr, xattrs, flags, 0 |
//! | dirents | 12 bytes: u32 offset and length in names, u32 node (all ones: a whiteout) |
//! | xattrs | 16 bytes: u32 offset and length in names, u32 offset and length in values |
//! | digests | 32 bytes, ascending |
//! | names | bytes of names, symlink targets, attribute names |
//! | values | bytes of attribute values |
//!
//! *data* and *count* are: of a directory its first dirent and their number, sorted by name; of a file its digest (all
//! ones when empty); of a symlink its target's offset in names (size is its length); of a device major and minor.
//! *parent* is set for directories. Nodes are numbered breadth first in the order of names, so a directory's children
//! are neighbours, parents come first and the root is 0. A hard link is one more dirent of the same node.
//! Flags, in layers only: 1 opaque directory; 2 implicit directory, whose metadata is made up; 4 a hard link to a path
//! of the layers below, which lies where a symlink's target would.
//!
//! Checks: opening looks at the header and the bounds of the sections (its digest, 0.1 ms whatever the size); accessors
//! check every offset; everything else is checked when an index is made, before it gets its name, and by fsck.
//!
//! # Garbage
//!
//! Roots are the images in `images` and those in `trash` whose `slot` is locked. Layers that an image lists are kept,
//! with all they refer to, so that the next image on the same base does not unpack it again. Prune holds the exclusive
//! lock; it removes layers first and makes that durable before it removes objects. Who pulls takes [`Store::hold`]
//! over the whole of it, or else a prune may take a layer between its import and the commit.
//!
//! # Durability
//!
//! A thousand fsyncs take longer than unpacking a thousand files, so objects and layer indexes are written without.
//! One syncfs(2) makes them durable before the image that needs them gets its name; that rename is fsynced.
//! Killing a process tears nothing, as the page cache stays. For a power cut there is `pending`: it is made, durably,
//! before the first object that is not, and holds the boot id. Whoever opens the store in another boot first checks
//! (under the exclusive lock) all that no committed image vouches for: objects whose content does not hash to their
//! name go, layer indexes that are damaged or miss an object go; then `pending` goes. A committed image needs no check.
//!
//! # Features
//!
//! `version` changes when nothing can be kept. Unknown `compat` features mean nothing to a reader or writer; unknown
//! `ro-compat` ones allow [`Store::open_read_only`] only; unknown `incompat` ones allow nothing.

mod export;
mod fsck;
mod image;
mod index;
mod merge;
mod objects;
mod prune;
mod recover;
mod refs;
mod root;
#[cfg(test)]
mod tests;
mod tree;

pub use fsck::FsckReport;
pub use image::{ImageInfo, ImageRecord};
pub use index::{DirEntry, Entries, Index, Kind, Node, NodeId};
pub use prune::Freed;
pub use root::{Hold, Store};

pub(crate) use index::format;
pub(crate) use objects::Objects;
pub(crate) use tree::{Body, Item, ItemId, Meta, NoDir, ROOT, Tree, Xattrs};
