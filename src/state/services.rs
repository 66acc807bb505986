//! Installed services and their generations.

use super::{Paths, PortUse, ServiceDir, tree};
use crate::error::{Context, Error, Result};
use crate::resolve::{PLAN_FORMAT, Plan, ServiceName};
use crate::sys::file;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The services of one user, as they lie on disk.
#[derive(Clone, Copy, Debug)]
pub struct Services<'a> {
    paths: &'a Paths,
}

/// A service whose plan cannot be read; others are not hindered by it.
#[derive(Debug)]
pub struct Unreadable {
    /// Its name.
    pub name: ServiceName,
    /// Why.
    pub error: Error,
}

impl<'a> Services<'a> {
    /// The services below `paths`.
    #[must_use]
    pub fn new(paths: &'a Paths) -> Self {
        Services { paths }
    }

    /// Names of installed services, sorted.
    ///
    /// # Errors
    /// Those of listing the directory.
    pub fn names(&self) -> Result<Vec<ServiceName>> {
        let mut names: Vec<ServiceName> = self.directories()?.into_iter().filter(|name| self.is_installed(name)).collect();
        names.sort();
        Ok(names)
    }

    /// Names of removed services whose data was kept, sorted.
    ///
    /// # Errors
    /// Those of listing the directory.
    pub fn kept(&self) -> Result<Vec<ServiceName>> {
        let mut names: Vec<ServiceName> = self.directories()?.into_iter().filter(|name| !self.is_installed(name)).collect();
        names.sort();
        Ok(names)
    }

    /// Every directory whose name is that of a service. Others, in whatever bytes, are none of ours.
    fn directories(&self) -> Result<Vec<ServiceName>> {
        let directory = self.paths.services();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(|| format!("cannot list `{}`", directory.display()))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("cannot list `{}`", directory.display()))?;
            let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
            names.extend(name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())));
        }
        Ok(names)
    }

    /// Whether a generation of `name` is in force.
    #[must_use]
    pub fn is_installed(&self, name: &ServiceName) -> bool {
        fs::symlink_metadata(self.paths.service(name).current()).is_ok()
    }

    /// The plan in force of `name`.
    ///
    /// # Errors
    /// [`crate::error::Kind::NotFound`] with the nearest names; a plan that cannot be read, naming the file.
    pub fn load(&self, name: &ServiceName) -> Result<Plan> {
        if self.is_installed(name) { load_plan(&self.paths.service(name)) } else { Err(self.missing(name)) }
    }

    /// The error for a service that is not installed.
    #[must_use]
    pub fn missing(&self, name: &ServiceName) -> Error {
        let error = Error::not_found(format!("no service `{name}` is installed"));
        if self.paths.service(name).path().exists() {
            return error.hint(format!(
                "its data was kept; `steading install` with this name takes it up again, `steading remove --purge {name}` deletes it"
            ));
        }
        // Somebody who says `postgres` means `postgres@14`.
        let near: Vec<String> = self.names().unwrap_or_default().into_iter().map(|known| format!("`{known}`")).collect();
        let versioned = format!("`{name}@");
        let mut alike = near.iter().filter(|known| known.starts_with(&versioned));
        if let (Some(one), None) = (alike.next(), alike.next()) {
            return error.hint(format!("did you mean {one}?"));
        }
        match near.len() {
            0 => error.hint("nothing is installed yet; see `steading search`"),
            1..=8 => error.hint(format!("installed: {}", near.join(", "))),
            _ => error.hint("`steading list` shows what is installed"),
        }
    }

    /// All plans in force, and those that cannot be read.
    ///
    /// # Errors
    /// Those of listing the directory.
    pub fn load_all(&self) -> Result<(Vec<Plan>, Vec<Unreadable>)> {
        let (mut plans, mut bad) = (Vec::new(), Vec::new());
        for name in self.names()? {
            match load_plan(&self.paths.service(&name)) {
                Ok(plan) => plans.push(plan),
                Err(error) => bad.push(Unreadable { name, error }),
            }
        }
        Ok((plans, bad))
    }

    /// Published ports of all services but `except`. A service with a broken plan is passed over: the host's own answer to
    /// bind(2) follows anyway.
    ///
    /// # Errors
    /// Those of listing the directory.
    pub fn ports(&self, except: Option<&ServiceName>) -> Result<Vec<PortUse>> {
        let (plans, _) = self.load_all()?;
        Ok(plans.iter().filter(|plan| Some(&plan.name) != except).flat_map(PortUse::of).collect())
    }
}

