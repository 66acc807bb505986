use super::*;
use crate::image::Digest;
use crate::resolve::*;
use std::collections::BTreeMap;

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
            reference: "docker.io/library/postgres:14".into(),
            digest: Digest::of(b"image"),
            index_digest: None,
            config: Digest::of(b"config"),
            platform: "linux/amd64".into(),
            layers: Vec::new(),
        },
        process: PlanProcess {
            args: vec!["docker-entrypoint.sh".into(), "postgres".into()],
            cwd: "/".into(),
            env: BTreeMap::from([("PGDATA".into(), "/var/lib/postgresql/data".into())]),
            uid: 999,
            gid: 999,
            hostname: "postgres-14".into(),
            init: false,
        },
        ports: Vec::new(),
        volumes: vec![
            PlanVolume { name: "inner".into(), target: "/data/inner".into(), source: None, read_only: true },
            PlanVolume { name: "data".into(), target: "/data".into(), source: None, read_only: false },
        ],
        secrets: vec![PlanSecret { name: "password".into(), length: 32 }],
        isolation: Isolation::default(),
        ready: Ready {
            probe: Probe::Listen,
            interval_ms: 100,
            timeout_ms: 5000,
            start_timeout_s: 60,
            watchdog_s: None,
            first_start: None,
            phases: BTreeMap::new(),
        },
        stop: Stop { signal: "SIGINT".into(), timeout_s: 120, command: Vec::new(), no_sigkill: false },
        limits: Limits::default(),
        connect: Connect::default(),
        settings: BTreeMap::new(),
    }
}

fn host() -> HostFacts<'static> {
    static IDS: std::sync::LazyLock<IdMaps> = std::sync::LazyLock::new(|| crate::idmap::user((999, 998), (1000, 1001)));
    HostFacts { ids: &IDS, root: Path::new("/r"), data: Path::new("/d"), runtime: Path::new("/run/x"), masked: &[] }
}

#[test]
fn the_users_id_becomes_the_services_id_and_nothing_is_privileged() {
    let spec = runtime_spec(&plan(), &host()).unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let line = &linux.uid_mappings().as_ref().unwrap()[0];
    assert_eq!((line.container_id(), line.host_id(), line.size()), (999, 1000, 1));
    assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 1001);
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), Some(true));
    let sets = process.capabilities().as_ref().unwrap();
    for set in [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()] {
        assert!(set.as_ref().is_some_and(HashSet::is_empty), "{sets:?}");
    }
}

#[test]
fn a_map_of_several_lines_is_told_line_by_line() {
    let line = |inside, outside, count| IdRange { inside, outside, count };
    let lines = IdMap(vec![line(0, 1000, 1), line(1, 100_000, 65_535)]);
    let ids = IdMaps { uids: lines.clone(), gids: lines };
    let spec = runtime_spec(&plan(), &HostFacts { ids: &ids, ..host() }).unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let told: Vec<_> =
        linux.uid_mappings().iter().flatten().map(|line| (line.container_id(), line.host_id(), line.size())).collect();
    assert_eq!(told, [(0, 1000, 1), (1, 100_000, 65_535)]);
    assert_eq!(linux.gid_mappings().as_ref().unwrap().len(), 2);
}

#[test]
fn an_outer_volume_comes_before_the_one_inside_it_and_all_but_terminals_are_nodev() {
    let spec = runtime_spec(&plan(), &host()).unwrap();
    let mounts = spec.mounts().as_ref().unwrap();
    let targets: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
    let at = |target: &str| targets.iter().position(|other| *other == target).unwrap();
    assert!(at("/data") < at("/data/inner"));
    for mount in mounts {
        let options = mount.options().as_ref().unwrap();
        let target = mount.destination().to_str().unwrap();
        assert!(options.iter().any(|option| option == "nosuid"), "{target}");
        assert!(options.iter().any(|option| option == "nodev") || target == "/dev/pts", "{target}");
    }
}

#[test]
fn what_a_recipe_asks_for_is_in_the_spec_and_nothing_else_is() {
    let mut plan = plan();
    plan.isolation = Isolation {
        capabilities: vec!["NET_ADMIN".into()],
        devices: vec!["fuse".into()],
        read_only: true,
        tmpfs: BTreeMap::from([("/run".into(), 4096), ("/tmp".into(), 8192)]),
        shm_bytes: Some(1 << 20),
        time: true,
        cgroup_writable: true,
        sysctls: BTreeMap::from([("net.core.somaxconn".into(), "9".into())]),
        rlimits: BTreeMap::from([("nofile".into(), Rlimit { soft: Some(5), hard: None })]),
        ..Isolation::default()
    };
    plan.limits.oom_score_adjust = Some(7);
    let masked = ["/sys/devices/system/cpu/cpu0/thermal_throttle".into()];
    let spec = serde_json::to_value(runtime_spec(&plan, &HostFacts { masked: &masked, ..host() }).unwrap()).unwrap();
    let process = &spec["process"];
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(process["capabilities"][set], serde_json::json!(["CAP_NET_ADMIN"]), "{set}");
    }
    assert_eq!(process["rlimits"], serde_json::json!([{"type": "RLIMIT_NOFILE", "hard": u64::MAX, "soft": 5}]));
    assert_eq!(process["oomScoreAdj"], 7);
    assert_eq!(spec["root"]["readonly"], true);
    let linux = &spec["linux"];
    assert_eq!(linux["devices"][0]["path"], "/dev/fuse");
    assert_eq!((&linux["devices"][0]["major"], &linux["devices"][0]["minor"]), (&10.into(), &229.into()));
    assert!(linux["namespaces"].as_array().unwrap().contains(&serde_json::json!({"type": "time"})));
    assert_eq!(linux["sysctl"], serde_json::json!({"net.core.somaxconn": "9", "net.ipv4.ip_unprivileged_port_start": "0"}));
    assert!(linux["maskedPaths"].as_array().unwrap().iter().any(|path| path == masked[0].to_str().unwrap()));
    let mounts = spec["mounts"].as_array().unwrap();
    let at = |target: &str| mounts.iter().position(|mount| mount["destination"] == target).unwrap();
    let options = |target: &str| {
        mounts[at(target)]["options"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect::<Vec<_>>()
    };
    assert!(at("/run") < at("/run/secrets") && at("/run") < at("/run/user/999"));
    assert!(options("/tmp").contains(&"size=8192") && !options("/tmp").contains(&"noexec"));
    assert!(options("/run").contains(&"noexec") && options("/dev/shm").contains(&"size=1048576"));
    assert!(options("/sys/fs/cgroup").contains(&"rw"));
}

#[test]
fn a_runtime_directory_of_the_images_own_stays_what_it_is() {
    let mut plan = plan();
    assert_eq!(environment(&plan)["XDG_RUNTIME_DIR"], "/run/user/999");
    plan.process.env.insert("XDG_RUNTIME_DIR".into(), "/x".into());
    assert_eq!(environment(&plan)["XDG_RUNTIME_DIR"], "/x");
    let spec = runtime_spec(&plan, &host()).unwrap();
    assert!(spec.mounts().iter().flatten().all(|mount| !mount.destination().starts_with("/run/user")));
}

#[test]
fn the_spec_is_valid_json_that_reads_back() {
    let spec = runtime_spec(&plan(), &host()).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
}
