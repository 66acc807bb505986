//! Free space of file systems (statvfs(3)).

use crate::error::{Context, Result};
use nix::sys::statvfs::statvfs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where something would be written, and what is free there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Number of the file system; equal for paths on the same one.
    pub device: u64,
    /// Bytes that an unprivileged user may still write.
    pub available: u64,
}

/// The space at `path`, which need not exist: its nearest existing ancestor counts.
///
/// # Errors
/// Those of stat(2) and statvfs(3), with the path.
pub fn at(path: &Path) -> Result<Space> {
    let nearest = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let meta = std::fs::metadata(nearest).context(|| format!("cannot look at `{}`", nearest.display()))?;
    let stat = statvfs(nearest).context(|| format!("cannot ask for the free space at `{}`", nearest.display()))?;
    Ok(Space {
        device: meta.dev(),
        available: u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_has_the_space_of_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let (here, below) = (at(dir.path()).unwrap(), at(&dir.path().join("a/b/c")).unwrap());
        assert_eq!(here.device, below.device);
        assert!(here.available > 0);
    }
}
