//! A container that runs once, in the foreground: `steading run`.

use super::child::{Foreground, Setup};
use super::container;
use super::enter::environment;
use super::etc;
use super::launch::Program;
use super::terminal::{Attendant, Role};
use crate::error::{Context, Result};
use crate::resolve::Plan;
use crate::rootfs::Hybrid;
use crate::state::{Paths, RunDir};
use crate::sys::file::create_dir_all;
use crate::sys::process;
use crate::yard::{self, View};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

/// Runs the container of `plan` and `spec` in the directories `dir` and waits for its end; returns its exit code, or 128 + the
/// signal that ended it. Signals are passed on, and it dies with this process.
///
/// The process must have one thread; the yard must be up and stay so.
///
/// # Errors
/// What kept it from starting; 126 and 127 when its program cannot be executed.
pub fn run_once(paths: &Paths, plan: &Plan, spec: Spec, dir: &RunDir, terminal: bool) -> Result<u8> {
    etc::write(plan, &dir.data, &dir.runtime)?;
    let (diff, work) = (dir.data.join("diff"), dir.data.join("work"));
    for (directory, mode) in [(&diff, 0o755), (&work, 0o700)] {
        create_dir_all(directory, mode)?;
    }
    let joined = yard::join(paths)?;
    let parent = process::pidfd(Pid::this()).context(|| "cannot open this process")?;
    let setup = Setup {
        spec,
        image: yard::image_path(paths, View::ByUser, &plan.image.digest),
        upper: diff,
        work,
        // Over the directory that holds the layers, which are opened before: any directory does.
        target: dir.data.clone(),
        run_dir: dir.runtime.clone(),
        program: Program {
            args: plan.process.args.iter().map(Into::into).collect(),
            env: environment(plan),
            cwd: (&plan.process.cwd).into(),
        },
        // On a terminal of its own pid 1 would not be ended by ^C, unless it catches it (pid_namespaces(7)).
        init: plan.process.init || terminal,
        driver: Box::new(Hybrid),
        foreground: Some(Foreground { parent, terminal }),
    };
    let attendant = Attendant::new()?;
    let started = container::start(&setup, &joined)?;
    let code = attendant.attend(started.pid, Role::First, started.terminal).inspect_err(|_| container::end(started.pid))?;
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}
