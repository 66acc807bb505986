//! The last steps before exec, for the service itself and for what joins it: directory, privileges, descriptors, exec.

use super::identity;
use super::policy::Policy;
use super::privileges::Privileges;
use crate::error::{Context, Error, Kind, Result};
use crate::resolve::Plan;
use crate::sys::{caps, process};
use nix::errno::Errno;
use nix::unistd::{chdir, execve};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where programs are looked for when the environment has no `PATH`; Docker's default.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to become.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Program and arguments.
    pub args: Vec<OsString>,
    /// The whole environment; `HOME` is filled in from the container's passwd(5) where it is missing.
    pub env: BTreeMap<String, OsString>,
    /// Working directory.
    pub cwd: OsString,
    /// As which user and group.
    pub user: (u32, u32),
    /// What it may do.
    pub privileges: Privileges,
    /// Which system calls it may make.
    pub policy: Policy,
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).context(|| format!("a NUL byte in `{}`", text.display()))
}

impl Program {
    /// What the service of `plan` is.
    pub(super) fn of(plan: &Plan, policy: Policy) -> Self {
        Program {
            args: plan.process.args.iter().map(Into::into).collect(),
            env: crate::spec::environment(plan).into_iter().map(|(key, value)| (key, value.into())).collect(),
            cwd: (&plan.process.cwd).into(),
            user: (plan.process.uid, plan.process.gid),
            privileges: Privileges::of(&plan.isolation),
            policy,
        }
    }

    /// Where the program may be: itself when it has a slash, else in each directory of `PATH`.
    fn candidates(&self) -> Result<Vec<CString>> {
        let name = self.args.first().ok_or_else(|| Error::usage("there is no command to run"))?;
        if name.as_bytes().contains(&b'/') {
            return Ok(vec![c_string(name)?]);
        }
        let path = self.env.get("PATH").map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
        path.as_bytes()
            .split(|byte| *byte == b':')
            .map(|dir| c_string(Path::new(OsStr::from_bytes(dir)).join(name).as_os_str()))
            .collect()
    }

    /// Gives up all privileges and becomes the program. `before_exec` runs last, unprivileged. Returns only on failure.
    pub(super) fn replace_process(&self, before_exec: impl FnOnce() -> Result<()>) -> Error {
        match self.attempt(before_exec) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn attempt(&self, before_exec: impl FnOnce() -> Result<()>) -> Result<std::convert::Infallible> {
        let candidates = self.candidates()?;
        let args = self.args.iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>>>()?;
        let mut env = Vec::with_capacity(self.env.len());
        let home = (!self.env.contains_key("HOME")).then(|| ("HOME".to_owned(), identity::home(nix::unistd::getuid().as_raw())));
        for (key, value) in self.env.iter().chain(home.iter().map(|(key, value)| (key, value))) {
            let mut line = OsString::from(key);
            line.push("=");
            line.push(value);
            env.push(c_string(&line)?);
        }
        chdir(self.cwd.as_os_str()).context(|| format!("cannot enter the working directory `{}`", self.cwd.display()))?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        process::new_session_keyring().map_err(|error| {
            Error::failed("cannot make a session keyring").because(error).hint("a limit of keys? see `kernel.keys.maxkeys`")
        })?;
        self.privileges.limit()?;
        caps::no_new_privileges().context(|| "cannot set no_new_privs")?;
        // Before the capabilities go: with them no program of the container may trace us (ptrace(2)), without them one might,
        // and so make calls from here that its own filters refuse.
        self.policy.install()?;
        self.privileges.keep()?;
        process::close_on_exec_from(3).context(|| "cannot mark descriptors close-on-exec")?;
        process::reset_signals().context(|| "cannot reset signals")?;
        before_exec()?;
        let mut worst = Errno::ENOENT;
        for candidate in &candidates {
            match execve(candidate, &args, &env) {
                Ok(never) => match never {},
                // As execvp(3): go on where it is not, remember a refusal, stop at anything else.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::EACCES) => worst = Errno::EACCES,
                Err(errno) => {
                    worst = errno;
                    break;
                }
            }
        }
        let name = self.args.first().map(OsString::as_os_str).unwrap_or_default();
        let kind = if worst == Errno::ENOENT { Kind::NoProgram } else { Kind::NotExecutable };
        Err(Error::new(kind, format!("cannot execute `{}` in the container", name.display())).because(worst).hint(match worst {
            Errno::ENOENT => "the image has no such program (or not the interpreter its first line names)",
            Errno::ENOEXEC => "it is no program for this machine's architecture",
            Errno::EACCES => "the file is not executable for the service's user",
            _ => "`steading logs` may tell more",
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_slash_is_looked_for_along_the_containers_path() {
        let program = Program {
            args: vec!["postgres".into()],
            env: BTreeMap::from([("PATH".into(), "/a:/b/c".into())]),
            cwd: "/".into(),
            user: (0, 0),
            privileges: Privileges::default(),
            policy: crate::runtime::Policies::of(&Default::default()).unwrap().service,
        };
        assert_eq!(program.candidates().unwrap(), [c"/a/postgres".to_owned(), c"/b/c/postgres".to_owned()]);
        let direct = Program { args: vec!["./x".into()], ..program.clone() };
        assert_eq!(direct.candidates().unwrap(), [c"./x".to_owned()]);
        assert!(Program { args: vec![], ..program }.candidates().is_err());
    }
}
