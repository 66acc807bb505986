//! The table of checks. Each is a pure function of [`Facts`].

use super::facts::{Facts, RuntimeDir};
use super::ids;
use super::probe::{Outcome, Probe};
use super::report::Finding;
use crate::sys::kernel::version_of;
use std::collections::BTreeSet;

/// A registered check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name, stable: programs that read `doctor --json` go by it.
    pub name: &'static str,
    /// What it decides.
    pub run: fn(&Facts) -> Finding,
}

/// All checks, in the order of the report: what stands below first.
pub const CHECKS: &[Check] = &[
    Check { name: "kernel", run: kernel },
    Check { name: "user-namespaces", run: user_namespaces },
    Check { name: "overlay", run: overlay },
    Check { name: "fuse-device", run: fuse_device },
    Check { name: "fuse-mount", run: fuse_mount },
    Check { name: "port-handover", run: port_handover },
    Check { name: "runtime-directory", run: runtime_directory },
    Check { name: "user-manager", run: user_manager },
    Check { name: "systemd-version", run: systemd_version },
    Check { name: "linger", run: linger },
    Check { name: "cgroup", run: cgroup },
    Check { name: "controllers", run: controllers },
    Check { name: "subordinate-ids", run: ids::check },
    Check { name: "store-space", run: store_space },
];

const OLDEST_KERNEL: (u32, u32) = (5, 14);
const OLDEST_SYSTEMD: u32 = 250;

/// Below this a pull of an ordinary image may fail.
const LITTLE_SPACE: u64 = 2 << 30;
/// Below this nothing can be installed.
const NO_SPACE: u64 = 100 << 20;

fn kernel(facts: &Facts) -> Finding {
    let (major, minor) = OLDEST_KERNEL;
    match version_of(&facts.kernel) {
        Some(found) if found >= OLDEST_KERNEL => Finding::ok(format!("Linux {}", facts.kernel)),
        Some(_) => Finding::fatal(format!("Linux {} is older than {major}.{minor}", facts.kernel))
            .cause("overlays with user attributes and the swap of descriptors came with later kernels")
            .remedy(format!("boot a kernel {major}.{minor} or later (Debian 12, Ubuntu 24.04, RHEL 9)")),
        None => Finding::warning(format!("the kernel's release `{}` cannot be read as a version", facts.kernel))
            .cause(format!("it should be {major}.{minor} or later")),
    }
}

/// Finding of a failed probe, to which the caller adds a remedy.
fn failed(what: &str, step: &str, error: &str) -> Finding {
    Finding::fatal(what).cause(format!("cannot {step}: {error}"))
}

fn unknown() -> Finding {
    Finding::warning("not tried")
}

fn user_namespaces(facts: &Facts) -> Finding {
    let (step, error, errno) = match facts.probes.get(&Probe::Userns) {
        Some(Outcome::Works(_)) => return Finding::ok("namespaces of services can be made by this user"),
        Some(Outcome::Fails { step, error, errno }) => (step, error, *errno),
        None => return unknown(),
    };
    let finding = failed("user namespaces cannot be used", step, error);
    finding.remedy(userns_remedy(facts, errno))
}

/// What stands in the way, by the kernel's own settings.
fn userns_remedy(facts: &Facts, errno: i32) -> String {
    let is = |value: &Option<String>, text: &str| value.as_deref() == Some(text);
    if is(&facts.sysctls.unprivileged_userns_clone, "0") {
        return "allow them: sudo sysctl -w kernel.unprivileged_userns_clone=1 (and in a file in /etc/sysctl.d)".to_owned();
    }
    if is(&facts.sysctls.max_user_namespaces, "0") || errno == libc::ENOSPC || errno == libc::EUSERS {
        return "allow more of them: sudo sysctl -w user.max_user_namespaces=15000 (and in a file in /etc/sysctl.d); \
                nesting deeper than 32 levels is refused the same way"
            .to_owned();
    }
    if facts.sysctls.apparmor_restrict.as_deref().is_some_and(|value| value != "0") {
        return "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns): give steading a profile with `userns,`, \
                or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned();
    }
    "a security module or, inside a container, its seccomp profile forbids them: allow unshare(2) and mount(2) there".to_owned()
}

