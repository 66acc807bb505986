//! Whose a container's ids are: its maps nested in U0, the owners of its files, its image with true owners.
//!
//! The joiner does this as root of U0, which has power over all ids of the user and over nobody else's.

use super::child::Setup;
use crate::error::{Context, Error, Result};
use crate::idmap::{IdMap, IdMaps, IdRange};
use crate::resolve::{IdKind, Plan};
use crate::state::Paths;
use crate::sys::mount::{clone_tree, set_idmap};
use crate::yard::{self, View};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxIdMapping, Spec};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// The ids that a container's program starts with.
pub(super) fn of_service(spec: &Spec) -> (u32, u32) {
    spec.process().as_ref().map_or((0, 0), |process| (process.user().uid(), process.user().gid()))
}

/// The maps of U0, which this process has entered.
pub(super) fn of_u0() -> Result<IdMaps> {
    let map = |path: &str| {
        let text = fs::read_to_string(path).context(|| format!("cannot read `{path}`"))?;
        IdMap::parse(&text).ok_or_else(|| Error::failed(format!("`{path}` is no id map")))
    };
    Ok(IdMaps { uids: map("/proc/self/uid_map")?, gids: map("/proc/self/gid_map")? })
}

/// The image of `plan` in the yard: with all owners as the user's where no other id exists, else with its own.
pub(super) fn image_path(paths: &Paths, plan: &Plan) -> PathBuf {
    let view = match plan.isolation.ids {
        IdKind::User => View::ByUser,
        IdKind::Range | IdKind::Private => View::ByImage,
    };
    yard::image_path(paths, view, &plan.image.digest)
}

/// The container's maps in ids of U0, which this process has entered.
pub(super) fn nested(spec: &Spec) -> Result<IdMaps> {
    let linux = spec.linux().as_ref();
    let u0 = of_u0()?;
    let map = |u0: &IdMap, wanted: Option<&Vec<LinuxIdMapping>>| {
        let lines = wanted.into_iter().flatten();
        let wanted = IdMap(
            lines.map(|line| IdRange { inside: line.container_id(), outside: line.host_id(), count: line.size() }).collect(),
        );
        wanted.nested_in(u0).map_err(|missing| lost(missing, u0))
    };
    Ok(IdMaps {
        uids: map(&u0.uids, linux.and_then(|linux| linux.uid_mappings().as_ref()))?,
        gids: map(&u0.gids, linux.and_then(|linux| linux.gid_mappings().as_ref()))?,
    })
}

/// The yard does not have an id that the service was installed with.
fn lost(id: u32, u0: &IdMap) -> Error {
    let error = Error::host(format!("the yard has no id {id} of the host, which this service was installed with"));
    if u0.len() == 1 {
        return error
            .because(io::Error::other("the yard was started when this user's subordinate ids could not be used"))
            .hint("stop all services, which ends the yard too, and start them again: `systemctl --user stop steading.slice`; see `steading doctor`");
    }
    error.because(io::Error::other("this user's subordinate ids have changed since")).hint(
        "give them back in /etc/subuid and /etc/subgid and restart all services; or purge this service and install it again",
    )
}

/// Writes the maps of the container's first process.
pub(super) fn write(pid: Pid, maps: &IdMaps) -> Result<()> {
    for (file, map) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        // One write for all lines: the kernel takes no second (user_namespaces(7)).
        fs::write(format!("/proc/{pid}/{file}"), map.to_string()).context(|| format!("cannot write the container's {file}"))?;
    }
    Ok(())
}

/// Ids of U0 that files are to have.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Gives the service's own files to the ids that it runs with. Nothing is to be done but at a first start, and after an install with
/// another kind of map; directories of the host that the user named stay as they are.
pub(super) fn own(setup: &Setup, maps: &IdMaps) -> Result<()> {
    let (uid, gid) = of_service(&setup.spec);
    let ids = |uid: u32, gid: u32| Some(Owner { uid: maps.uids.outside(uid)?, gid: maps.gids.outside(gid)? });
    let service =
        ids(uid, gid).ok_or_else(|| Error::host(format!("the service's user {uid} or group {gid} is not in its id map")))?;
    // Where the container has no root, the service is the owner of everything.
    let root = ids(0, 0).unwrap_or(service);
    let strange = |file: &Metadata| maps.uids.inside(file.uid()).is_none();
    for path in [&setup.upper, &setup.work] {
        give(path, root, maps, &strange)?;
    }
    // A service that does not start as root has no use for a volume of root's.
    let no_use = |file: &Metadata| strange(file) || (uid != 0 && ids(0, 0).is_some_and(|root| root.uid == file.uid()));
    for path in &setup.volumes {
        give(path, service, maps, &no_use)?;
    }
    if setup.ids == IdKind::Private {
        // The container's root passes through this directory, and is nobody there (`places.rs`).
        let parent = setup.upper.parent().unwrap_or(Path::new("/"));
        fs::set_permissions(parent, fs::Permissions::from_mode(0o711))
            .context(|| format!("cannot open `{}`", parent.display()))?;
    }
    if setup.ids != IdKind::User {
        give_secrets(&setup.run_dir.join("secrets"), uid, service)?;
    }
    Ok(())
}

