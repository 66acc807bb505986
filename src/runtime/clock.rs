//! A time namespace (time_namespaces(7)): the container's clocks since boot begin with its start, so that it sees neither how long the
//! host has been up nor when it was asleep.

use crate::error::{Context, Error, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::time::{ClockId, clock_gettime};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::fs;

/// The namespace's flag, which nix does not name.
pub(super) const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Whether `spec` asks for one.
pub(super) fn is_asked(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.is_some_and(|list| list.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Time))
}

/// Makes one and moves this process, which must have one thread, into it. The namespace belongs to the container's own user namespace.
pub(super) fn begin_anew() -> Result<()> {
    unshare(NEWTIME).map_err(|errno| {
        let error = Error::host("cannot make a time namespace").because(errno);
        match errno {
            Errno::EINVAL => error.hint("this kernel has none (CONFIG_TIME_NS); a recipe without `time = true` needs none"),
            _ => error.hint("see `steading doctor`"),
        }
    })?;
    // It is the one of our children so far: its clocks can be set only before it has a process.
    let mut offsets = String::new();
    for (name, clock) in [("monotonic", ClockId::CLOCK_MONOTONIC), ("boottime", ClockId::CLOCK_BOOTTIME)] {
        let now = clock_gettime(clock).context(|| format!("cannot read the {name} clock"))?;
        // Whole seconds: the sum must not be negative (proc_timens_set_offset() of kernel/time/namespace.c).
        offsets.push_str(&format!("{name} -{} 0\n", now.tv_sec()));
    }
    fs::write("/proc/self/timens_offsets", offsets).context(|| "cannot set the clocks of the time namespace")?;
    let own = fs::File::open("/proc/self/ns/time_for_children").context(|| "cannot open the time namespace")?;
    setns(own, NEWTIME).context(|| "cannot enter the time namespace")
}
