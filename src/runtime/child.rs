//! The service's own process from clone3 to exec: inside its seven namespaces, with all capabilities over them at first.

use super::handover;
use super::launch::Program;
use super::message::{send_failure, send_listener};
use super::mounts::{Prepare, make_target};
use super::places::Places;
use crate::error::{Context, Error, Result};
use crate::resolve::IdKind;
use crate::rootfs::Driver;
use crate::sys::identity;
use crate::sys::mount::{Attr, attach, clone_tree, set_attr};
use crate::sys::process;
use crate::sys::socket::recv_fds;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pivot_root, setsid};
use oci_spec::runtime::Spec;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What the container is made of; all paths are of the host.
#[derive(Debug)]
pub(super) struct Setup {
    /// The runtime spec.
    pub spec: Spec,
    /// Image directory in the yard.
    pub image: PathBuf,
    /// Upper directory of the overlay.
    pub upper: PathBuf,
    /// Work directory of the overlay.
    pub work: PathBuf,
    /// Where the root file system is mounted before the pivot.
    pub target: PathBuf,
    /// Directory of the run-time files.
    pub run_dir: PathBuf,
    /// Volumes whose owner is our matter.
    pub volumes: Vec<PathBuf>,
    /// Which ids the container has.
    pub ids: IdKind,
    /// What runs.
    pub program: Program,
    /// Whether a reaper is pid 1.
    pub init: bool,
    /// Which driver makes the root file system.
    pub driver: Box<dyn Driver>,
}

/// Waits for the id maps, sets the container up and becomes the service. Returns the exit code of a failure.
pub(super) fn run(setup: &Setup, go: OwnedFd, supervisor: &OwnedFd) -> i32 {
    // End of file: the joiner failed and has told why.
    let Ok((1, mut fds)) = recv_fds(go.as_fd(), &mut [0]) else { return 1 };
    drop(go);
    let error = match set_up(setup, fds.pop()) {
        Ok(()) if setup.init => match start_reaper(setup, supervisor) {
            Ok(code) => return code,
            Err(error) => error,
        },
        Ok(()) => become_service(setup, supervisor),
        Err(error) => error,
    };
    // If the supervisor is gone there is nobody left to tell.
    let _ = send_failure(supervisor.as_fd(), &error);
    1
}

fn become_service(setup: &Setup, supervisor: &OwnedFd) -> Error {
    let (uid, gid) = setup.program.user;
    // Capabilities stay for the last steps, which give them up.
    if let Err(error) = identity::switch(uid, gid, &[]) {
        return Error::failed(format!("cannot become the user {uid} with the group {gid}")).because(error);
    }
    setup.program.replace_process(|| {
        let listener =
            crate::sys::seccomp::notify_on(&handover::NOTIFIED).context(|| "cannot install the notification filter")?;
        send_listener(supervisor.as_fd(), listener.as_fd()).context(|| "cannot hand over the notification listener")
    })
}

/// `image` is given where the yard's own mount of it has the wrong owners.
fn set_up(setup: &Setup, image: Option<OwnedFd>) -> Result<()> {
    // A session of its own: the terminal of whoever runs systemd is none of its business.
    setsid().context(|| "cannot start a session")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context(|| "cannot make the mounts private")?;
    // While the old tree is in sight: a file of a tree that is gone cannot be cloned.
    let names = [Identity::prepare(setup, "passwd")?, Identity::prepare(setup, "group")?];
    let places = match &image {
        Some(tree) => Places::by_descriptor(setup, tree)?,
        None => Places::by_path(setup),
    };
    // What is taken from the host is taken as the user. What is new belongs to the container's root, whom a private map does not
    // make of the user: nobody else could write there.
    let prepared = Prepare::from_spec(&setup.spec, || match setup.ids {
        IdKind::Private => identity::switch(0, 0, &[]).context(|| "cannot become root of the container"),
        IdKind::User | IdKind::Range => Ok(()),
    })?;
    setup.driver.mount(&places.layers())?;
    // pivot_root(2), "pivot_root(".", ".")": the old root comes to lie on top of the new one. It goes at once: `/..` leads into
    // what is mounted on top, and the image's links are not to lead there.
    std::env::set_current_dir(&places.target).context(|| format!("cannot enter `{}`", setup.target.display()))?;
    drop((places, image));
    pivot_root(".", ".").context(|| "cannot change the root file system")?;
    umount2(".", MntFlags::MNT_DETACH).context(|| "cannot let go of the old root")?;
    std::env::set_current_dir("/").context(|| "cannot enter the new root")?;
    prepared.attach_all()?;
    add_identity(setup, names)?;
    apply_sysctls(&setup.spec)?;
    prepared.restrict()?;
    crate::sys::net::loopback_up().context(|| "cannot bring the loopback interface up")?;
    if let Some(name) = setup.spec.hostname() {
        nix::unistd::sethostname(name).context(|| format!("cannot set the host name `{name}`"))?;
    }
    fs::create_dir_all(&setup.program.cwd)
        .context(|| format!("cannot make the working directory `{}`", setup.program.cwd.display()))
}