/// A probe inside a user namespace says nothing of its own while those do not work.
fn behind_userns(facts: &Facts) -> Option<Finding> {
    match facts.probes.get(&Probe::Userns) {
        Some(Outcome::Fails { .. }) => Some(Finding::warning("not known, since user namespaces cannot be used")),
        _ => None,
    }
}

fn overlay(facts: &Facts) -> Finding {
    let (step, error, errno) = match facts.probes.get(&Probe::Overlay) {
        Some(Outcome::Works(_)) => return Finding::ok("overlayfs works where services lie"),
        Some(Outcome::Fails { step, error, errno }) => (step, error, *errno),
        None => return unknown(),
    };
    if let Some(finding) = behind_userns(facts) {
        return finding;
    }
    failed("overlayfs cannot be used in a user namespace", step, error).remedy(match errno {
        libc::ENODEV => "load the module: sudo modprobe overlay (and in a file in /etc/modules-load.d)",
        libc::EINVAL | libc::EOPNOTSUPP => {
            "the file system of the services cannot carry it (NFS, another overlay): move XDG_DATA_HOME to ext4, xfs, btrfs or tmpfs"
        }
        libc::ENOSPC | libc::EDQUOT => "make room where services lie (XDG_DATA_HOME)",
        _ => "services need a writable directory on ext4, xfs, btrfs or tmpfs (XDG_DATA_HOME)",
    })
}

fn fuse_device(facts: &Facts) -> Finding {
    match &facts.fuse_device {
        Ok(()) => Finding::ok("/dev/fuse can be opened"),
        Err(error) => Finding::fatal("/dev/fuse cannot be opened").cause(error.clone()).remedy(
            "load the module: sudo modprobe fuse; the device should have mode 0666 (udev's default); inside a container it must be \
             passed in (--device /dev/fuse)",
        ),
    }
}

fn fuse_mount(facts: &Facts) -> Finding {
    let (step, error) = match facts.probes.get(&Probe::Fuse) {
        Some(Outcome::Works(detail)) => return Finding::ok(format!("FUSE can be mounted in a user namespace, {detail}")),
        Some(Outcome::Fails { step, error, .. }) => (step, error),
        None => return unknown(),
    };
    if let Some(finding) = behind_userns(facts) {
        return finding;
    }
    let finding = failed("FUSE cannot be mounted in a user namespace", step, error);
    match facts.fuse_device {
        Err(_) => finding.remedy("see `fuse-device`"),
        Ok(()) => finding
            .remedy("a security module or, inside a container, its seccomp profile forbids it: allow mount(2) of fuse there"),
    }
}

fn port_handover(facts: &Facts) -> Finding {
    match facts.probes.get(&Probe::Seccomp) {
        Some(Outcome::Works(_)) => Finding::ok("sockets can be handed over (seccomp user notification)"),
        Some(Outcome::Fails { step, error, .. }) => failed("sockets cannot be handed over", step, error)
            .remedy("the kernel needs CONFIG_SECCOMP_FILTER; a program that supervises this one by seccomp must not use the listener itself"),
        None => unknown(),
    }
}

fn runtime_directory(facts: &Facts) -> Finding {
    match &facts.runtime_dir {
        RuntimeDir::Good(path) => Finding::ok(path.display().to_string()),
        RuntimeDir::Unset => Finding::fatal("XDG_RUNTIME_DIR is not set")
            .cause("this is no login session of the user")
            .remedy("log in as the user (ssh, `machinectl shell USER@`), not by `su` or `sudo` alone"),
        RuntimeDir::Bad(path, why) => {
            Finding::fatal(format!("XDG_RUNTIME_DIR is `{}`", path.display())).cause(why.clone()).remedy(
                "log in as the user (ssh, `machinectl shell USER@`): systemd-logind makes the directory and sets the variable",
            )
        }
    }
}

