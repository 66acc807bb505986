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
fn an_outer_volume_comes_before_the_one_inside_it_and_all_but_dev_are_nodev() {
    let spec = runtime_spec(&plan(), &host()).unwrap();
    let mounts = spec.mounts().as_ref().unwrap();
    let targets: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap()).collect();
    let at = |target: &str| targets.iter().position(|other| *other == target).unwrap();
    assert!(at("/data") < at("/data/inner"));
    for mount in mounts {
        let options = mount.options().as_ref().unwrap();
        let target = mount.destination().to_str().unwrap();
        assert!(options.iter().any(|option| option == "nosuid"), "{target}");
        assert!(options.iter().any(|option| option == "nodev") || target.starts_with("/dev"), "{target}");
    }
}

#[test]
fn the_spec_is_valid_json_that_reads_back() {
    let spec = runtime_spec(&plan(), &host()).unwrap();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
}
