//! A service that hangs is seen, ended as it should be, and started again.

use super::Stage;
use crate::support;

#[test]
fn a_stopped_service_is_restarted_with_its_data() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let port = stage.user.free_port();
        // The catalog's own redis, with the shortest watchdog there is.
        let catalog = include_str!("../../../catalog/redis.toml");
        assert!(catalog.contains("watchdog = \"5min\""));
        let recipe = catalog.replace("watchdog = \"5min\"", "watchdog = \"3s\"").replace("timeout = \"5s\"", "timeout = \"1s\"");
        std::fs::write(stage.home().join(".config/steading/catalog/redis.toml"), recipe).expect("a recipe");
        stage.user.steading(&["install", "redis@7", "--port", &format!("redis={port}")]).ok();
        assert_eq!(stage.show("redis@7", "WatchdogUSec"), "3s");
        let cli = |words: &str| stage.user.sh(&format!("steading exec redis@7 -- redis-cli -s /tmp/redis.sock {words}")).out;
        assert_eq!(cli("set k kept"), "OK");
        // Fed for longer than its time while all is well.
        std::thread::sleep(std::time::Duration::from_secs(5));
        assert_eq!(stage.shows("redis@7", &["NRestarts", "ActiveState"]), ["0", "active"]);
        stage.user.sh("kill -STOP $(pgrep -u $(id -u) -f '^redis-server')").ok();
        stage.wait("systemd sees it", 20, || stage.journal("redis@7").contains("Failed with result 'watchdog'"));
        stage.wait("it runs again", 20, || stage.show("redis@7", "ActiveState") == "active" && cli("get k") == "kept");
        let journal = stage.journal("redis@7");
        // Not killed but ended: redis writes its data at SIGTERM.
        assert!(journal.contains("Redis is now ready to exit") && journal.contains("hangs and is stopped"), "{journal}");
        assert_eq!(journal.lines().filter(|line| line.starts_with("probe fails: ")).count(), 1, "{journal}");
        assert_eq!(stage.show("redis@7", "NRestarts"), "1");
        stage.remove("redis@7");
    }
}

#[test]
fn without_a_probe_the_process_itself_is_looked_at() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    for (name, init) in [("plain", ""), ("reaped", "init = true\n")] {
        let tables = format!("{init}[ready]\nprobe = \"started\"\nwatchdog = \"3s\"\n");
        stage.install(name, &["on:15:0", "wait"], &tables);
        stage.systemctl("start", name).ok();
        std::thread::sleep(std::time::Duration::from_secs(4));
        assert_eq!(stage.show(name, "NRestarts"), "0");
        let pid = stage.actors();
        assert_eq!(pid.len(), 1, "{pid:?}");
        stage.user.sh(&format!("kill -STOP {}", pid[0])).ok();
        stage.wait("it is restarted", 20, || stage.show(name, "NRestarts") == "1" && stage.show(name, "ActiveState") == "active");
        let journal = stage.journal(name);
        assert!(journal.contains("Failed with result 'watchdog'") && journal.contains("its process is stopped"), "{journal}");
        assert!(journal.contains("handled a signal"), "{journal}");
        stage.remove(name);
    }
}

#[test]
fn a_connection_that_is_not_accepted_is_a_hang() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    let tables = format!(
        "[ports.web]\ncontainer = 7000\ndefault = {}\n[ready]\nprobe = \"tcp\"\nport = \"web\"\ntimeout = \"500ms\"\nwatchdog = \"3s\"\n",
        stage.user.free_port()
    );
    stage.install("queue", &["listen:7000", "accept"], &tables);
    stage.systemctl("start", "queue").ok();
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(stage.show("queue", "NRestarts"), "0");
    stage.user.sh("kill -STOP $(pgrep -u $(id -u) -x actor)").ok();
    stage.wait("it is restarted", 20, || {
        stage.show("queue", "NRestarts") == "1" && stage.show("queue", "ActiveState") == "active"
    });
    assert!(stage.journal("queue").contains("the service does not accept the connection"));
    stage.remove("queue");
}

#[test]
fn a_service_feeds_its_own_watchdog() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let beat = ["say:WATCHDOG=1", "sleep:1000"];
        let steps = [
            &["on:15:0", "env:WATCHDOG_USEC", "env:WATCHDOG_PID", "say:READY=1"][..],
            &beat,
            &beat,
            &beat,
            &beat,
            &beat,
            &["wait"],
        ]
        .concat();
        for (name, init, pid) in [("own", "", 1), ("own-init", "init = true\n", 2)] {
            stage.install(name, &steps, &format!("{init}[ready]\nprobe = \"notify\"\nwatchdog = \"3s\"\n"));
            stage.once(name);
            stage.systemctl("start", name).ok();
            // Longer than the watchdog allows without being fed.
            std::thread::sleep(std::time::Duration::from_secs(4));
            assert_eq!(stage.show(name, "ActiveState"), "active");
            stage.ended(name);
            assert_eq!(stage.shows(name, &["Result", "ExecMainStatus"]), ["watchdog", "1"]);
            let journal = stage.journal(name);
            assert!(journal.contains("WATCHDOG_USEC=3000000") && journal.contains(&format!("WATCHDOG_PID={pid}")), "{journal}");
            stage.remove(name);
        }
    }
}
