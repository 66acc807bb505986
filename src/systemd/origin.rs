//! Whose unit a name stands for.

use super::manager::Manager;
use crate::error::{Context, Result};
use crate::unit;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Whose unit a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitOrigin {
    /// Nobody's: the name is free.
    Absent,
    /// Written by us, in this file.
    Ours(PathBuf),
    /// Somebody else's file (also one that a template `NAME@.service` gives), or masked.
    Foreign(PathBuf),
}

impl Manager {
    /// Asks the manager, which knows all directories, templates and generators, and reads the marker of the file it names.
    ///
    /// # Errors
    /// Those of the manager and of reading the file.
    pub async fn unit_origin(&self, unit: &str) -> Result<UnitOrigin> {
        let status = self.status(unit).await?;
        let Some(path) = status.fragment else {
            // A unit without a file: absent, unless the manager made it itself (slices, transient units) or it is masked.
            return Ok(match status.load.as_str() {
                "masked" => UnitOrigin::Foreign(PathBuf::from("/dev/null")),
                "loaded" if status.active != "inactive" => UnitOrigin::Foreign(PathBuf::new()),
                _ => UnitOrigin::Absent,
            });
        };
        match fs::read_to_string(&path) {
            Ok(text) if unit::is_ours(&text) => Ok(UnitOrigin::Ours(path)),
            Ok(_) => Ok(UnitOrigin::Foreign(path)),
            // The manager still has a unit in memory whose file is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(UnitOrigin::Absent),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(UnitOrigin::Foreign(path)),
            Err(error) => Err(error).context(|| format!("cannot read the unit file `{}`", path.display())),
        }
    }
}
