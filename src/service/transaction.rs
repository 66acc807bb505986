//! What an install has written so far, so that it can be taken back: after a failure the machine is as before.

use super::discard::discard;
use crate::error::{Error, Result};
use crate::state::remove_dir_if_empty;
use crate::sys::file;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One thing that was done, as what undoes it.
#[derive(Debug, PartialEq, Eq)]
enum Undo {
    /// We made this file or link.
    RemoveFile(PathBuf),
    /// We replaced this file of ours.
    Restore(PathBuf, Vec<u8>),
    /// We made this directory; all that is in it came after.
    RemoveTree(PathBuf),
    /// We made this directory for what may be used by others too.
    RemoveEmpty(PathBuf),
    /// We asked systemd to load, enable or start this unit.
    Unit(String),
}

/// The steps done so far. Dropping it keeps everything; [`Transaction::roll_back`] takes everything back.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    done: Vec<Undo>,
}

impl Transaction {
    /// Makes a directory and its missing parents, which are removed again only if they are empty then.
    pub(super) fn create_shared_dir(&mut self, path: &Path, mode: u32) -> Result<()> {
        for missing in missing(path) {
            file::create_dir_all(&missing, mode)?;
            self.done.push(Undo::RemoveEmpty(missing));
        }
        Ok(())
    }

    /// Makes a directory for this service alone, which goes with all its content; one that exists is kept as it is.
    pub(super) fn create_own_dir(&mut self, path: &Path, mode: u32) -> Result<()> {
        for missing in missing(path) {
            // Before making it: what was made by an interrupted mkdir -p must go too.
            self.done.push(Undo::RemoveTree(missing.clone()));
            file::create_dir_all(&missing, mode)?;
        }
        Ok(())
    }

    /// Writes a file that other services use too: an older one comes back, a new one stays until nobody uses it.
    pub(super) fn write_shared(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let before = self.done.len();
        self.write(path, bytes, mode)?;
        if matches!(self.done.get(before), Some(Undo::RemoveFile(_))) {
            self.done.truncate(before);
        }
        Ok(())
    }

    /// Writes a file, new or in place of an older one of ours. Tells whether anything changed.
    pub(super) fn write(&mut self, path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
        match fs::read(path) {
            Ok(old) if old == bytes => return Ok(false),
            Ok(old) => self.done.push(Undo::Restore(path.to_owned(), old)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.done.push(Undo::RemoveFile(path.to_owned())),
            Err(error) => return Err(Error::failed(format!("cannot read `{}`", path.display())).because(error)),
        }
        file::write_atomic(path, bytes, mode)?;
        Ok(true)
    }

    /// A file or link that was made, or is about to be.
    pub(super) fn made_file(&mut self, path: PathBuf) {
        self.done.push(Undo::RemoveFile(path));
    }

    /// A directory that was made, or is about to be, with all that will be in it.
    pub(super) fn made_tree(&mut self, path: PathBuf) {
        self.done.push(Undo::RemoveTree(path));
    }

    /// A unit that systemd was, or is about to be, asked to enable and start.
    pub(super) fn used_unit(&mut self, unit: String) {
        self.done.push(Undo::Unit(unit));
    }

    /// Whether nothing was done yet.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Units that systemd was asked for, the last first; to be stopped and disabled before [`Transaction::roll_back`].
    pub(super) fn units(&self) -> Vec<String> {
        let unit = |undo: &Undo| match undo {
            Undo::Unit(unit) => Some(unit.clone()),
            _ => None,
        };
        self.done.iter().rev().filter_map(unit).collect()
    }

    /// Takes back what was done to files, the last first. Goes on after failures, and returns them.
    pub(super) fn roll_back(self) -> Vec<Error> {
        let undo = |undo| match undo {
            Undo::RemoveFile(path) => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(Error::failed(format!("cannot remove `{}`", path.display())).because(error))
                }
                _ => Ok(()),
            },
            Undo::Restore(path, bytes) => file::write_atomic(&path, &bytes, 0o644),
            Undo::RemoveTree(path) => discard(&path),
            Undo::RemoveEmpty(path) => remove_dir_if_empty(&path),
            Undo::Unit(_) => Ok(()),
        };
        self.done.into_iter().rev().filter_map(|step| undo(step).err()).collect()
    }
}

/// `path` and its ancestors that do not exist, outermost first.
fn missing(path: &Path) -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> =
        path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).map(Path::to_owned).collect();
    list.reverse();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(root: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut list = Vec::new();
        for entry in fs::read_dir(root).unwrap() {
            let path = entry.unwrap().path();
            list.push((path.clone(), fs::read(&path).ok()));
            if path.is_dir() {
                list.extend(listing(&path));
            }
        }
        list.sort();
        list
    }

    #[test]
    fn a_rollback_leaves_what_was_there_before_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("service/data/kept")).unwrap();
        fs::write(root.join("service/data/kept/row"), "1").unwrap();
        fs::create_dir(root.join("units")).unwrap();
        fs::write(root.join("units/steading.slice"), "old").unwrap();
        let before = listing(root);

        let mut work = Transaction::default();
        work.create_shared_dir(&root.join("units/sub/deep"), 0o755).unwrap();
        work.create_own_dir(&root.join("service/data/kept"), 0o700).unwrap();
        work.create_own_dir(&root.join("service/upper/diff"), 0o700).unwrap();
        fs::write(root.join("service/upper/diff/file"), "x").unwrap();
        assert!(work.write(&root.join("units/steading.slice"), b"new", 0o644).unwrap());
        assert!(!work.write(&root.join("units/steading.slice"), b"new", 0o644).unwrap());
        assert!(work.write(&root.join("units/a.service"), b"a", 0o644).unwrap());
        work.used_unit("a.service".into());
        work.made_tree(root.join("service/never-made"));
        assert_eq!(work.units(), ["a.service"]);
        assert_ne!(listing(root), before);
        assert!(work.roll_back().is_empty());
        assert_eq!(listing(root), before);
    }

    #[test]
    fn a_shared_directory_that_others_use_by_now_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut work = Transaction::default();
        work.create_shared_dir(&root.path().join("a/b"), 0o755).unwrap();
        fs::write(root.path().join("a/other"), "").unwrap();
        assert!(work.roll_back().is_empty());
        assert!(root.path().join("a/other").exists() && !root.path().join("a/b").exists());
    }

    #[test]
    fn a_failed_step_does_not_stop_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let mut work = Transaction::default();
        work.write(&root.path().join("first"), b"", 0o600).unwrap();
        fs::create_dir(root.path().join("directory")).unwrap();
        work.made_file(root.path().join("directory"));
        let errors = work.roll_back();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].what().contains("directory"));
        assert!(!root.path().join("first").exists());
    }
}
