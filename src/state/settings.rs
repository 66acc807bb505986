//! `config.toml`. Unknown keys are errors that name line, column and the nearest known key: a misspelt setting must not be ignored.

use crate::error::{Error, Result};
use crate::recipe::did_you_mean;
use crate::registry::RegistrySettings;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which driver serves root file systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootfsDriver {
    /// Whatever the host can do best.
    #[default]
    Auto,
    /// Kernel overlay over the yard's image.
    Hybrid,
    /// Complete overlay in FUSE.
    Fuse,
}

/// The settings of one user.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `rootfs-driver`.
    pub rootfs_driver: RootfsDriver,
    /// `[store] path`.
    pub store: Option<PathBuf>,
    /// `[registry."HOST"]`.
    pub registry: BTreeMap<String, RegistrySettings>,
    /// `[defaults] address`: where published ports listen.
    pub address: Option<IpAddr>,
}

impl Settings {
    /// Reads the file; one that is missing means defaults.
    ///
    /// # Errors
    /// Those of reading, with the path; as [`Settings::parse`].
    pub fn load(path: &Path) -> Result<Settings> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(Error::failed(format!("cannot read the settings `{}`", path.display())).because(error)),
        }
    }

    /// Reads `text`; `path` is named in errors.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] with line and column when it is no TOML, has an unknown key or a value of a wrong form.
    pub fn parse(text: &str, path: &Path) -> Result<Settings> {
        let file = File { text, path };
        let table = DeTable::parse(text).map_err(|error| {
            let message = error.message().to_owned();
            file.error(&error.span().unwrap_or(0..0), &message)
        })?;
        let mut settings = Settings::default();
        file.each(table.get_ref(), &["rootfs-driver", "store", "registry", "defaults"], |key, value| {
            match key {
                "rootfs-driver" => settings.rootfs_driver = file.driver(value)?,
                "store" => file.each(file.table(value)?, &["path"], |_, value| {
                    let path = PathBuf::from(file.string(value)?);
                    if !path.is_absolute() {
                        return Err(file.error(&value.span(), "the path of the store must be absolute"));
                    }
                    settings.store = Some(path);
                    Ok(())
                })?,
                "registry" => {
                    for (host, value) in file.table(value)? {
                        settings.registry.insert(host.get_ref().to_string(), file.registry(value)?);
                    }
                }
                _ => file.each(file.table(value)?, &["address"], |_, value| {
                    let text = file.string(value)?;
                    let address = text.parse().map_err(|_| file.error(&value.span(), "this is no IP address"))?;
                    settings.address = Some(address);
                    Ok(())
                })?,
            }
            Ok(())
        })?;
        Ok(settings)
    }
}

struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn error(&self, span: &Range<usize>, message: &str) -> Error {
        let (line, column) = position(self.text, span.start);
        Error::usage(format!("{}:{line}:{column}: {message}", self.path.display()))
    }

    /// Calls `take` for every key, all of which must be among `known`.
    fn each(
        &self,
        table: &DeTable<'_>,
        known: &[&str],
        mut take: impl FnMut(&str, &Spanned<DeValue<'_>>) -> Result<()>,
    ) -> Result<()> {
        for (key, value) in table {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let error = self.error(&key.span(), &format!("unknown key `{}`", name.escape_debug()));
                let hint = did_you_mean(name, known.iter().copied());
                return Err(error.hint(hint.unwrap_or_else(|| format!("known here: {}", known.join(", ")))));
            }
            take(name, value)?;
        }
        Ok(())
    }

    fn wrong(&self, value: &Spanned<DeValue<'_>>, wanted: &str) -> Error {
        self.error(&value.span(), &format!("expected {wanted}, found {}", value.get_ref().type_str()))
    }

    fn table<'v, 'i>(&self, value: &'v Spanned<DeValue<'i>>) -> Result<&'v DeTable<'i>> {
        value.get_ref().as_table().ok_or_else(|| self.wrong(value, "a table"))
    }

    fn string<'v>(&self, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str> {
        value.get_ref().as_str().ok_or_else(|| self.wrong(value, "a string"))
    }

    fn driver(&self, value: &Spanned<DeValue<'_>>) -> Result<RootfsDriver> {
        match self.string(value)? {
            "auto" => Ok(RootfsDriver::Auto),
            "hybrid" => Ok(RootfsDriver::Hybrid),
            "fuse" => Ok(RootfsDriver::Fuse),
            other => {
                Err(self.error(&value.span(), &format!("`{}` is no driver", other.escape_debug())).hint("auto, hybrid or fuse"))
            }
        }
    }

    fn registry(&self, value: &Spanned<DeValue<'_>>) -> Result<RegistrySettings> {
        let mut mirrors = Vec::new();
        let mut insecure = false;
        self.each(self.table(value)?, &["mirrors", "insecure"], |key, value| {
            if key == "insecure" {
                insecure = value.get_ref().as_bool().ok_or_else(|| self.wrong(value, "true or false"))?;
                return Ok(());
            }
            for item in value.get_ref().as_array().ok_or_else(|| self.wrong(value, "a list of mirrors"))? {
                mirrors.push(self.string(item)?.to_owned());
            }
            Ok(())
        })?;
        Ok(RegistrySettings { mirrors, insecure })
    }
}

/// Line and column (in characters) of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings> {
        Settings::parse(text, Path::new("config.toml"))
    }

    #[test]
    fn the_file_of_the_design_is_read() {
        let settings = parse(
            r#"
rootfs-driver = "fuse"
[store]
path = "/big/disk/steading"
[registry."docker.io"]
mirrors = ["http://127.0.0.1:5000"]
insecure = true
[defaults]
address = "127.0.0.1"
"#,
        )
        .unwrap();
        assert_eq!(settings.rootfs_driver, RootfsDriver::Fuse);
        assert_eq!(settings.store.as_deref(), Some(Path::new("/big/disk/steading")));
        let docker = &settings.registry["docker.io"];
        assert_eq!((docker.mirrors.as_slice(), docker.insecure), (&["http://127.0.0.1:5000".to_owned()][..], true));
        assert_eq!(settings.address, Some("127.0.0.1".parse().unwrap()));
        assert!(parse("").unwrap().store.is_none());
    }

    #[test]
    fn slips_are_named_with_their_place() {
        for (text, what, hint) in [
            ("[store]\npth = \"/x\"", "config.toml:2:1: unknown key `pth`", Some("did you mean `path`?")),
            ("rootfs_driver = \"auto\"", "config.toml:1:1: unknown key `rootfs_driver`", Some("did you mean `rootfs-driver`?")),
            ("[defaults]\nx = 1", "config.toml:2:1: unknown key `x`", Some("known here: address")),
            ("rootfs-driver = 3", "config.toml:1:17: expected a string, found integer", None),
            ("rootfs-driver = \"x\"", "config.toml:1:17: `x` is no driver", Some("auto, hybrid or fuse")),
            ("[store]\npath = \"x\"", "config.toml:2:8: the path of the store must be absolute", None),
            ("[defaults]\naddress = \"localhost\"", "config.toml:2:11: this is no IP address", None),
            ("[registry.x]\nmirrors = [\"ü\", 5000]", "config.toml:2:17: expected a string, found integer", None),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.what(), error.find_hint()), (what, hint));
        }
        assert!(parse("a = = 1").unwrap_err().what().starts_with("config.toml:1:"));
    }
}
