//! The kernel's overlayfs over the yard's image (Documentation/filesystems/overlayfs.rst).

use super::{Driver, Layers};
use crate::error::{Error, Result};
use crate::sys::file::open_dir;
use nix::mount::{MsFlags, mount};
use std::os::fd::AsRawFd;

/// Kernel overlay; the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hybrid;

impl Driver for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn mount(&self, layers: &Layers<'_>) -> Result<()> {
        let (image, upper, work) = (open_dir(layers.image)?, open_dir(layers.upper)?, open_dir(layers.work)?);
        // Descriptors instead of paths: no escaping of `:` and `,`, no limit on lengths, and /proc/self/mountinfo inside
        // the container tells nothing of the host's directories.
        // xino=on: one st_dev and stable inode numbers over both layers (fuse.md, section 3).
        // volatile: no sync of the upper file system when it is unmounted.
        let volatile = if layers.volatile { ",volatile" } else { "" };
        let mount_points = layers.mount_points.map(open_dir).transpose()?;
        let below = mount_points.as_ref().map(|fd| format!(":/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
        let options = format!(
            "lowerdir=/proc/self/fd/{}{below},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{},userxattr,xino=on{volatile}",
            image.as_raw_fd(),
            upper.as_raw_fd(),
            work.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("overlay"), layers.target, Some("overlay"), flags, Some(options.as_str())).map_err(|errno| {
            let hint = match errno {
                nix::errno::Errno::EPERM => {
                    "this kernel does not let plain users mount overlayfs (it came with 5.11); see `steading doctor`"
                }
                nix::errno::Errno::EINVAL => {
                    "the file system of the upper directory cannot carry an overlay (NFS, another overlay, no user xattrs?); \
                     set XDG_DATA_HOME to a local file system"
                }
                _ => "see `steading doctor`",
            };
            Error::host(format!("cannot mount the root file system over the upper directory `{}`", layers.upper.display()))
                .because(errno)
                .hint(hint)
        })
    }
}
