//! Joining a running container: `steading exec`, `steading shell`, and probes.
//!
//! The process that waits enters the container's namespaces itself, which saves a fork; only the pid namespace takes effect for
//! children alone. It opens the program's terminal in the container's devpts and looks users up in the container's files.

use super::clock::NEWTIME;
use super::container::NAMESPACES;
use super::handover::{self, Gate, Handover};
use super::launch::Program;
use super::message::{self, Message, send_failure};
use super::policy::{Policies, Policy};
use super::record;
use super::terminal::{self, Attendant, Role};
use crate::error::{Context, Error, Result};
use crate::image::{Identity, UserText};
use crate::resolve::{Plan, ServiceName};
use crate::state::{Paths, Services};
use crate::sys::process::{self, OneThread};
use crate::sys::terminal::open_pair;
use crate::sys::{caps, identity};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What to run in a container.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// Environment on top of the service's own.
    pub env: BTreeMap<String, OsString>,
    /// Working directory; the service's when not given.
    pub cwd: Option<OsString>,
    /// As whom; the service's user when not given.
    pub user: Option<UserText>,
    /// Whether it gets a terminal of its own.
    pub terminal: bool,
}

/// The program that `command` becomes beside the service of `plan`.
pub(super) fn program(plan: &Plan, command: &Command, policy: &Policy) -> Program {
    let mut program = Program { args: command.args.clone(), ..Program::of(plan, policy.clone()) };
    program.env.extend(command.env.clone());
    if let Some(cwd) = &command.cwd {
        program.cwd.clone_from(cwd);
    }
    program
}

/// The namespaces of a container of `plan`.
pub(super) fn namespaces(plan: &Plan) -> CloneFlags {
    // Asked for only where there is one: entering the host's time namespace is not a user's to do.
    if plan.isolation.time { NAMESPACES.union(NEWTIME) } else { NAMESPACES }
}

/// Enters the container of the process that `pidfd` names and runs `program` there without capabilities; ends as it ends. In a forked
/// child; returns the error of a failure.
pub(super) fn enter(pidfd: &OwnedFd, program: &Program, namespaces: CloneFlags) -> Error {
    let run = || {
        let entered = join(pidfd, namespaces)?;
        let (pid, gate) = start(entered, program, &[], None)?;
        wait(pid, gate)
    };
    match run() {
        Ok(code) => process::exit_now(code),
        Err(error) => error,
    }
}

/// What was taken along into a container.
#[derive(Debug)]
struct Entered {
    proof: OneThread,
    handover: Handover,
}

/// Moves this process into the container's namespaces.
fn join(pidfd: &OwnedFd, namespaces: CloneFlags) -> Result<Entered> {
    let what = || "cannot enter the container";
    let proof = process::one_thread().context(what)?;
    let handover = Handover::beside().context(what)?;
    // Before anything inside can see us: this program and its descriptors are the host's.
    caps::hide_from_others().context(|| "cannot hide from the container")?;
    // One call for all: the kernel enters the user namespace first and judges the others by the new credentials (setns(2)).
    setns(pidfd, namespaces).context(what)?;
    Ok(Entered { proof, handover })
}

/// Starts `program` in the container that this process has joined; returns once it is executed. From then on its calls are answered by
/// the [`Gate`].
fn start(entered: Entered, program: &Program, groups: &[u32], terminal: Option<&OwnedFd>) -> Result<(Pid, Gate)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .context(|| "cannot make a socket pair")?;
    let pid = process::fork_with(entered.proof, || {
        let error = match prepare(program.user, groups, terminal) {
            Ok(()) => program.replace_process(|| handover::notify(theirs.as_fd())),
            Err(error) => error,
        };
        // If nobody listens any more, nobody waits for the exit code either.
        let _ = send_failure(theirs.as_fd(), &error);
        1
    })
    .context(|| "cannot start a process in the container")?;
    drop(theirs);
    let mut listener = None;
    let failed = loop {
        match message::receive(&ours).context(|| "cannot hear from the process in the container") {
            Ok(Message::Listener(fd, _)) => listener = Some(fd),
            Ok(Message::Failed(error)) | Err(error) => break error,
            Ok(_) => match listener {
                Some(listener) => return Ok((pid, Gate::new(entered.handover, listener))),
                None => break Error::failed("the process in the container ended before it was the program"),
            },
        }
    };
    let _ = waitpid(pid, None);
    Err(failed)
}

/// The child's own steps before the common ones.
fn prepare((uid, gid): (u32, u32), groups: &[u32], terminal: Option<&OwnedFd>) -> Result<()> {
    identity::switch(uid, gid, groups).context(|| format!("cannot become the user {uid} with the group {gid}"))?;
    // Who gives up waiting for it (a probe's time-out, a killed `steading exec`) ends it too. After the change of ids, which
    // clears it.
    set_pdeathsig(Signal::SIGKILL).context(|| "cannot tie the process to its parent")?;
    // The parent is in another pid namespace, where it has no number for us; anything else means that it is gone already.
    if getppid().as_raw() != 0 {
        process::exit_now(1);
    }
    terminal.map_or(Ok(()), terminal::take)
}

/// Waits for a child and answers its calls: its exit code, or 128 + the signal that ended it.
fn wait(pid: Pid, mut gate: Gate) -> Result<i32> {
    let what = || "cannot wait for the process in the container";
    let child = process::pidfd(pid).context(what)?;
    loop {
        let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN), PollFd::new(gate.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.context(what)?,
        };
        let [ended, calls] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if calls.contains(PollFlags::POLLIN) {
            gate.handle();
        }
        if !ended.is_empty() {
            break;
        }
    }
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context(what),
        }
    }
}

