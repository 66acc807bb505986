//! Which system calls a service may make: the `linux.seccomp` object of `config.json`. Pure data.
//!
//! The policy is that of Docker's default profile (of 2026), for the capabilities the service holds:
//!
//! - what is allowed is listed ([`ALLOWED`], [`BY_CAPABILITY`]); everything else is refused;
//! - a call that we know and do not allow ([`REFUSED`]) fails with EPERM, as it would for want of a privilege;
//! - a call that nobody listed, newer than this program, fails with ENOSYS, so that a C library falls back to an older one; so
//!   do a few known ones (`ABSENT`), `clone3` first of all: its flags lie in memory, where a filter cannot look;
//! - a call of another architecture (i386 and x32 on x86_64, arm on aarch64) fails with ENOSYS. Docker allows those; no service
//!   of ours needs them, and they double what a kernel bug can be reached by;
//! - arguments: no new namespace by `clone`, no `AF_ALG` and `AF_VSOCK` sockets, only harmless personalities, nothing typed into a
//!   terminal (`TIOCSTI`, `TIOCLINUX`), no connection by sending (`MSG_FASTOPEN`: EOPNOTSUPP).
//!
//! Where Docker is stricter or laxer, on purpose: it does not refuse the two ioctls nor `MSG_FASTOPEN`, and it compares a socket's family as 64
//! bits though the kernel takes 32, so that `AF_ALG` can be had by a family with a high bit set.
//!
//! The steading runtime lets a refusal win over an allowance of the same call. libseccomp, which other runtimes use, forgets a
//! refusal beside an allowance without conditions (`ioctl`, `send*`), and agrees on all else.

use crate::error::{Context, Error, Result};
use crate::sys::syscalls::Arch;
use oci_spec::runtime::{
    Arch as OciArch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator as Compare, LinuxSyscall, LinuxSyscallBuilder,
};
use std::collections::BTreeSet;

/// What every service may do.
const ALLOWED: &[&str] = &[
    // Files by name.
    "access chdir chmod chown creat faccessat faccessat2 fchdir fchmodat fchmodat2 fchownat futimesat getcwd lchown link linkat \
     lstat mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 readlink readlinkat rename renameat \
     renameat2 rmdir stat statfs statx symlink symlinkat truncate umask unlink unlinkat utime utimensat utimes",
    // Files by descriptor.
    "cachestat close close_range copy_file_range dup dup2 dup3 fadvise64 fallocate fchmod fchown fcntl fdatasync flock fstat \
     fstatfs fsync ftruncate getdents getdents64 ioctl lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead \
     readv sendfile splice sync sync_file_range syncfs tee vmsplice write writev",
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr lremovexattr \
     lsetxattr removexattr removexattrat setxattr setxattrat",
    // Events, pipes, timers.
    "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 fanotify_mark inotify_add_watch \
     inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll pselect6 select signalfd signalfd4 timerfd_create \
     timerfd_gettime timerfd_settime",
    "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit",
    "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time \
     timer_create timer_delete timer_getoverrun timer_gettime timer_settime times",
    // Network. `socket` has conditions.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto \
     setsockopt shutdown socketpair",
    // Memory.
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect mremap mseal \
     msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages",
    // Between processes of the container.
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop \
     semtimedop shmat shmctl shmdt shmget",
    "futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list set_robust_list",
    "kill pidfd_open pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
     rt_sigtimedwait rt_tgsigqueueinfo sigaltstack tgkill tkill",
    "process_vm_readv process_vm_writev ptrace",
    // Processes. `clone` and `personality` have conditions.
    "execve execveat exit exit_group fork getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid pause prctl \
     prlimit64 restart_syscall rseq set_tid_address setpgid setpriority setrlimit setsid vfork wait4 waitid",
    "ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
     sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield",
    "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups setregid \
     setresgid setresuid setreuid setuid",
    "arch_prctl get_thread_area modify_ldt set_thread_area uretprobe",
    // A program that confines itself further.
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
    // What the machine tells.
    "getcpu getrandom listmount statmount sysinfo uname",
];

