//! Which ids of the host a `private` service has: `ids.toml` of the service. Written once, kept with the data, gone with it.

use super::{Paths, ServiceDir, Services};
use crate::error::{Context, Error, Result};
use crate::idmap::IdMaps;
use crate::sys::file::write_atomic;
use std::fs;
use std::io;
use std::path::PathBuf;

/// The ids of services. To give some away takes [`super::SharedLock::shared_state`].
#[derive(Clone, Copy, Debug)]
pub struct PrivateIds<'a> {
    paths: &'a Paths,
}

impl<'a> PrivateIds<'a> {
    /// Those of the services below `paths`.
    #[must_use]
    pub fn new(paths: &'a Paths) -> Self {
        PrivateIds { paths }
    }

    /// Those of one service; an empty map when it has none.
    ///
    /// # Errors
    /// When the file cannot be read or makes no sense.
    pub fn of(&self, directory: &ServiceDir) -> Result<IdMaps> {
        let path = directory.ids();
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(IdMaps::default()),
            Err(error) => Err(error).context(|| format!("cannot read `{}`", path.display())),
            Ok(text) => toml::from_str(&text).map_err(|error: toml::de::Error| {
                Error::failed(format!("`{}` cannot be read", path.display()))
                    .because(Error::failed(error.to_string().trim_end().to_owned()))
                    .hint("it says to which ids of the host the service's files belong; `ls -ln` of its data shows them")
            }),
        }
    }

    /// Those of all services but `directory`, removed ones with kept data too. The ids inside mean nothing.
    ///
    /// # Errors
    /// As [`PrivateIds::of`]: what one service has must be known before another is given any.
    pub fn taken(&self, directory: &ServiceDir) -> Result<IdMaps> {
        let services = Services::new(self.paths);
        let mut taken = IdMaps::default();
        for name in services.names()?.into_iter().chain(services.kept()?) {
            let other = self.paths.service(&name);
            if other != *directory {
                let IdMaps { uids, gids } = self.of(&other)?;
                taken.uids.0.extend(uids.0);
                taken.gids.0.extend(gids.0);
            }
        }
        Ok(taken)
    }

    /// Writes down those of one service, whose directory is there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(directory: &ServiceDir, ids: &IdMaps) -> Result<()> {
        let text = toml::to_string(ids).context(|| "the ids of a service cannot be written as TOML")?;
        let text = format!(
            "# Which ids of the host (outside) stand behind which of the service (inside). Its files belong to them.\n{text}"
        );
        write_atomic(&directory.ids(), text.as_bytes(), 0o600)
    }
}

impl ServiceDir {
    /// The ids of the host that a `private` service has.
    #[must_use]
    pub fn ids(&self) -> PathBuf {
        self.path().join("ids.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idmap::{IdMap, IdRange};
    use crate::resolve::ServiceName;

    fn ids(inside: u32, outside: u32) -> IdMaps {
        let map = |outside| IdMap(vec![IdRange::single(inside, outside), IdRange { inside: 0, outside: outside + 1, count: 2 }]);
        IdMaps { uids: map(outside), gids: map(outside + 1000) }
    }

    #[test]
    fn what_one_has_is_taken_for_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let service = |name: &str| paths.service(&name.parse::<ServiceName>().unwrap());
        let (one, two) = (service("one"), service("two"));
        let all = PrivateIds::new(&paths);
        assert_eq!(all.of(&one).unwrap(), IdMaps::default());
        for (directory, ids) in [(&one, ids(999, 100)), (&two, ids(33, 200))] {
            fs::create_dir_all(directory.path()).unwrap();
            PrivateIds::write(directory, &ids).unwrap();
        }
        assert_eq!(all.of(&one).unwrap(), ids(999, 100));
        // Neither is installed: kept data counts.
        assert_eq!(all.taken(&one).unwrap(), ids(33, 200));
        assert_eq!(all.taken(&service("three")).unwrap().uids.len(), 6);
        fs::write(two.ids(), "uids = 5").unwrap();
        assert!(all.taken(&one).unwrap_err().what().contains("two/ids.toml"));
    }
}