fn apply_sysctls(spec: &Spec) -> Result<()> {
    for (key, value) in spec.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten() {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        fs::write(&path, value).context(|| format!("cannot set `{key}` to `{value}`"))?;
    }
    Ok(())
}

/// A file of the run-time directory, empty so far, and a detached mount of it.
struct Identity {
    name: &'static str,
    /// Open already, since the container's root may not be able to open it.
    file: fs::File,
    tree: OwnedFd,
}

impl Identity {
    fn prepare(setup: &Setup, name: &'static str) -> Result<Self> {
        let path = setup.run_dir.join(name);
        let what = || format!("cannot prepare `{}`", path.display());
        let file = fs::File::create(&path).context(what)?;
        let tree = clone_tree(&path, false).context(what)?;
        set_attr(tree.as_fd(), Attr::NOSUID.and(Attr::NODEV).and(Attr::NOEXEC), false).context(what)?;
        Ok(Identity { name, file, tree })
    }
}

/// Gives the service's ids names where the image has none: programs such as initdb look themselves up.
fn add_identity(setup: &Setup, names: [Identity; 2]) -> Result<()> {
    let Some(process) = setup.spec.process() else { return Ok(()) };
    let (uid, gid) = (process.user().uid(), process.user().gid());
    let home = setup.program.env.get("HOME").map_or_else(|| OsString::from("/"), Clone::clone);
    let user = format!("steading:x:{uid}:{gid}::{}:/bin/sh\n", home.to_string_lossy().replace([':', '\n'], "_"));
    for (mut identity, (id, line)) in names.into_iter().zip([(uid, user), (gid, format!("steading:x:{gid}:\n"))]) {
        let path = Path::new("/etc").join(identity.name);
        let mut text = match fs::read(&path) {
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

/// Whether a passwd(5) or group(5) file names `id` (third field in both).
fn has_id(text: &[u8], id: u32) -> bool {
    let wanted = id.to_string();
    text.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b':').nth(2) == Some(wanted.as_bytes()))
}

/// Becomes a small pid 1: starts the service as its child, passes signals on, reaps orphans, ends as the service ended.
fn start_reaper(setup: &Setup, supervisor: &OwnedFd) -> Result<i32> {
    use nix::sys::signal::{SigSet, Signal, kill};
    let all = SigSet::all();
    all.thread_block().context(|| "cannot block signals")?;
    let service = process::fork(|| {
        let error = become_service(setup, supervisor);
        let _ = send_failure(supervisor.as_fd(), &error);
        1
    })
    .context(|| "cannot start the service below its reaper")?;
    crate::sys::caps::drop_all().context(|| "cannot give up capabilities")?;
    crate::sys::caps::no_new_privileges().context(|| "cannot set no_new_privs")?;
    // The supervisor waits for this socket to close at the service's exec; standard streams stay, they are the journal.
    nix::unistd::dup2_stdin(fs::File::open("/dev/null").context(|| "cannot open `/dev/null`")?)
        .context(|| "cannot close stdin")?;
    process::close_from(3).context(|| "cannot close descriptors")?;
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {
                while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                    match status {
                        WaitStatus::StillAlive => break,
                        WaitStatus::Exited(pid, code) if pid == service => return Ok(code),
                        // Pid 1 cannot end itself by a signal; 128 + number is what shells and Docker's init report.
                        WaitStatus::Signaled(pid, signal, _) if pid == service => return Ok(128 + signal as i32),
                        _ => {}
                    }
                }
            }
            Ok(signal) => drop(kill(service, signal)),
            Err(_) => {}
        }
    }
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
}
