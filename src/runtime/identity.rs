//! Names of the service's ids in the container: entries of passwd(5) and group(5), and the home directory that they tell.

use super::mounts::make_target;
use crate::error::{Context, Result};
use crate::sys::mount::{Attr, attach, clone_tree, set_attr};
use nix::fcntl::OFlag;
use oci_spec::runtime::Spec;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file of the run-time directory, empty so far, and a detached mount of it.
#[derive(Debug)]
pub(super) struct Identity {
    name: &'static str,
    /// Open already: the container's root may be nobody on the host.
    file: fs::File,
    tree: OwnedFd,
}

impl Identity {
    /// Makes the file. The host's tree must be in sight: a file of a tree that is gone cannot be cloned.
    pub(super) fn prepare(run_dir: &Path, name: &'static str) -> Result<Self> {
        let path = run_dir.join(name);
        let what = || format!("cannot prepare `{}`", path.display());
        let file = fs::File::create(&path).context(what)?;
        let tree = clone_tree(&path, false).context(what)?;
        let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV).and(Attr::NOEXEC);
        set_attr(tree.as_fd(), attr, false).context(what)?;
        Ok(Identity { name, file, tree })
    }
}

/// Gives the service's ids names where the image has none: programs such as initdb look themselves up.
pub(super) fn add(spec: &Spec, names: [Identity; 2]) -> Result<()> {
    let Some(process) = spec.process() else { return Ok(()) };
    let (uid, gid) = (process.user().uid(), process.user().gid());
    let home = process.env().iter().flatten().find_map(|line| line.strip_prefix("HOME=")).unwrap_or("/");
    let user = format!("steading:x:{uid}:{gid}::{}:/bin/sh\n", home.replace([':', '\n'], "_"));
    for (mut identity, (id, line)) in names.into_iter().zip([(uid, user), (gid, format!("steading:x:{gid}:\n"))]) {
        let path = Path::new("/etc").join(identity.name);
        let mut text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).context(|| format!("cannot read `{}` of the image", path.display())),
        };
        if has_id(&text, id) {
            continue;
        }
        if text.last().is_some_and(|byte| *byte != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(line.as_bytes());
        let what = || format!("cannot provide `{}`", path.display());
        std::io::Write::write_all(&mut identity.file, &text).context(what)?;
        make_target(&path, true)?;
        attach(identity.tree.as_fd(), &path).context(what)?;
    }
    Ok(())
}

/// A passwd(5) or group(5) file of the container, which may have put anything in its place: what is no file is not waited for (a FIFO
/// would be for ever), and none is read without end.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    const MOST: u64 = 4 << 20;
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut text = Vec::new();
    match file.take(MOST + 1).read_to_end(&mut text)? as u64 {
        0..=MOST => Ok(text),
        _ => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
    }
}

/// Whether a passwd(5) or group(5) file names `id` (third field in both).
fn has_id(text: &[u8], id: u32) -> bool {
    let wanted = id.to_string();
    text.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b':').nth(2) == Some(wanted.as_bytes()))
}

/// The home directory of `uid` by the container's passwd(5), `/` where that tells none. The container's root must be `/`.
pub(super) fn home(uid: u32) -> OsString {
    // A passwd that cannot be read tells nothing; the program will see so itself if it cares.
    home_in(&read(Path::new("/etc/passwd")).unwrap_or_default(), uid)
}

fn home_in(text: &[u8], uid: u32) -> OsString {
    let wanted = uid.to_string();
    let home = text.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        (fields.get(2) == Some(&wanted.as_bytes())).then(|| fields.get(5).copied()).flatten()
    });
    // A relative one would mean another directory after each chdir(2).
    OsStr::from_bytes(home.filter(|home| home.first() == Some(&b'/')).unwrap_or(b"/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_only_in_the_third_field() {
        let text = b"root:x:0:0:root:/root:/bin/sh\npostgres:x:999:998::/:/bin/sh\nbroken\n";
        assert!(has_id(text, 999) && has_id(text, 0));
        assert!(!has_id(text, 998) && !has_id(text, 99));
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read(&path).is_err() && read(dir.path()).is_err());
        let path = dir.path().join("large");
        fs::File::create(&path).unwrap().set_len(5 << 20).unwrap();
        assert!(read(&path).is_err());
        fs::write(&path, "x").unwrap();
        assert_eq!(read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_home_is_absolute_or_the_root() {
        let text = b"root:x:0:0:root:/root:/bin/sh\npostgres:x:999:998::/var/lib/postgresql:/bin/sh\na:x:5:5::here:\nb:x:6";
        for (uid, home) in [(0, "/root"), (999, "/var/lib/postgresql"), (5, "/"), (6, "/"), (998, "/")] {
            assert_eq!(home_in(text, uid), home, "{uid}");
        }
    }
}
