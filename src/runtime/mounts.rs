//! Mounts of the container, from the runtime spec. Sources are cloned while the host's tree is in sight; they are attached
//! after the pivot, when every path, and every symbolic link of the image, resolves inside the new root.

use crate::error::{Context, Error, Result};
use crate::sys::mount::{Attr, attach, clone_tree, new_mount, set_attr};
use nix::errno::Errno;
use oci_spec::runtime::{Mount, Spec};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Device nodes of every container (OCI runtime-spec `config-linux.md`, "Default Devices"), bound from the host.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links in /dev that the same section asks for.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A detached mount and where it goes.
#[derive(Debug)]
struct Prepared {
    tree: OwnedFd,
    target: PathBuf,
    is_file: bool,
    kind: String,
}

/// All that must be taken from the host's tree before it goes out of sight.
#[derive(Debug)]
pub(super) struct Prepare {
    mounts: Vec<Prepared>,
    devices: Vec<(PathBuf, OwnedFd)>,
    masks: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
}

/// Splits mount options into attributes and the file system's own options.
fn split_options(options: &[String]) -> (Attr, bool, Vec<(&str, Option<&str>)>) {
    let (mut attr, mut recursive, mut own) = (Attr::NONE, false, Vec::new());
    for option in options {
        match option.as_str() {
            "ro" => attr = attr.and(Attr::RDONLY),
            "nosuid" => attr = attr.and(Attr::NOSUID),
            "nodev" => attr = attr.and(Attr::NODEV),
            "noexec" => attr = attr.and(Attr::NOEXEC),
            "rbind" => recursive = true,
            "bind" | "rw" => {}
            other => own.push(match other.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (other, None),
            }),
        }
    }
    (attr, recursive, own)
}

fn prepare(mount: &Mount) -> Result<Prepared> {
    let target = mount.destination().clone();
    let kind = mount.typ().clone().unwrap_or_else(|| "bind".into());
    let no_options = Vec::new();
    let (attr, recursive, own) = split_options(mount.options().as_ref().unwrap_or(&no_options));
    if kind == "bind" {
        let source =
            mount.source().as_deref().ok_or_else(|| Error::usage(format!("the mount `{}` has no source", target.display())))?;
        let what = || format!("cannot bind `{}` to `{}`", source.display(), target.display());
        let is_file = !fs::metadata(source).context(what)?.is_dir();
        let tree = clone_tree(source, recursive).context(what)?;
        set_attr(tree.as_fd(), attr, recursive).context(what)?;
        return Ok(Prepared { tree, target, is_file, kind });
    }
    let name = if kind == "cgroup" { "cgroup2" } else { kind.as_str() };
    let tree = new_mount(name, name, &own, attr).map_err(|error| {
        let hint = match error.raw_os_error() {
            // mount_too_revealing() of fs/namespace.c.
            Some(libc::EPERM) if matches!(name, "proc" | "sysfs") => {
                format!("this machine hides parts of its own {name}, as a container does, so the kernel refuses a new one; run steading on the host")
            }
            _ => "see `steading doctor`".to_owned(),
        };
        Error::host(format!("cannot make the {name} file system for `{}`", target.display())).because(error).hint(hint)
    })?;
    Ok(Prepared { tree, target, is_file: false, kind })
}

