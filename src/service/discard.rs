//! Removing what services wrote, whoever of their ids owns it.

use super::context::executable;
use crate::error::{Error, Result};
use crate::idmap;
use crate::state::remove_tree;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// [`remove_tree`]; what the user may not remove, since it belongs to subordinate ids, a child of this program does (`steading reclaim`),
/// which may enter a user namespace since it has one thread.
pub(super) fn discard(path: &Path) -> Result<()> {
    let Err(error) = remove_tree(path) else { return Ok(()) };
    // Without such ids there is nobody else to whom it could belong.
    if !idmap::subordinate().is_ok_and(|found| found.is_usable()) {
        return Err(error);
    }
    let output = Command::new(executable()?).args(["--quiet", "reclaim"]).arg(path).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Error::failed(error.what()).because(io::Error::other(said)).hint("remove it as root"))
        }
        Err(cause) => Err(Error::failed(error.what()).because(cause)),
    }
}
