//! The whole path, for real: install, use, restart, remove, on both Debian trees, with and without a subuid range.

use crate::support;
use crate::support::{Machine, User};

fn sql(user: &User, name: &str, query: &str) -> String {
    user.sh(&format!("psql \"$(steading url {name})\" -At -c \"{query}\"")).ok()
}

fn whole_path(machine: &Machine, subuid: bool) {
    let user = machine.user(subuid);
    let port = user.free_port();
    let publish = format!("db=127.0.0.1:{port}");
    let name = "postgres@14";

    // A dry run says all and does nothing.
    let plan = user.steading(&["install", name, "--port", &publish, "--dry-run"]).ok();
    assert!(plan.contains("sha256:") && plan.contains(&port.to_string()), "{plan}");
    assert!(user.steading(&["list", "--json"]).ok().contains("[]"));

    let said = user.steading(&["install", name, "--port", &publish]);
    let text = format!("{}\n{}", said.out, said.err);
    said.ok();
    assert!(text.contains("steading url postgres@14"), "{text}");

    // The main promise.
    let version = sql(&user, name, "select version()");
    assert!(version.starts_with("PostgreSQL 14."), "{version}");
    // The server sees real addresses, so it must not trust those of the host.
    let wrong = user.sh(&format!("PGPASSWORD=wrong psql -h 127.0.0.1 -p {port} -U postgres -w -c 'select 1'"));
    assert!(wrong.code != 0 && wrong.err.contains("password authentication failed"), "{wrong:?}");
    sql(&user, name, "create table t (x int); insert into t select generate_series(1, 1000)");

    // It is a unit like any other.
    user.run(&["systemctl", "--user", "is-active", name]).ok();
    user.run(&["systemctl", "--user", "is-enabled", name]).ok();
    let unit_file = format!(".local/share/systemd/user/{name}.service");
    user.run(&["systemd-analyze", "--user", "verify", &unit_file]).ok();
    assert!(
        user.sh(&format!("journalctl --user -u {name} --no-pager"))
            .ok()
            .contains("database system is ready to accept connections")
    );
    user.run(&["systemctl", "--user", "disable", name]).ok();
    assert_eq!(user.run(&["systemctl", "--user", "is-enabled", name]).out, "disabled");
    user.run(&["systemctl", "--user", "enable", name]).ok();
    let status = user.run(&["systemctl", "--user", "status", "--no-pager", name]).ok();
    assert!(status.contains("active (running)"), "{status}");

    // Restarted by systemctl and by us; the data stays.
    user.run(&["systemctl", "--user", "restart", name]).ok();
    assert_eq!(sql(&user, name, "select count(*) from t"), "1000");
    user.steading(&["stop", name]).ok();
    assert_ne!(user.run(&["systemctl", "--user", "is-active", name]).code, 0);
    assert!(user.sh(&format!("(exec 3<>/dev/tcp/127.0.0.1/{port})")).code != 0, "the port is closed while it is stopped");
    user.steading(&["start", name]).ok();
    user.steading(&["restart", name]).ok();
    assert_eq!(sql(&user, name, "select sum(x) from t"), "500500");

    // Masked it does not start; unmasked it does.
    user.run(&["systemctl", "--user", "mask", name]).ok();
    user.steading(&["stop", name]).ok();
    assert_ne!(user.run(&["systemctl", "--user", "start", name]).code, 0);
    assert!(user.steading(&["start", name]).fails(1).contains("unmask"));
    user.run(&["systemctl", "--user", "unmask", name]).ok();
    user.steading(&["start", name]).ok();

    // Looking at it and into it.
    assert!(user.steading(&["list"]).ok().contains(name));
    assert!(user.steading(&["list", "--json"]).ok().contains("\"postgres@14\""));
    let status = user.steading(&["status", name]).ok();
    assert!(status.contains("running") && status.contains(&port.to_string()), "{status}");
    assert!(user.steading(&["logs", name, "-n", "200"]).ok().contains("ready to accept connections"));
    assert_eq!(user.sh(&format!("eval \"$(steading env {name})\"; psql -At -c 'select 6 * 7'")).ok(), "42");
    assert_eq!(user.steading(&["exec", name, "--", "id", "-u"]).ok(), "999");
    assert_eq!(user.steading(&["exec", name, "--", "sh", "-c", "exit 7"]).code, 7);
    assert!(user.sh(&format!("echo 'select 40 + 2' | steading shell {name}")).ok().contains("42"));
    // Data belongs to the user, who can read it without any tool.
    assert!(user.sh("cat ~/.local/share/steading/services/postgres@14/data/*/PG_VERSION").ok().contains("14"));

    // Removed, the data is kept; installed again, it is there; purged, nothing is.
    user.steading(&["remove", name]).ok();
    assert_ne!(user.run(&["systemctl", "--user", "cat", name]).code, 0);
    user.steading(&["install", name, "--port", &publish]).ok();
    assert_eq!(sql(&user, name, "select count(*) from t"), "1000");
    user.steading(&["remove", "--purge", name]).ok();
    assert_eq!(user.leftovers(), "");
}

#[test]
fn on_trixie_with_a_subuid_range() {
    for machine in support::machines().iter().filter(|machine| machine.suite == "trixie") {
        whole_path(machine, true);
    }
}

#[test]
fn on_trixie_without_a_subuid_range() {
    for machine in support::machines().iter().filter(|machine| machine.suite == "trixie") {
        whole_path(machine, false);
    }
}

#[test]
fn on_bookworm_without_a_subuid_range() {
    for machine in support::machines().iter().filter(|machine| machine.suite == "bookworm") {
        whole_path(machine, false);
    }
}
