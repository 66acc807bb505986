//! Containers that run once.

use crate::support::terminal::Terminal;
use crate::support::{self, Done, User};

const IMAGE: &str = "busybox";

fn run(user: &User, args: &[&str]) -> Done {
    user.steading(&[&["run", "--image", IMAGE], args].concat())
}

/// What is left of runs: directories, processes, mounts.
fn left(user: &User) -> String {
    user.sh("ls -A ~/.local/share/steading/runs $XDG_RUNTIME_DIR/steading/runs 2>/dev/null; \
         for pid in $(pgrep -u $(id -u)); do cat /proc/$pid/mountinfo 2>/dev/null; done | grep -o 'runs/run-[^ ]*' | sort -u; \
         pgrep -u $(id -u) -a -f 'steading run|sleep 50' | grep -v -e pgrep -e hold; true")
        .ok()
}

fn nothing_left(user: &User) {
    let mut seen = String::new();
    for _ in 0..60 {
        seen = left(user);
        if seen.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("left over: {seen}");
}

#[test]
fn an_image_runs_once_and_leaves_nothing() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);

    // The first run pulls, and says so on stderr only.
    let first = run(&user, &["--", "echo", "hello"]);
    assert!(first.err.contains("pulling"), "{first:?}");
    assert_eq!(first.ok(), "hello");
    let second = run(&user, &["--", "echo", "again"]);
    assert_eq!((second.code, second.out.as_str(), second.err.as_str()), (0, "again", ""));
    user.run(&["systemctl", "--user", "is-active", "steading-run", "steading-yard"]).ok();

    // How it ends.
    assert_eq!(run(&user, &["--", "sh", "-c", "exit 7"]).code, 7);
    assert!(run(&user, &["--", "no-such-program"]).fails(127).contains("no-such-program"));
    assert!(run(&user, &["--", "/etc/passwd"]).fails(126).contains("/etc/passwd"));
    assert_eq!(run(&user, &["--init", "--", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(user.steading(&["run", "--image", "127.0.0.1:5000/no/such-image:1", "--", "true"]).code, 3);

    // What it gets.
    assert_eq!(user.sh("echo piped | steading run --image busybox -- cat").ok(), "piped");
    let seen = run(
        &user,
        &["-e", "A=1", "--workdir", "/usr/new", "--", "sh", "-c", "echo $A $PWD $HOME; id -u; ls /sys/class/net; hostname"],
    )
    .ok();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..3], ["1 /usr/new /root", "0", "lo"], "{seen}");
    assert!(lines[3].starts_with("run-"), "{seen}");
    assert_eq!(run(&user, &["--user", "1234:77", "--", "sh", "-c", "echo $(id -u):$(id -g); touch /tmp/x"]).ok(), "1234:77");
    assert_eq!(run(&user, &["--user", "root", "--", "id", "-u", "-n"]).ok(), "root");
    run(&user, &["--user", "nobody-known", "--", "true"]).fails(3);
    assert_eq!(run(&user, &["--entrypoint", "echo", "--", "a", "b"]).ok(), "a b");
    assert_eq!(run(&user, &["--init", "--", "sh", "-c", "echo $$"]).ok(), "2");
    let status = run(&user, &["--", "grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"]).ok();
    assert_eq!(status.matches("\t0000000000000000").count(), 5, "{status}");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");

    // What it writes goes, but for volumes.
    run(&user, &["--", "sh", "-c", "echo x > /kept && rm -r /var"]).ok();
    assert_ne!(run(&user, &["--", "cat", "/kept"]).code, 0);
    user.sh("mkdir vol && echo outside > vol/file").ok();
    let home = user.sh("pwd").ok();
    let volume = format!("{home}/vol:/work");
    assert_eq!(run(&user, &["--volume", &volume, "--", "sh", "-c", "cat /work/file; echo inside > /work/new"]).ok(), "outside");
    assert_eq!(user.sh("cat vol/new; stat -c %U vol/new").ok(), format!("inside\n{}", user.name));
    let refused = run(&user, &["-v", "./vol:/work:ro", "--", "sh", "-c", "cat /work/file; echo x > /work/new"]);
    assert!(refused.code != 0 && refused.out == "outside" && refused.err.contains("Read-only"), "{refused:?}");
    assert!(run(&user, &["--volume", "/nowhere/at/all:/work", "--", "true"]).fails(2).contains("/nowhere/at/all"));
    run(&user, &["--volume", "data=/tmp", "--", "true"]).fails(2);
    assert!(run(&user, &["--network", "host", "--", "true"]).fails(2).contains("none"));
    nothing_left(&user);

    // The last service that goes takes the yard with it, and the unit that holds it, but not under a container that runs.
    user.steading(&["install", "redis@7", "--port", &user.free_port().to_string()]).ok();
    let during = user.sh(
        "exec 3< <(exec steading run --image busybox -- sh -c 'echo up; while ! [ -e /tmp/go ]; do sleep 0.1; ls /bin | wc -l > /tmp/n; done'); \
         pid=$!; read a <&3; steading remove --purge redis@7 >&2 && sleep 0.5 && systemctl --user is-active steading-yard; kill -KILL $pid",
    );
    assert_eq!(during.ok(), "active");
    run(&user, &["--", "true"]).ok();
    nothing_left(&user);
    user.steading(&["install", "redis@7", "--port", &user.free_port().to_string()]).ok();
    user.steading(&["remove", "--purge", "redis@7"]).ok();
    assert_eq!(
        user.sh("systemctl --user list-units --all --no-legend --plain 'steading*'; ls ~/.local/share/systemd 2>/dev/null").out,
        ""
    );
    // And the next run brings it all back.
    user.steading(&["image", "pull", IMAGE]).ok();
    assert_eq!(run(&user, &["--", "echo", "back"]).ok(), "back");
    nothing_left(&user);
}

