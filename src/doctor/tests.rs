//! Every check against hosts that lack something.

use super::*;
use crate::doctor::facts::runtime_dir;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn good() -> Facts {
    Facts {
        kernel: "6.1.0-28-amd64".into(),
        user: "alice".into(),
        sysctls: Sysctls::default(),
        probes: Probe::ALL.into_iter().map(|probe| (probe, Outcome::Works(String::new()))).collect(),
        fuse_device: Ok(()),
        runtime_dir: RuntimeDir::Good("/run/user/1000".into()),
        booted: true,
        manager: Ok(ManagerFacts { version: 252, control_group: "/x".into() }),
        linger: Some(true),
        unified: true,
        controllers: Some(["cpu", "memory", "pids"].map(String::from).to_vec()),
        ids: IdFacts { counts: Ok((0, 0)), helpers: true, remedy: "usermod".into() },
        needed_controllers: BTreeSet::from(["memory"]),
        store: Some(("/s".into(), Ok(100 << 30))),
    }
}

/// What `check` finds on a host that differs from a good one.
fn found(name: &str, spoil: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = good();
    spoil(&mut facts);
    check(&facts).finding(name).unwrap().clone()
}

fn fails(facts: &mut Facts, probe: Probe, errno: i32) {
    let outcome = Outcome::Fails { step: "do it".into(), error: "refused".into(), errno };
    facts.probes.insert(probe, outcome);
}

#[test]
fn a_good_host_is_good_and_every_check_has_its_own_name() {
    let report = check(&good());
    assert_eq!(report.worst(), Severity::Ok, "{report:#?}");
    let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CHECKS.len());
}

type Spoil = fn(&mut Facts);

