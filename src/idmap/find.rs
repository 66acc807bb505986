//! What this host gives to this user: getsubids(1), /etc/subuid, /etc/subgid, newuidmap(1).

use super::subid::{self, Owner};
use super::{IdMap, IdMaps, Subordinate, USUAL};
use crate::error::{Context, Error, Result};
use nix::unistd::{Pid, User, getegid, geteuid};
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// The subordinate ids of the user who runs this, empty when there are none. getsubids(1) knows of sources other than the files
/// (`subid:` in nsswitch.conf(5)); where it is missing or fails, the files themselves are read.
///
/// # Errors
/// [`crate::error::Kind::HostCannot`] when what is written there makes no sense, with the line.
pub fn subordinate() -> Result<Subordinate> {
    let uid = geteuid();
    let user = User::from_uid(uid).context(|| format!("cannot look up the user {uid}"))?;
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    let asker = program("getsubids");
    let look = |flag: Option<&str>, file: &str, own: u32| {
        if let Some(program) = &asker
            && let Some(said) = ask(program, flag, &name)
        {
            return subid::parse_getsubids(&said, own);
        }
        subid::parse_file(&read(file)?, file, Owner { name: name.as_bytes(), uid: uid.as_raw(), own })
    };
    Ok(Subordinate { uids: look(None, SUBUID, uid.as_raw())?, gids: look(Some("-g"), SUBGID, getegid().as_raw())? })
}

/// What getsubids says; `None` when it fails, which it does too when there are none.
fn ask(program: &Path, flag: Option<&str>, name: &str) -> Option<String> {
    let output = Command::new(program).args(flag).arg(name).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if output.status.success() { String::from_utf8(output.stdout).ok() } else { None }
}

fn read(file: &str) -> Result<Vec<u8>> {
    match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.context(|| format!("cannot read `{file}`")),
    }
}

/// What an administrator does so that `user` has a usual range: the command for this host as its files stand, and the package with the
/// setuid programs where it is missing.
#[must_use]
pub fn remedy(user: &str, has_helpers: bool) -> String {
    let package = "install the package `uidmap` (Debian, Ubuntu) or `shadow-utils`";
    let first = read(SUBUID).ok().zip(read(SUBGID).ok()).and_then(|(uids, gids)| subid::next_free(&[&uids, &gids], USUAL));
    let Some(first) = first else {
        return "an administrator should tidy /etc/subuid and /etc/subgid: no range is free".to_owned();
    };
    let last = first + USUAL - 1;
    let range =
        format!("an administrator gives a range: sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}");
    if has_helpers { range } else { format!("{range}; and {package}") }
}

/// An executable file of that name, in `PATH` or where systems have it. A user's systemd may have a short `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let told = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let candidates = env::split_paths(&told).filter(|dir| dir.is_absolute()).chain(usual).map(|dir| dir.join(name));
    let executable =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    candidates.into_iter().find(executable)
}

/// The setuid programs that write maps with subordinate ids.
#[derive(Clone, Debug)]
pub struct Helpers {
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl Helpers {
    /// Those of this host; `None` when one is missing.
    #[must_use]
    pub fn find() -> Option<Helpers> {
        Some(Helpers { newuidmap: program("newuidmap")?, newgidmap: program("newgidmap")? })
    }

    /// Writes the maps of the user namespace that the process `pid` has just made. setgroups(2) stays allowed there.
    ///
    /// # Errors
    /// What the programs say when they refuse.
    pub fn write(&self, pid: Pid, maps: &IdMaps) -> Result<()> {
        // Groups first: when they fail the users' map is still to be written, and the namespace may get another.
        run(&self.newgidmap, pid, &maps.gids)?;
        run(&self.newuidmap, pid, &maps.uids)
    }
}

fn run(program: &Path, pid: Pid, map: &IdMap) -> Result<()> {
    let numbers = map.0.iter().flat_map(|line| [line.inside, line.outside, line.count]).map(|number| number.to_string());
    let output = Command::new(program).arg(pid.to_string()).args(numbers).stdin(Stdio::null()).stdout(Stdio::null()).output();
    let output = output.context(|| format!("cannot run `{}`", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().escape_debug().to_string();
    let why = if said.is_empty() { output.status.to_string() } else { said };
    Err(Error::host(format!("`{}` refuses to map this user's subordinate ids", program.display()))
        .because(io::Error::other(why))
        .hint(
            "it must be setuid root (or have file capabilities), on a file system without nosuid; reinstall the package `uidmap`",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_executable_files_only() {
        assert!(program("sh").is_some_and(|path| path.ends_with("sh")));
        assert!(program("no-such-program-here").is_none());
        assert!(program("tmp").is_none(), "a directory is no program");
    }

    #[test]
    fn this_host_gives_ranges_or_says_why_not() {
        // Whatever it has: no panic, and what it gives is sound.
        if let Ok(found) = subordinate() {
            assert!(found.uids.iter().chain(&found.gids).all(|extent| extent.count > 0));
        }
        let remedy = remedy("alice", false);
        assert!(
            remedy.contains("usermod --add-subuids ") && remedy.contains(" alice;") && remedy.contains("`uidmap`"),
            "{remedy}"
        );
    }
}