#[test]
fn signals_are_passed_on_and_a_killed_run_takes_its_container_along() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(true);
    run(&user, &["--", "true"]).ok();
    // Caught by the program; not caught; with a reaper.
    let script = "trap 'echo caught; exit 3' TERM; echo begun; while :; do sleep 0.05; done";
    let caught = user.sh(&format!(
        "exec 3< <(exec steading run --image busybox -- sh -c \"{script}\"); pid=$!; read a <&3; kill -TERM $pid; read b <&3; wait $pid; echo $a $b $?"
    ));
    assert_eq!(caught.ok(), "begun caught 3");
    for init in ["", "--init"] {
        let ended =
            user.sh(&format!("steading run {init} --image busybox -- sleep 5001 & sleep 1; kill -INT $!; wait $!; echo $?"));
        assert_eq!(ended.ok(), "130", "{init}");
        nothing_left(&user);
    }
    // Killed: the container goes at once, the directories with the next run.
    for init in ["", "--init"] {
        let killed = user.sh(&format!(
            "steading run {init} --image busybox -- sh -c 'sleep 5002 & sleep 5003' & \
             for i in $(seq 100); do pgrep -u $(id -u) -f -x 'sleep 5003' && break; sleep 0.05; done; kill -KILL $!; wait $!; \
             for i in $(seq 100); do pgrep -u $(id -u) -f '^sleep 500' >/dev/null || break; sleep 0.05; done; pgrep -u $(id -u) -a sleep; ls ~/.local/share/steading/runs | wc -l"
        ));
        assert!(killed.out.ends_with("\n1"), "{killed:?}");
        run(&user, &["--", "true"]).ok();
        nothing_left(&user);
    }
    // Many at once do not disturb each other.
    let all = user.sh("for i in $(seq 12); do steading run --image busybox -- sh -c \"echo $i > /own; sleep 0.2; cat /own\" & done | sort -n | tr '\\n' ' '; wait").ok();
    assert_eq!(all, (1..=12).map(|number| number.to_string()).collect::<Vec<_>>().join(" "));
    nothing_left(&user);
}