/// What a capability adds (`CAP_` left out).
const BY_CAPABILITY: &[(&str, &str)] = &[
    ("BPF", "bpf"),
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    ("PERFMON", "perf_event_open"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd \
         setdomainname sethostname setns syslog umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "ioperm iopl"),
    ("SYS_TIME", "clock_settime settimeofday"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYSLOG", "syslog"),
];

/// Known and not allowed: EPERM.
const REFUSED: &[&str] = &[
    // The kernel's own state: modules, programs in it, power, accounting, log, time, hardware.
    "acct bpf clock_settime delete_module finit_module init_module ioperm iopl kexec_file_load kexec_load lookup_dcookie \
     perf_event_open quotactl quotactl_fd reboot settimeofday swapoff swapon sysfs syslog ustat vhangup",
    // Mounts and namespaces.
    "chroot fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_by_handle_at open_tree \
     open_tree_attr pivot_root setdomainname sethostname setns umount2 unshare",
    "lsm_get_self_attr lsm_list_modules lsm_set_self_attr",
    // Keyrings know no namespaces.
    "add_key keyctl request_key",
    // Other processes, other processes' memory.
    "get_mempolicy kcmp mbind migrate_pages move_pages pidfd_getfd process_madvise set_mempolicy set_mempolicy_home_node",
    // Large interfaces with a history of holes.
    "io_uring_enter io_uring_register io_uring_setup userfaultfd",
];

/// ENOSYS though known, by being in no other list: what a filter cannot judge, what callers do without, and numbers that the kernel itself has retired.
#[cfg(test)]
const ABSENT: &str = "clone3 file_getattr file_setattr \
     _sysctl afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg nfsservctl putpmsg query_module security \
     tuxcall uselib vserver";

/// Flags of clone(2) that make a namespace; all but CLONE_NEWTIME, which clone(2) does not take.
const NAMESPACE_FLAGS: [u64; 7] = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// PER_LINUX and PER_LINUX32, each also with UNAME26, and the question which one it is (personality(2)).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// The last address family before AF_ALG, those after it but AF_VSOCK, and the first that no kernel has (linux/socket.h, AF_MAX).
const FAMILIES: (u64, [u64; 6], u64) = (38, [39, 41, 42, 43, 44, 45], 46);

/// Puts a byte into a terminal's input; its colour console sibling (ioctl_tty(2)). The kernel takes 32 bits of the number.
const TERMINAL_INJECTION: [u64; 2] = [0x5412, 0x541C];
const LOW_HALF: u64 = 0xFFFF_FFFF;

/// Calls that everybody may make, but for some arguments.
const GUARDED: [&str; 4] = ["ioctl", "sendmmsg", "sendmsg", "sendto"];

/// What the supervisor does beside a service that others may not: it enters the container, reads a caller's memory and
/// descriptors, and leaves its session keyring.
const SUPERVISOR: &str = "keyctl pidfd_getfd setns";

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EOPNOTSUPP: u32 = 95;
/// Flag of send(2) that connects a TCP socket with the first data.
const MSG_FASTOPEN: u64 = 0x2000_0000;

/// The policy of a service that holds `capabilities` (without `CAP_`) and was granted the system calls `more`.
///
/// # Errors
/// A name in `more` that is no system call of any architecture.
pub fn policy(arch: Arch, capabilities: &[String], more: &[String]) -> Result<LinuxSeccomp> {
    let mut allowed: BTreeSet<&str> = ALLOWED.iter().flat_map(|group| group.split_whitespace()).collect();
    for (capability, names) in BY_CAPABILITY {
        if capabilities.iter().any(|held| held == capability) {
            allowed.extend(names.split_whitespace());
        }
    }
    for name in more {
        if Arch::ALL.iter().all(|arch| arch.number(name).is_none()) {
            return Err(Error::usage(format!("there is no system call `{}`", name.escape_debug()))
                .hint("`[isolation] syscalls` takes names as in syscalls(2), e.g. `io_uring_setup`"));
        }
        allowed.insert(name);
    }
    build(arch, &allowed)
}

/// The policy of the supervisor of a service whose own policy is `service`: its probes become programs of the container, under
/// that policy on top, so it allows all of that and what entering takes.
///
/// # Errors
/// When the builder of the spec refuses a value.
pub fn for_supervisor(arch: Arch, service: &LinuxSeccomp) -> Result<LinuxSeccomp> {
    let mut allowed: BTreeSet<&str> = SUPERVISOR.split_whitespace().collect();
    for entry in service.syscalls().iter().flatten().filter(|entry| entry.action() == Action::ScmpActAllow) {
        if entry.args().as_ref().is_none_or(Vec::is_empty) {
            allowed.extend(entry.names().iter().map(String::as_str));
        }
    }
    build(arch, &allowed)
}

fn build(arch: Arch, allowed: &BTreeSet<&str>) -> Result<LinuxSeccomp> {
    let known = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        names.filter(|name| arch.number(name).is_some()).map(str::to_owned).collect()
    };
    let mut entries = vec![
        entry(known(&mut allowed.iter().copied()), None, None)?,
        entry(
            known(&mut REFUSED.iter().flat_map(|group| group.split_whitespace()).filter(|name| !allowed.contains(name))),
            Some(EPERM),
            None,
        )?,
    ];
    for (name, errno, condition) in conditions() {
        // A refusal of arguments beside an allowance is for these alone; else the call is free, or only its conditions count.
        if GUARDED.contains(&name) || !allowed.contains(name) {
            entries.push(entry(vec![name.to_owned()], errno, Some(condition?))?);
        }
    }
    LinuxSeccompBuilder::default()
        .default_action(Action::ScmpActErrno)
        .default_errno_ret(ENOSYS)
        .architectures(vec![match arch {
            Arch::X86_64 => OciArch::ScmpArchX86_64,
            Arch::Aarch64 => OciArch::ScmpArchAarch64,
        }])
        // Without it kernels before 5.16 slow the program down by a mitigation that filters do not need.
        .flags(vec![LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow])
        .syscalls(entries)
        .build()
        .context(|| "cannot make the system call policy")
}

