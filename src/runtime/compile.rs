//! The `linux.seccomp` object of a runtime spec -> filter programs of the kernel, by `seccompiler`.
//!
//! A filter of `seccompiler` has one action for what it lists and one for the rest, so a policy with two errnos is a stack: the
//! lowest filter allows what is listed and answers all else with the default errno; above it one filter for each other errno refuses
//! its own list. The kernel runs all of them and takes the strictest action; among equals that of the filter installed
//! last (seccomp(2)). Thus a refusal wins over an allowance, and its errno over the default one. `condense.rs` makes one filter of them.

use super::condense::condense;
use crate::error::{Context, Error, Result};
use crate::sys::seccomp::Instruction;
use crate::sys::syscalls::Arch;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator as Compare, LinuxSyscall};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// By number of the system call; without rules it matches whatever its arguments.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles `seccomp`, all of whose actions must be to allow or to fail with an errno, to one filter.
pub(super) fn compile(seccomp: &LinuxSeccomp, arch: Arch) -> Result<Vec<Instruction>> {
    condense(&stack(seccomp, arch)?, arch)
}

/// The filters of `seccomp` in the order of their installation.
fn stack(seccomp: &LinuxSeccomp, arch: Arch) -> Result<Vec<Vec<Instruction>>> {
    if seccomp.default_action() != LinuxSeccompAction::ScmpActErrno {
        return Err(unsupported(&format!("the default action {}", seccomp.default_action())));
    }
    let default = seccomp.default_errno_ret().unwrap_or(libc::EPERM as u32);
    let mut allowed = Rules::new();
    let mut refused: BTreeMap<u32, Rules> = BTreeMap::new();
    for entry in seccomp.syscalls().iter().flatten() {
        match entry.action() {
            LinuxSeccompAction::ScmpActAllow => add(&mut allowed, entry, arch)?,
            LinuxSeccompAction::ScmpActErrno => {
                add(refused.entry(entry.errno_ret().unwrap_or(libc::EPERM as u32)).or_default(), entry, arch)?;
            }
            other => return Err(unsupported(&format!("the action {other}"))),
        }
    }
    refused.remove(&default);
    let mut programs = vec![build(allowed, SeccompAction::Allow, SeccompAction::Errno(default), arch)?];
    for (errno, rules) in refused {
        programs.push(build(rules, SeccompAction::Errno(errno), SeccompAction::Allow, arch)?);
    }
    Ok(programs)
}

fn unsupported(what: &str) -> Error {
    Error::failed(format!("{what} of a system call policy is not supported"))
        .hint("only SCMP_ACT_ALLOW and SCMP_ACT_ERRNO are; was `config.json` edited by hand?")
}

/// Names that this architecture does not have are passed over, as by every runtime.
fn add(rules: &mut Rules, entry: &LinuxSyscall, arch: Arch) -> Result<()> {
    let args = entry.args().as_deref().unwrap_or_default();
    for number in entry.names().iter().filter_map(|name| arch.number(name)) {
        if args.is_empty() {
            rules.insert(number, Vec::new());
            continue;
        }
        let conditions = args.iter().map(condition).collect::<Result<Vec<_>>>()?;
        let rule = SeccompRule::new(conditions).context(|| "cannot make a rule of the system call filter")?;
        match rules.get_mut(&number) {
            // Matched whatever its arguments.
            Some(known) if known.is_empty() => {}
            Some(known) => known.push(rule),
            None => drop(rules.insert(number, vec![rule])),
        }
    }
    Ok(())
}