#[test]
fn each_lack_is_found_with_its_severity_and_remedy() {
    let cases: &[(&str, Spoil, Severity, &str)] = &[
        ("kernel", |f| f.kernel = "5.13.9".into(), Severity::Fatal, "5.14"),
        ("kernel", |f| f.kernel = "4.18.0-553.el8".into(), Severity::Fatal, "5.14"),
        (
            "user-namespaces",
            |f| {
                fails(f, Probe::Userns, libc::EPERM);
                f.sysctls.unprivileged_userns_clone = Some("0".into());
            },
            Severity::Fatal,
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "user-namespaces",
            |f| {
                fails(f, Probe::Userns, libc::ENOSPC);
                f.sysctls.max_user_namespaces = Some("0".into());
            },
            Severity::Fatal,
            "user.max_user_namespaces",
        ),
        (
            "user-namespaces",
            |f| {
                fails(f, Probe::Userns, libc::EACCES);
                f.sysctls.apparmor_restrict = Some("1".into());
            },
            Severity::Fatal,
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ("user-namespaces", |f| fails(f, Probe::Userns, libc::EPERM), Severity::Fatal, "seccomp profile"),
        ("overlay", |f| fails(f, Probe::Overlay, libc::ENODEV), Severity::Fatal, "modprobe overlay"),
        ("overlay", |f| fails(f, Probe::Overlay, libc::EINVAL), Severity::Fatal, "XDG_DATA_HOME"),
        ("fuse-device", |f| f.fuse_device = Err("No such file".into()), Severity::Fatal, "modprobe fuse"),
        ("fuse-mount", |f| fails(f, Probe::Fuse, libc::EPERM), Severity::Fatal, "mount(2)"),
        ("port-handover", |f| fails(f, Probe::Seccomp, libc::EBUSY), Severity::Fatal, "listener"),
        ("runtime-directory", |f| f.runtime_dir = RuntimeDir::Unset, Severity::Fatal, "log in"),
        ("runtime-directory", |f| f.runtime_dir = RuntimeDir::Bad("/x".into(), "no".into()), Severity::Fatal, "logind"),
        (
            "user-manager",
            |f| f.manager = Err(Absent { cause: "no bus".into(), remedy: "dbus-user-session".into() }),
            Severity::Fatal,
            "dbus-user-session",
        ),
        (
            "user-manager",
            |f| {
                f.manager = Err(Absent { cause: "no bus".into(), remedy: "dbus-user-session".into() });
                f.booted = false;
            },
            Severity::Fatal,
            "boots with systemd",
        ),
        (
            "systemd-version",
            |f| f.manager = Ok(ManagerFacts { version: 249, control_group: String::new() }),
            Severity::Fatal,
            "upgrade",
        ),
        ("linger", |f| f.linger = Some(false), Severity::Warning, "loginctl enable-linger"),
        ("cgroup", |f| f.unified = false, Severity::Warning, "unified_cgroup_hierarchy"),
        ("controllers", |f| f.controllers = Some(vec!["cpu".into(), "pids".into()]), Severity::Warning, "Delegate="),
        (
            "subordinate-ids",
            |f| f.ids.counts = Err(("line 3 cannot be read".into(), "correct it".into())),
            Severity::Warning,
            "correct it",
        ),
        ("subordinate-ids", |f| f.ids.counts = Ok((65_536, 0)), Severity::Warning, "usermod"),
        (
            "subordinate-ids",
            |f| {
                f.ids.counts = Ok((65_536, 65_536));
                f.ids.helpers = false;
            },
            Severity::Warning,
            "uidmap",
        ),
        (
            "subordinate-ids",
            |f| {
                f.ids.counts = Ok((65_536, 65_536));
                fails(f, Probe::Range, 0);
            },
            Severity::Warning,
            "setuid root",
        ),
        (
            "controllers",
            |f| {
                f.needed_controllers.insert("io");
            },
            Severity::Warning,
            "user@.service.d/delegate.conf",
        ),
        ("store-space", |f| f.store = Some(("/s".into(), Ok(1 << 30))), Severity::Warning, "config.toml"),
        ("store-space", |f| f.store = Some(("/s".into(), Ok(1))), Severity::Fatal, "config.toml"),
    ];
    for (name, spoil, severity, remedy) in cases {
        let finding = found(name, spoil);
        assert_eq!(finding.severity, *severity, "{name}: {finding:?}");
        assert!(finding.remedy.as_deref().is_some_and(|text| text.contains(remedy)), "{name}: {finding:?}");
    }
}

#[test]
fn subordinate_ids_are_counted_and_what_they_serve_is_said() {
    for (counts, kernel, part) in [
        ((0, 0), "6.18.0", "none; few"),
        ((65_536, 65_536), "6.18.0", "`range` or `private`"),
        ((65_536, 65_536), "6.1.0-28-amd64", "Linux 6.12"),
        ((10, 65_536), "6.18.0", "10; `private` ids need"),
    ] {
        let finding = found("subordinate-ids", |f| {
            f.ids.counts = Ok(counts);
            f.kernel = kernel.into();
        });
        assert!(finding.severity == Severity::Ok && finding.found.contains(part), "{finding:?}");
    }
}

#[test]
fn what_cannot_be_known_is_no_second_failure() {
    let mut facts = good();
    fails(&mut facts, Probe::Userns, libc::EPERM);
    fails(&mut facts, Probe::Overlay, libc::EPERM);
    fails(&mut facts, Probe::Fuse, libc::EPERM);
    fails(&mut facts, Probe::Range, libc::EPERM);
    facts.manager = Err(Absent { cause: String::new(), remedy: String::new() });
    facts.controllers = None;
    facts.store = None;
    let report = check(&facts);
    let fatal: Vec<_> =
        report.findings.iter().filter(|finding| finding.severity == Severity::Fatal).map(|finding| finding.name).collect();
    assert_eq!(fatal, ["user-namespaces", "user-manager"]);
}

#[test]
fn the_report_is_plain_json() {
    let json = serde_json::to_value(check(&good())).unwrap();
    assert_eq!(json["findings"][0]["name"], "kernel");
    assert_eq!(json["findings"][0]["severity"], "ok");
    assert!(json["findings"][0].get("remedy").is_none());
}

#[test]
fn an_outcome_crosses_between_processes() {
    for outcome in
        [Outcome::Works("protocol 7.45".into()), Outcome::Fails { step: "mount".into(), error: "no".into(), errno: libc::EPERM }]
    {
        let text = serde_json::to_string_pretty(&outcome).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
    }
    assert_eq!("fuse".parse::<Probe>().unwrap(), Probe::Fuse);
    assert!("nothing".parse::<Probe>().is_err());
}

#[test]
fn a_runtime_directory_must_be_the_users_alone() {
    let uid = nix::unistd::getuid().as_raw();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(runtime_dir(Some(path.clone()), uid), RuntimeDir::Good(path.clone()));
    assert!(matches!(runtime_dir(Some(path.clone()), uid + 1), RuntimeDir::Bad(..)));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(runtime_dir(Some(path), uid), RuntimeDir::Bad(..)));
    assert_eq!(runtime_dir(Some(PathBuf::from("relative")), uid), RuntimeDir::Unset);
    assert_eq!(runtime_dir(None, uid), RuntimeDir::Unset);
}
