//! Making many files durable at once.

use crate::error::{Context, Result};
use std::fs::File;
use std::path::Path;

/// Writes everything that is dirty on the file system of `path` to its disk: syncfs(2). One call after a thousand
/// written files costs a small part of a thousand fsyncs.
///
/// # Errors
/// Those of open and syncfs (since Linux 5.8 also write errors of any file there), with the path.
pub fn file_system_of(path: &Path) -> Result<()> {
    let what = || format!("cannot write the file system of `{}` to its disk", path.display());
    let file = File::open(path).context(what)?;
    nix::unistd::syncfs(&file).context(what)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_path_is_named_and_a_real_one_works() {
        assert!(super::file_system_of("/nonexistent-dir".as_ref()).unwrap_err().to_string().contains("nonexistent-dir"));
        super::file_system_of(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
