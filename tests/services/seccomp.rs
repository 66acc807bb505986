//! System calls as a program in a container meets them.

use crate::support::{self, Machine, User};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use steading::spec::seccomp;
use steading::sys::syscalls::Arch;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const ENOTTY: i32 = 25;

/// Compiles the program for the container, whose C library is any or none, into a volume of the service.
fn build(machine: &Machine, user: &User, service: &str, volume: &str) {
    let home = format!("home/{}/.local/share/steading/services/{service}/data/{volume}/seccomp", user.name);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/programs/seccomp.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(machine.path().join(home)).arg(source);
    let output = gcc.output().expect("gcc runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What came of each call, in order.
fn results(text: &str) -> BTreeMap<&str, Vec<i32>> {
    let mut map: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for line in text.lines() {
        let (name, errno) = line.split_once(' ').expect(line);
        map.entry(name).or_default().push(errno.parse().expect(line));
    }
    map
}

/// Known calls that the default policy does not allow, whatever their arguments.
fn refused() -> Vec<(&'static str, i64)> {
    let policy = seccomp::policy(Arch::NATIVE, &[], &[]).expect("a policy");
    let mut allowed = Vec::new();
    for entry in policy.syscalls().iter().flatten().filter(|entry| entry.errno_ret().is_none()) {
        allowed.extend(entry.names().clone());
    }
    Arch::NATIVE.calls().filter(|(name, _)| !allowed.iter().any(|other| other == name)).collect()
}

fn seccomp_of(user: &User, service: &str, process: &str) -> (u32, u32) {
    let status = user.steading(&["exec", service, "--", "cat", &format!("/proc/{process}/status")]).ok();
    let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok()).expect(key);
    (field("Seccomp:"), field("Seccomp_filters:"))
}

#[test]
fn what_is_not_allowed_fails_inside_and_in_exec_and_the_rest_works() {
    for machine in support::machines() {
        let user = machine.user(false);
        user.steading(&["install", "redis@7", "--port", &format!("redis={}", user.free_port())]).ok();
        build(&machine, &user, "redis@7", "data");
        // Policy and notification, of the service and of who joins it.
        assert_eq!(seccomp_of(&user, "redis@7", "1"), (2, 2));
        assert_eq!(seccomp_of(&user, "redis@7", "self"), (2, 2));

        let calls = refused();
        assert!(calls.len() > 55, "{calls:?}");
        let numbers: Vec<String> = calls.iter().map(|(_, number)| number.to_string()).collect();
        let mut words = vec!["exec", "redis@7", "--", "/data/seccomp"];
        words.extend(numbers.iter().map(String::as_str));
        let text = user.steading(&words).ok();
        let got = results(&text);
        for ((name, _), number) in calls.iter().zip(&numbers) {
            let errno = got[number.as_str()][0];
            assert!(errno == EPERM || errno == ENOSYS, "{name}: {errno}");
        }
        // Without a filter these fail otherwise, or not at all.
        for name in ["unshare", "keyctl", "bpf", "userfaultfd", "io_uring_setup", "setns", "pivot_root", "pidfd_getfd", "mbind"] {
            let number = Arch::NATIVE.number(name).expect(name).to_string();
            assert_eq!(got[number.as_str()], [EPERM], "{name}");
        }
        assert_eq!(got[Arch::NATIVE.number("clone3").expect("clone3").to_string().as_str()], [ENOSYS]);
        let wanted: &[(&str, &[i32])] = &[
            ("clone-namespace", &[EPERM; 7]),
            ("clone", &[0]),
            ("socket-alg", &[EPERM]),
            ("socket-alg-high", &[EPERM]),
            ("socket-vsock", &[EPERM]),
            ("socket-unix", &[0]),
            ("personality-ask", &[0]),
            ("personality-no-randomize", &[ENOSYS]),
            ("sti", &[EPERM]),
            ("sti-high", &[EPERM]),
            ("tioclinux", &[EPERM]),
            ("tcgets", &[ENOTTY]),
            ("newest", &[ENOSYS]),
            ("memfd", &[0]),
            ("ptrace-1", &[0]),
            #[cfg(target_arch = "x86_64")]
            ("i386", &[ENOSYS; 2]),
            #[cfg(target_arch = "x86_64")]
            ("x32", &[ENOSYS]),
        ];
        for (name, errnos) in wanted {
            assert_eq!(got[name], *errnos, "{name}");
        }
        user.steading(&["remove", "--purge", "redis@7"]).ok();
        assert_eq!(user.leftovers(), "");
    }
}

#[test]
fn the_supervisor_keeps_what_it_needs_and_nothing_else() {
    for machine in support::machines() {
        let user = machine.user(true);
        user.steading(&["install", "redis@7", "--port", &format!("redis={}", user.free_port())]).ok();
        let run_dir = format!("/run/user/{}/steading/services/redis@7", user.sh("id -u").ok());
        let pid = user.sh("systemctl --user show -P MainPID redis@7").ok();
        let status = machine.root(&format!("cat /proc/{pid}/status")).ok();
        for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000"] {
            assert!(status.lines().any(|other| other == line), "{line}: {status}");
        }
        // Its tree, as root sees it: nothing of the host, and nothing of another service.
        let tree = machine.root(&format!("cd /proc/{pid}/root && find . -xdev -type d | sort")).ok();
        let mut wanted = vec![".".to_owned(), "./proc".into()];
        wanted.extend(
            Path::new(&run_dir).ancestors().filter(|path| *path != Path::new("/")).map(|path| format!(".{}", path.display())),
        );
        wanted.sort();
        assert_eq!(tree.lines().collect::<Vec<_>>(), wanted);
        let namespaces = |of: &str| machine.root(&format!("readlink /proc/{of}/ns/user /proc/{of}/ns/mnt")).ok();
        let (own, host) = (namespaces(&pid), namespaces("1"));
        assert!(own.lines().zip(host.lines()).all(|(own, host)| own != host), "{own} {host}");
        // It can no more look at its user's other processes than a stranger.
        let other = user.sh("systemctl --user show -P MainPID steading-yard").ok();
        let look = format!("nsenter --user=/proc/{pid}/ns/user --preserve-credentials readlink /proc/{other}/exe");
        assert!(user.sh(&format!("readlink /proc/{other}/exe")).ok().contains("steading"));
        assert_ne!(user.sh(&look).code, 0, "{look}");
        // Whatever its end, its directory goes.
        user.sh(&format!("test -d {run_dir}")).ok();
        user.steading(&["stop", "redis@7"]).ok();
        user.sh(&format!("test ! -e {run_dir}")).ok();
        user.steading(&["start", "redis@7"]).ok();
        user.sh("systemctl --user kill --signal=KILL redis@7; systemctl --user stop redis@7").ok();
        user.sh(&format!("test ! -e {run_dir}")).ok();
        user.steading(&["remove", "--purge", "redis@7"]).ok();
        assert_eq!(user.leftovers(), "");
    }
}

