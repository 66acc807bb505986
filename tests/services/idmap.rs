//! Id maps of services: what is inside, who owns what on the host, and that nothing is left of it.

use crate::support::{self, Done, Machine, User};

/// Writes a recipe of the user's own: Debian that sleeps, with a volume and these lines of `[run]` and `[isolation]`.
fn recipe(user: &User, name: &str, run: &str, isolation: &str) {
    let text = format!(
        r#"[recipe]
schema = 1
name = "{name}"
title = "Sleeper"
summary = "Sleeps"
homepage = "https://example.org"
license = "MIT"
categories = ["test"]
default-version = "1"

[lifecycle]
status = "active"

[image]
reference = "docker.io/library/debian"

[run]
{run}
args = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]

[data.data]
path = "/data"

[isolation]
{isolation}

[secrets.password]
length = 24

[ready]
probe = "started"

[stop]
signal = "SIGTERM"
timeout = "10s"

[versions."1"]
tag = "bookworm-slim"
"#
    );
    user.sh(&format!("mkdir -p ~/.config/steading/catalog && cat > ~/.config/steading/catalog/{name}.toml <<'END'\n{text}\nEND"))
        .ok();
}

fn inside(user: &User, name: &str, script: &str) -> Done {
    user.steading(&["exec", name, "--", "sh", "-c", script])
}

/// A map as /proc shows it, without its blanks.
fn map(user: &User, name: &str, file: &str) -> Vec<(u32, u32, u32)> {
    let text =
        user.sh(&format!("cat /proc/$(head -n 1 $XDG_RUNTIME_DIR/steading/services/{name}/pid | cut -d ' ' -f 1)/{file}")).ok();
    let line = |line: &str| {
        let numbers: Vec<u32> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        (numbers[0], numbers[1], numbers[2])
    };
    text.lines().map(line).collect()
}

/// First id of the user's range.
fn range(user: &User) -> u32 {
    user.sh("grep ^$USER: /etc/subuid | cut -d : -f 2").ok().parse().expect("a range")
}

fn uid(user: &User) -> u32 {
    user.sh("id -u").ok().parse().expect("a number")
}

/// Everything of the user's services with its owner, as root sees it.
fn owners(user: &User, path: &str) -> String {
    let root = format!("/home/{}/.local/share/steading/services/{path}", user.name);
    user.machine.root(&format!("stat -c '%u:%g %a' {root}")).ok()
}

fn gone(user: &User) {
    user.sh("rm -rf ~/.config/steading/catalog").ok();
    let first = user.sh("grep ^$USER: /etc/subuid | cut -d : -f 2").ok();
    let script = format!(
        "ps -eo uid= | awk '$1 >= {first} && $1 < {first} + 65536' | wc -l; find /home/{0} /run/user/$(id -u {0}) -uid +{first} -uid -$(({first} + 65536)) 2>/dev/null | wc -l",
        user.name
    );
    assert_eq!(user.machine.root(&script).out, "0\n0", "processes, files of subordinate ids");
    assert_eq!(user.leftovers(), "");
}

