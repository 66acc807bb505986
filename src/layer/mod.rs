//! Layers: decompress, read the tar, hostile input refused. What comes out are objects in the store and a tree for its
//! index; nothing of a layer is ever extracted to a path it names. No HTTP.
//!
//! # What is taken
//!
//! | in the tar | becomes |
//! |---|---|
//! | files, directories, symlinks, fifos, devices | nodes with mode, owner, time (PAX nanoseconds), xattrs (`SCHILY.xattr.*`) |
//! | GNU `S` and PAX sparse 0.0, 0.1, 1.0 | a file with its holes filled (and holes on the disk) |
//! | hard link | a further name of an earlier entry of this layer, else of a file in the layers below |
//! | `.wh.NAME` | a whiteout: NAME of lower layers is gone; an entry NAME of this layer, before or after, stays |
//! | `.wh..wh..opq` | its directory is opaque: entries of lower layers are gone, those of this layer stay |
//! | other `.wh..wh.*` | skipped, as docker does (AUFS's own notes) |
//! | parents nobody described | directories 0755 of root, or what lower layers say |
//!
//! Names are bytes. A leading `/` or `./` is dropped, as docker and podman do. A later entry of the same name replaces
//! an earlier one (a directory keeps its content when it is described again; a file over a directory takes its content
//! away), as when extracting. A parent that is a symlink of the same layer is followed, inside the image. Global PAX
//! headers are ignored. Overlayfs's own xattrs (`user.overlay.*`, `trusted.overlay.*`) are dropped. Bytes after the
//! end of the archive only count for the digest.
//!
//! # What is refused, with the entry's name
//!
//! `..` in any path; NUL in a name; names over 255 bytes; owners that are no ids; hard links to nothing, to
//! directories, or out of the root; entries below what is not a directory; whiteouts of nothing and entries in
//! whiteouts; entry types that are no files; data where none belongs; sparse maps that do not fit; headers with a
//! wrong checksum or cut short; whatever exceeds [`Limits`]; a blob whose size or uncompressed digest differs from what
//! the image says. A refused layer leaves at most contents that nothing refers to; `prune` takes them.

mod archive;
mod decode;
mod import;
mod limits;
mod path;
mod pax;
mod refusal;

pub(crate) use import::unpack;
pub use limits::Limits;
