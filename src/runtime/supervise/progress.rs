//! Signs of progress of a start that is not ready yet.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Part of one processor that counts as work: more than the supervisor needs for itself.
const SHARE: u32 = 20;

/// Whether a volume has nothing in it (a file system of its own has `lost+found`). One that cannot be read has something.
pub(super) fn is_empty(volume: &Path) -> bool {
    fs::read_dir(volume)
        .is_ok_and(|list| list.into_iter().all(|entry| entry.is_ok_and(|entry| entry.file_name() == "lost+found")))
}

/// Processor time that the unit used: `cpu.stat` of its control group, which exists without any controller.
#[derive(Debug)]
pub(super) struct Work {
    file: File,
    used: Duration,
    looked: Instant,
}

impl Work {
    /// `None` where it cannot be known; then a start has no more than its time-out.
    pub(super) fn watch(now: Instant) -> Option<Work> {
        let file = File::open(own_cgroup()?.join("cpu.stat")).ok()?;
        let used = usage(&file)?;
        Some(Work { file, used, looked: now })
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.looked.checked_add(INTERVAL)
    }

    /// Whether work was done since the last look; `None` when it is too early to say.
    pub(super) fn look(&mut self, now: Instant) -> Option<bool> {
        let passed = now.saturating_duration_since(self.looked);
        if passed < INTERVAL {
            return None;
        }
        let used = usage(&self.file).unwrap_or(self.used);
        let worked = used.saturating_sub(self.used) >= passed / SHARE;
        (self.used, self.looked) = (used, now);
        Some(worked)
    }
}

/// The file that counts what the kernel does for want of memory; `None` without the controller.
pub(super) fn memory_events() -> Option<File> {
    File::open(own_cgroup()?.join("memory.events")).ok()
}

/// Whether the kernel has killed a process of the unit for want of memory.
pub(super) fn ran_out_of_memory(events: Option<&File>) -> bool {
    events.and_then(|file| number(file, "oom_kill")).is_some_and(|count| count > 0)
}

/// Our control group (cgroups(7), "/proc files": the line of hierarchy 0), on a unified or a hybrid machine.
fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = super::super::cgroup::own(&text)?;
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(|root| Path::new(root).join(path))
        .find(|group| group.join("cgroup.procs").exists())
}

fn usage(file: &File) -> Option<Duration> {
    number(file, "usage_usec").map(Duration::from_micros)
}

fn number(file: &File, key: &str) -> Option<u64> {
    let mut buffer = [0; 512];
    let count = file.read_at(&mut buffer, 0).ok()?;
    field(std::str::from_utf8(buffer.get(..count)?).ok()?, key)
}

/// A number of a flat keyed file.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_system_is_an_empty_volume() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_empty(dir.path()));
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(is_empty(dir.path()));
        fs::write(dir.path().join("PG_VERSION"), "14").unwrap();
        assert!(!is_empty(dir.path()) && !is_empty(Path::new("/nonexistent")));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        assert_eq!(field("nice_usec 1\nusage_usec 250\n", "usage_usec"), Some(250));
        assert_eq!(field("oom_kill_group 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(field("", "x"), None);
    }

    #[test]
    fn work_is_seen_in_what_was_used() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"usage_usec 1000000\n").unwrap();
        let start = Instant::now();
        let mut work = Work { used: usage(&file).unwrap(), file, looked: start };
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(work.look(start), None);
        assert_eq!(work.look(at(1)), Some(false));
        work.file.write_all_at(b"usage_usec 1500000\n", 0).unwrap();
        assert_eq!(work.look(at(2)), Some(true));
        assert_eq!(work.look(at(3)), Some(false));
    }
}
