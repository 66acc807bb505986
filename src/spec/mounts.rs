//! The mounts of a service, in the order in which they are made.

use super::{HostFacts, NOTIFY_SOCKET, RUNTIME_VARIABLE, runtime_directory};
use crate::error::{Context, Result};
use crate::resolve::{Plan, Probe};
use oci_spec::runtime::{Mount, MountBuilder};
use std::path::Path;

/// Kernel file systems that every container has, below /dev and beside it: target, type, options.
const KERNEL: [(&str, &str, &[&str]); 5] = [
    // A process sees only those it may look into: of the service's other ids, and of steading's own that join it, it sees none.
    ("/proc", "proc", &["nosuid", "noexec", "nodev", "hidepid=ptraceable"]),
    // The device nodes in it are binds, mounts of their own; the tmpfs itself has none.
    ("/dev", "tmpfs", &["nosuid", "noexec", "nodev", "mode=755", "size=65536k"]),
    // Its terminals are devices, so it alone is not nodev.
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
];

/// Size of /dev/shm when the plan says none, and of the runtime directory; Docker's default for the former.
const DEFAULT_SIZE: u64 = 64 << 20;

/// Places where programs unpack libraries and run them, as Java's do; other file systems in memory are noexec.
const EXECUTABLE: [&str; 2] = ["/tmp", "/var/tmp"];

fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        .build()
        .context(|| format!("cannot describe the mount at `{target}`"))
}

fn tmpfs(target: &str, size: u64, options: &[&str]) -> Result<Mount> {
    let size = format!("size={size}");
    let mut all = vec!["nosuid", "nodev", size.as_str()];
    all.extend(options);
    mount(target, "tmpfs", Path::new("tmpfs"), &all)
}

/// All mounts of `plan`.
pub(super) fn list(plan: &Plan, host: &HostFacts<'_>) -> Result<Vec<Mount>> {
    let (process, isolation) = (&plan.process, &plan.isolation);
    let mut list = Vec::new();
    for (target, kind, options) in KERNEL {
        list.push(mount(target, kind, Path::new(kind), options)?);
    }
    list.push(tmpfs("/dev/shm", isolation.shm_bytes.unwrap_or(DEFAULT_SIZE), &["noexec", "mode=1777"])?);
    let access = if isolation.cgroup_writable { "rw" } else { "ro" };
    list.push(mount("/sys/fs/cgroup", "cgroup", Path::new("cgroup"), &["nosuid", "noexec", "nodev", access])?);
    // Read-only: they lie in the user's run-time directory, whose space everything of that user shares.
    for name in ["hosts", "hostname", "resolv.conf"] {
        list.push(mount(
            &format!("/etc/{name}"),
            "bind",
            &host.runtime.join(name),
            &["bind", "ro", "nosuid", "nodev", "noexec"],
        )?);
    }
    let mut own = Vec::new();
    if !plan.secrets.is_empty() {
        own.push(mount("/run/secrets", "bind", &host.runtime.join("secrets"), &["bind", "ro", "nosuid", "nodev", "noexec"])?);
    }
    if plan.ready.probe == Probe::Notify {
        let options = ["bind", "nosuid", "nodev", "noexec"];
        own.push(mount(NOTIFY_SOCKET, "bind", &host.runtime.join("notify"), &options)?);
    }
    for (target, size) in &isolation.tmpfs {
        let options: &[&str] = if EXECUTABLE.contains(&target.as_str()) { &["mode=1777"] } else { &["noexec", "mode=1777"] };
        own.push(tmpfs(target, *size, options)?);
    }
    for volume in &plan.volumes {
        let source = match &volume.source {
            Some(path) => path.as_path().to_owned(),
            None => host.data.join(&volume.name),
        };
        let access = if volume.read_only { "ro" } else { "rw" };
        own.push(mount(&volume.target, "bind", &source, &["rbind", access, "nosuid", "nodev"])?);
    }
    let runtime = runtime_directory(plan);
    let is_taken = own.iter().any(|mount| mount.destination() == Path::new(&runtime));
    if !process.env.contains_key(RUNTIME_VARIABLE) && !is_taken {
        let (uid, gid) = (format!("uid={}", process.uid), format!("gid={}", process.gid));
        own.push(tmpfs(&runtime, DEFAULT_SIZE, &["noexec", "mode=700", &uid, &gid])?);
    }
    // Outer directories first, so that what is mounted inside another is not hidden by it.
    own.sort_by(|a, b| a.destination().cmp(b.destination()));
    list.append(&mut own);
    Ok(list)
}
