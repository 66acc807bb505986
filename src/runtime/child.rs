//! The service's own process from clone3 to exec: inside its seven namespaces, with all capabilities over them at first.

use super::cgroup::Group;
use super::clock;
use super::handover;
use super::identity::{self, Identity};
use super::launch::Program;
use super::message::{send_failure, send_terminal};
use super::mounts::Prepare;
use super::places::Places;
use super::reaper;
use super::terminal;
use crate::error::{Context, Error, Result};
use crate::resolve::IdKind;
use crate::rootfs::Driver;
use crate::sys::caps::{self, Set};
use crate::sys::identity::switch;
use crate::sys::mount::{Attr, set_attr};
use crate::sys::process;
use crate::sys::socket::recv_fds;
use crate::sys::terminal::open_pair;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{pivot_root, setsid};
use oci_spec::runtime::Spec;
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
    /// What the service gets when the supervisor dies, where systemd may not kill it.
    pub orphaned: Option<Signal>,
    /// Whether a reaper is pid 1.
    pub init: bool,
    /// The control group it may divide.
    pub cgroup: Option<Group>,
    /// Which driver makes the root file system.
    pub driver: Box<dyn Driver>,
    /// For a container that runs once, in the foreground, instead of a service.
    pub foreground: Option<Foreground>,
}

/// A container in the foreground has no published ports, may have a terminal, and dies with who waits for it.
#[derive(Debug)]
pub(super) struct Foreground {
    /// Names the process that waits (pidfd_open(2)).
    pub parent: OwnedFd,
    /// Whether the program gets a terminal of its own.
    pub terminal: bool,
    /// What lies below the image to mount on.
    pub mount_points: PathBuf,
}

impl Foreground {
    /// Gives the program its terminal, and our side of it to the parent.
    fn open_terminal(&self, supervisor: &OwnedFd) -> Result<()> {
        if !self.terminal {
            return Ok(());
        }
        let (theirs, own) = open_pair().context(|| "cannot open a terminal in the container")?;
        terminal::copy_our_size(&theirs);
        send_terminal(supervisor.as_fd(), theirs.as_fd()).context(|| "cannot hand over the terminal")?;
        terminal::take(&own)
    }