/// Secrets are for the service's user alone; but official entrypoints that begin as root read them after they became another, whom only
/// they know: then everybody inside may. (On the host nobody gets to them: the run-time directory is closed.)
fn give_secrets(secrets: &Path, uid: u32, service: Owner) -> Result<()> {
    let mode = if uid == 0 { 0o444 } else { 0o400 };
    for entry in fs::read_dir(secrets).into_iter().flatten() {
        let path = entry.context(|| format!("cannot list `{}`", secrets.display()))?.path();
        let what = || format!("cannot give `{}` to the service's user", path.display());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context(what)?;
        lchown(&path, Some(service.uid), Some(service.gid)).context(what)?;
    }
    Ok(())
}

/// Gives `path` and what is below it to `owner`, file by file where it is `wrong`; nothing when `path` itself is not.
fn give(path: &Path, owner: Owner, maps: &IdMaps, wrong: &dyn Fn(&Metadata) -> bool) -> Result<()> {
    let meta = fs::symlink_metadata(path).context(|| format!("cannot look at `{}`", path.display()))?;
    if wrong(&meta) { give_all(path, &meta, owner, maps, wrong) } else { Ok(()) }
}

/// No container of the service runs now, so nobody changes the tree meanwhile; links are not followed.
fn give_all(path: &Path, meta: &Metadata, owner: Owner, maps: &IdMaps, wrong: &dyn Fn(&Metadata) -> bool) -> Result<()> {
    let what = || format!("cannot give `{}` to the service's user", path.display());
    if meta.is_dir() {
        for entry in fs::read_dir(path).context(what)? {
            let path = entry.context(what)?.path();
            let meta = fs::symlink_metadata(&path).context(what)?;
            give_all(&path, &meta, owner, maps, wrong)?;
        }
    }
    if !wrong(meta) {
        return Ok(());
    }
    let gid = if wrong_group(meta, maps) || meta.uid() != owner.uid { owner.gid } else { meta.gid() };
    lchown(path, Some(owner.uid), Some(gid)).map_err(|error| {
        let hint = "it belongs to an id that this user does not have (any more); as root, chown it to the user";
        Error::failed(what()).because(error).hint(hint)
    })
}

fn wrong_group(meta: &Metadata, maps: &IdMaps) -> bool {
    maps.gids.inside(meta.gid()).is_none()
}

const UNMAPPABLE: &str = "cannot map the owners of the image's files";

/// Words a refused map. The yard's file system allows it wherever the kernel knows how.
fn unmappable(error: io::Error) -> Error {
    if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) {
        return Error::failed(UNMAPPABLE).because(error);
    }
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    Error::host("this kernel cannot map the owners of an image's files, which `private` ids need")
        .because(io::Error::other(format!("Linux 6.12 is the first that can; this is {release}")))
        .hint("boot a later kernel, or use a recipe with `ids = \"range\"`")
}

/// For a map that is not U0's own numbers: the image, seen through the map of the container of `pid`, as a mount to attach there.
pub(super) fn image(setup: &Setup, pid: Pid) -> Result<Option<OwnedFd>> {
    if setup.ids != IdKind::Private {
        return Ok(None);
    }
    let what = || UNMAPPABLE;
    let namespace = File::open(format!("/proc/{pid}/ns/user")).context(what)?;
    let tree = clone_tree(&setup.image, false).context(what)?;
    set_idmap(tree.as_fd(), namespace.as_fd()).map_err(unmappable)?;
    Ok(Some(tree))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_id_that_the_yard_lacks_says_which_and_what_to_do() {
        let lone = IdMap(vec![IdRange::single(0, 1000)]);
        let error = lost(100_998, &lone);
        assert_eq!(error.kind(), Kind::HostCannot);
        assert!(error.what().contains("100998") && error.find_hint().unwrap().contains("steading.slice"));
        let range = IdMap(vec![IdRange::single(0, 1000), IdRange { inside: 1, outside: 200_000, count: 65_536 }]);
        assert!(lost(100_998, &range).find_hint().unwrap().contains("/etc/subuid"));
    }

    #[test]
    fn a_kernel_that_is_too_old_is_named() {
        let error = unmappable(io::Error::from_raw_os_error(libc::EINVAL));
        assert!(error.kind() == Kind::HostCannot && error.causes()[0].contains("6.12"), "{error:?}");
        assert_eq!(unmappable(io::Error::from_raw_os_error(libc::EPERM)).kind(), Kind::Failed);
    }

    #[test]
    fn files_of_others_change_hands_and_those_of_the_map_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "x").unwrap();
        std::os::unix::fs::symlink("/nonexistent", dir.path().join("link")).unwrap();
        let own = fs::metadata(dir.path()).unwrap();
        let owner = Owner { uid: own.uid(), gid: own.gid() };
        let maps = IdMaps { uids: IdMap(vec![IdRange::single(0, own.uid())]), gids: IdMap(vec![IdRange::single(0, own.gid())]) };
        // To oneself it is always allowed, so this runs as anybody.
        give(dir.path(), owner, &maps, &|_| true).unwrap();
        let elsewhere = Owner { uid: own.uid() + 1, gid: own.gid() };
        give(dir.path(), elsewhere, &maps, &|file| maps.uids.inside(file.uid()).is_none()).unwrap();
        assert_eq!(fs::metadata(dir.path().join("sub/file")).unwrap().uid(), own.uid());
        let error = give(Path::new("/nonexistent/x"), owner, &maps, &|_| true).unwrap_err();
        assert!(error.what().contains("/nonexistent/x"));
    }
}
