//! Plan -> OCI runtime spec (`config.json`). Pure.
//!
//! The run lane carries this spec out, and so could any OCI runtime: the document is complete but for the root file
//! system, which the yard and the overlay provide.

mod mounts;

use crate::error::{Context, Result};
use crate::idmap::{IdMap, IdMaps, IdRange};
use crate::resolve::Plan;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCapabilitiesBuilder, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Version of the runtime spec that is written.
const OCI_VERSION: &str = "1.2.0";

/// Paths of /proc and /sys that tell about the host or act on it; Docker's defaults.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
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
    /// Directory of this service's run-time files: `hosts`, `hostname`, `resolv.conf`, `secrets/`.
    pub runtime: &'a Path,
}

fn mapping(map: &IdMap) -> Result<Vec<LinuxIdMapping>> {
    let line = |line: &IdRange| {
        LinuxIdMappingBuilder::default().container_id(line.inside).host_id(line.outside).size(line.count).build()
    };
    map.0.iter().map(line).collect::<std::result::Result<_, _>>().context(|| "cannot make the id map")
}

fn namespaces() -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as Type;
    [Type::User, Type::Mount, Type::Pid, Type::Network, Type::Ipc, Type::Uts, Type::Cgroup]
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build().context(|| "cannot list the namespaces"))
        .collect()
}

/// The spec of `plan`.
///
/// # Errors
/// When the builder of the spec refuses a value.
pub fn runtime_spec(plan: &Plan, host: &HostFacts<'_>) -> Result<Spec> {
    let process = &plan.process;
    let none = || Some(HashSet::new());
    let capabilities = {
        let mut empty = LinuxCapabilitiesBuilder::default().build().context(|| "cannot make the capability sets")?;
        empty.set_bounding(none()).set_effective(none()).set_inheritable(none()).set_permitted(none()).set_ambient(none());
        empty
    };
    let user =
        UserBuilder::default().uid(process.uid).gid(process.gid).umask(0o022_u32).build().context(|| "cannot make the user")?;
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(process.args.clone())
        .env(process.env.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())
        .cwd(process.cwd.as_str())
        .capabilities(capabilities)
        .no_new_privileges(true)
        .rlimits(Vec::new())
        .build()
        .context(|| "cannot make the process")?;
    let linux = LinuxBuilder::default()
        .uid_mappings(mapping(&host.ids.uids)?)
        .gid_mappings(mapping(&host.ids.gids)?)
        .namespaces(namespaces()?)
        // Inside its own network namespace every port belongs to the service, whatever its id.
        .sysctl(HashMap::from([("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]))
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .build()
        .context(|| "cannot make the Linux part")?;
    let root = RootBuilder::default().path(host.root).readonly(false).build().context(|| "cannot make the root")?;
    SpecBuilder::default()
        .version(OCI_VERSION)
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