fn a_range(machine: &Machine) {
    let user = machine.user(true);
    let (own, first) = (uid(&user), range(&user));
    recipe(&user, "wide", "uid = 33\ngid = 33", "ids = \"range\"");
    user.steading(&["install", "wide"]).ok();
    let name = "wide@1";
    let lines = vec![(0, own, 1), (1, first, 61_183), (65_520, first + 65_519, 16)];
    assert_eq!(map(&user, name, "uid_map"), lines);
    assert_eq!(inside(&user, name, "id -u; id -g; id -G; cat /proc/1/uid_map | wc -l").ok(), "33\n33\n33\n3");
    // The service itself, not only what joins it.
    let ids = inside(&user, name, "grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs)' /proc/1/status | tr -s '\\t ' ' '").ok();
    let none = "0000000000000000";
    let wanted = format!("Uid: 33 33 33 33\nGid: 33 33 33 33\nGroups:\nCapEff: {none}\nCapBnd: {none}\nNoNewPrivs: 1");
    assert_eq!(ids.lines().map(str::trim_end).collect::<Vec<_>>().join("\n"), wanted);
    // The image's true owners, which a one-line map does not show.
    assert_eq!(
        inside(&user, name, "stat -c '%u:%g %a' / /etc/shadow /usr/bin/chage /var/mail").ok(),
        "0:0 755\n0:42 640\n0:42 2755\n0:8 2775"
    );
    assert_ne!(inside(&user, name, "cat /etc/shadow").code, 0);
    // Its volume and secret are its own.
    assert_eq!(
        inside(&user, name, "stat -c %u /data; echo x > /data/f; stat -c %u:%g /data/f; wc -c < /run/secrets/password").ok(),
        "33\n33:33\n24"
    );
    assert_eq!(inside(&user, name, "echo x > /run/secrets/password").code, 2);
    assert_eq!(owners(&user, "wide@1/data/data/f"), format!("{0}:{0} 644", first + 32));
    user.steading(&["restart", name]).ok();
    assert_eq!(inside(&user, name, "cat /data/f").ok(), "x");
    assert_eq!(user.steading(&["fsck"]).code, 0);
    // Kept data is taken up by a map of another kind, and back.
    user.steading(&["remove", name]).ok();
    recipe(&user, "wide", "uid = 33\ngid = 33", "ids = \"user\"");
    user.steading(&["install", "wide"]).ok();
    assert_eq!(inside(&user, name, "cat /data/f; stat -c %u:%g /data/f; echo y >> /data/f").ok(), "x\n33:33");
    assert_eq!(owners(&user, "wide@1/data/data/f").split(':').next(), Some(own.to_string().as_str()));
    user.steading(&["remove", name]).ok();
    recipe(&user, "wide", "uid = 33\ngid = 33", "ids = \"range\"");
    user.steading(&["install", "wide"]).ok();
    assert_eq!(inside(&user, name, "cat /data/f; stat -c %u:%g /data/f").ok(), "x\ny\n33:33");
    user.steading(&["remove", "--purge", name]).ok();
    gone(&user);
}