fn condition(arg: &LinuxSeccompArg) -> Result<SeccompCondition> {
    let (mut length, mut value) = (Length::Qword, arg.value());
    let operator = match arg.op() {
        Compare::ScmpCmpNe => SeccompCmpOp::Ne,
        Compare::ScmpCmpLt => SeccompCmpOp::Lt,
        Compare::ScmpCmpLe => SeccompCmpOp::Le,
        Compare::ScmpCmpEq => SeccompCmpOp::Eq,
        Compare::ScmpCmpGe => SeccompCmpOp::Ge,
        Compare::ScmpCmpGt => SeccompCmpOp::Gt,
        // Here the first value is the mask (libseccomp's SCMP_CMP_MASKED_EQ).
        Compare::ScmpCmpMaskedEq => {
            value = arg.value_two().unwrap_or(0);
            if arg.value() >> 32 == 0 {
                length = Length::Dword;
            }
            SeccompCmpOp::MaskedEq(arg.value())
        }
    };
    let index = u8::try_from(arg.index()).unwrap_or(u8::MAX);
    SeccompCondition::new(index, length, operator, value).context(|| "cannot make a condition of the system call filter")
}

fn build(rules: Rules, matched: SeccompAction, other: SeccompAction, arch: Arch) -> Result<Vec<Instruction>> {
    let what = || "cannot compile the system call filter";
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    let program: BpfProgram = SeccompFilter::new(rules, other, matched, target).and_then(TryInto::try_into).context(what)?;
    let mut program: Vec<Instruction> =
        program.iter().map(|one| Instruction { code: one.code, jt: one.jt, jf: one.jf, k: one.k }).collect();
    answer_foreign(&mut program, arch)?;
    Ok(program)
}

