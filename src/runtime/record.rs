//! Which process a running service is: `pid` in its run-time directory, with the start time, since ids are reused.

use crate::error::{Context, Error, Result};
use crate::sys::file::write_atomic;
use nix::unistd::Pid;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

const FILE: &str = "pid";

/// Fields of /proc/PID/stat (proc_pid_stat(5)) from the third on, the state.
pub(super) fn stat_fields(pid: Pid) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything, `)` included.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    Some(std::str::from_utf8(stat.get(after + 1..)?).ok()?.trim_start().to_owned())
}

/// Start time of a process in clock ticks since boot: field 22.
fn start_time(pid: Pid) -> Option<u64> {
    stat_fields(pid)?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Writes down that the service is process `pid`, and that this process is its supervisor.
pub(super) fn write(run_dir: &Path, pid: Pid) -> Result<()> {
    let mut text = String::new();
    for pid in [pid, Pid::this()] {
        let start = start_time(pid).ok_or_else(|| Error::failed("the service's process is gone already"))?;
        text.push_str(&format!("{pid} {start}\n"));
    }
    write_atomic(&run_dir.join(FILE), text.as_bytes(), 0o600)
}

/// The running service's process: its id and a descriptor that names it; `None` when it does not run.
pub(super) fn find(run_dir: &Path) -> Result<Option<(Pid, OwnedFd)>> {
    find_line(run_dir, 0)
}

/// The supervisor that runs: as [`find`].
pub(super) fn find_supervisor(run_dir: &Path) -> Result<Option<(Pid, OwnedFd)>> {
    find_line(run_dir, 1)
}

fn find_line(run_dir: &Path, number: usize) -> Result<Option<(Pid, OwnedFd)>> {
    let text = match fs::read_to_string(run_dir.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(|| format!("cannot read `{}`", run_dir.join(FILE).display())),
    };
    let mut words = text.lines().nth(number).unwrap_or_default().split_ascii_whitespace();
    let pid = words.next().and_then(|word| word.parse::<i32>().ok()).filter(|pid| *pid > 0).map(Pid::from_raw);
    let start = words.next().and_then(|word| word.parse::<u64>().ok());
    let (Some(pid), Some(start)) = (pid, start) else { return Ok(None) };
    let Ok(fd) = crate::sys::process::pidfd(pid) else { return Ok(None) };
    // After the descriptor is held: from here on it cannot come to name another process.
    Ok((start_time(pid) == Some(start)).then_some((pid, fd)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_id_is_not_taken_for_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let own = Pid::this();
        assert!(find(dir.path()).unwrap().is_none());
        write(dir.path(), own).unwrap();
        assert_eq!(find(dir.path()).unwrap().unwrap().0, own);
        assert_eq!(find_supervisor(dir.path()).unwrap().unwrap().0, own);
        fs::write(dir.path().join(FILE), format!("{own} 1\n")).unwrap();
        assert!(find(dir.path()).unwrap().is_none() && find_supervisor(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(FILE), "-1 x").unwrap();
        assert!(find(dir.path()).unwrap().is_none());
    }
}
