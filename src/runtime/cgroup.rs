//! A control group that the service may divide further (`cgroup = "writable"`). A group whose controllers its children use has no
//! processes of its own (cgroups(7), "no internal processes"), so the unit's group gets two: the supervisor's and the service's.
//! The service's is the root of its cgroup namespace; the unit's limits lie above it, out of its reach.

use crate::error::{Context, Error, Result};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const HIERARCHY: &str = "/sys/fs/cgroup";

/// The service's own group, to be entered by the process that makes its namespaces.
#[derive(Debug)]
pub(super) struct Group {
    /// `cgroup.procs`, opened by the supervisor.
    procs: File,
}

impl Group {
    /// Moves the calling process, which must have one thread.
    pub(super) fn enter(&self) -> Result<()> {
        (&self.procs).write_all(b"0").context(|| "cannot enter the service's control group")
    }
}

/// The cgroup v2 path in the text of /proc/PID/cgroup.
pub(super) fn own(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::/"))
}

fn make(path: &Path) -> Result<File> {
    match fs::create_dir(path) {
        // The unit's group outlives a restart while systemd keeps descriptors for it.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => OpenOptions::new().write(true).open(path.join("cgroup.procs")),
    }
    .context(|| format!("cannot make the control group `{}`", path.display()))
}

/// Divides the group of this process, which must be alone in it, and moves it out of the way.
pub(super) fn divide() -> Result<Group> {
    if !statfs(HIERARCHY).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        return Err(Error::host("the recipe asks for a control group of its own, and this host has no cgroup v2")
            .hint("boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"));
    }
    let text = fs::read_to_string("/proc/self/cgroup").context(|| "cannot find our control group")?;
    let path = own(&text).ok_or_else(|| Error::failed("this process is in no control group"))?;
    let unit: PathBuf = Path::new(HIERARCHY).join(path);
    let mut supervisor = make(&unit.join("supervisor"))?;
    let procs = make(&unit.join("service"))?;
    supervisor.write_all(b"0").context(|| "cannot move the supervisor into its own control group")?;
    let controllers =
        fs::read_to_string(unit.join("cgroup.controllers")).context(|| "cannot read the controllers of the unit")?;
    let on: Vec<String> = controllers.split_ascii_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(unit.join("cgroup.subtree_control"), on.join(" "))
        .context(|| format!("cannot pass the controllers ({}) on to the service", controllers.trim()))?;
    Ok(Group { procs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_version_two() {
        assert_eq!(own("1:name=systemd:/x\n0::/user.slice/a@1.service\n"), Some("user.slice/a@1.service"));
        assert_eq!(own("0::/\n"), Some(""));
        assert_eq!(own("1:name=systemd:/x\n"), None);
    }
}