/// `seccompiler` begins every program with three instructions that kill a process which makes a call of another architecture.
/// It shall get ENOSYS, as from a kernel that is not built for that architecture.
fn answer_foreign(program: &mut [Instruction], arch: Arch) -> Result<()> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let [load, compare, kill, ..] = program else { return Err(Error::failed("the compiled filter is too short")) };
    let fields = [load, compare, kill].map(|one| (u32::from(one.code), one.jt, one.jf, one.k));
    // Offset of `arch` in struct seccomp_data: 4.
    if fields != [(LOAD, 0, 0, 4), (EQUAL, 1, 0, arch.audit()), (RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS)] {
        return Err(Error::failed("the compiled filter does not begin with the check of the architecture"));
    }
    kill.k = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::seccomp::{for_supervisor, policy};

    /// What the kernel does with `struct seccomp_data`: every program runs, the strictest action wins, the last installed first.
    fn decide(programs: &[Vec<Instruction>], audit: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [0_u32; 16];
        (data[0], data[1]) = (number, audit);
        for (index, arg) in args.iter().enumerate() {
            (data[4 + 2 * index], data[5 + 2 * index]) = (*arg as u32, (*arg >> 32) as u32);
        }
        let results = programs.iter().rev().map(|program| run(program, &data));
        results.min_by_key(|result| (result & libc::SECCOMP_RET_ACTION_FULL) as i32).unwrap()
    }

    /// Classic BPF, as much of it as filters use (linux/filter.h).
    fn run(program: &[Instruction], data: &[u32; 16]) -> u32 {
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let one = program[at];
            let jump = |yes: bool| 1 + usize::from(if yes { one.jt } else { one.jf });
            at += match u32::from(one.code) {
                0x20 => {
                    a = data[one.k as usize / 4];
                    1
                }
                0x54 => {
                    a &= one.k;
                    1
                }
                0x05 => 1 + one.k as usize,
                0x15 => jump(a == one.k),
                0x25 => jump(a > one.k),
                0x35 => jump(a >= one.k),
                0x06 => return one.k,
                other => panic!("instruction {other:#x}"),
            };
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
    const EOPNOTSUPP: u32 = libc::SECCOMP_RET_ERRNO | 95;

    /// The stack and the one filter made of it, which must agree.
    struct Judge {
        arch: Arch,
        stack: Vec<Vec<Instruction>>,
        filter: Vec<Instruction>,
    }

    impl Judge {
        fn new(arch: Arch, seccomp: &LinuxSeccomp) -> Judge {
            Judge { arch, stack: stack(seccomp, arch).unwrap(), filter: compile(seccomp, arch).unwrap() }
        }

        fn of(arch: Arch, capabilities: &[&str], more: &[&str]) -> Judge {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            Judge::new(arch, &policy(arch, &owned(capabilities), &owned(more)).unwrap())
        }

        fn raw(&self, audit: u32, number: u32, args: [u64; 2]) -> u32 {
            let args = [args[0], args[1], 0, 0, 0, 0];
            let result = decide(std::slice::from_ref(&self.filter), audit, number, args);
            assert_eq!(result, decide(&self.stack, audit, number, args), "{:?} {audit:#x} {number} {args:x?}", self.arch);
            result
        }

        fn call(&self, name: &str, args: [u64; 2]) -> u32 {
            self.raw(self.arch.audit(), u32::try_from(self.arch.number(name).unwrap()).unwrap(), args)
        }
    }

    #[test]
    fn every_call_gets_what_the_policy_intends() {
        for arch in Arch::ALL {
            let judge = Judge::of(arch, &[], &[]);
            let count = |wanted: u32| arch.calls().filter(|(name, _)| judge.call(name, [0, 0]) == wanted).count();
            let (allowed, refused, absent) = (count(ALLOW), count(EPERM), count(ENOSYS));
            assert_eq!(allowed + refused + absent, arch.calls().count(), "{arch:?}");
            assert!(allowed > 240 && refused > 50 && absent >= 3, "{arch:?}: {allowed} {refused} {absent}");
            for name in ["openat", "execve", "exit_group", "bind", "listen", "seccomp", "ptrace", "ioctl", "socket", "clone"] {
                assert_eq!(judge.call(name, [0, 0]), ALLOW, "{name}");
            }
            for name in
                ["mount", "unshare", "setns", "bpf", "keyctl", "userfaultfd", "io_uring_setup", "kexec_load", "pidfd_getfd"]
            {
                assert_eq!(judge.call(name, [0, 0]), EPERM, "{name}");
            }
            assert_eq!(judge.call("clone3", [0, 0]), ENOSYS);
            for number in 0..1000 {
                judge.raw(arch.audit(), number, [u64::MAX, 0]);
            }
            // A tenth of what it was made of.
            assert!(judge.filter.len() < 500, "{}", judge.filter.len());
            // Newer than the table, x32, and other architectures.
            for number in [470, 1000, u32::MAX, 0x4000_0000, 0x4000_0001] {
                assert_eq!(judge.raw(arch.audit(), number, [0, 0]), ENOSYS, "{number:#x}");
            }
            for audit in [0x4000_0003, 0x4000_0028, 0, if arch == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 }.audit()] {
                for number in [0, 1, 3, 102, 120] {
                    assert_eq!(judge.raw(audit, number, [0, 0]), ENOSYS, "{audit:#x} {number}");
                }
            }
        }
    }

    #[test]
    fn arguments_count_and_high_bits_do_not_help() {
        let high = 1_u64 << 32;
        for arch in Arch::ALL {
            let judge = Judge::of(arch, &[], &[]);
            for family in [1, 2, 10, 16, 17, 39, 44, 45] {
                assert_eq!(judge.call("socket", [family, 0]), ALLOW, "{family}");
            }
            for family in [38, 40, 46, high | 38, high | 40, high | 2, u64::MAX] {
                assert_eq!(judge.call("socket", [family, 0]), EPERM, "{family:#x}");
            }
            // fork(3), a thread of the C library, vfork(3).
            for flags in [0x0120_0011, 0x003D_0F00, 0x4111] {
                assert_eq!(judge.call("clone", [flags, 0]), ALLOW, "{flags:#x}");
            }
            for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000_u64] {
                assert_eq!(judge.call("clone", [flag | 0x11, 0]), EPERM, "{flag:#x}");
                assert_eq!(judge.call("clone", [high | flag, 0]), EPERM, "{flag:#x}");
            }
            for value in [0, 8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF] {
                assert_eq!(judge.call("personality", [value, 0]), ALLOW, "{value:#x}");
            }
            for value in [0x4_0000, 0x40_0000, 9, high] {
                assert_eq!(judge.call("personality", [value, 0]), ENOSYS, "{value:#x}");
            }
            for request in [0x5412, 0x541C, high | 0x5412, u64::MAX << 32 | 0x541C] {
                assert_eq!(judge.call("ioctl", [0, request]), EPERM, "{request:#x}");
            }
            for (name, flags) in [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)] {
                let number = u32::try_from(arch.number(name).unwrap()).unwrap();
                // MSG_NOSIGNAL alone; with MSG_FASTOPEN; with a high bit as well.
                for (value, wanted) in [(0x4000, ALLOW), (0x2000_4000, EOPNOTSUPP), (high | 0x2000_0000, EOPNOTSUPP)] {
                    let mut args = [0; 6];
                    args[flags] = value;
                    for programs in [std::slice::from_ref(&judge.filter), &judge.stack] {
                        assert_eq!(decide(programs, arch.audit(), number, args), wanted, "{name} {value:#x}");
                    }
                }
            }
            for request in [0x5401, 0x5413, 0x8004_5430, 0xFFFF_FFFF_8004_5430] {
                assert_eq!(judge.call("ioctl", [0, request]), ALLOW, "{request:#x}");
            }
        }
    }

    #[test]
    fn capabilities_and_names_loosen_what_they_name() {
        for arch in Arch::ALL {
            let admin = Judge::of(arch, &["SYS_ADMIN"], &[]);
            for name in ["mount", "unshare", "setns", "clone3", "bpf"] {
                assert_eq!(admin.call(name, [0, 0]), ALLOW, "{name}");
            }
            assert_eq!(admin.call("clone", [0x1000_0000, 0]), ALLOW);
            assert_eq!(admin.call("ioctl", [0, 0x5412]), EPERM);
            assert_eq!(admin.call("kexec_load", [0, 0]), EPERM);
            let named = Judge::of(arch, &["SYS_CHROOT"], &["io_uring_setup", "socket", "clone3"]);
            assert_eq!(named.call("chroot", [0, 0]), ALLOW);
            assert_eq!(named.call("io_uring_setup", [0, 0]), ALLOW);
            assert_eq!(named.call("io_uring_enter", [0, 0]), EPERM);
            assert_eq!(named.call("socket", [38, 0]), ALLOW);
            assert_eq!(named.call("clone3", [0, 0]), ALLOW);
        }
    }

    #[test]
    fn the_supervisor_may_do_what_its_service_may_and_a_little_more() {
        for arch in Arch::ALL {
            for capabilities in [&[][..], &["SYS_ADMIN".to_owned(), "SYS_NICE".to_owned()]] {
                let service = policy(arch, capabilities, &[]).unwrap();
                let own = Judge::new(arch, &for_supervisor(arch, &service).unwrap());
                let service = Judge::new(arch, &service);
                for (name, _) in arch.calls() {
                    for args in [[0, 0], [38, 0x5412], [0x1000_0000, 0]] {
                        let more = ["keyctl", "pidfd_getfd", "setns"].contains(&name);
                        let wanted = if more { ALLOW } else { service.call(name, args) };
                        assert_eq!(own.call(name, args), wanted, "{name} {args:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn actions_that_no_stack_of_errnos_can_carry_out_are_refused() {
        let text = |default: &str, action: &str| {
            format!(r#"{{"defaultAction": "{default}", "syscalls": [{{"names": ["read"], "action": "{action}"}}]}}"#)
        };
        for (default, action) in [("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"), ("SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY")] {
            let seccomp: LinuxSeccomp = serde_json::from_str(&text(default, action)).unwrap();
            assert!(compile(&seccomp, Arch::NATIVE).unwrap_err().find_hint().is_some());
        }
    }
}