fn private_ones(machine: &Machine) {
    let user = machine.user(true);
    let first = range(&user);
    recipe(&user, "alone", "uid = 33\ngid = 33", "ids = \"private\"\nextra-ids = [42]");
    // At the same time: neither may get what the other has.
    let two: Vec<_> = ["one", "two"]
        .map(|name| user.command(&["steading", "install", "alone", "--name", name]).spawn().expect("an install"))
        .into();
    for mut child in two {
        assert!(child.wait().expect("its end").success());
    }
    let maps: Vec<_> = ["one", "two"].map(|name| map(&user, name, "uid_map")).into();
    let hosts: std::collections::BTreeSet<u32> = maps.iter().flatten().map(|line| line.1).collect();
    assert_eq!(hosts.len(), 6, "{maps:?}");
    assert!(maps.iter().all(|lines| lines.iter().map(|line| (line.0, line.2)).eq([(0, 1), (33, 1), (42, 1)])), "{maps:?}");
    assert!(hosts.iter().all(|id| (first..first + 65_536).contains(id) && *id != uid(&user)), "{hosts:?}");
    for (name, lines) in ["one", "two"].iter().zip(&maps) {
        assert_eq!(inside(&user, name, "id -u; id -g; id -G").ok(), "33\n33\n33");
        // True owners of the map's ids; one that it lacks (8, mail) is nobody's.
        let seen = inside(&user, name, "stat -c '%u:%g %a' / /etc/shadow /var/mail; head -c 4 /etc/passwd; id -un").ok();
        assert_eq!(seen, "0:0 755\n0:42 640\n0:65534 2775\nrootwww-data");
        assert_eq!(
            inside(
                &user,
                name,
                "stat -c %u /data; echo secret > /data/f; chmod 600 /data/f; cat /data/f; wc -c < /run/secrets/password"
            )
            .ok(),
            "33\nsecret\n24"
        );
        let id = lines[1].1;
        assert!(owners(&user, &format!("{name}/data/data/f")).starts_with(&format!("{id}:")), "{id}");
        // The root file system can be written where its owner may.
        assert_eq!(inside(&user, name, "touch /tmp/x && stat -c %u /tmp/x; touch /etc/x").code, 1);
    }
    // Each is a stranger to the other's files, even if it could reach them; and to the user's.
    let other = maps[1][1].1;
    let data = format!("/home/{}/.local/share/steading/services/one/data/data", user.name);
    let read = user.machine.root(&format!("setpriv --reuid {other} --regid {other} --clear-groups cat {data}/f"));
    assert_ne!(read.code, 0);
    let read = user.machine.root(&format!("cd {data} && setpriv --reuid {other} --regid {other} --clear-groups cat f"));
    assert!(read.code != 0 && read.err.contains("Permission denied"), "{read:?}");
    // The ids stay: over restarts, and with kept data over a removal.
    user.steading(&["restart", "one"]).ok();
    assert_eq!(map(&user, "one", "uid_map"), maps[0]);
    user.steading(&["remove", "one"]).ok();
    user.steading(&["install", "alone", "--name", "three"]).ok();
    let third = map(&user, "three", "uid_map");
    assert!(third.iter().all(|line| !hosts.contains(&line.1)), "{third:?} {hosts:?}");
    user.steading(&["install", "alone", "--name", "one"]).ok();
    assert_eq!(map(&user, "one", "uid_map"), maps[0]);
    assert_eq!(inside(&user, "one", "cat /data/f").ok(), "secret");
    // An install that fails takes back what already belongs to such ids.
    recipe(&user, "broken", "uid = 33\nentrypoint = [\"sh\", \"-c\", \"echo x > /data/f; exit 3\"]", "ids = \"private\"");
    user.sh("sed -i 's/^probe = \"started\"/probe = \"exec\"\\ncommand = [\"false\"]/' ~/.config/steading/catalog/broken.toml")
        .ok();
    let said = user.steading(&["install", "broken"]);
    assert!(said.code == 1 && said.err.contains("exited with code 3"), "{said:?}");
    assert_eq!(user.sh("ls ~/.local/share/steading/services").ok(), "one\nthree\ntwo");
    // Freed with the data, and free for the next.
    user.steading(&["remove", "--purge", "one"]).ok();
    user.steading(&["install", "alone", "--name", "four"]).ok();
    assert_eq!(map(&user, "four", "uid_map"), maps[0]);
    for name in ["two", "three", "four"] {
        user.steading(&["remove", "--purge", name]).ok();
    }
    gone(&user);
}