    /// Ties the calling process, whose ids and capabilities change no more, to the parent's life.
    fn tie(&self) -> Result<()> {
        set_pdeathsig(Signal::SIGKILL).context(|| "cannot tie the container to its parent")?;
        // A parent that died before that: its descriptor is readable.
        let mut fds = [PollFd::new(self.parent.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO).context(|| "cannot look at the parent")? > 0 {
            process::exit_now(1);
        }
        Ok(())
    }
}

/// Waits for the id maps, sets the container up and becomes the service. Returns the exit code of a failure.
/// `link` is the reaper's, where one is wanted.
pub(super) fn run(setup: &Setup, go: OwnedFd, supervisor: &OwnedFd, link: Option<&OwnedFd>) -> i32 {
    // End of file: the joiner failed and has told why.
    let Ok((1, mut fds)) = recv_fds(go.as_fd(), &mut [0]) else { return 1 };
    drop(go);
    let error = match (set_up(setup, fds.pop()), link) {
        (Ok(()), Some(link)) => match start_reaper(setup, supervisor, link) {
            Ok(code) => return code,
            Err(error) => error,
        },
        (Ok(()), None) => become_service(setup, supervisor),
        (Err(error), _) => error,
    };
    // If the supervisor is gone there is nobody left to tell.
    let _ = send_failure(supervisor.as_fd(), &error);
    1
}

fn become_service(setup: &Setup, supervisor: &OwnedFd) -> Error {
    let (uid, gid) = setup.program.user;
    // Capabilities stay for the last steps, which give them up.
    if let Err(error) = switch(uid, gid, &[]) {
        return Error::failed(format!("cannot become the user {uid} with the group {gid}")).because(error);
    }
    if let Some(Err(error)) = setup.foreground.as_ref().map(|foreground| foreground.open_terminal(supervisor)) {
        return error;
    }
    setup.program.replace_process(|| {
        if let Some(foreground) = &setup.foreground {
            return foreground.tie();
        }
        if setup.orphaned.is_some() && !setup.init {
            set_pdeathsig(setup.orphaned).context(|| "cannot follow the supervisor's death")?;
        }
        handover::guard(supervisor.as_fd())
    })
}

/// `image` is given where the yard's own mount of it has the wrong owners.
fn set_up(setup: &Setup, image: Option<OwnedFd>) -> Result<()> {
    // Both before our files in /proc become root's.
    set_oom_score(&setup.spec)?;
    if clock::is_asked(&setup.spec) {
        clock::begin_anew()?;
    }
    caps::hide_from_others().context(|| "cannot hide from other processes")?;
    // A session of its own: the terminal of whoever runs systemd is none of its business.
    setsid().context(|| "cannot start a session")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context(|| "cannot make the mounts private")?;
    // While the old tree is in sight: a file of a tree that is gone cannot be cloned.
    let names = [Identity::prepare(&setup.run_dir, "passwd")?, Identity::prepare(&setup.run_dir, "group")?];
    let places = match &image {
        Some(tree) => Places::by_descriptor(setup, tree)?,
        None => Places::by_path(setup),
    };
    // What is taken from the host is taken as the user. What is new belongs to the container's root, whom a private map does not
    // make of the user: nobody else could write there.
    let prepared = Prepare::from_spec(&setup.spec, || match setup.ids {
        IdKind::Private => switch(0, 0, &[]).context(|| "cannot become root of the container"),
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
    identity::add(&setup.spec, names)?;
    apply_sysctls(&setup.spec)?;
    prepared.restrict()?;
    crate::sys::net::loopback_up().context(|| "cannot bring the loopback interface up")?;
    if let Some(name) = setup.spec.hostname() {
        nix::unistd::sethostname(name).context(|| format!("cannot set the host name `{name}`"))?;
    }
    fs::create_dir_all(&setup.program.cwd)
        .context(|| format!("cannot make the working directory `{}`", setup.program.cwd.display()))?;
    // Last: until here mount points and files were made in it.
    if setup.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        read_only_root().context(|| "cannot make the root file system read-only")?;
    }
    Ok(())
}

fn read_only_root() -> std::io::Result<()> {
    let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    set_attr(root.as_fd(), Attr::RDONLY, false)
}

/// How soon the service is killed when memory ends; what it starts inherits that.
fn set_oom_score(spec: &Spec) -> Result<()> {
    let Some(score) = spec.process().as_ref().and_then(|process| process.oom_score_adj()) else { return Ok(()) };
    match fs::write("/proc/self/oom_score_adj", score.to_string()) {
        // Below what the user's systemd has (proc_pid_oom_score_adj(5)); install has warned.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.context(|| format!("cannot set the OOM score to {score}")),
    }
}

fn apply_sysctls(spec: &Spec) -> Result<()> {
    for (key, value) in spec.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten() {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        fs::write(&path, value).map_err(|error| {
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied && !key.starts_with("net.");
            let error = Error::failed(format!("cannot set `{key}` to `{value}`")).because(error);
            match denied {
                // ipc_permissions() of ipc/ipc_sysctl.c goes by the id, not by capabilities.
                true => error.hint("the kernel (6.1 or later) lets only the id 0 of a container set it: the recipe needs uid 0, or ids that have it"),
                false => error,
            }
        })?;
    }
    Ok(())
}

/// Of linux/capability.h.
const CAP_KILL: u8 = 5;

/// Becomes a small pid 1 with the service as its child.
fn start_reaper(setup: &Setup, supervisor: &OwnedFd, link: &OwnedFd) -> Result<i32> {
    nix::sys::signal::SigSet::all().thread_block().context(|| "cannot block signals")?;
    let service = process::fork(|| {
        let error = become_service(setup, supervisor);
        let _ = send_failure(supervisor.as_fd(), &error);
        1
    })
    .context(|| "cannot start the service below its reaper")?;
    caps::no_new_privileges().context(|| "cannot set no_new_privs")?;
    setup.program.policy.install()?;
    let (uid, gid) = setup.program.user;
    switch(uid, gid, &[]).context(|| format!("cannot become the user {uid} with the group {gid}"))?;
    // The service may become somebody else, whom its signals must reach.
    let kept = if setup.ids == IdKind::User { Set::EMPTY } else { Set::EMPTY.with(CAP_KILL) };
    // This is the host's program: the service is not to look into it, nor to trace it.
    caps::stand_apart(setup.program.privileges.capabilities(), kept).context(|| "cannot give up capabilities")?;
    setup.foreground.as_ref().map_or(Ok(()), Foreground::tie)?;
    if setup.orphaned.is_some() {
        set_pdeathsig(setup.orphaned).context(|| "cannot follow the supervisor's death")?;
    }
    // The supervisor waits for its socket to close at the service's exec. Standard output and error stay, they are the journal.
    nix::unistd::dup2_stdin(link).context(|| "cannot keep the link to the supervisor")?;
    process::close_from(3).context(|| "cannot close descriptors")?;
    Ok(reaper::run(service, std::io::stdin().as_fd()))
}
