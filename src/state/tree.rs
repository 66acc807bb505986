//! Removing directory trees that services wrote.

use crate::error::{Context, Error, Result};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Removes `path` and all below it; what does not exist is fine. A directory the service closed to everyone (overlay's work
/// directory has mode 000) is opened first. Symbolic links are removed, never followed.
///
/// # Errors
/// The first file that could not be removed; the rest is removed nevertheless.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).context(|| format!("cannot look at `{}`", path.display())),
        Ok(meta) if !meta.is_dir() => return unlink(path),
        Ok(_) => {}
    }
    // The usual case is one pass of the standard library, which is safe against links that change under it.
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(error).context(|| format!("cannot remove `{}`", path.display())),
    }
    match remove_opened(path) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Removes an empty directory; one that is missing or not empty is fine.
///
/// # Errors
/// Other errors of rmdir, with the path.
pub fn remove_dir_if_empty(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(error).context(|| format!("cannot remove the directory `{}`", path.display())),
    }
}

fn unlink(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| denied(path, error)),
    }
}

/// Opens each directory for its owner on the way down. Returns the first failure, having tried everything.
fn remove_opened(path: &Path) -> Option<Error> {
    // Fails when it belongs to another id; then reading or removing fails too and says so.
    let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
    let mut first = None;
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let failure = match entry {
                    Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => remove_opened(&entry.path()),
                    Ok(entry) => unlink(&entry.path()).err(),
                    Err(error) => Some(denied(path, error)),
                };
                first = first.or(failure);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => first = Some(denied(path, error)),
    }
    let gone = match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(denied(path, error)),
        _ => None,
    };
    first.or(gone)
}

fn denied(path: &Path, error: io::Error) -> Error {
    let permission = error.kind() == io::ErrorKind::PermissionDenied;
    let error = Error::failed(format!("cannot remove `{}`", path.display())).because(error);
    match permission {
        true => error.hint("it belongs to another user id, perhaps one of the service's range; remove it as root"),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_directories_go_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("upper/work/work")).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        fs::write(tree.join("upper/work/work/file"), "x").unwrap();
        fs::set_permissions(tree.join("upper/work/work"), Permissions::from_mode(0o000)).unwrap();
        remove_opened(&tree).map_or(Ok(()), Err).unwrap();
        assert!(!tree.exists());
        assert!(kept.join("file").exists());
        remove_tree(&tree).unwrap();
        std::os::unix::fs::symlink(&kept, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(kept.join("file").exists() && fs::symlink_metadata(&tree).is_err());
    }

    #[test]
    fn only_empty_directories_are_removed_quietly() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        remove_dir_if_empty(dir.path()).unwrap();
        assert!(dir.path().exists());
        remove_dir_if_empty(&dir.path().join("none")).unwrap();
        assert!(remove_dir_if_empty(&dir.path().join("file")).is_err());
    }
}