/// Calls whose arguments count: name, errno of a refusal, condition. What is refused by no condition falls to the default.
fn conditions() -> impl Iterator<Item = (&'static str, Option<u32>, Result<LinuxSeccompArg>)> {
    let all_namespaces = NAMESPACE_FLAGS.iter().sum::<u64>();
    let clone = std::iter::once(("clone", None, condition(0, Compare::ScmpCmpMaskedEq, all_namespaces, Some(0))))
        .chain(NAMESPACE_FLAGS.map(|flag| ("clone", Some(EPERM), condition(0, Compare::ScmpCmpMaskedEq, flag, Some(flag)))));
    let personality = PERSONALITIES.map(|value| ("personality", None, condition(0, Compare::ScmpCmpEq, value, None)));
    let (before, between, end) = FAMILIES;
    let socket = std::iter::once(("socket", None, condition(0, Compare::ScmpCmpLt, before, None)))
        .chain(between.map(|family| ("socket", None, condition(0, Compare::ScmpCmpEq, family, None))))
        .chain([38, 40].map(|family| ("socket", Some(EPERM), condition(0, Compare::ScmpCmpEq, family, None))))
        .chain([("socket", Some(EPERM), condition(0, Compare::ScmpCmpGe, end, None))]);
    let ioctl =
        TERMINAL_INJECTION.map(|request| ("ioctl", Some(EPERM), condition(1, Compare::ScmpCmpMaskedEq, LOW_HALF, Some(request))));
    // A connect by the back door, which neither a filter for connect(2) nor Landlock sees; who asks for it copes with a refusal.
    let fast_open = [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)].map(|(name, flags)| {
        (name, Some(EOPNOTSUPP), condition(flags, Compare::ScmpCmpMaskedEq, MSG_FASTOPEN, Some(MSG_FASTOPEN)))
    });
    clone.chain(personality).chain(socket).chain(ioctl).chain(fast_open)
}

fn condition(index: usize, op: Compare, value: u64, second: Option<u64>) -> Result<LinuxSeccompArg> {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    let builder = if let Some(second) = second { builder.value_two(second) } else { builder };
    builder.build().context(|| "cannot make a condition of the system call policy")
}

fn entry(names: Vec<String>, errno: Option<u32>, condition: Option<LinuxSeccompArg>) -> Result<LinuxSyscall> {
    let mut builder = LinuxSyscallBuilder::default().names(names);
    builder = match errno {
        None => builder.action(Action::ScmpActAllow),
        Some(errno) => builder.action(Action::ScmpActErrno).errno_ret(errno),
    };
    if let Some(condition) = condition {
        builder = builder.args(vec![condition]);
    }
    builder.build().context(|| "cannot make an entry of the system call policy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(groups: &[&'a str]) -> Vec<&'a str> {
        groups.iter().flat_map(|group| group.split_whitespace()).collect()
    }

    #[test]
    fn every_system_call_is_in_exactly_one_list() {
        let conditional = ["clone", "personality", "socket"];
        let mut listed: Vec<&str> =
            [words(ALLOWED), words(REFUSED), words(&[ABSENT]), conditional.to_vec()].into_iter().flatten().collect();
        listed.sort_unstable();
        let doubled: Vec<_> = listed.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
        let known: BTreeSet<&str> = Arch::ALL.iter().flat_map(|arch| arch.calls()).map(|(name, _)| name).collect();
        let listed: BTreeSet<&str> = listed.into_iter().collect();
        assert_eq!(listed.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "listed, but no system call");
        assert_eq!(known.difference(&listed).collect::<Vec<_>>(), Vec::<&&str>::new(), "in no list");
    }

    #[test]
    fn arguments_of_calls_that_everybody_may_make_are_refused_too() {
        let policy = policy(Arch::X86_64, &[], &[]).unwrap();
        for name in GUARDED {
            assert!(words(ALLOWED).contains(&name), "{name}");
            let refused = policy.syscalls().iter().flatten().any(|entry| {
                entry.action() == Action::ScmpActErrno && entry.names().iter().any(|it| it == name) && entry.args().is_some()
            });
            assert!(refused, "{name}");
        }
    }

    #[test]
    fn a_capability_adds_only_what_is_refused_without_it() {
        let refused: BTreeSet<&str> = words(REFUSED).into_iter().chain(["clone", "clone3"]).collect();
        for (capability, names) in BY_CAPABILITY {
            assert!(crate::recipe::CAPABILITIES.contains(capability), "{capability}");
            for name in names.split_whitespace() {
                assert!(refused.contains(name), "{capability}: {name}");
            }
        }
        for name in SUPERVISOR.split_whitespace() {
            assert!(refused.contains(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_no_system_call_is_refused_and_one_of_the_other_architecture_is_not() {
        let error = policy(Arch::Aarch64, &[], &["mount2".into()]).unwrap_err();
        assert!(error.what().contains("mount2") && error.find_hint().is_some());
        let policy = policy(Arch::Aarch64, &[], &["iopl".into()]).unwrap();
        assert!(!serde_json::to_string(&policy).unwrap().contains("iopl"));
    }
}
