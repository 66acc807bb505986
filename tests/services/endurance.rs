//! Many cycles, and sudden deaths of every process there is: nothing grows, nothing is lost, nothing is left.
//!
//! `STEADING_CYCLES` says how many starts and stops (1,000 by default).

use crate::hostile_program::{Hostile, Manner};
use crate::support;
use crate::support::User;
use crate::support::ground::{count, growth};

/// Redis commands, one answer line each; run by bash in the machine.
fn redis(user: &User, port: u16, commands: &str) -> String {
    user.sh(&format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; for command in {commands}; do printf '%s\\r\\n' \"${{command//_/ }}\" >&3; \
         read -t 10 -r line <&3 || exit 1; line=${{line%$'\\r'}}; case $line in '$'*) read -t 10 -r line <&3; line=${{line%$'\\r'}} ;; esac; echo \"${{line#+}}\"; done"
    ))
    .ok()
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing() {
    let Some(machine) = support::machine() else { return };
    let cycles: u32 = std::env::var("STEADING_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let user = machine.user(true);
    // What keeps the yard up, so that it lives through all of them.
    user.steading(&["install", "redis@7", "--name", "keeper", "--port", &format!("redis={}", user.free_port())]).ok();
    // A service that costs nothing itself; it has a published port and a volume as any other.
    let cycled = Hostile::install(&user, "cycled", &Manner::default());
    let port = cycled.port;
    let cycle = |times: u32| {
        // Half of them stops and starts, half restarts; each pair must have answered.
        let script = format!(
            "set -e; for ((i = 0; i < {times}; i += 2)); do \
               systemctl --user stop cycled; systemctl --user reset-failed cycled 2>/dev/null || true; systemctl --user start cycled; \
               systemctl --user restart cycled; systemctl --user reset-failed cycled 2>/dev/null || true; \
               exec 3<>/dev/tcp/127.0.0.1/{port}; echo descriptors >&3; read -t 10 -r line <&3; [ \"$line\" = 'descriptor 0 is /dev/null' ]; exec 3>&-; \
             done"
        );
        user.sh(&script).ok();
    };
    // The first ones fill caches that stay.
    cycle(40);
    let before = count(&user);
    let begin = std::time::Instant::now();
    cycle(cycles);
    println!("{cycles} cycles in {:?}", begin.elapsed());
    let mut after = count(&user);
    // What the kernel or the manager lets go of a little later.
    for _ in 0..50 {
        if growth(&before, &after, 2048).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        after = count(&user);
    }
    println!("before {before:?}\nafter  {after:?}");
    // The manager's own memory: it grew by half a MiB in the first thousand and as much in the first hundred, so it settles.
    assert_eq!(growth(&before, &after, 2048), Vec::<String>::new());
    cycled.remove();
    user.sh("rm -r ~/.config/steading/catalog").ok();
    user.steading(&["remove", "--purge", "keeper"]).ok();
    assert_eq!(user.leftovers(), "");
}

/// Shell: waits until the service runs with another main process than `$old` and answers.
const BACK: &str = "for ((i = 0; i < 300; i++)); do new=$(systemctl --user show -P MainPID SERVICE); [ $new != $old ] && [ $new != 0 ] && \
    systemctl --user is-active --quiet SERVICE && exit 0; sleep 0.05; done; systemctl --user status --no-pager SERVICE; exit 1";

#[test]
fn whatever_is_killed_the_service_comes_back_with_its_data() {
    for machine in support::machines() {
        let user = machine.user(true);
        let (port, init_port) = (user.free_port(), user.free_port());
        user.steading(&[
            "install",
            "redis@7",
            "--name",
            "plain",
            "--set",
            "append-only=true",
            "--port",
            &format!("redis={port}"),
        ])
        .ok();
        // The same below a reaper.
        user.sh(
            "mkdir -p ~/.config/steading/catalog; cat > ~/.config/steading/catalog/reaped.toml <<'END'\n\
             [recipe]\nschema = 1\nname = \"reaped\"\ntitle = \"Redis\"\nsummary = \"Redis below a reaper\"\ndefault-version = \"7\"\n\
             [image]\nreference = \"docker.io/library/redis\"\n[run]\nuid = 999\ngid = 999\ninit = true\n\
             args = [\"redis-server\", \"--appendonly\", \"yes\"]\n\
             [ports.redis]\ncontainer = 6379\n[data.data]\npath = \"/data\"\n[ready]\nprobe = \"listen\"\n[versions.\"7\"]\ntag = \"7\"\nEND",
        )
        .ok();
        user.steading(&["install", "reaped", "--name", "reaped", "--port", &format!("redis={init_port}")]).ok();
        let settled = count(&user);
        let mut written = 0;
        // Processes of a service, by what they are: the child of its supervisor is pid 1 inside.
        let supervisor = "systemctl --user show -P MainPID SERVICE";
        let first = "pgrep -P $(systemctl --user show -P MainPID SERVICE) | head -1";
        let below = "pgrep -P $(pgrep -P $(systemctl --user show -P MainPID SERVICE) | head -1) | head -1";
        let matrix = [
            ("plain", port, "the supervisor", supervisor),
            ("plain", port, "pid 1, the service", first),
            ("reaped", init_port, "the supervisor", supervisor),
            ("reaped", init_port, "pid 1, the reaper", first),
            ("reaped", init_port, "the service below the reaper", below),
        ];
        for _ in 0..2 {
            for (service, port, what, pid) in matrix {
                written += 1;
                assert_eq!(redis(&user, port, &format!("SET_key{written}_{written}")), "OK");
                let restarts = user.sh(&format!("systemctl --user show -P NRestarts {service}")).ok();
                let script = format!(
                    "old=$({}); kill -9 $({}); {}",
                    supervisor.replace("SERVICE", service),
                    pid.replace("SERVICE", service),
                    BACK.replace("SERVICE", service)
                );
                let done = user.sh(&script);
                assert_eq!(done.code, 0, "{service} did not come back after the end of {what}: {done:?}");
                let after = user.sh(&format!("systemctl --user show -P NRestarts {service}")).ok();
                assert!(after.parse::<u32>().unwrap() > restarts.parse::<u32>().unwrap(), "systemd saw no failure: {what}");
                assert_eq!(
                    redis(&user, port, &format!("GET_key{written}")),
                    written.to_string(),
                    "data is lost: {what} of {service}"
                );
            }
            // The yard: nobody but systemd notices.
            let script = format!(
                "old=$(systemctl --user show -P MainPID steading-yard); kill -9 $old; ls -d / >/dev/null; {}",
                BACK.replace("SERVICE", "steading-yard")
            );
            user.sh(&script).ok();
            assert_eq!(redis(&user, port, "PING"), "PONG");
            user.run(&["systemctl", "--user", "restart", "plain"]).ok();
            // The first of this round's five keys.
            assert_eq!(redis(&user, port, &format!("GET_key{}", written - 4)), (written - 4).to_string());
        }
        let mut after = count(&user);
        for _ in 0..50 {
            if growth(&settled, &after, 4096).is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
            after = count(&user);
        }
        assert_eq!(growth(&settled, &after, 4096), Vec::<String>::new());
        user.steading(&["remove", "--purge", "plain"]).ok();
        user.steading(&["remove", "--purge", "reaped"]).ok();
        user.sh("rm -r ~/.config/steading/catalog").ok();
        assert_eq!(user.leftovers(), "");
    }
}
