//! The command before the stop, the stop signal, and who may not be killed.

use super::{Stage, timed};
use crate::support;
use std::time::Duration;

const DATA: &str = "[data.data]\npath = \"/data\"\n[ready]\nprobe = \"started\"\n";

fn log(stage: &Stage, name: &str) -> String {
    stage.user.sh(&format!("cat ~/.local/share/steading/services/{name}/data/data/log")).out
}

#[test]
fn the_command_comes_before_the_signal() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        // The command sees the service still running, and takes its time.
        let stop = "[stop]\nsignal = \"SIGUSR1\"\ntimeout = \"20s\"\ncommand = [\"sh\", \"-c\", \"kill -0 1 && echo said by the command && sleep 1 && echo command >> /data/log\"]\n";
        stage.install("order", &["append:/data/log:start", "on:10:0", "wait"], &format!("{DATA}{stop}"));
        stage.systemctl("start", "order").ok();
        stage.user.run(&["systemctl", "--user", "stop", "--no-block", "order"]).ok();
        stage.wait("the status tells", 5, || stage.show("order", "StatusText") == "waiting for pre-stop command");
        stage.ended("order");
        assert_eq!(log(&stage, "order"), "start\ncommand");
        let journal = stage.journal("order");
        assert!(journal.contains("said by the command") && journal.contains("handled a signal"), "{journal}");
        assert_eq!(stage.show("order", "Result"), "success");
        stage.remove("order");
    }
}

#[test]
fn a_command_that_fails_or_hangs_does_not_keep_the_service() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    for (name, command, said, most) in [
        ("fails", "exit 3", "pre-stop command fails: exit code 3", 3),
        ("hangs", "sleep 60", "pre-stop command fails: it takes too long", 6),
    ] {
        let stop = format!("[stop]\ntimeout = \"6s\"\ncommand = [\"sh\", \"-c\", \"{command}\"]\n");
        stage.install(name, &["on:15:0", "wait"], &format!("{DATA}{stop}"));
        stage.systemctl("start", name).ok();
        let time = timed(|| drop(stage.systemctl("stop", name).ok()));
        assert!(time < Duration::from_secs(most), "{name}: {time:?}");
        let journal = stage.journal(name);
        assert!(journal.contains(said) && journal.contains("handled a signal"), "{journal}");
        assert_eq!(stage.show(name, "Result"), "success");
        assert_eq!(stage.user.sh("pgrep -u $(id -u) -x sleep").out, "");
        stage.remove(name);
    }
}

#[test]
fn a_signal_that_is_not_caught_has_its_usual_effect() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    for (name, init) in [("usual", ""), ("usual-init", "init = true\n")] {
        stage.install(name, &["wait"], &format!("{init}{DATA}"));
        stage.systemctl("start", name).ok();
        let time = timed(|| drop(stage.systemctl("stop", name).ok()));
        assert!(time < Duration::from_secs(3), "{time:?}");
        // As a plain program that SIGTERM has ended: no failure.
        assert_eq!(stage.shows(name, &["Result", "ExecMainCode", "ExecMainStatus"]), ["success", "2", "15"]);
        stage.remove(name);
    }
}

#[test]
fn a_shell_that_waits_for_its_program_is_not_shot_before_it() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    // As an entrypoint that makes a database: pid 1 is a shell, which SIGTERM does nothing to, and its child cleans up.
    let recipe_steps = ["append:/data/log:start", "fork:wait", "on:15:0", "wait"];
    stage.install("shell", &recipe_steps, DATA);
    stage.systemctl("start", "shell").ok();
    stage.wait("both run", 5, || stage.actors().len() == 2);
    stage.systemctl("stop", "shell").ok();
    let journal = stage.journal("shell");
    assert!(journal.contains("handled a signal"), "{journal}");
    stage.remove("shell");
}

#[test]
fn who_may_not_be_killed_is_not_and_does_not_run_twice() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let stop = "[stop]\ntimeout = \"2s\"\nno-sigkill = true\n";
        stage.install("spared", &["append:/data/log:start", "on:15:-", "on:10:0", "wait"], &format!("{DATA}{stop}"));
        stage.once("spared");
        stage.systemctl("start", "spared").ok();
        assert_eq!(stage.show("spared", "SendSIGKILL"), "no");
        let pid = stage.actors();
        stage.systemctl("stop", "spared");
        stage.ended("spared");
        assert_eq!(stage.show("spared", "Result"), "timeout");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(stage.actors(), pid, "nobody has killed it");
        // Not a second one on the same data.
        assert_ne!(stage.systemctl("start", "spared").code, 0);
        let journal = stage.journal("spared");
        assert!(journal.contains("still runs from a former start"), "{journal}");
        assert_eq!((stage.actors(), log(&stage, "spared").as_str()), (pid.clone(), "start"));
        stage.user.sh(&format!("kill -USR1 {}", pid[0])).ok();
        stage.wait("it ends", 5, || stage.actors().is_empty());
        stage.systemctl("start", "spared").ok();
        assert_eq!(log(&stage, "spared"), "start\nstart");
        stage.user.sh("kill -USR1 $(pgrep -u $(id -u) -x actor)").ok();
        stage.ended("spared");
        stage.remove("spared");

        // One that hears its stop signal: the supervisor is shot, its container is stopped properly before the next one starts.
        let stop = stop.replace("2s", "9s");
        stage.install("heard", &["append:/data/log:start", "late:15:0", "wait"], &format!("{DATA}{stop}"));
        stage.systemctl("start", "heard").ok();
        stage.user.sh("kill -9 $(systemctl --user show -P MainPID heard)").ok();
        stage.wait("it runs again", 15, || {
            log(&stage, "heard") == "start\nstart" && stage.show("heard", "ActiveState") == "active"
        });
        assert_eq!(stage.actors().len(), 1);
        let journal = stage.journal("heard");
        assert!(journal.contains("the former container still runs") && journal.contains("handled a signal"), "{journal}");
        stage.remove("heard");
    }
}