const RECIPE: &str = r#"
[recipe]
schema = 1
name = "loose"
title = "Loose"
summary = "May make two more system calls"
default-version = "1"

[image]
reference = "docker.io/library/busybox"

[run]
uid = 4321
gid = 4321
init = true
args = ["sleep", "1000"]

[data.data]
path = "/data"

[ready]
probe = "started"

[isolation]
syscalls = ["userfaultfd", "io_uring_setup"]

[versions."1"]
tag = "latest"
"#;

#[test]
fn a_recipe_loosens_what_it_names_and_the_reaper_is_no_way_out() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let write =
        format!("mkdir -p ~/.config/steading/catalog; cat > ~/.config/steading/catalog/loose.toml <<'END'\n{RECIPE}\nEND");
    user.sh(&write).ok();
    user.steading(&["install", "loose"]).ok();
    build(&machine, &user, "loose@1", "data");
    // The reaper has the policy too, though the service can neither see nor trace it.
    let reaper = user.sh("cat /proc/$(pgrep -P $(systemctl --user show -P MainPID loose@1))/status").ok();
    assert!(reaper.contains("\nSeccomp:\t2\nSeccomp_filters:\t1\n"), "{reaper}");
    assert_ne!(user.steading(&["exec", "loose@1", "--", "cat", "/proc/1/status"]).code, 0);
    assert_eq!(seccomp_of(&user, "loose@1", "2"), (2, 2), "the service");
    let number = |name: &str| Arch::NATIVE.number(name).expect(name).to_string();
    let (setup, enter) = (number("io_uring_setup"), number("io_uring_enter"));
    let check = || {
        let text = user.steading(&["exec", "loose@1", "--", "/data/seccomp", &setup, &enter]).ok();
        let got = results(&text);
        // No pointer, so EFAULT, by the kernel itself.
        assert!(![EPERM, ENOSYS].contains(&got[setup.as_str()][0]), "{got:?}");
        assert_eq!(got[enter.as_str()], [EPERM]);
        assert_eq!(got["clone-namespace"], [EPERM; 7]);
        assert_eq!(got["ptrace-1"], [EPERM]);
    };
    check();
    // A policy that is gone or torn is compiled again from config.json.
    let file = "~/.local/share/steading/services/loose@1/current/seccomp.bpf";
    for damage in ["truncate -s 100", "rm"] {
        user.sh(&format!("{damage} {file}")).ok();
        user.steading(&["restart", "loose@1"]).ok();
        assert_eq!(seccomp_of(&user, "loose@1", "2"), (2, 2), "{damage}");
        check();
    }
    user.steading(&["remove", "--purge", "loose@1"]).ok();
    user.sh("rm ~/.config/steading/catalog/loose.toml").ok();
}
