//! The mounts of a service, in the order in which they are made.

use super::{HostFacts, NOTIFY_SOCKET};
use crate::error::{Context, Result};
use crate::resolve::{Plan, Probe};
use oci_spec::runtime::{Mount, MountBuilder};
use std::path::Path;

/// Kernel file systems that every container has: target, type, options.
const KERNEL: [(&str, &str, &[&str]); 7] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    // `nodev` would make the device nodes of this tmpfs useless; they are binds, so the tmpfs itself needs none.
    ("/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
];

fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        .build()
        .context(|| format!("cannot describe the mount at `{target}`"))
}

/// All mounts of `plan`.
pub(super) fn list(plan: &Plan, host: &HostFacts<'_>) -> Result<Vec<Mount>> {
    let mut list = Vec::new();
    for (target, kind, options) in KERNEL {
        list.push(mount(target, kind, Path::new(kind), options)?);
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        list.push(mount(&format!("/etc/{name}"), "bind", &host.runtime.join(name), &["bind", "nosuid", "nodev", "noexec"])?);
    }
    if !plan.secrets.is_empty() {
        list.push(mount("/run/secrets", "bind", &host.runtime.join("secrets"), &["bind", "ro", "nosuid", "nodev", "noexec"])?);
    }
    if plan.ready.probe == Probe::Notify {
        let options = ["bind", "nosuid", "nodev", "noexec"];
        list.push(mount(NOTIFY_SOCKET, "bind", &host.runtime.join("notify"), &options)?);
    }
    // Outer directories first, so that a volume inside another volume is not hidden by it.
    let mut volumes: Vec<_> = plan.volumes.iter().collect();
    volumes.sort_by(|a, b| a.target.cmp(&b.target));
    for volume in volumes {
        let source = match &volume.source {
            Some(path) => path.as_path().to_owned(),
            None => host.data.join(&volume.name),
        };
        let access = if volume.read_only { "ro" } else { "rw" };
        list.push(mount(&volume.target, "bind", &source, &["rbind", access, "nosuid", "nodev"])?);
    }
    Ok(list)
}
