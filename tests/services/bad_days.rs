//! Bad input and bad days: each ends in one clear error with a hint, and leaves the machine as it was.

use crate::support;
use crate::support::{Done, User};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A user on the first machine; `None` skips the test.
fn user() -> Option<User> {
    support::machine().map(|machine| machine.user(false))
}

/// What an install that failed must not have left: a service, a unit, a unit in memory.
#[track_caller]
fn nothing_installed(user: &User) {
    let services = user.sh("ls -A ~/.local/share/steading/services 2>/dev/null").out;
    assert!(services.lines().all(|line| line.starts_with('.')), "{services}");
    assert_eq!(user.sh("ls -A ~/.local/share/systemd/user 2>/dev/null").out, "");
    assert_eq!(user.sh("systemctl --user list-units --all --no-legend --plain 'redis@*' 'postgres@*' 'steading*'").out, "");
}

/// The error has a hint, and says nothing twice.
#[track_caller]
fn clear(done: Done, code: i32, words: &[&str]) {
    let text = done.fails(code);
    assert!(text.contains("hint:"), "no hint in: {text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn an_unknown_recipe_or_version_names_the_nearest() {
    let Some(user) = user() else { return };
    clear(user.steading(&["install", "postgers"]), 3, &["postgers", "postgres"]);
    clear(user.steading(&["install", "postgres@13"]), 3, &["13", "14"]);
    clear(user.steading(&["install", "postgres@14", "--set", "databse=x"]), 2, &["databse", "database"]);
    clear(user.steading(&["install", "postgres@14", "--port", "db=70000"]), 2, &["70000"]);
    clear(user.steading(&["status", "nothing"]), 3, &["nothing"]);
    nothing_installed(&user);
}

#[test]
fn a_taken_port_says_by_whom_and_proposes_another() {
    let Some(user) = user() else { return };
    let port = user.free_port().to_string();
    // A program of the user's own.
    let mut holder = user.command(&["perl", "-e", &perl_listener(&port)]).stdout(Stdio::piped()).spawn().expect("a listener");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert_eq!(line, "up\n");
    let publish = format!("redis=127.0.0.1:{port}");
    clear(user.steading(&["install", "redis@7", "--port", &publish]), 1, &[&port, "perl", "--port"]);
    nothing_installed(&user);
    interrupt(&mut holder);

    // A service of steading's.
    user.steading(&["install", "redis@7", "--name", "first", "--port", &publish]).ok();
    clear(user.steading(&["install", "redis@7", "--name", "second", "--port", &publish]), 1, &["first", &port]);
    assert!(!user.steading(&["list"]).ok().contains("second"));
    user.steading(&["remove", "--purge", "first"]).ok();
}

fn perl_listener(port: &str) -> String {
    format!(
        "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => {port}, Listen => 5) or die $!; \
         $| = 1; print \"up\\n\"; sleep 60"
    )
}

/// ^C, and the end of the process.
fn interrupt(child: &mut std::process::Child) -> i32 {
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().expect("kill runs");
    child.wait().expect("it ends").code().unwrap_or(-1)
}

#[test]
fn an_unreachable_registry_is_said_and_leaves_nothing() {
    let Some(user) = user() else { return };
    user.mirror("http://127.0.0.1:9");
    clear(user.steading(&["install", "redis@7"]), 1, &["127.0.0.1:9", "mirror"]);
    nothing_installed(&user);
    user.sh("rm ~/.config/steading/config.toml").ok();
    clear(user.steading(&["install", "redis@7"]), 1, &["docker.io"]);
    nothing_installed(&user);
}

#[test]
fn a_wrong_byte_in_a_layer_is_found() {
    let Some(user) = user() else { return };
    // A copy of the registry in which every large blob has one byte changed.
    let copy = format!("/var/tmp/bad-{}", user.name);
    user.machine
        .root(&format!(
            "set -e; cp -r /srv/registry {copy}; \
             for blob in $(find {copy} -name data -size +100k); do printf X | dd of=$blob bs=1 seek=5000 conv=notrunc 2>/dev/null; done; \
             printf 'version: 0.1\\nstorage: {{filesystem: {{rootdirectory: {copy}}}}}\\nhttp: {{addr: 127.0.0.1:5055}}\\n' > {copy}.yml; \
             systemd-run --quiet --unit=bad-registry docker-registry serve {copy}.yml"
        ))
        .ok();
    user.sh("for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/5055) 2>/dev/null && exit 0; sleep 0.1; done; exit 1").ok();
    user.mirror("http://127.0.0.1:5055");
    let done = user.steading(&["install", "redis@7"]);
    user.machine.root(&format!("systemctl stop bad-registry; rm -rf {copy} {copy}.yml")).ok();
    clear(done, 1, &["sha256:"]);
    nothing_installed(&user);
    // Nothing wrong stays behind to be believed later: from a good mirror it works.
    user.mirror(support::MIRROR);
    user.steading(&["install", "redis@7", "--port", &format!("redis={}", user.free_port())]).ok();
    assert!(user.steading(&["fsck"]).code == 0);
    user.steading(&["remove", "--purge", "redis@7"]).ok();
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let Some(user) = user() else { return };
    let place = format!("/mnt/{}", user.name);
    user.machine.root(&format!("mkdir -p {place} && mount -t tmpfs -o size=24M,mode=777 tmpfs {place}")).ok();
    let full =
        ["env", &format!("XDG_DATA_HOME={place}"), &format!("XDG_CACHE_HOME={place}"), "steading", "install", "postgres@14"]
            .map(str::to_owned);
    let args: Vec<&str> = full.iter().map(String::as_str).collect();
    let done = user.run(&args);
    user.machine.root(&format!("umount {place} && rmdir {place}")).ok();
    clear(done, 1, &["too full", "MB are free"]);
    nothing_installed(&user);
}

#[test]
fn without_a_bus_it_says_how_to_get_one() {
    let Some(user) = user() else { return };
    clear(
        user.run(&["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", "steading", "list"]),
        4,
        &["XDG_RUNTIME_DIR"],
    );
    let args =
        ["env", "XDG_RUNTIME_DIR=/nowhere", "DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere/bus", "steading", "install", "redis@7"];
    clear(user.run(&args), 4, &["systemd"]);
    nothing_installed(&user);
}

#[test]
fn a_foreign_unit_of_the_name_is_left_alone() {
    let Some(user) = user() else { return };
    let unit = "[Service]\\nExecStart=/bin/sleep 1000\\n";
    user.sh(&format!("mkdir -p ~/.config/systemd/user && printf '{unit}' > ~/.config/systemd/user/redis@7.service && systemctl --user daemon-reload"))
        .ok();
    let before = user.sh("sha256sum ~/.config/systemd/user/redis@7.service").ok();
    clear(user.steading(&["install", "redis@7"]), 1, &["redis@7.service", "--name"]);
    assert_eq!(user.sh("sha256sum ~/.config/systemd/user/redis@7.service").ok(), before);
    assert_eq!(user.sh("ls ~/.config/systemd/user").ok(), "redis@7.service");
}

#[test]
fn interrupted_it_leaves_no_half_of_a_service_and_keeps_finished_blobs() {
    let Some(user) = user() else { return };
    // At several moments of the install: while pulling, unpacking, starting.
    for delay in ["0.1", "0.4", "0.8", "1.5"] {
        let script = format!(
            "env --default-signal=INT steading install postgres@14 --port db={} & sleep {delay}; kill -INT $!; wait $!",
            user.free_port()
        );
        let done = user.sh(&script);
        if done.code == 0 {
            // It was quicker than the signal.
            user.steading(&["remove", "--purge", "postgres@14"]).ok();
            continue;
        }
        nothing_installed(&user);
        assert_eq!(user.sh("pgrep -u $(id -u) -a postgres; true").ok(), "");
    }
    user.steading(&["install", "postgres@14", "--port", &format!("db={}", user.free_port())]).ok();
    user.steading(&["fsck"]).ok();
    user.steading(&["remove", "--purge", "postgres@14"]).ok();
    assert_eq!(user.leftovers(), "");
}

#[test]
fn a_service_that_cannot_start_is_taken_back_and_its_last_words_are_shown() {
    let Some(user) = user() else { return };
    let port = format!("db={}", user.free_port());
    let done = user.steading(&["install", "postgres@14", "--port", &port, "--set", "initdb-args=--no-such-option"]);
    clear(done, 1, &["no-such-option"]);
    nothing_installed(&user);
}