#[test]
fn a_run_on_a_terminal_is_a_shell_like_any_other() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let mut terminal = Terminal::start(&user, &["steading", "run", "--image", IMAGE, "--", "sh"]);
    terminal.expect("# ");
    terminal.type_keys(b"tty; stty size; echo $TERM\r");
    terminal.expect("33 77\r\nvt100");
    assert!(terminal.shown().contains("/dev/pts/0"));
    terminal.resize(20, 50);
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.type_keys(b"stty size\r");
    terminal.expect("20 50");
    // Job control works: ^Z and ^C reach the job in front, and not the shell.
    terminal.type_keys(b"sleep 5004\r");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.type_keys(b"\x1a");
    terminal.expect("Stopped");
    terminal.type_keys(b"fg\r");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.type_keys(b"\x03");
    terminal.type_keys(b"echo status=$?\r");
    terminal.expect("status=130");
    terminal.type_keys(b"exit 6\r");
    assert_eq!(terminal.end(), 6);
    assert!(terminal.is_cooked());

    // A program that does not know of signals ends by ^C too, though it would be pid 1.
    let mut terminal =
        Terminal::start(&user, &["steading", "run", "--image", IMAGE, "--", "sh", "-c", "echo up; exec sleep 5005"]);
    terminal.expect("up");
    std::thread::sleep(std::time::Duration::from_millis(100));
    terminal.type_keys(b"\x03");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_cooked());
    // So does one without a terminal of its own. (In script(1), since ^C would end the testbed's own waiters.)
    let command = "steading run -T --image busybox -- sh -c 'echo up; exec sleep 5006'";
    let mut terminal = Terminal::start(&user, &["script", "--quiet", "--return", "--command", command, "/dev/null"]);
    terminal.expect("up");
    std::thread::sleep(std::time::Duration::from_millis(100));
    terminal.type_keys(b"\x03");
    assert_eq!(terminal.end(), 130);
    let mut terminal =
        Terminal::start(&user, &["steading", "run", "--image", IMAGE, "--", "sh", "-c", "echo up; exec sleep 5007"]);
    terminal.expect("up");
    std::thread::sleep(std::time::Duration::from_millis(100));
    terminal.hang_up();
    nothing_left(&user);
    let _ = terminal;
}

#[test]
fn other_runtimes_run_the_same_container() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let probe = "id -u; id -g; awk '{print $1, $3}' /proc/self/uid_map; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; echo $A; pwd; \
                 cat /work/file; ls /dev | sort | tr '\\n' ' '; hostname | cut -c1-4; exit 7";
    user.sh("mkdir vol && echo outside > vol/file").ok();
    let common = ["--user", "12:34", "-e", "A=1", "-w", "/tmp", "-v", "./vol:/work:ro"];
    let own = run(&user, &[&common[..], &["--", "sh", "-c", probe]].concat());
    assert_eq!(own.code, 7, "{own:?}");
    let other = run(&user, &[&common[..], &["--runtime", "crun", "--", "sh", "-c", probe]].concat());
    assert_eq!(other.code, 7, "{other:?}");
    // crun makes /dev/console, where there is a terminal or not, and core and fd as links.
    let plain = |text: &str| text.replace("console ", "").replace("core ", "");
    assert_eq!(plain(&own.out), plain(&other.out));
    nothing_left(&user);

    // A bundle can be run by hand; it is written once.
    run(&user, &["--bundle", "b", "--", "sh", "-c", "cat /etc/hostname; exit 3"]).ok();
    let by_hand = user.sh("cd b && crun --root $XDG_RUNTIME_DIR/crun --cgroup-manager=disabled run once");
    assert_eq!((by_hand.code, by_hand.out.as_str()), (3, "bundle"), "{by_hand:?}");
    assert!(run(&user, &["--bundle", "b", "--", "true"]).fails(1).contains("not empty"));
    assert_eq!(user.sh("find b/rootfs -perm /6000").ok(), "");
    assert!(run(&user, &["--runtime", "no-such-runtime", "--", "true"]).fails(1).contains("no-such-runtime"));
    nothing_left(&user);
}