fn user_manager(facts: &Facts) -> Finding {
    match &facts.manager {
        Ok(manager) => Finding::ok(format!("the user's systemd {} answers", manager.version)),
        Err(_) if !facts.booted => Finding::fatal("this machine does not run systemd")
            .cause("services are units of the user's systemd, which the system's systemd starts")
            .remedy("use a machine that boots with systemd"),
        Err(absent) => {
            Finding::fatal("the user's systemd cannot be reached").cause(absent.cause.clone()).remedy(absent.remedy.clone())
        }
    }
}

fn systemd_version(facts: &Facts) -> Finding {
    match &facts.manager {
        Ok(manager) if manager.version >= OLDEST_SYSTEMD => Finding::ok(format!("systemd {}", manager.version)),
        Ok(manager) => Finding::fatal(format!("systemd {} is older than {OLDEST_SYSTEMD}", manager.version))
            .remedy("upgrade the distribution (Debian 12, Ubuntu 22.04.2, RHEL 9)"),
        Err(_) => Finding::warning("not known, since the user's systemd cannot be reached"),
    }
}

fn linger(facts: &Facts) -> Finding {
    let user = &facts.user;
    match facts.linger {
        Some(true) => Finding::ok(format!("{user} lingers: services start at boot and outlive the login session")),
        Some(false) => Finding::warning(format!("{user} does not linger"))
            .cause("services stop at the last logout and do not start at boot")
            .remedy(format!("loginctl enable-linger (an administrator: sudo loginctl enable-linger {user})")),
        None => Finding::warning("nobody tells whether the user lingers").cause("systemd-logind cannot be reached"),
    }
}

fn cgroup(facts: &Facts) -> Finding {
    if facts.unified {
        return Finding::ok("cgroup v2");
    }
    Finding::warning("/sys/fs/cgroup is not cgroup v2")
        .cause("limits of memory, processors and tasks are not enforced")
        .remedy("boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line")
}

fn controllers(facts: &Facts) -> Finding {
    let Some(found) = &facts.controllers else {
        return Finding::warning("not known which controllers the user's systemd has");
    };
    let wanted: BTreeSet<&str> = ["cpu", "memory", "pids"].into_iter().chain(facts.needed_controllers.iter().copied()).collect();
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !found.iter().any(|it| it == name)).collect();
    if missing.is_empty() {
        return Finding::ok(found.join(" "));
    }
    Finding::warning(format!("the user's systemd has no controller {}", missing.join(", ")))
        .cause("such limits are accepted but not enforced")
        .remedy(
            "delegate them, as root: in /etc/systemd/system/user@.service.d/delegate.conf the lines [Service] and \
             Delegate=cpu cpuset io memory pids, then `systemctl daemon-reload` and a new login (or a reboot)",
        )
}

fn store_space(facts: &Facts) -> Finding {
    let Some((store, free)) = &facts.store else {
        return Finding::warning("not known, since the place of the store is not");
    };
    let free = match free {
        Ok(free) => *free,
        Err(error) => return Finding::warning("not known").cause(error.clone()),
    };
    let tenths = free / ((1 << 30) / 10);
    let found = format!("{}.{} GiB free at `{}`", tenths / 10, tenths % 10, store.display());
    let remedy = "make room, or put the store elsewhere: [store] path in config.toml";
    match free {
        free if free < NO_SPACE => Finding::fatal(found).cause("no image fits").remedy(remedy),
        free if free < LITTLE_SPACE => {
            Finding::warning(found).cause("images of databases take some hundred MiB each").remedy(remedy)
        }
        _ => Finding::ok(found),
    }
}
