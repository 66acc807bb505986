//! Where the parts of the root file system are, for the one who mounts it.
//!
//! With a `private` map the set-up goes on as the container's root, who is nobody on the host and may not walk to the user's directories. So
//! they are opened while the process is still the user, and reached by their descriptors (`/proc/self/fd/N`) afterwards.

use super::child::Setup;
use crate::error::{Context, Error, Result};
use crate::rootfs::Layers;
use crate::sys::file::open_dir;
use crate::sys::mount::attach;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Paths that work until the end of the set-up.
#[derive(Debug)]
pub(super) struct Places {
    image: PathBuf,
    upper: PathBuf,
    work: PathBuf,
    /// Where the root file system is mounted.
    pub(super) target: PathBuf,
    volatile: bool,
    mount_points: Option<PathBuf>,
    _held: Vec<OwnedFd>,
}

impl Places {
    /// As the setup has them.
    pub(super) fn by_path(setup: &Setup) -> Places {
        let Setup { image, upper, work, target, .. } = setup;
        Places {
            image: image.clone(),
            upper: upper.clone(),
            work: work.clone(),
            target: target.clone(),
            volatile: setup.foreground.is_some(),
            mount_points: setup.foreground.as_ref().map(|foreground| foreground.mount_points.clone()),
            _held: Vec::new(),
        }
    }

    /// By descriptors; the image is `tree`, a detached mount.
    pub(super) fn by_descriptor(setup: &Setup, tree: &OwnedFd) -> Result<Places> {
        // An overlay takes only layers that are attached somewhere; it is mounted on top of this one.
        attach(tree.as_fd(), &setup.target).context(|| format!("cannot mount the image on `{}`", setup.target.display()))?;
        let image = open_dir(&setup.target)?;
        let parent = setup.target.parent().unwrap_or(Path::new("/"));
        let base = open_dir(parent)?;
        let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let below = |place: &Path| {
            let name = place
                .strip_prefix(parent)
                .map_err(|_| Error::failed(format!("`{}` is not below `{}`", place.display(), parent.display())))?;
            Ok(path(&base).join(name))
        };
        Ok(Places {
            image: path(&image),
            upper: below(&setup.upper)?,
            work: below(&setup.work)?,
            target: below(&setup.target)?,
            volatile: setup.foreground.is_some(),
            mount_points: None,
            _held: vec![image, base],
        })
    }

    /// For the driver.
    pub(super) fn layers(&self) -> Layers<'_> {
        Layers {
            image: &self.image,
            mount_points: self.mount_points.as_deref(),
            upper: &self.upper,
            work: &self.work,
            target: &self.target,
            volatile: self.volatile,
        }
    }
}