/// Reads `current/plan.toml` of a service.
///
/// # Errors
/// Names the file, and line and column of what is wrong in it.
pub(crate) fn load_plan(directory: &ServiceDir) -> Result<Plan> {
    let path = directory.plan();
    let text = fs::read_to_string(&path).context(|| format!("cannot read the plan `{}`", path.display()))?;
    let plan = parse_plan(&text, &path)?;
    if directory.path().file_name() != Some(OsString::from(plan.name.as_str()).as_os_str()) {
        return Err(Error::failed(format!("the plan `{}` is that of another service, `{}`", path.display(), plan.name)));
    }
    Ok(plan)
}

fn parse_plan(text: &str, path: &Path) -> Result<Plan> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let broken = |error: toml::de::Error| {
        Error::failed(format!("the plan `{}` cannot be read", path.display()))
            .because(Error::failed(error.to_string().trim_end().to_owned()))
            .hint("if it was edited by hand, undo that; else remove the service (its data is kept) and install it again")
    };
    let Format { format } = toml::from_str(text).map_err(broken)?;
    if format != PLAN_FORMAT {
        return Err(Error::failed(format!(
            "the plan `{}` has format {format}, this steading knows {PLAN_FORMAT}",
            path.display()
        ))
        .hint("use the version of steading that installed the service, or a later one"));
    }
    toml::from_str(text).map_err(broken)
}

/// The text of `plan.toml`.
///
/// # Errors
/// When a value has no form in TOML.
pub fn plan_text(plan: &Plan) -> Result<String> {
    toml::to_string(plan).context(|| format!("the plan of `{}` cannot be written as TOML", plan.name))
}

impl ServiceDir {
    /// Writes a new generation, not yet in force: all `files` under its next number. After a crash it is there whole or not at all.
    ///
    /// # Errors
    /// Those of writing, with the path.
    pub fn write_generation(&self, files: &[(&str, &[u8])]) -> Result<u32> {
        let generations = self.generations();
        file::create_dir_all(&generations, 0o700)?;
        let number = self.numbers()?.into_iter().max().unwrap_or(0) + 1;
        let path = self.generation(number);
        let temp = file::temp_beside(&path);
        let written = (|| {
            file::create_dir_all(&temp, 0o700)?;
            for (name, bytes) in files {
                file::write_atomic(&temp.join(name), bytes, 0o600)?;
            }
            fs::rename(&temp, &path).context(|| format!("cannot make `{}`", path.display()))
        })();
        if let Err(error) = written {
            // The first error is the one to report.
            let _ = tree::remove_tree(&temp);
            return Err(error);
        }
        file::sync_dir(&generations)?;
        Ok(number)
    }

    /// Puts generation `number` in force.
    ///
    /// # Errors
    /// Those of replacing the link.
    pub fn activate(&self, number: u32) -> Result<()> {
        file::symlink_atomic(&PathBuf::from(format!("generations/{number}")), &self.current())
    }

    /// The number in force.
    #[must_use]
    pub fn current_number(&self) -> Option<u32> {
        let target = fs::read_link(self.current()).ok()?;
        target.strip_prefix("generations").ok()?.to_str()?.parse().ok()
    }

