//! When a service counts as started, what it shows on its way, and how long it may take.

use super::{Stage, timed};
use crate::support;
use std::time::Duration;

const PORT: &str = "[ports.web]\ncontainer = 7000\ndefault = PORT\n";

fn port(stage: &Stage) -> String {
    PORT.replace("PORT", &stage.user.free_port().to_string())
}

#[test]
fn each_kind_waits_for_what_it_names() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        for (name, steps, ready) in [
            // The kernel takes connections from the moment it listens; the service does 0.8 s later.
            ("tcp", &["listen:7000", "sleep:800", "accept"][..], "probe = \"tcp\"\nport = \"web\""),
            ("http", &["listen:7000", "http:503,503,503,503,503,503,503,204"], "probe = \"http\"\nport = \"web\"\npath = \"/x\""),
            ("log", &["print:nearly", "sleep:800", "print:it is up now", "wait"], "probe = \"log\"\ntext = \"is up\""),
            ("notify", &["sleep:800", "say:READY=1", "wait"], "probe = \"notify\""),
            (
                "exec",
                &["listen:7000", "sleep:800", "touch:/tmp/up", "wait"],
                "probe = \"exec\"\ncommand = [\"test\", \"-e\", \"/tmp/up\"]",
            ),
        ] {
            let port = if steps[0].starts_with("listen") { port(&stage) } else { String::new() };
            let tables = format!("{port}[ready]\n{ready}\ninterval = \"150ms\"\ntimeout = \"300ms\"\nstart-timeout = \"20s\"\n");
            stage.install(name, steps, &tables);
            let time = timed(|| drop(stage.systemctl("start", name).ok()));
            assert!(time > Duration::from_millis(700), "{name} was ready after {time:?}");
            assert_eq!(stage.shows(name, &["ActiveState", "StatusText"]), ["active", "running"], "{name}");
            let journal = stage.journal(name);
            assert_eq!(journal.matches("ready after ").count(), 1, "{journal}");
            assert!(!journal.contains("probe fails"), "{journal}");
            stage.systemctl("stop", name).ok();
            assert_eq!(stage.shows(name, &["ActiveState", "Result"]), ["inactive", "success"], "{name}");
            stage.remove(name);
        }
    }
}

#[test]
fn a_start_that_is_given_up_says_what_was_seen_last() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    for (name, steps, ready, said) in [
        ("tcp", &["listen:7000", "wait"][..], "probe = \"tcp\"\nport = \"web\"", "does not accept the connection"),
        ("http", &["listen:7000", "http:503"], "probe = \"http\"\nport = \"web\"", "it answers with status 503"),
        ("log", &["listen:7000", "print:nearly", "wait"], "probe = \"log\"\ntext = \"is up\"", "does not have the text `is up`"),
        ("notify", &["listen:7000", "wait"], "probe = \"notify\"", "does not say READY=1"),
        ("exec", &["listen:7000", "wait"], "probe = \"exec\"\ncommand = [\"sh\", \"-c\", \"exit 9\"]", "exit code 9"),
        ("slow", &["listen:7000", "wait"], "probe = \"exec\"\ncommand = [\"sleep\", \"9\"]", "no end within 0.5 s"),
        ("listen", &["wait"], "probe = \"listen\"", "does not listen on port 7000"),
    ] {
        let tables = format!("{}[ready]\n{ready}\ntimeout = \"500ms\"\nstart-timeout = \"2s\"\n", port(&stage));
        stage.install(name, steps, &tables);
        stage.once(name);
        let time = timed(|| assert_ne!(stage.systemctl("start", name).code, 0));
        assert!(time < Duration::from_secs(8), "{name} took {time:?}");
        let journal = stage.journal(name);
        assert!(journal.contains("was not ready within 2 s") && journal.contains(said), "{name}: {journal}");
        assert_eq!(stage.actors(), Vec::<String>::new(), "{name}");
        stage.remove(name);
    }
}

