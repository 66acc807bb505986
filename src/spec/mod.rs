//! Plan -> OCI runtime spec (`config.json`). Pure.
//!
//! The run lane carries this spec out, and so could any OCI runtime: the document is complete but for the root file
//! system, which the yard and the overlay provide.

mod mounts;
pub mod seccomp;

use crate::error::{Context, Error, Result};
use crate::idmap::{IdMap, IdMaps, IdRange};
use crate::resolve::{Isolation, Plan};
use crate::sys::syscalls::Arch;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType,
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxSeccomp, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Version of the runtime spec that is written: the lowest, since runtimes refuse those that came after them (crun 1.8 of Debian 12
/// all but 1.0), and pass over properties that they do not know. `time` namespaces came with 1.1.
const OCI_VERSION: &str = "1.0.2";
const OCI_VERSION_WITH_TIME: &str = "1.1.0";

/// The variable that names a service's directory for sockets and the like.
const RUNTIME_VARIABLE: &str = "XDG_RUNTIME_DIR";
/// Where a container whose readiness is `notify` finds the socket for sd_notify(3).
pub const NOTIFY_SOCKET: &str = "/run/steading/notify";

/// Paths of /proc and /sys that tell about the host or act on it; Docker's defaults.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of /proc that are readable only; Docker's defaults.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Whose ids and where things lie on the host.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts<'a> {
    /// The service's ids in ids of the host.
    pub ids: &'a IdMaps,
    /// Root file system as an OCI runtime would find it.
    pub root: &'a Path,
    /// Directory of this service's volumes (`data`).
    pub data: &'a Path,
    /// Directory of this service's run-time files: `hosts`, `hostname`, `resolv.conf`, `secrets/`, `notify`.
    pub runtime: &'a Path,
    /// Paths that are masked beside the usual ones, since this host has them.
    pub masked: &'a [PathBuf],
}

fn mapping(map: &IdMap) -> Result<Vec<LinuxIdMapping>> {
    let line = |line: &IdRange| {
        LinuxIdMappingBuilder::default().container_id(line.inside).host_id(line.outside).size(line.count).build()
    };
    map.0.iter().map(line).collect::<std::result::Result<_, _>>().context(|| "cannot make the id map")
}

fn namespaces(isolation: &Isolation) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as Type;
    [Type::User, Type::Mount, Type::Pid, Type::Network, Type::Ipc, Type::Uts, Type::Cgroup]
        .into_iter()
        .chain(isolation.time.then_some(Type::Time))
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build().context(|| "cannot list the namespaces"))
        .collect()
}

/// Where a service finds a directory for sockets and the like, as every service of a user does (XDG base directory specification).
fn runtime_directory(plan: &Plan) -> String {
    format!("/run/user/{}", plan.process.uid)
}

/// The environment of `plan`: what image, recipe and user say, and `XDG_RUNTIME_DIR`. `HOME` is for the runtime to fill in, from the
/// image's passwd(5); the other directories of XDG follow from it.
#[must_use]
pub fn environment(plan: &Plan) -> BTreeMap<String, String> {
    let mut env = plan.process.env.clone();
    env.entry(RUNTIME_VARIABLE.to_owned()).or_insert_with(|| runtime_directory(plan));
    env
}

fn capabilities(isolation: &Isolation) -> Result<LinuxCapabilities> {
    let kept = isolation
        .capabilities
        .iter()
        .map(|name| name.parse::<Capability>().map_err(|_| Error::failed(format!("there is no capability `{name}`"))));
    let kept: HashSet<Capability> = kept.collect::<Result<_>>()?;
    let set = || Some(kept.clone());
    let mut sets = LinuxCapabilitiesBuilder::default().build().context(|| "cannot make the capability sets")?;
    // Ambient too: without it, exec takes them away from every id but 0.
    sets.set_bounding(set()).set_effective(set()).set_inheritable(set()).set_permitted(set()).set_ambient(set());
    Ok(sets)
}

