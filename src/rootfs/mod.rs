//! Root file system drivers: the image below, the service's own upper directory above.
//!
//! | driver | where the overlay is |
//! |---|---|
//! | [`Hybrid`] | the kernel's overlayfs (`userxattr`) over the yard's FUSE image |
//!
//! A driver runs inside the service's own user and mount namespaces, before the pivot.

mod hybrid;

pub use hybrid::Hybrid;

use crate::error::Result;
use std::path::Path;

/// What a root file system is made of. All are existing directories; `upper` and `work` are on one file system.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// The image in the yard.
    pub image: &'a Path,
    /// Directories and files to mount on, for an image that has none; they lie below it, so that nothing need be made above it.
    pub mount_points: Option<&'a Path>,
    /// The service's own changes.
    pub upper: &'a Path,
    /// Scratch directory of the overlay.
    pub work: &'a Path,
    /// Where it is mounted.
    pub target: &'a Path,
    /// Nothing of it is needed after the mount ends, so nothing need reach the disk.
    pub volatile: bool,
}

/// A way to make a root file system.
pub trait Driver: std::fmt::Debug {
    /// Name in `config.toml` and in messages.
    fn name(&self) -> &'static str;
    /// Mounts `layers` at its target.
    ///
    /// # Errors
    /// When the kernel refuses; the error says what the host lacks.
    fn mount(&self, layers: &Layers<'_>) -> Result<()>;
}
