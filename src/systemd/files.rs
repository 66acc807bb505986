//! Unit files on disk.

use crate::error::{Context, Result};
use crate::sys::file;
use crate::unit::UnitFile;
use std::fs;
use std::io;
use std::path::Path;

/// Writes a unit file into `dir` (made when missing), atomically; true when the content is new. An equal file is left alone,
/// so that the manager need not reload.
///
/// # Errors
/// Those of reading and writing, with the path.
pub fn install_unit(dir: &Path, unit: &UnitFile) -> Result<bool> {
    let path = dir.join(&unit.name);
    match fs::read(&path) {
        Ok(present) if present == unit.text.as_bytes() => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => file::create_dir_all(dir, 0o755)?,
        Err(error) => return Err(error).context(|| format!("cannot read the unit file `{}`", path.display())),
    }
    file::write_atomic(&path, unit.text.as_bytes(), 0o644)?;
    Ok(true)
}

/// Removes the unit file `name` from `dir`; true when there was one.
///
/// # Errors
/// Those of unlink and fsync, with the path.
pub fn remove_unit(dir: &Path, name: &str) -> Result<bool> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        Ok(()) => file::sync_dir(dir).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(|| format!("cannot remove the unit file `{}`", path.display())),
    }
}

/// Removes the directory `name.d` with the user's own changes to the unit (`systemctl --user edit`); true when there was one.
///
/// # Errors
/// Those of removing, with the path.
pub fn remove_drop_ins(dir: &Path, name: &str) -> Result<bool> {
    let path = dir.join(format!("{name}.d"));
    match fs::remove_dir_all(&path) {
        Ok(()) => file::sync_dir(dir).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(|| format!("cannot remove the directory `{}`", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_written_once_and_removed_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("systemd/user");
        let mut unit = UnitFile { name: "a@1.service".into(), text: "[Unit]\n".into() };
        assert!(install_unit(&dir, &unit).unwrap());
        assert!(!install_unit(&dir, &unit).unwrap());
        unit.text.push_str("Description=x\n");
        assert!(install_unit(&dir, &unit).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a@1.service")).unwrap(), unit.text);
        fs::create_dir(dir.join("a@1.service.d")).unwrap();
        assert!(remove_unit(&dir, "a@1.service").unwrap());
        assert!(!remove_unit(&dir, "a@1.service").unwrap());
        assert!(remove_drop_ins(&dir, "a@1.service").unwrap());
        assert!(!remove_drop_ins(&dir, "a@1.service").unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