fn rlimits(isolation: &Isolation) -> Result<Vec<PosixRlimit>> {
    isolation
        .rlimits
        .iter()
        .map(|(name, limit)| {
            let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
            let kind = kind.parse::<PosixRlimitType>().map_err(|_| Error::failed(format!("there is no limit `{name}`")))?;
            let (soft, hard) = (limit.soft.unwrap_or(u64::MAX), limit.hard.unwrap_or(u64::MAX));
            PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().context(|| "cannot make a resource limit")
        })
        .collect()
}

fn devices(isolation: &Isolation) -> Result<Vec<LinuxDevice>> {
    isolation
        .devices
        .iter()
        .map(|name| {
            let (major, minor) = match name.as_str() {
                // Documentation/admin-guide/devices.txt
                "fuse" => (10_i64, 229_i64),
                other => return Err(Error::failed(format!("there is no device `{other}` for a container"))),
            };
            LinuxDeviceBuilder::default()
                .path(Path::new("/dev").join(name))
                .typ(LinuxDeviceType::C)
                .major(major)
                .minor(minor)
                .file_mode(0o666_u32)
                .build()
                .context(|| format!("cannot describe the device `{name}`"))
        })
        .collect()
}

fn sysctls(isolation: &Isolation) -> HashMap<String, String> {
    // Inside its own network namespace every port belongs to the service, whatever its id.
    let ports = ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    [ports].into_iter().chain(isolation.sysctls.iter().map(|(key, value)| (key.clone(), value.clone()))).collect()
}

/// The spec of `plan`.
///
/// # Errors
/// When the builder of the spec refuses a value.
pub fn runtime_spec(plan: &Plan, host: &HostFacts<'_>) -> Result<Spec> {
    let mut spec = without_policy(plan, host)?;
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(Some(policy(plan)?));
    }
    Ok(spec)
}

/// The system call policy of `plan`.
///
/// # Errors
/// As [`runtime_spec`].
pub fn policy(plan: &Plan) -> Result<LinuxSeccomp> {
    seccomp::policy(Arch::NATIVE, &plan.isolation.capabilities, &plan.isolation.syscalls)
}

/// [`runtime_spec`] but for the system call policy, which is most of the work; for who has it compiled already.
///
/// # Errors
/// As [`runtime_spec`].
pub fn without_policy(plan: &Plan, host: &HostFacts<'_>) -> Result<Spec> {
    let (process, isolation) = (&plan.process, &plan.isolation);
    let user =
        UserBuilder::default().uid(process.uid).gid(process.gid).umask(0o022_u32).build().context(|| "cannot make the user")?;
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(process.args.clone())
        .env(environment(plan).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())
        .cwd(process.cwd.as_str())
        .capabilities(capabilities(isolation)?)
        .no_new_privileges(true)
        .rlimits(rlimits(isolation)?)
        .build()
        .context(|| "cannot make the process")?;
    process.set_oom_score_adj(plan.limits.oom_score_adjust);
    let masked = MASKED.iter().map(|path| (*path).to_owned()).chain(host.masked.iter().map(|path| path.display().to_string()));
    let mut linux = LinuxBuilder::default()
        .uid_mappings(mapping(&host.ids.uids)?)
        .gid_mappings(mapping(&host.ids.gids)?)
        .namespaces(namespaces(isolation)?)
        .sysctl(sysctls(isolation))
        .rootfs_propagation("private")
        .masked_paths(masked.collect::<Vec<_>>())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .build()
        .context(|| "cannot make the Linux part")?;
    if !isolation.devices.is_empty() {
        linux.set_devices(Some(devices(isolation)?));
    }
    let root = RootBuilder::default().path(host.root).readonly(isolation.read_only).build().context(|| "cannot make the root")?;
    SpecBuilder::default()
        .version(if isolation.time { OCI_VERSION_WITH_TIME } else { OCI_VERSION })
        .process(process)
        .root(root)
        .hostname(plan.process.hostname.as_str())
        .mounts(mounts::list(plan, host)?)
        .linux(linux)
        .build()
        .context(|| "cannot make the runtime spec")
}

#[cfg(test)]
mod tests;