    /// Numbers of all generations, in no order.
    fn numbers(&self) -> Result<Vec<u32>> {
        let path = self.generations();
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&path).context(|| format!("cannot list `{}`", path.display()))? {
            let entry = entry.context(|| format!("cannot list `{}`", path.display()))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{Limits, Probe, Protocol};
    use std::os::unix::ffi::OsStringExt;

    pub(crate) fn plan(name: &str) -> Plan {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        parse_plan(
            &format!(
                r#"
format = 1
name = "{name}"
[recipe]
name = "postgres"
version = "14"
source = "built-in"
title = "PostgreSQL"
[image]
reference = "docker.io/library/postgres:14"
digest = "{digest}"
config = "{digest}"
platform = "linux/amd64"
layers = []
[process]
args = ["docker-entrypoint.sh", "postgres"]
cwd = "/"
uid = 999
gid = 999
hostname = "postgres"
[process.env]
PGDATA = "/var/lib/postgresql/data"
[[ports]]
name = "db"
container = 5432
protocol = "tcp"
host = "127.0.0.1:5432"
[ready]
probe = {{ type = "exec", command = ["pg_isready"] }}
interval-ms = 100
timeout-ms = 1000
start-timeout-s = 600
[stop]
signal = "SIGINT"
timeout-s = 120
"#
            ),
            Path::new("plan.toml"),
        )
        .unwrap()
    }

    fn install(paths: &Paths, name: &str) -> ServiceDir {
        let plan = plan(name);
        let dir = paths.service(&plan.name);
        let text = plan_text(&plan).unwrap();
        let number = dir.write_generation(&[("plan.toml", text.as_bytes()), ("config.json", b"{}")]).unwrap();
        dir.activate(number).unwrap();
        dir
    }

    #[test]
    fn a_plan_comes_back_as_it_was_written() {
        let mut one = plan("postgres@14");
        one.limits = Limits { memory_bytes: Some(1 << 40), cpu_percent: Some(150), ..Limits::default() };
        for probe in [Probe::Started, Probe::Listen, Probe::Exec { command: vec!["a".into(), "b".into()] }] {
            one.ready.probe = probe;
            assert_eq!(parse_plan(&plan_text(&one).unwrap(), Path::new("x")).unwrap(), one);
        }
    }

    #[test]
    fn generations_count_up_and_the_link_decides() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let services = Services::new(&paths);
        assert!(services.names().unwrap().is_empty());
        let dir = install(&paths, "postgres@14");
        assert_eq!(dir.current_number(), Some(1));
        install(&paths, "postgres@14");
        assert_eq!(dir.current_number(), Some(2));
        assert!(dir.generation(1).join("plan.toml").exists());
        assert_eq!(services.names().unwrap(), ["postgres@14".parse().unwrap()]);
        assert_eq!(services.load(&"postgres@14".parse().unwrap()).unwrap(), plan("postgres@14"));
        assert_eq!(services.ports(None).unwrap().len(), 1);
        assert!(services.ports(Some(&"postgres@14".parse().unwrap())).unwrap().is_empty());
        fs::remove_file(dir.current()).unwrap();
        assert!(services.names().unwrap().is_empty());
        assert_eq!(services.kept().unwrap(), ["postgres@14".parse().unwrap()]);
        let error = services.load(&"postgres@14".parse().unwrap()).unwrap_err();
        assert!(error.find_hint().unwrap().contains("data was kept"));
    }

    #[test]
    fn foreign_names_in_the_directory_are_passed_over_in_whatever_bytes() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        install(&paths, "a");
        fs::create_dir(paths.services().join(OsString::from_vec(b"b\xff".to_vec()))).unwrap();
        fs::create_dir(paths.services().join(".tmp-1-2-a")).unwrap();
        fs::write(paths.services().join("file"), "").unwrap();
        let services = Services::new(&paths);
        assert_eq!(services.names().unwrap().len(), 1);
        assert!(services.kept().unwrap().is_empty());
    }

    #[test]
    fn a_broken_plan_names_its_file_and_hinders_no_other() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        install(&paths, "a");
        let dir = install(&paths, "b");
        let good = fs::read_to_string(dir.plan()).unwrap();
        for (text, word) in [
            (good.replace("format = 1", "format = 2"), "has format 2"),
            (good.replace("uid = 999", "uid = \"x\""), "line 2"),
            (good.replace("uid = 999", "uid = 999\nuidd = 1"), "uidd"),
            (good.replace("interval-ms", "x = 1\ninterval-ms"), "unknown field `x`"),
            (good.replace("name = \"b\"", "name = \"a\""), "another service"),
            ("".into(), "format"),
        ] {
            fs::write(dir.plan(), text).unwrap();
            let error = Services::new(&paths).load(&"b".parse().unwrap()).unwrap_err();
            assert!(error.what().contains("generations") || error.what().contains("plan.toml"), "{error}");
            assert!(format!("{error} {:?}", error.causes()).contains(word), "{word}: {:?}", error.causes());
        }
        let (plans, bad) = Services::new(&paths).load_all().unwrap();
        assert_eq!((plans.len(), bad.len()), (1, 1));
        assert_eq!(plans[0].ports[0].protocol, Protocol::Tcp);
    }
}