fn without_a_range(machine: &Machine) {
    let user = machine.user(false);
    for kind in ["range", "private"] {
        recipe(&user, kind, "uid = 33", &format!("ids = \"{kind}\""));
        let said = user.steading(&["install", kind]).fails(4);
        assert!(said.contains(&format!("ids = \"{kind}\"")) && said.contains("no subordinate ids"), "{said}");
        assert!(said.contains("usermod --add-subuids ") && said.contains(&format!(" {}", user.name)), "{said}");
    }
    assert!(user.steading(&["doctor"]).out.contains("subordinate-ids"), "doctor looks at them");
    // The remedy, word for word, helps; the yard that runs by now has no range, though.
    recipe(&user, "plain", "uid = 33", "ids = \"user\"");
    user.steading(&["install", "plain"]).ok();
    assert_eq!(map(&user, "plain@1", "uid_map"), [(33, uid(&user), 1)]);
    let hint = user.steading(&["install", "range"]).fails(4);
    let hint = hint.split("sudo ").nth(1).expect("a command").lines().next().expect("a line").to_owned();
    machine.root(&hint).ok();
    let said = user.steading(&["install", "range"]).fails(1);
    assert!(said.contains("steading.slice"), "{said}");
    assert!(user.steading(&["list"]).ok().contains("plain@1"), "what ran goes on");
    user.run(&["systemctl", "--user", "stop", "steading.slice"]).ok();
    user.steading(&["install", "range"]).ok();
    user.steading(&["start", "plain@1"]).ok();
    assert_eq!(map(&user, "range@1", "uid_map").len(), 3);
    // The range is taken away again: the service says so rather than run with other ids.
    user.steading(&["stop", "range@1"]).ok();
    user.run(&["systemctl", "--user", "stop", "steading.slice"]).ok();
    machine.root(&format!("sed -i '/^{0}:/d' /etc/subuid /etc/subgid", user.name)).ok();
    let said = user.steading(&["start", "range@1"]);
    assert!(said.code != 0, "{said:?}");
    // Purging needs the range for what belongs to it.
    machine.root(&hint).ok();
    for name in ["range@1", "plain@1"] {
        user.steading(&["remove", "--purge", name]).ok();
    }
    gone(&user);
}

/// A host whose newuidmap does not work: what needs no range runs, and the rest is told why.
fn a_helper_that_refuses(machine: &Machine) {
    let user = machine.user(true);
    user.sh("mkdir ~/bin; printf '#!/bin/sh\\necho not today >&2; exit 1\\n' > ~/bin/newuidmap; chmod +x ~/bin/newuidmap; \
             systemctl --user set-environment PATH=$HOME/bin:$PATH")
        .ok();
    recipe(&user, "plain", "uid = 33", "ids = \"user\"");
    recipe(&user, "wide", "uid = 33", "ids = \"range\"");
    user.steading(&["install", "plain"]).ok();
    assert_eq!(map(&user, "plain@1", "uid_map"), [(33, uid(&user), 1)]);
    assert_eq!(inside(&user, "plain@1", "id -u; cat /proc/self/setgroups").ok(), "33\ndeny");
    let journal = user.sh("journalctl --user -u steading-yard --no-pager -o cat").ok();
    assert!(journal.contains("goes on without subordinate ids") && journal.contains("not today"), "{journal}");
    let said = user.steading(&["install", "wide"]).fails(1);
    assert!(said.contains("steading.slice"), "{said}");
    let doctor = user.sh("PATH=$HOME/bin:$PATH steading doctor").ok();
    assert!(doctor.contains("cannot be used") && doctor.contains("not today"), "{doctor}");
    user.steading(&["remove", "--purge", "plain@1"]).ok();
    user.sh("systemctl --user unset-environment PATH").ok();
    gone(&user);
}

const DROPPING: &str = r#"uid = 0
entrypoint = ["sh", "-c", '''
chown 33:33 /data && exec setpriv --reuid 33 --regid 33 --clear-groups sh -c "
  ( id -u; id -G; grep -E '^(Uid|CapEff|CapBnd)' /proc/self/status ) > /data/new; mv /data/new /data/who
  trap 'exit 0' TERM; while :; do sleep 1; done"
''']"#;

