//! Commands in a running service, with and without a terminal.

use crate::support::terminal::Terminal;
use crate::support::{self, Done, User};

const NAME: &str = "redis@7";

fn redis(user: &User) {
    user.steading(&["install", NAME, "--port", &user.free_port().to_string()]).ok();
}

fn exec(user: &User, args: &[&str]) -> Done {
    user.steading(&[&["exec"], args].concat())
}

/// Processes of the user whose command line has `text`, as the machine sees them.
fn processes(user: &User, text: &str) -> String {
    user.sh(&format!("pgrep -u $(id -u) -f -x -- '{text}' || true")).ok()
}

fn gone(user: &User, text: &str) {
    for _ in 0..100 {
        if processes(user, text).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("`{text}` still runs");
}

#[test]
fn a_command_without_a_terminal_is_like_any_other() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    assert!(exec(&user, &["nothing", "--", "true"]).fails(3).contains("nothing"));
    redis(&user);

    // How it ends.
    assert_eq!(exec(&user, &[NAME, "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(exec(&user, &[NAME, "--", "sh", "-c", "kill -9 $$"]).code, 137);
    assert!(exec(&user, &[NAME, "--", "no-such-program"]).fails(127).contains("no-such-program"));
    assert!(exec(&user, &[NAME, "--", "/etc/passwd"]).fails(126).contains("/etc/passwd"));
    assert!(exec(&user, &["--workdir", "/nowhere", NAME, "--", "true"]).fails(1).contains("/nowhere"));

    // What it gets: environment, directory, user.
    let seen = exec(
        &user,
        &["-e", "A=b=c", "-e", "NOT_SET_HERE", "-w", "/etc", NAME, "--", "sh", "-c", "echo $A $PWD $REDIS_VERSION; env"],
    )
    .ok();
    assert!(seen.starts_with("b=c /etc"), "{seen}");
    assert!(!seen.contains("NOT_SET_HERE") && !seen.contains("TERM="), "{seen}");
    let passed_on = user.sh(&format!("FROM_OUTSIDE=x steading exec --env FROM_OUTSIDE {NAME} -- printenv FROM_OUTSIDE"));
    assert_eq!(passed_on.ok(), "x");
    for who in [&[][..], &["--user", "redis"], &["--user", "999"], &["-u", "redis:redis"], &["-u", "999:999"]] {
        assert_eq!(exec(&user, &[who, &[NAME, "--", "id", "-u", "-n"]].concat()).ok(), "redis", "{who:?}");
    }
    let refused = exec(&user, &["--user", "root", NAME, "--", "true"]).fails(2);
    assert!(refused.contains("no user 0") && refused.contains("999"), "{refused}");
    exec(&user, &["--user", "nobody-known", NAME, "--", "true"]).fails(3);
    exec(&user, &["--user", "999:0", NAME, "--", "true"]).fails(2);

    // Its streams: all of what goes in comes out, and the two outputs stay apart.
    let apart = exec(&user, &[NAME, "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((apart.out.as_str(), apart.err.as_str()), ("out", "err"));
    let sums = user.sh(&format!(
        "head -c 3000000 /dev/urandom > data; sha256sum < data; steading exec {NAME} -- cat < data | sha256sum; rm data"
    ));
    let sums = sums.ok();
    let sums: Vec<&str> = sums.lines().collect();
    assert!(sums.len() == 2 && sums[0] == sums[1], "{sums:?}");
    assert_eq!(
        user.sh(&format!("echo x | steading exec -t {NAME} -- sh -c 'test -t 0 && read a && echo got $a'")).ok(),
        "x\r\ngot x"
    );

    // No privileges, whoever it is.
    let status = exec(&user, &[NAME, "--", "grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"]).ok();
    assert_eq!(status.matches("\t0000000000000000").count(), 5, "{status}");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");

    // The client that the recipe names.
    assert_eq!(user.sh(&format!("echo PING | steading shell {NAME}")).ok(), "PONG");
    user.steading(&["stop", NAME]).ok();
    assert!(exec(&user, &[NAME, "--", "true"]).fails(1).contains("not running"));
}

#[test]
fn signals_reach_a_command_and_it_dies_with_its_waiter() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    redis(&user);
    let script = "trap 'echo caught; exit 3' TERM; echo begun; while :; do sleep 0.05; done";
    let caught = user.sh(&format!(
        "exec 3< <(exec steading exec {NAME} -- sh -c \"{script}\"); pid=$!; read a <&3; kill -TERM $pid; read b <&3; wait $pid; echo $a $b $?"
    ));
    assert_eq!(caught.ok(), "begun caught 3");
    let ended = user.sh(&format!("steading exec {NAME} -- sleep 4001 & sleep 0.5; kill -INT $!; wait $!; echo $?"));
    assert_eq!(ended.ok(), "130");
    gone(&user, "sleep 4001");
    let killed = user.sh(&format!(
        "steading exec {NAME} -- sleep 4002 & for i in $(seq 100); do pgrep -u $(id -u) -f -x 'sleep 4002' && break; sleep 0.05; done; kill -KILL $!; wait $!; echo $?"
    ));
    assert!(killed.ok().ends_with("137"));
    gone(&user, "sleep 4002");
}

#[test]
fn a_command_on_a_terminal_has_one_of_its_own() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    redis(&user);
    let start = |words: &[&str]| Terminal::start(&user, &[&["steading", "exec", NAME, "--"], words].concat());

    // It sees a terminal of the right kind and size, which is not ours, and follows ours.
    let script =
        "tty; stty size; echo $TERM; trap 'stty size' WINCH; trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = start(&["bash", "-c", script]);
    terminal.expect("ready");
    assert!(terminal.shown().contains("/dev/pts/") && terminal.shown().contains("33 77\r\nvt100"), "{:?}", terminal.shown());
    assert!(!terminal.is_cooked());
    terminal.resize(44, 111);
    terminal.expect("44 111");
    // ^C is a key: it ends the program inside, and our terminal is as it was.
    terminal.type_keys(b"\x03");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_cooked());

    // ^Z and ^\ too; ^D ends the input.
    let script = "trap 'echo stop-key' TSTP; trap 'echo quit-key' QUIT; echo ready; cat; echo end; exit 5";
    let mut terminal = start(&["bash", "-c", script]);
    terminal.expect("ready");
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.type_keys(b"typed\r");
    terminal.expect("typed\r\ntyped");
    terminal.type_keys(b"\x04");
    assert_eq!(terminal.end(), 5);
    assert!(terminal.shown().contains("end") && terminal.is_cooked(), "{:?}", terminal.shown());
    let script =
        "trap 'echo stop-key' TSTP; trap 'echo quit-key' QUIT; echo ready; while ! [ -e /tmp/over ]; do sleep 0.05; done";
    let mut terminal = start(&["bash", "-c", script]);
    terminal.expect("ready");
    terminal.type_keys(b"\x1a");
    terminal.expect("stop-key");
    terminal.type_keys(b"\x1c");
    terminal.expect("quit-key");
    // Told to end from outside, it restores the terminal.
    assert!(!terminal.is_cooked());
    user.sh(&format!("pkill -TERM -u $(id -u) -f '^steading exec {NAME}'")).ok();
    assert_eq!(terminal.end(), 143);
    assert!(terminal.is_cooked());

    // A program that closes its streams before it ends is not hung up on, and its code is its own.
    let script = "exec <&- >&- 2>&-; sleep 0.3; exit 6";
    assert_eq!(start(&["sh", "-c", script]).end(), 6);

    // Nothing is lost at the end, however much it is.
    let mut terminal = start(&["sh", "-c", "seq 1 60000; printf last-words"]);
    assert_eq!(terminal.end(), 0);
    let text = terminal.shown();
    let numbers: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(numbers.len(), 60_001, "{}", numbers.len());
    assert!(numbers.iter().take(60_000).enumerate().all(|(at, number)| *number == (at + 1).to_string()));
    assert_eq!(numbers[60_000], "last-words");

    // An error of our own leaves the terminal alone; -T gives none.
    let mut terminal = start(&["no-such-program"]);
    assert_eq!(terminal.end(), 127);
    assert!(terminal.is_cooked() && terminal.shown().contains("no-such-program"));
    let mut terminal =
        Terminal::start(&user, &["steading", "exec", "-T", NAME, "--", "sh", "-c", "ps -o tty= -p $$ 2>/dev/null; tty"]);
    terminal.end();
    assert!(!terminal.shown().contains("/dev/pts/0"), "{:?}", terminal.shown());

    // Without a terminal of its own ^C reaches the command once, and ^Z stops nobody.
    let script = r"trap 'echo once-more' INT; echo up; sleep 0.7; sleep 0.1; exit 9";
    let command = format!("steading exec -T {NAME} -- bash -c \"{script}\"");
    let mut terminal = Terminal::start(&user, &["script", "--quiet", "--return", "--command", &command, "/dev/null"]);
    terminal.expect("up");
    terminal.type_keys(b"\x1a\x03");
    assert_eq!(terminal.end(), 9, "{:?}", terminal.shown());
    assert_eq!(terminal.shown().matches("once-more").count(), 1, "{:?}", terminal.shown());

    // A closed window ends the program as on any terminal.
    let mut terminal = start(&["sh", "-c", "echo up; exec sleep 4003"]);
    terminal.expect("up");
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_ne!(processes(&user, "sleep 4003"), "");
    terminal.hang_up();
    gone(&user, "sleep 4003");

    // The client of the service.
    let mut terminal = Terminal::start(&user, &["steading", "shell", NAME]);
    terminal.expect("> ");
    terminal.type_keys(b"PING\r");
    terminal.expect("PONG");
    terminal.type_keys(b"\x04");
    terminal.end();
    assert!(terminal.is_cooked());
}

#[test]
fn a_paste_larger_than_any_buffer_goes_through_while_the_program_writes() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    redis(&user);
    // The pause lets the program inside turn the line editing off, which would drop what is too long for a line.
    let counted = user.sh(&format!(
        "(sleep 1; head -c 400000 /dev/zero | tr '\\0' x) | steading exec -t {NAME} -- \
         sh -c 'stty raw -echo; head -c 400000 | tee /dev/tty | wc -c'"
    ));
    let text = counted.ok();
    assert!(text.ends_with("400000") && text.len() > 400_000, "{}: {}", text.len(), &text[text.len().saturating_sub(200)..]);
}
