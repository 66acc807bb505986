//! The service's own sd_notify, good and bad.

use super::Stage;
use crate::support;

const NOTIFY: &str = "[ready]\nprobe = \"notify\"\nstart-timeout = \"20s\"\n";

const DATA: &str = "[data.data]\npath = \"/data\"\n";

#[test]
fn what_a_service_says_is_shown() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let steps = [
            "say:STATUS=warming\u{1b}[31m up",
            "until:/data/1",
            "say:READY=1;STATUS=serving",
            "until:/data/2",
            "say:RELOADING=1;MONOTONIC_USEC=1;STATUS=reading again",
            "until:/data/3",
            "say:READY=1;STATUS=serving again",
            "until:/data/4",
            "say:STOPPING=1;STATUS=going",
            "until:/data/5",
            "exit:0",
        ];
        stage.install("says", &steps, &format!("{DATA}{NOTIFY}"));
        stage.user.run(&["systemctl", "--user", "start", "--no-block", "says"]).ok();
        for (step, (state, text)) in (1..).zip([
            ("activating", "warming [31m up"),
            ("active", "serving"),
            ("reloading", "reading again"),
            ("active", "serving again"),
            ("deactivating", "going"),
        ]) {
            stage.wait(text, 10, || stage.shows("says", &["ActiveState", "StatusText"]) == [state, text]);
            stage.let_go("says", &step.to_string());
        }
        stage.ended("says");
        assert_eq!(stage.shows("says", &["Result", "NRestarts"]), ["success", "0"]);
        stage.remove("says");
        // Nobody else is told of a socket.
        stage.install(
            "plain",
            &["env:NOTIFY_SOCKET", "env:WATCHDOG_USEC", "wait"],
            "[ready]\nprobe = \"started\"\nwatchdog = \"10s\"\n",
        );
        stage.systemctl("start", "plain").ok();
        stage.wait("it has said it", 5, || stage.journal("plain").contains("WATCHDOG_USEC=(none)"));
        assert!(stage.journal("plain").contains("NOTIFY_SOCKET=(none)"));
        stage.remove("plain");
    }
}

#[test]
fn bad_datagrams_do_no_harm() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let steps = [
            "print:begun",
            "huge",
            "nul",
            "fds:300",
            "say:MAINPID=1000000;EXTEND_TIMEOUT_USEC=99999999999999999999",
            "flood:3000",
            "say:STATUS=calm",
            "print:said",
            "until:/data/go",
            "say:READY=1;STATUS=up",
            "wait",
        ];
        stage.install("bad", &steps, &format!("{DATA}{NOTIFY}"));
        stage.user.run(&["systemctl", "--user", "start", "--no-block", "bad"]).ok();
        stage.wait("all was sent", 15, || stage.journal("bad").contains("said"));
        assert_eq!(stage.show("bad", "ActiveState"), "activating");
        stage.wait("the last word stays", 5, || stage.show("bad", "StatusText") == "calm");
        // A stranger of the same user on the host; systemd-notify would not say that it is not heard.
        let said = stage.user.sh(
            "NOTIFY_SOCKET=$XDG_RUNTIME_DIR/steading/services/bad/notify timeout 3 systemd-notify --no-block READY=1 STATUS=stranger; \
             ls /proc/$(systemctl --user show -P MainPID bad)/fd | wc -l; grep VmRSS /proc/$(systemctl --user show -P MainPID bad)/status",
        );
        let (fds, memory) = said.out.split_once('\n').expect("two lines");
        assert!(fds.parse::<u32>().expect("a number") < 20, "{said:?}");
        let rss: u32 = memory.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
        assert!(rss < 16 << 10, "{memory}");
        assert_eq!(stage.shows("bad", &["ActiveState", "StatusText"]), ["activating", "calm"]);
        stage.let_go("bad", "go");
        stage.wait("its own word counts", 10, || stage.shows("bad", &["ActiveState", "StatusText"]) == ["active", "up"]);
        stage.remove("bad");
    }
}

#[test]
fn a_service_may_ask_for_time() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    let notify = NOTIFY.replace("20s", "2s");
    stage.install("asks", &["say:EXTEND_TIMEOUT_USEC=10000000", "sleep:5000", "say:READY=1", "wait"], &notify);
    stage.systemctl("start", "asks").ok();
    stage.remove("asks");
}

#[test]
fn another_main_process_is_followed() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        // A daemon that forks: with a reaper its parent may go, and the child's code is the service's.
        stage.install(
            "daemon",
            &["fork:sleep:300,exit:0", "say:READY=1;MAINPID=self", "on:10:5", "wait"],
            &format!("init = true\n{NOTIFY}"),
        );
        stage.once("daemon");
        stage.systemctl("start", "daemon").ok();
        stage.wait("the parent is gone", 5, || stage.actors().len() == 1);
        assert_eq!(stage.show("daemon", "ActiveState"), "active");
        stage.user.run(&["systemctl", "--user", "kill", "--kill-whom=main", "-s", "USR1", "daemon"]).ok();
        stage.ended("daemon");
        assert_eq!(stage.shows("daemon", &["Result", "ExecMainCode", "ExecMainStatus"]), ["exit-code", "1", "5"]);
        stage.remove("daemon");

        // Without one, pid 1 stays; the new main process gets the signals, and its end is a failure of the service.
        stage.install("worker", &["fork:wait", "say:READY=1;MAINPID=self", "on:10:5", "wait"], NOTIFY);
        stage.once("worker");
        stage.systemctl("start", "worker").ok();
        stage.user.run(&["systemctl", "--user", "kill", "--kill-whom=main", "-s", "USR1", "worker"]).ok();
        stage.ended("worker");
        assert_eq!(stage.show("worker", "Result"), "exit-code");
        assert!(stage.journal("worker").contains("lost its main process"));
        assert_eq!(stage.actors(), Vec::<String>::new());
        stage.remove("worker");
    }
}
