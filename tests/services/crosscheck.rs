//! The same config.json carried out by steading and by crun: one probe program (probe.sh) tells what it sees in each. What must differ is
//! named here; anything else that does is a failure, and so is a named difference that is none. (By the crun of trixie: that of bookworm
//! carries out the bundle too, but leaves out flags of mounts.)

use crate::recipes;
use crate::support::{self, User};
use serde_json::Value;
use std::collections::BTreeSet;

const RUN: &str =
    "uid = 4321\ngid = 4322\nargs = [\"sh\", \"/probe/probe.sh\", \"/out/report\"]\ncwd = \"/srv\"\nenv = { PROBE = \"1\" }";

/// What steading does otherwise: the beginning of a line of its report, or of crun's, and why.
const OURS: &[(&str, &str)] = &[
    ("mount / ", "the root is an overlay over the yard's image"),
    ("mount /etc/passwd ", "a name for the service's id, which the image does not know"),
    ("mount /etc/group ", "the same"),
    ("uid_map 4321 0 1", "the container is nested in the yard's user namespace, where the user is 0"),
    ("gid_map 4322 0 1", "the same"),
    ("mount /proc/acpi ro,nosuid,nodev,noexec", "masks are nosuid, nodev and noexec, as all mounts"),
    ("mount /proc/interrupts ro,nosuid,noexec", "the same, but for nodev: it is /dev/null"),
    ("mount /proc/keys ro,nosuid,noexec", "the same"),
    ("mount /proc/timer_list ro,nosuid,noexec", "the same"),
    ("mount /sys/firmware ro,nosuid,nodev,noexec", "the same"),
];
const THEIRS: &[(&str, &str)] = &[
    ("mount / ", "the root is the directory of the bundle"),
    ("uid_map 4321 ", "the container lies directly below the host's user namespace"),
    ("gid_map 4322 ", "the same"),
    ("dev /dev/core ", "a link of its own to /proc/kcore, which is masked"),
    ("mount /proc/acpi ro,relatime", "see above"),
    ("mount /proc/interrupts ro,nosuid,relatime", "see above"),
    ("mount /proc/keys ro,nosuid,relatime", "see above"),
    ("mount /proc/timer_list ro,nosuid,relatime", "see above"),
    ("mount /sys/firmware ro,relatime", "see above"),
];

/// Waits for the report of a probe and takes it away.
fn report(user: &User, log: &str) -> BTreeSet<String> {
    let wait = "for i in $(seq 200); do [ -e ~/out/report ] && break; sleep 0.05; done; cat ~/out/report && rm ~/out/report";
    let text = user.sh(&format!("{{ {wait}; }} || {{ {log}; exit 1; }}")).ok();
    assert!(text.contains("status NoNewPrivs") && text.contains("files probe-1"), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Unpacks the busybox image beside the bundle, as other tools would.
const UNPACK: &str = r#"
set -e; mkdir -p ~/bundle/rootfs; cd /srv/registry/docker/registry/v2
digest=$(cut -d: -f2 repositories/library/busybox/_manifests/tags/latest/current/link)
blob() { echo blobs/sha256/$(echo $1 | cut -c-2)/$1/data; }
for layer in $(grep -o '"digest": *"sha256:[0-9a-f]*"' $(blob $digest) | grep -o '[0-9a-f]\{64\}' | tail -n +2); do
  tar -xpzf $(blob $layer) -C ~/bundle/rootfs --exclude='dev/*'
done
"#;

fn cross_check(isolation: &str) {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    recipes::write(&user, "probe", RUN, &format!("[secrets.password]\nlength = 20\n[data.out]\npath = \"/out\"\n{isolation}"));
    let probe = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/probe.sh")).unwrap();
    user.sh(&format!(
        "mkdir ~/probe ~/out; cat > ~/probe/probe.sh <<'PROBE'\n{probe}PROBE\nreadlink /proc/self/ns/* > ~/probe/host-ns"
    ))
    .ok();
    user.sh(UNPACK).ok();
    user.sh("touch ~/probe/masked ~/probe/readonly").ok();
    let home = format!("/home/{}", user.name);
    let volumes = [format!("{home}/probe:/probe:ro"), format!("out={home}/out")];
    let install = ["install", "probe", "--no-start", "--volume", volumes[0].as_str(), "--volume", volumes[1].as_str()];
    user.steading(&install).ok();

    let text = user.sh("cat ~/.local/share/steading/services/probe@1/generations/1/config.json").ok();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, file) in [("maskedPaths", "masked"), ("readonlyPaths", "readonly")] {
        let list: Vec<&str> = config["linux"][key].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
        assert!(list.len() >= 5, "{list:?}");
        user.sh(&format!("printf '%s\\n' {} > ~/probe/{file}", list.join(" "))).ok();
    }
    user.steading(&["start", "probe@1"]).ok();
    let ours = report(&user, "steading logs probe@1");
    // Nothing but the root file system is otherwise.
    config["root"]["path"] = "rootfs".into();
    user.sh(&format!("cat > ~/bundle/config.json <<'END'\n{config}\nEND")).ok();
    // Below the same manager as the service, whose files in /run it binds too.
    let mut crun = user.command(&[
        "bash",
        "-c",
        "systemd-run --user --collect --wait --pipe --quiet -p Delegate=yes crun --cgroup-manager=disabled run -b ~/bundle crosscheck \
         </dev/null >~/crun.log 2>&1",
    ]);
    let mut crun = crun.spawn().unwrap();
    let theirs = report(&user, "cat ~/crun.log");
    user.sh("touch ~/out/stop").ok();
    assert!(crun.wait().unwrap().success(), "{}", user.sh("cat ~/crun.log").out);

    let mut wrong = Vec::new();
    for (who, these, those, named) in [("steading", &ours, &theirs, OURS), ("crun", &theirs, &ours, THEIRS)] {
        let mut differences: Vec<&str> = these.difference(those).map(String::as_str).collect();
        for (beginning, _) in named {
            let before = differences.len();
            differences.retain(|line| !line.starts_with(beginning));
            if differences.len() == before && these.iter().any(|line| line.starts_with(beginning)) {
                wrong.push(format!("{who}: `{beginning}` is no difference any more"));
            }
        }
        wrong.extend(differences.iter().map(|line| format!("{who} alone: {line}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    user.steading(&["remove", "--purge", "probe@1"]).ok();
}

#[test]
fn crun_shows_the_same_of_a_default_service() {
    cross_check("");
}

#[test]
fn crun_shows_the_same_of_a_service_that_asks_for_much() {
    cross_check(
        r#"[isolation]
capabilities = ["NET_ADMIN", "CHOWN", "SYS_PTRACE"]
devices = ["fuse"]
read-only = true
tmpfs = { "/tmp" = "8M", "/var/cache/x" = "1M" }
shm = "16M"
time = true
sysctls = { "net.core.somaxconn" = "100", "net.ipv4.tcp_keepalive_time" = "70" }
rlimits = { nofile = [512, 1024], core = 0, stack = [4194304, "infinity"] }
[limits]
oom-score-adjust = 500
"#,
    );
}
