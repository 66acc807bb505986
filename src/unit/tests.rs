//! Units as a whole: snapshots, and systemd's own opinion of them.

use super::*;
use crate::image::Digest;
use crate::resolve::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn digest() -> Digest {
    format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
}

fn plan() -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "postgres@14".parse().unwrap(),
        recipe: PlanRecipe {
            name: "postgres".into(),
            version: "14".into(),
            source: "built-in".into(),
            title: "PostgreSQL".into(),
        },
        image: PlanImage {
            reference: "registry.example/library/postgres:14".into(),
            digest: digest(),
            index_digest: None,
            config: digest(),
            platform: "linux/amd64".into(),
            layers: Vec::new(),
        },
        process: PlanProcess {
            args: vec!["postgres".into()],
            cwd: "/".into(),
            env: BTreeMap::new(),
            uid: 999,
            gid: 999,
            hostname: "postgres".into(),
            init: false,
        },
        ports: vec![PlanPort {
            name: "db".into(),
            container: 5432,
            protocol: Protocol::Tcp,
            host: "127.0.0.1:5432".parse().unwrap(),
        }],
        volumes: Vec::new(),
        secrets: Vec::new(),
        isolation: Isolation::default(),
        ready: Ready {
            probe: Probe::Listen,
            interval_ms: 100,
            timeout_ms: 1000,
            start_timeout_s: 120,
            watchdog_s: None,
            first_start: None,
            phases: BTreeMap::new(),
        },
        stop: Stop { signal: "SIGINT".into(), timeout_s: 300, command: Vec::new(), no_sigkill: false },
        limits: Limits::default(),
        connect: Connect::default(),
        settings: BTreeMap::new(),
    }
}

fn limited() -> Plan {
    let mut plan = plan();
    plan.name = "orders".parse().unwrap();
    plan.recipe.title = "100% \"Orders\"\nsecond line".into();
    plan.limits = Limits {
        memory_bytes: Some(512 << 20),
        cpu_percent: Some(150),
        tasks: Some(64),
        memory_high_bytes: Some(384 << 20),
        cpu_weight: Some(50),
        io_weight: Some(10),
        oom_score_adjust: Some(300),
    };
    plan.ready.start_timeout_s = 0;
    plan.stop.timeout_s = u64::MAX;
    plan
}

fn places() -> Vec<(String, String)> {
    vec![("XDG_DATA_HOME".into(), "/srv/big disk/100%/$HOME".into()), ("XDG_CONFIG_HOME".into(), "/srv/co\"nf\\ig".into())]
}

#[test]
fn plain_units() {
    let units = render(&plan(), Path::new("/usr/bin/steading"), &[]).unwrap();
    assert_eq!(units.service.name, "postgres@14.service");
    insta::assert_snapshot!("service", units.service.text);
    insta::assert_snapshot!("yard", units.yard.text);
    insta::assert_snapshot!("slice", units.slice.text);
    insta::assert_snapshot!("run", shared(Path::new("/usr/bin/steading"), &places()).unwrap().run.text);
}

#[test]
fn units_with_limits_and_awkward_values() {
    let units = render(&limited(), Path::new("/opt/my tools/100%/$x/steading"), &places()).unwrap();
    insta::assert_snapshot!("service-awkward", units.service.text);
    insta::assert_snapshot!("yard-awkward", units.yard.text);
}

#[test]
fn a_watchdog_and_a_life_to_spare() {
    let mut plan = plan();
    plan.ready.watchdog_s = Some(90);
    plan.stop.no_sigkill = true;
    let text = render(&plan, Path::new("/usr/bin/steading"), &[]).unwrap().service.text;
    for line in ["WatchdogSec=90s", "SendSIGKILL=no", "KillMode=process", "RuntimeDirectoryPreserve=yes"] {
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}

#[test]
fn limits_that_let_nothing_run_are_refused() {
    let mut plan = plan();
    plan.limits.memory_bytes = Some(0);
    let error = render(&plan, Path::new("/usr/bin/steading"), &[]).unwrap_err();
    assert!(error.to_string().contains("MemoryMax"), "{error}");
}

#[test]
fn a_limit_without_its_controller_is_named() {
    let limits = limited().limits;
    let all = ["cpu", "io", "memory", "pids"].map(str::to_owned);
    assert_eq!(unenforced(&limits, &all), []);
    let lacks = unenforced(&limits, &all[..1]);
    assert_eq!(lacks.len(), 4, "{lacks:?}");
    assert!(lacks.contains(&("MemoryHigh=402653184".into(), "memory")) && lacks.contains(&("IOWeight=10".into(), "io")));
    assert_eq!(unenforced(&Limits::default(), &[]), []);
}

#[test]
fn our_units_are_recognised_and_others_are_not() {
    let units = render(&plan(), Path::new("/usr/bin/steading"), &[]).unwrap();
    assert_eq!(marker(&units.service.text), Some(Marker::Service("postgres@14".parse().unwrap())));
    assert_eq!(marker(&units.yard.text), Some(Marker::Yard));
    assert_eq!(marker(&units.slice.text), Some(Marker::Slice));
    let shared = shared(Path::new("/usr/bin/steading"), &[]).unwrap();
    assert_eq!((&shared.yard, &shared.slice), (&units.yard, &units.slice));
    assert_eq!(marker(&shared.run.text), Some(Marker::Run));
    for foreign in [
        "",
        "[Unit]\nDescription=x\n",
        "# Written by steading\n[Service]\nService=a\n",
        "[X-Steading]\n[Unit]\nYard=yes\n",
        "[X-Steading]\nService=../evil\n",
    ] {
        assert!(!is_ours(foreign), "{foreign:?}");
    }
}

/// What `systemd-analyze verify` says of both services; its exit code is 0 even for unknown keys, so the text must be empty.
#[test]
fn systemd_finds_no_fault() {
    let present = Command::new("systemd-analyze").arg("--version").output().is_ok_and(|out| out.status.success());
    if !present {
        assert!(std::env::var_os("STEADING_MUST_WORK").is_none(), "systemd-analyze is missing (Debian package `systemd`)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // verify wants a program that exists; its directory has every character that needs an escape and may stand there.
    let odd = dir.path().join("my tools 100% $HOME ${PATH} ü");
    std::fs::create_dir(&odd).unwrap();
    let exe = odd.join("steading");
    std::os::unix::fs::symlink("/bin/true", &exe).unwrap();
    let mut watched = plan();
    watched.ready.watchdog_s = Some(90);
    watched.stop.no_sigkill = true;
    for plan in [plan(), limited(), watched] {
        let units = render(&plan, &exe, &places()).unwrap();
        let mut files = Vec::new();
        let shared = shared(&exe, &places()).unwrap();
        for unit in [&units.service, &units.yard, &units.slice, &shared.run] {
            files.push(dir.path().join(&unit.name));
            std::fs::write(files.last().unwrap(), &unit.text).unwrap();
        }
        assert_eq!(verify(dir.path(), &files), "", "{}", plan.name);
    }
    // The test can fail: an unknown key is reported.
    let broken = dir.path().join("broken.service");
    std::fs::write(&broken, "[Service]\nExecStart=/bin/true\nNoSuchKey=1\n").unwrap();
    assert!(verify(dir.path(), &[broken]).contains("NoSuchKey"));
}

fn verify(runtime: &Path, files: &[std::path::PathBuf]) -> String {
    let out = Command::new("systemd-analyze")
        .args(["--user", "--recursive-errors=no", "verify"])
        .args(files)
        .env("XDG_RUNTIME_DIR", runtime)
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout)
}
