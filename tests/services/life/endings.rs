//! systemd sees how the service itself ended.

use super::Stage;
use crate::support;

const STARTED: &str = "[ready]\nprobe = \"started\"\n";

/// `ExecMainCode` of systemd: CLD_EXITED, CLD_KILLED.
const EXITED: &str = "1";
const KILLED: &str = "2";

#[test]
fn codes_and_signals_are_the_services_own() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        for (name, step, expected) in [
            ("zero", "exit:0", ["success", EXITED, "0"]),
            ("seven", "exit:7", ["exit-code", EXITED, "7"]),
            // A code that looks like a signal is none.
            ("high", "exit:139", ["exit-code", EXITED, "139"]),
            ("segv", "crash", ["signal", KILLED, "11"]),
            ("kill", "wait", ["signal", KILLED, "9"]),
        ] {
            for init in [false, true] {
                let service = format!("{name}{}", if init { "-init" } else { "" });
                stage.install(&service, &["sleep:300", step], &format!("{}{STARTED}", if init { "init = true\n" } else { "" }));
                stage.once(&service);
                stage.systemctl("start", &service).ok();
                if step == "wait" {
                    stage.user.sh("kill -9 $(pgrep -u $(id -u) -x actor)").ok();
                }
                stage.ended(&service);
                let seen = stage.shows(&service, &["Result", "ExecMainCode", "ExecMainStatus"]);
                assert_eq!(seen, expected, "{service}: {}", stage.journal(&service));
                stage.remove(&service);
            }
        }
    }
}

#[test]
fn a_crash_of_any_part_is_a_failure_and_is_repaired() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let port = stage.user.free_port();
        let tables = format!("init = true\n[ports.web]\ncontainer = 7000\ndefault = {port}\n[ready]\nprobe = \"listen\"\n");
        stage.install("parts", &["listen:7000", "accept"], &tables);
        stage.systemctl("start", "parts").ok();
        let parts = [
            ("supervisor", "systemctl --user show -P MainPID parts"),
            ("pid 1", "pgrep -P $(systemctl --user show -P MainPID parts)"),
            ("service", "pgrep -u $(id -u) -x actor"),
        ];
        for (count, (part, find)) in parts.iter().enumerate() {
            stage.user.sh(&format!("kill -9 $({find})")).ok();
            stage.wait(part, 15, || {
                stage.show("parts", "NRestarts") == (count + 1).to_string() && stage.show("parts", "ActiveState") == "active"
            });
            assert_eq!(stage.actors().len(), 1, "{part}");
            // The kept socket is the same, and served.
            stage.user.sh(&format!("timeout 5 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3'")).ok();
        }
        assert_eq!(stage.show("parts", "NFileDescriptorStore"), "1");
        stage.remove("parts");
        assert_eq!(stage.user.leftovers().lines().filter(|line| !line.contains("catalog") && !line.contains(".d")).count(), 0);
    }
}

#[test]
fn signals_are_passed_on() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    for (signal, number) in [("HUP", 1), ("USR1", 10), ("USR2", 12), ("QUIT", 3), ("WINCH", 28), ("ALRM", 14)] {
        for init in [false, true] {
            let service = format!("to-{}{}", signal.to_lowercase(), if init { "-init" } else { "" });
            let on = format!("on:{number}:{}", number + 20);
            stage.install(&service, &[&on, "wait"], &format!("{}{STARTED}", if init { "init = true\n" } else { "" }));
            stage.once(&service);
            stage.systemctl("start", &service).ok();
            stage.user.run(&["systemctl", "--user", "kill", "--kill-whom=main", "-s", signal, &service]).ok();
            stage.ended(&service);
            assert_eq!(stage.show(&service, "ExecMainStatus"), (number + 20).to_string(), "{service}");
            stage.remove(&service);
        }
    }
}

#[test]
fn a_core_can_be_dumped() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    stage.install("core", &["wait"], &format!("init = true\n{STARTED}"));
    stage.user
        .sh("d=~/.config/systemd/user/core.service.d; mkdir -p $d; printf '[Service]\\nLimitCORE=infinity\\n' > $d/core.conf; systemctl --user daemon-reload")
        .ok();
    stage.systemctl("start", "core").ok();
    let pid = &stage.actors()[0];
    // /proc/PID belongs to root when the process may not be dumped (proc(5)).
    let facts = stage.user.sh(&format!("stat -c %U /proc/{pid}/mem; grep 'core file' /proc/{pid}/limits")).ok();
    assert!(facts.starts_with(&stage.user.name) && facts.contains("unlimited"), "{facts}");
    stage.remove("core");
}
