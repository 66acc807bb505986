//! Which process is the service's main one.
//!
//! At first it is the one that executed the service. A service that speaks sd_notify(3) may name another by `MAINPID=`, as nginx does when
//! it replaces its own program. systemd's main process stays the supervisor, which keeps watching: from then on signals go to the new one,
//! and its end is the end of the service. (Below a reaper also with its exit status; without one its status belongs to pid 1 of the
//! container, so its end while pid 1 goes on is a failure.)

use super::super::record::stat_fields;
use crate::sys::process::{pidfd, send_signal};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

/// The main process.
#[derive(Debug)]
pub(super) struct Main {
    /// As it is numbered here.
    pub(super) pid: Pid,
    /// As it is numbered in the container.
    pub(super) inside: i32,
    /// Nothing when it ended before it was looked at.
    pub(super) fd: Option<OwnedFd>,
    /// When its end was seen.
    pub(super) gone: Option<Instant>,
}

impl Main {
    /// Process `pid` of the container, whose first process `init` is our child and so still there, at least as a zombie.
    pub(super) fn of(pid: Pid, init: Pid) -> Main {
        let fd = pidfd(pid).ok();
        let inside = number_inside(pid);
        // Asked after the descriptor is held: an id that was given to another process in the meantime is found out.
        let is_it = pid == init || PidNamespace::of(pid).is_some_and(|space| Some(space) == PidNamespace::of(init));
        let fd = fd.filter(|_| is_it);
        let gone = fd.is_none().then(Instant::now);
        // Below a reaper the service is the second process.
        Main { pid, inside: inside.filter(|_| is_it).unwrap_or(if pid == init { 1 } else { 2 }), fd, gone }
    }

    pub(super) fn send(&self, signal: Signal) {
        // One that has ended needs no signal.
        let _ = self.fd.as_ref().map(|fd| send_signal(fd.as_fd(), signal));
    }

    /// Whether it is there and not stopped (SIGSTOP). Whatever else it does cannot be seen from outside.
    pub(super) fn liveness(&self) -> std::result::Result<(), String> {
        match state(self.pid) {
            Some('T') => Err("its process is stopped".into()),
            Some('Z' | 'X') | None => Err("its process has ended".into()),
            Some(_) => Ok(()),
        }
    }
}

/// A pid namespace: device and inode of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PidNamespace(u64, u64);

impl PidNamespace {
    pub(super) fn of(pid: Pid) -> Option<PidNamespace> {
        let file = fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?;
        Some(PidNamespace(file.dev(), file.ino()))
    }

    /// The process that is number `inside` there. `sender`, one of its processes, mostly means itself.
    pub(super) fn find(self, inside: i32, sender: Pid) -> Option<Pid> {
        let is_it = |pid: &Pid| number_inside(*pid) == Some(inside) && PidNamespace::of(*pid) == Some(self);
        if is_it(&sender) {
            return Some(sender);
        }
        let all = fs::read_dir("/proc").ok()?;
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw)).find(is_it)
    }
}

/// Number of a process in the innermost pid namespace it is in: the last of `NSpid:` (proc_pid_status(5)).
fn number_inside(pid: Pid) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// `R`, `S`, `T`, ... of proc_pid_stat(5).
fn state(pid: Pid) -> Option<char> {
    stat_fields(pid)?.chars().next()
}

/// The children of a process that have not ended.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| state(*pid).is_some_and(|state| state != 'Z')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_in_its_namespace() {
        let own = Pid::this();
        let space = PidNamespace::of(own).unwrap();
        let inside = number_inside(own).unwrap();
        assert_eq!(space.find(inside, own), Some(own));
        assert_eq!(space.find(inside, Pid::from_raw(1)), Some(own));
        assert_eq!(space.find(i32::MAX, own), None);
        assert_eq!(PidNamespace::of(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn a_stopped_process_is_not_well() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let main = Main::of(Pid::from_raw(i32::try_from(child.id()).unwrap()), Pid::this());
        assert!(main.gone.is_none());
        assert_eq!(main.liveness(), Ok(()));
        assert_eq!(children(Pid::this()).iter().filter(|pid| **pid == main.pid).count(), 0, "a child of another thread");
        main.send(Signal::SIGSTOP);
        for _ in 0..100 {
            if main.liveness().is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(main.liveness(), Err("its process is stopped".into()));
        main.send(Signal::SIGKILL);
        assert!(!child.wait().unwrap().success());
        assert_eq!(main.liveness(), Err("its process has ended".into()));
        assert!(Main::of(main.pid, Pid::this()).gone.is_some());
    }
}
