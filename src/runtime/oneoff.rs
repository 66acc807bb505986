//! A container that runs once, in the foreground: `steading run`.
//!
//! Whoever waits for it enters U0 itself, which saves a process, and may remove there what belongs to any id of the user.

use super::child::{Foreground, Setup};
use super::container::{self, Started};
use super::launch::Program;
use super::policy::Policy;
use super::terminal::{Attendant, Role};
use super::{etc, ids};
use crate::error::{Context, Result};
use crate::idmap::IdMaps;
use crate::resolve::Plan;
use crate::rootfs::Hybrid;
use crate::state::{Paths, RunDir, remove_tree};
use crate::sys::file::{create_dir_all, temp_beside};
use crate::sys::process;
use crate::yard;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Moves this process, which must have one thread, into U0, where it is root over all ids of the user. Returns U0's maps. The working
/// directory becomes `/`.
///
/// # Errors
/// When no yard answers.
pub fn enter_yard(paths: &Paths) -> Result<IdMaps> {
    yard::join(paths)?.enter()?;
    ids::of_u0()
}

/// What every container of a user mounts on, made once: an image that lacks some of it need not be given it in each upper directory, which is a
/// good part of a short run, and removed again, which is another.
fn mount_points(paths: &Paths, uid: u32) -> Result<PathBuf> {
    let place = paths.runtime().join(format!("mount-points-{uid}"));
    if place.is_dir() {
        return Ok(place);
    }
    let made = temp_beside(&place);
    for directory in ["dev", "etc", "proc", "sys", &format!("run/user/{uid}")] {
        create_dir_all(&made.join(directory), 0o755)?;
    }
    for file in ["hosts", "hostname", "resolv.conf"] {
        let path = made.join("etc").join(file);
        fs::write(&path, b"").context(|| format!("cannot write `{}`", path.display()))?;
    }
    // Another run may have been quicker.
    if fs::rename(&made, &place).is_err() {
        remove_tree(&made)?;
    }
    Ok(place)
}

/// The system call policy, compiled once for each steading and each kind of container until the run-time directory goes.
fn policy(paths: &Paths, plan: &Plan) -> Result<Policy> {
    let capabilities = plan.isolation.capabilities.join(" ");
    let name = if capabilities.is_empty() { "run.bpf" } else { "run-root.bpf" };
    let own = fs::metadata("/proc/self/exe").context(|| "cannot look at this program")?;
    let key = format!("{}:{} {} {}.{} {capabilities}", own.dev(), own.ino(), own.size(), own.mtime(), own.mtime_nsec());
    Policy::kept(&paths.runtime().join(name), key.as_bytes(), || Policy::of(&crate::spec::policy(plan)?))
}

/// Runs the container of `plan` and `spec` (whose system call policy is not needed) in the directories `dir` and waits for its
/// end; returns its exit code, or 128 + the signal that ended it. Signals are passed on, and it dies with this process.
///
/// The process must have one thread and be in U0; the yard must stay up.
///
/// # Errors
/// What kept it from starting; 126 and 127 when its program cannot be executed.
pub fn run_once(paths: &Paths, plan: &Plan, spec: Spec, dir: &RunDir, terminal: bool) -> Result<u8> {
    // What the container sees must be readable to its users, whatever the caller thinks of files that it makes.
    umask(Mode::from_bits_truncate(0o022));
    etc::write(plan, &dir.data, &dir.runtime)?;
    let (diff, work) = (dir.data.join("diff"), dir.data.join("work"));
    for (directory, mode) in [(&diff, 0o755), (&work, 0o700)] {
        create_dir_all(directory, mode)?;
    }
    let policy = policy(paths, plan)?;
    let own_volumes = plan.volumes.iter().filter(|volume| volume.source.is_none());
    let setup = Setup {
        spec,
        image: ids::image_path(paths, plan),
        upper: diff,
        work,
        // Over the directory that holds the layers, which are opened before: any directory does.
        target: dir.data.clone(),
        run_dir: dir.runtime.clone(),
        volumes: own_volumes.map(|volume| dir.data.join("data").join(&volume.name)).collect(),
        ids: plan.isolation.ids,
        program: Program::of(plan, policy),
        // On a terminal of its own pid 1 would not be ended by ^C, unless it catches it (pid_namespaces(7)).
        init: plan.process.init || terminal,
        orphaned: None,
        cgroup: None,
        driver: Box::new(Hybrid),
        foreground: Some(Foreground {
            parent: process::pidfd(Pid::this()).context(|| "cannot open this process")?,
            terminal,
            mount_points: mount_points(paths, plan.process.uid)?,
        }),
    };
    let attendant = Attendant::new()?;
    // A reaper's questions go unanswered: then the end of its child is the end.
    let Started { pid, terminal, .. } = container::start_here(&setup)?;
    let code = attendant.attend(pid, Role::First, terminal, None).inspect_err(|_| container::end(pid))?;
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}