/// The ids that a container has.
#[derive(Debug)]
struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    fn of(pid: Pid) -> Result<Maps> {
        let read = |file: &str| {
            let path = Path::new("/proc").join(pid.to_string()).join(file);
            fs::read_to_string(&path).context(|| format!("cannot read `{}`", path.display()))
        };
        Ok(Maps { uid: read("uid_map")?, gid: read("gid_map")? })
    }

    fn has_group(&self, gid: u32) -> bool {
        require("group", gid, &self.gid).is_ok()
    }

    fn require(&self, uid: u32, gid: u32) -> Result<()> {
        require("user", uid, &self.uid)?;
        require("group", gid, &self.gid)
    }
}

/// That a map has an id, or what it has. A line is: first id inside, first id outside, count (user_namespaces(7)).
fn require(kind: &str, id: u32, map: &str) -> Result<()> {
    let range = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (first, _, count) = (words.next()?.ok()?, words.next()?, words.next()?.ok()?);
        Some(first..=first.saturating_add(count.saturating_sub(1)))
    };
    let ranges: Vec<_> = map.lines().filter_map(range).collect();
    if ranges.iter().any(|range| range.contains(&id)) {
        return Ok(());
    }
    let one = |range: &std::ops::RangeInclusive<u32>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    };
    let all = ranges.iter().map(one).collect::<Vec<_>>().join(", ");
    Err(Error::usage(format!("this container has no {kind} {id}"))
        .because(std::io::Error::other(format!("its id map has only {all}")))
        .hint("a service whose recipe asks for `ids = \"range\"` has more"))
}

/// Who `user` is in the container that this process has joined.
fn look_up(plan: &Plan, user: &UserText, maps: &Maps) -> Result<Identity> {
    // What cannot be read names nobody.
    let read = |path: &str| super::identity::read(Path::new(path)).unwrap_or_default();
    let found = user.look_up(&read("/etc/passwd"), &read("/etc/group"))?;
    let gid = found.gid.unwrap_or(plan.process.gid);
    maps.require(found.uid, gid)?;
    Ok(Identity { gid: Some(gid), ..found })
}

/// Runs `command` in the running container of `name`; returns its exit code (128 + signal).
///
/// The process must have one thread, and stays in the container's namespaces.
///
/// # Errors
/// Not found when there is no such service; failed when it does not run or cannot be entered; usage when its container does not
/// have the user; 126 and 127 when the program cannot be executed.
pub fn exec(paths: &Paths, name: &ServiceName, command: &Command) -> Result<u8> {
    let plan = Services::new(paths).load(name)?;
    let (pid, pidfd) = record::find(&super::run_dir(paths, name))?.ok_or_else(|| {
        Error::failed(format!("the service `{name}` is not running")).hint(format!("start it: `steading start {name}`"))
    })?;
    let service = paths.service(name);
    let spec_file = service.runtime_spec();
    let config = fs::read(&spec_file).context(|| format!("cannot read `{}`", spec_file.display()))?;
    let mut program = program(&plan, command, &Policies::load(&service, &config)?.service);
    // While the host's /proc is in sight.
    let maps = command.user.as_ref().map(|_| Maps::of(pid)).transpose()?;
    let attendant = Attendant::new()?;
    let entered = join(&pidfd, namespaces(&plan))?;
    let mut groups = Vec::new();
    if let Some((user, maps)) = command.user.as_ref().zip(maps.as_ref()) {
        let who = look_up(&plan, user, maps)?;
        program.user = (who.uid, who.gid.unwrap_or(plan.process.gid));
        groups = who.groups.into_iter().filter(|gid| maps.has_group(*gid)).collect();
        // Not that of the service's user.
        if !command.env.contains_key("HOME") {
            program.env.insert("HOME".into(), who.home.unwrap_or_else(|| "/".into()).into());
        }
    }
    let (ours, theirs) = match command.terminal {
        true => open_terminal(program.user.0).map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
        false => (None, None),
    };
    ours.iter().for_each(terminal::copy_our_size);
    let (pid, gate) = start(entered, &program, &groups, theirs.as_ref())?;
    drop(theirs);
    let code = attendant.attend(pid, Role::Joined, ours, Some(gate))?;
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}

/// A terminal of the container's own, which belongs to the program's user.
fn open_terminal(uid: u32) -> Result<(OwnedFd, OwnedFd)> {
    let what = || "cannot open a terminal in the container";
    let (ours, theirs) = open_pair().context(what)?;
    if nix::unistd::getuid().as_raw() != uid {
        std::os::unix::fs::fchown(&theirs, Some(uid), None).context(what)?;
    }
    Ok((ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_outside_the_map_is_refused_with_what_the_map_has() {
        let map = "         0       1000          1\n      1  100000      65536\n";
        for id in [0, 1, 65536] {
            require("user", id, map).unwrap();
        }
        let error = require("user", 65537, map).unwrap_err();
        assert_eq!(error.causes(), ["its id map has only 0, 1 to 65536"]);
        assert!(require("user", 0, "").is_err());
        assert!(require("group", 0, "999 1000 1\n").unwrap_err().what().contains("group 0"));
    }
}