/// Entrypoints that begin as root and become another user, as official images do.
fn entrypoint_as_root(machine: &Machine) {
    let user = machine.user(true);
    let first = range(&user);
    let capabilities = "capabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"FOWNER\", \"SETUID\", \"SETGID\"]";
    for (kind, run, extra) in [("range", "", ""), ("range", "init = true", ""), ("private", "", "extra-ids = [33]")] {
        recipe(&user, "drops", &format!("{DROPPING}\n{run}"), &format!("ids = \"{kind}\"\n{capabilities}\n{extra}"));
        user.steading(&["install", "drops"]).ok();
        let name = "drops@1";
        let wait =
            "for i in $(seq 100); do [ -s /data/who ] && break; sleep 0.05; done; tr -s '\\t' ' ' < /data/who; stat -c %u /data";
        assert_eq!(
            inside(&user, name, wait).ok(),
            "33\n33\nUid: 33 33 33 33\nCapEff: 0000000000000000\nCapBnd: 00000000000000cb\n33"
        );
        let owner = owners(&user, "drops@1/data/data/who");
        let id: u32 = owner.split(':').next().expect("an id").parse().expect("a number");
        assert!((first..first + 65_536).contains(&id), "{owner}");
        // The reaper reaches a service that is somebody else than itself.
        let begin = std::time::Instant::now();
        user.steading(&["stop", name]).ok();
        assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
        let result = user.sh(&format!("systemctl --user show -P Result {name}")).ok();
        assert_eq!(result, "success", "{kind} {run}");
        user.steading(&["remove", "--purge", name]).ok();
    }
    gone(&user);
}

/// The official way of a whole database: root makes directories, gives them away, and runs itself again as `postgres`.
fn postgres_as_root(machine: &Machine) {
    let user = machine.user(true);
    let text = include_str!("../../catalog/postgres.toml");
    let changed = text
        .replace("name = \"postgres\"\ntitle", "name = \"rootgres\"\ntitle")
        .replace("uid = 999\ngid = 999", "uid = 0\ngid = 0");
    let changed = changed.replace("aliases = [\"postgresql\", \"pg\"]\n", "");
    assert!(changed.contains("rootgres") && changed.contains("uid = 0"), "the recipe has changed");
    let isolation = "[isolation]\nids = \"range\"\ncapabilities = [\"CHOWN\", \"DAC_OVERRIDE\", \"FOWNER\", \"SETUID\", \"SETGID\"]\n\n[ready]";
    let changed = changed.replacen("[ready]", isolation, 1);
    user.sh(&format!(
        "mkdir -p ~/.config/steading/catalog && cat > ~/.config/steading/catalog/rootgres.toml <<'END'\n{changed}\nEND"
    ))
    .ok();
    let name = "rootgres@14";
    user.steading(&["install", name, "--port", &format!("db={}", user.free_port())]).ok();
    let sql = |query: &str| user.sh(&format!("psql \"$(steading url {name})\" -At -c \"{query}\"")).ok();
    sql("create table t (x int); insert into t select generate_series(1, 1000)");
    user.steading(&["restart", name]).ok();
    assert_eq!(sql("select count(*) from t"), "1000");
    assert_eq!(
        owners(&user, &format!("{name}/data/data/PG_VERSION")).split(':').next(),
        Some((range(&user) + 998).to_string().as_str())
    );
    user.steading(&["remove", "--purge", name]).ok();
    gone(&user);
}

fn on(suite: &str, test: fn(&Machine)) {
    for machine in support::machines().iter().filter(|machine| machine.suite == suite) {
        test(machine);
    }
}

#[test]
fn a_range_on_trixie() {
    on("trixie", a_range);
}

#[test]
fn a_range_on_bookworm() {
    on("bookworm", a_range);
}

#[test]
fn private_ids_on_trixie() {
    on("trixie", private_ones);
}

#[test]
fn private_ids_on_bookworm() {
    on("bookworm", private_ones);
}

#[test]
fn a_host_without_a_range_on_trixie() {
    on("trixie", without_a_range);
}

#[test]
fn a_host_without_a_range_on_bookworm() {
    on("bookworm", without_a_range);
}

#[test]
fn a_helper_that_refuses_on_trixie() {
    on("trixie", a_helper_that_refuses);
}

#[test]
fn an_entrypoint_as_root_on_trixie() {
    on("trixie", entrypoint_as_root);
}

#[test]
fn an_entrypoint_as_root_on_bookworm() {
    on("bookworm", entrypoint_as_root);
}

#[test]
fn a_database_that_starts_as_root_on_trixie() {
    on("trixie", postgres_as_root);
}