impl Prepare {
    /// Clones and makes everything `spec` asks for. The host's tree must be in sight. `between` comes after what is taken from the host, and
    /// before the new file systems, which belong to whom the process is then.
    pub(super) fn from_spec(spec: &Spec, between: impl FnOnce() -> Result<()>) -> Result<Self> {
        let list: Vec<&Mount> = spec.mounts().iter().flatten().collect();
        let of_host = |mount: &Mount| mount.typ().as_deref().is_none_or(|kind| kind == "bind");
        let bound = list.iter().map(|mount| of_host(mount).then(|| prepare(mount)).transpose());
        let bound: Vec<Option<Prepared>> = bound.collect::<Result<_>>()?;
        let device = |path: PathBuf| {
            let tree = clone_tree(&path, false).map_err(|error| {
                Error::host(format!("cannot bind `{}`", path.display())).because(error).hint("see `steading doctor`")
            })?;
            set_attr(tree.as_fd(), Attr::NOSUID.and(Attr::NOEXEC), false)
                .context(|| format!("cannot restrict `{}`", path.display()))?;
            Ok((path, tree))
        };
        let asked = spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten()).map(|device| device.path().clone());
        let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name)).chain(asked).map(device).collect::<Result<_>>()?;
        between()?;
        let mounts = bound.into_iter().zip(list).map(|(bound, mount)| bound.map_or_else(|| prepare(mount), Ok));
        let mounts = mounts.collect::<Result<_>>()?;
        let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect();
        let linux = spec.linux().as_ref();
        Ok(Prepare {
            mounts,
            devices,
            masks: linux.map(|linux| paths(linux.masked_paths())).unwrap_or_default(),
            read_only: linux.map(|linux| paths(linux.readonly_paths())).unwrap_or_default(),
        })
    }

    /// Attaches all mounts under the new root, which is `/` now, and fills /dev.
    pub(super) fn attach_all(&self) -> Result<()> {
        for mount in &self.mounts {
            let target = mount.target.as_path();
            make_target(target, mount.is_file)?;
            attach(mount.tree.as_fd(), target).context(|| format!("cannot mount `{}`", target.display()))?;
            if target == Path::new("/dev") && mount.kind == "tmpfs" {
                self.fill_dev()?;
            }
        }
        Ok(())
    }

    fn fill_dev(&self) -> Result<()> {
        for (target, tree) in &self.devices {
            make_target(target, true)?;
            attach(tree.as_fd(), target).context(|| format!("cannot mount `{}`", target.display()))?;
        }
        for (name, target) in LINKS {
            symlink(target, Path::new("/dev").join(name)).context(|| format!("cannot link `/dev/{name}`"))?;
        }
        Ok(())
    }

    /// Hides the masked paths and makes the read-only ones read-only. Paths that this kernel does not have are passed over.
    pub(super) fn restrict(&self) -> Result<()> {
        for path in &self.read_only {
            let what = || format!("cannot make `{}` read-only", path.display());
            match clone_tree(path, true) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                tree => {
                    let tree = tree.context(what)?;
                    set_attr(tree.as_fd(), Attr::RDONLY, true).context(what)?;
                    attach(tree.as_fd(), path).context(what)?;
                }
            }
        }
        // One empty directory covers all.
        let mut empty: Option<&Path> = None;
        for path in &self.masks {
            let what = || format!("cannot mask `{}`", path.display());
            let Ok(metadata) = fs::symlink_metadata(path) else { continue };
            let cover = match empty {
                _ if !metadata.is_dir() => clone_tree(Path::new("/dev/null"), false)
                    .and_then(|null| set_attr(null.as_fd(), Attr::RDONLY, false).map(|()| null)),
                Some(mounted) => clone_tree(mounted, false),
                None => {
                    empty = Some(path);
                    let attr = Attr::RDONLY.and(Attr::NOSUID).and(Attr::NODEV).and(Attr::NOEXEC);
                    new_mount("tmpfs", "tmpfs", &[("size", Some("4k")), ("mode", Some("0555")), ("nr_inodes", Some("2"))], attr)
                }
            };
            attach(cover.context(what)?.as_fd(), path).context(what)?;
        }
        Ok(())
    }
}

/// Paths of this host's /sys that are masked beside those that every host has: when its processors were throttled tells what others
/// compute (as in Docker's defaults).
#[must_use]
pub fn masks_of_host() -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = fs::read_dir("/sys/devices/system/cpu")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("thermal_throttle")))
        .filter(|path| path.is_dir())
        .collect();
    list.sort_unstable();
    list
}

/// Makes sure that something of the right kind is there to mount on.
pub(super) fn make_target(path: &Path, is_file: bool) -> Result<()> {
    let what = || format!("cannot make the mount point `{}`", path.display());
    if !is_file {
        return match fs::create_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::failed(what()).because(Errno::ENOTDIR).hint("the image has a file there"))
            }
            other => other.context(what),
        };
    }
    if fs::metadata(path).is_ok() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context(what)?;
    }
    // A dangling link, as /etc/resolv.conf often is, must not be followed out of the tree we are about to cover.
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        fs::remove_file(path).context(what)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path).context(what).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_told_from_the_file_systems_own_options() {
        let options = ["nosuid", "ro", "mode=1777", "newinstance", "rbind"].map(str::to_owned);
        let (attr, recursive, own) = split_options(&options);
        assert!(attr.has(Attr::NOSUID.and(Attr::RDONLY)) && !attr.has(Attr::NODEV));
        assert!(recursive);
        assert_eq!(own, [("mode", Some("1777")), ("newinstance", None)]);
    }

    #[test]
    fn a_dangling_link_gives_way_to_a_file_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/resolv.conf");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("../run/nowhere", &path).unwrap();
        make_target(&path, true).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert!(make_target(&path, false).is_err());
    }
}
