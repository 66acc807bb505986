//! Removing trees whose files belong to the user's subordinate ids: the user may not, but root of a namespace that has these ids may.

use super::{Paths, remove_tree};
use crate::error::{Context, Error, Result};
use crate::idmap::{self, Helpers};
use nix::unistd::{getegid, geteuid};
use std::io::Write;
use std::path::{Component, Path};

/// Removes directories of services, as root over all ids of this user. The process must have one thread.
///
/// # Errors
/// Usage for any other path; host when there are no such ids; what could not be removed.
pub fn reclaim(paths: &Paths, trees: &[impl AsRef<Path>]) -> Result<()> {
    for tree in trees {
        let tree = tree.as_ref();
        let climbs = tree.components().any(|part| part == Component::ParentDir);
        let ours =
            [paths.services(), paths.runtime().join("services")].iter().any(|place| tree.starts_with(place) && tree != place);
        if climbs || !ours {
            return Err(Error::usage(format!("`{}` is no directory of a service", tree.display())));
        }
    }
    let helpers =
        Helpers::find().ok_or_else(|| Error::host("newuidmap and newgidmap are missing").hint("install the package `uidmap`"))?;
    let found = idmap::subordinate()?;
    if !found.is_usable() {
        return Err(Error::host("this user has no subordinate ids"));
    }
    let maps = idmap::u0(geteuid().as_raw(), getegid().as_raw(), Some(&found));
    let code = idmap::run_as_root(&helpers, &maps, || {
        let mut code = 0;
        for tree in trees {
            if let Err(error) = remove_tree(tree.as_ref()) {
                let causes: String = error.causes().iter().map(|cause| format!(": {cause}")).collect();
                // Whoever started us reads it; nobody is left to tell when that fails.
                let _ = writeln!(std::io::stderr(), "{error}{causes}");
                code = 1;
            }
        }
        code
    })
    .context(|| "cannot remove files that belong to subordinate ids")?;
    if code == 0 { Ok(()) } else { Err(Error::failed("some files could not be removed")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn nothing_but_directories_of_services_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let services = paths.services();
        for bad in
            [dir.path().to_owned(), services.clone(), services.join("../x"), services.join("a/../../.."), "/".into(), "x".into()]
        {
            assert_eq!(reclaim(&paths, &[&bad]).unwrap_err().kind(), Kind::Usage, "{}", bad.display());
        }
    }
}
