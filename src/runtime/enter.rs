//! Joining a running container: `steading exec`, `steading shell`, and probes.

use super::clock::NEWTIME;
use super::container::NAMESPACES;
use super::launch::Program;
use super::policy::{Policies, Policy};
use super::privileges::Privileges;
use super::record;
use crate::error::{Context, Error, Result};
use crate::resolve::{Plan, ServiceName};
use crate::state::{Paths, Services};
use crate::sys::process;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;

/// What to run in a container.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// Environment on top of the service's own.
    pub env: BTreeMap<String, OsString>,
    /// Working directory; the service's when not given.
    pub cwd: Option<OsString>,
}

/// The service's program environment but for `HOME`, which [`Program`] fills in.
pub(super) fn environment(plan: &Plan) -> BTreeMap<String, OsString> {
    crate::spec::environment(plan).into_iter().map(|(key, value)| (key, value.into())).collect()
}

/// The program that `command` becomes beside the service of `plan`.
pub(super) fn program(plan: &Plan, command: &Command, policy: &Policy) -> Program {
    let mut env = environment(plan);
    env.extend(command.env.clone());
    let cwd = command.cwd.clone().unwrap_or_else(|| OsString::from(&plan.process.cwd));
    let user = (plan.process.uid, plan.process.gid);
    let privileges = Privileges::of(&plan.isolation);
    Program { args: command.args.clone(), env, cwd, user, privileges, policy: policy.clone() }
}

/// The namespaces of a container of `plan`.
pub(super) fn namespaces(plan: &Plan) -> CloneFlags {
    // Asked for only where there is one: entering the host's time namespace is not a user's to do.
    if plan.isolation.time { NAMESPACES.union(NEWTIME) } else { NAMESPACES }
}

/// Enters the container of the process that `pidfd` names and becomes `program` there, as the service's user and without
/// capabilities. In a forked child; returns the error of a failure.
pub(super) fn enter(pidfd: &OwnedFd, program: &Program, namespaces: CloneFlags) -> Error {
    let proof = match process::one_thread() {
        Ok(proof) => proof,
        Err(error) => return Error::failed("cannot enter the container").because(error),
    };
    // Before anything inside can see us: this program and its descriptors are the host's.
    if let Err(error) = crate::sys::caps::hide_from_others() {
        return Error::failed("cannot hide from the container").because(error);
    }
    // One call for all: the kernel enters the user namespace first and judges the others by the new credentials (setns(2)).
    if let Err(errno) = setns(pidfd, namespaces) {
        return Error::failed("cannot enter the container").because(errno);
    }
    // Entering a pid namespace takes effect for children only.
    let child = process::fork_with(proof, || {
        let (uid, gid) = program.user;
        if let Err(error) = crate::sys::identity::switch(uid, gid, &[]) {
            report(&Error::failed(format!("cannot become the user {uid} with the group {gid}")).because(error));
            return 127;
        }
        // After the change of ids, which clears it. Who gives up waiting for it (a probe's time-out, a killed `steading exec`) ends it too.
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        let error = program.replace_process(|| Ok(()));
        report(&error);
        127
    });
    match child.map(wait) {
        Ok(Ok(code)) => process::exit_now(code),
        Ok(Err(error)) => error,
        Err(error) => Error::failed("cannot start a process in the container").because(error),
    }
}

/// The last word of a process that cannot return an error to anybody: standard error, as `env(1)` and `nsenter(1)` do.
fn report(error: &Error) {
    use std::io::Write;
    let mut text = format!("steading: {}", error.what());
    for cause in error.causes() {
        text.push_str(": ");
        text.push_str(&cause);
    }
    text.push('\n');
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Waits for a child: its exit code, or 128 + the signal that ended it.
fn wait(pid: Pid) -> Result<i32> {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(|| "cannot wait for the process in the container"),
        }
    }
}

/// Runs `command` in the running container of `name` with our own standard streams; returns its exit code (128 + signal).
///
/// The process must have one thread.
///
/// # Errors
/// Not found when there is no such service; failed when it does not run or cannot be entered.
pub fn exec(paths: &Paths, name: &ServiceName, command: &Command) -> Result<u8> {
    let plan = Services::new(paths).load(name)?;
    let (_, pidfd) = record::find(&super::run_dir(paths, name))?.ok_or_else(|| {
        Error::failed(format!("the service `{name}` is not running")).hint(format!("start it: `steading start {name}`"))
    })?;
    let service = paths.service(name);
    let spec_file = service.runtime_spec();
    let config = std::fs::read(&spec_file).context(|| format!("cannot read `{}`", spec_file.display()))?;
    let program = program(&plan, command, &Policies::load(&service, &config)?.service);
    let namespaces = namespaces(&plan);
    // ^C is for the program inside; we end when it ends, and tell how.
    let ignored = process::ignore_terminal_signals().context(|| "cannot ignore the terminal's signals")?;
    let child = process::fork(|| {
        report(&enter(&pidfd, &program, namespaces));
        126
    })
    .context(|| "cannot fork")?;
    let code = wait(child)?;
    drop(ignored);
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}