#[test]
fn phases_are_shown_and_extend_the_start() {
    for machine in support::machines() {
        let stage = Stage::new(&machine);
        let tables = format!(
            "{}[ready]\nprobe = \"exec\"\ncommand = [\"sh\", \"-c\", \"test -e /tmp/up || exit 3\"]\ninterval = \"200ms\"\n\
             start-timeout = \"2s\"\nphases = {{ \"3\" = \"recovering\" }}\n",
            port(&stage)
        );
        stage.install("phases", &["listen:7000", "sleep:6000", "touch:/tmp/up", "wait"], &tables);
        // systemd's own time-out must be the shorter one for it to be seen that it moves, too.
        stage
            .user
            .sh("d=~/.config/systemd/user/phases.service.d; mkdir -p $d; printf '[Service]\\nTimeoutStartSec=4s\\n' > $d/x.conf; systemctl --user daemon-reload")
            .ok();
        stage.user.run(&["systemctl", "--user", "start", "--no-block", "phases"]).ok();
        stage.wait("the phase is shown", 10, || stage.show("phases", "StatusText") == "recovering");
        stage.wait("it becomes ready", 20, || stage.show("phases", "ActiveState") == "active");
        assert_eq!(stage.shows("phases", &["StatusText", "NRestarts"]), ["running", "0"]);
        stage.remove("phases");
    }
}

#[test]
fn a_first_start_that_works_gets_time_and_a_later_one_or_an_idle_one_does_not() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    let tables = |start: &str| {
        format!(
            "{}[data.data]\npath = \"/data\"\n[ready]\nprobe = \"listen\"\nstart-timeout = \"{start}\"\nfirst-start = \"initialising database\"\n",
            port(&stage)
        )
    };
    let steps = ["spin:6000", "append:/data/made:x", "listen:7000", "wait"];
    stage.install("first", &steps, &tables("3s"));
    stage.once("first");
    stage.user.run(&["systemctl", "--user", "start", "--no-block", "first"]).ok();
    stage.wait("the phase is shown", 10, || stage.show("first", "StatusText") == "initialising database");
    stage.wait("it becomes ready", 30, || stage.show("first", "ActiveState") == "active");
    stage.systemctl("stop", "first").ok();
    // Not empty any more: the same work has its time-out alone.
    assert_ne!(stage.systemctl("start", "first").code, 0);
    assert!(stage.journal("first").contains("was not ready within 3 s"));
    stage.remove("first");
    stage.install("idle", &["sleep:6000", "listen:7000", "wait"], &tables("3s"));
    stage.once("idle");
    assert_ne!(stage.systemctl("start", "idle").code, 0);
    assert!(stage.journal("idle").contains("was not ready within 3 s"));
    stage.remove("idle");
}

#[test]
fn a_journal_that_cannot_be_read_is_said() {
    let Some(machine) = support::machine() else { return };
    let stage = Stage::new(&machine);
    stage.install("unread", &["print:it is up", "wait"], "[ready]\nprobe = \"log\"\ntext = \"is up\"\nstart-timeout = \"20s\"\n");
    stage.once("unread");
    // A journalctl that says what the real one says to a user without access.
    stage
        .user
        .sh("mkdir -p ~/bin; printf '#!/bin/sh\\necho No journal files were opened due to insufficient permissions. >&2; exit 1\\n' > ~/bin/journalctl; \
             chmod +x ~/bin/journalctl; d=~/.config/systemd/user/unread.service.d; printf \"[Service]\\nEnvironment=PATH=$HOME/bin:/usr/bin:/bin\\n\" > $d/path.conf; \
             systemctl --user daemon-reload")
        .ok();
    assert_ne!(stage.systemctl("start", "unread").code, 0);
    let journal = stage.journal("unread");
    assert!(
        journal.contains("cannot read the service's output from the journal") && journal.contains("insufficient permissions"),
        "{journal}"
    );
    assert_eq!(stage.actors(), Vec::<String>::new());
    stage.remove("unread");
}
