//! Published ports: the kept socket is handed over, and a restart refuses nobody.

use crate::support;
/// Connects all the time for `seconds`; prints `CONNECTED REFUSED`.
const CLIENTS: &str = r#"
use strict; use IO::Socket::INET; use Time::HiRes qw(time sleep);
my ($port, $seconds) = @ARGV; my ($ok, $refused, $end) = (0, 0, time + $seconds);
while (time < $end) {
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5);
    if ($s) { $ok++; print $s "PING\r\n"; my $line = <$s>; close $s; } else { $refused++; }
    sleep 0.002;
}
print "$ok $refused\n";
"#;

#[test]
fn no_client_is_refused_over_restarts_and_crashes() {
    for machine in support::machines() {
        let user = machine.user(false);
        let port = user.free_port().to_string();
        user.steading(&["install", "redis@7", "--port", &format!("redis={port}")]).ok();
        let client =
            user.command(&["perl", "-e", CLIENTS, &port, "4"]).stdout(std::process::Stdio::piped()).spawn().expect("clients");
        for _ in 0..4 {
            user.run(&["systemctl", "--user", "restart", "redis@7"]).ok();
        }
        // The supervisor's and the service's own crash are restarts, too.
        user.sh("kill -9 $(systemctl --user show -P MainPID redis@7)").ok();
        user.sh("for i in $(seq 100); do systemctl --user is-active --quiet redis@7 && exit 0; sleep 0.05; done; exit 1").ok();
        let output = client.wait_with_output().expect("clients end");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let numbers: Vec<u32> = text.split(' ').map(|word| word.parse().expect("a number")).collect();
        assert!(numbers[0] > 100, "{text}");
        assert_eq!(numbers[1], 0, "{text}");
        // The service has no network but its loopback, so it can only have got the host's socket.
        let interfaces = user.steading(&["exec", "redis@7", "--", "cat", "/proc/net/dev"]).ok();
        assert_eq!(interfaces.lines().skip(2).count(), 1, "{interfaces}");
        user.steading(&["remove", "--purge", "redis@7"]).ok();
        assert_eq!(user.leftovers(), "");
    }
}

#[test]
fn two_of_one_kind_do_not_meet() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    for (name, value) in [("one", "1"), ("two", "2")] {
        let port = user.free_port().to_string();
        user.steading(&["install", "redis@7", "--name", name, "--port", &format!("redis={port}")]).ok();
        user.sh(&format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'SET k {value}\\r\\n' >&3; read -r line <&3; [ \"$line\" = $'+OK\\r' ]"
        ))
        .ok();
        user.run(&["systemctl", "--user", "restart", name]).ok();
        let got = user
            .sh(&format!(
                "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET k\\r\\n' >&3; read -r a <&3; read -r b <&3; echo \"$b\""
            ))
            .ok();
        assert_eq!(got.trim(), value);
    }
    user.steading(&["remove", "--purge", "one"]).ok();
    user.steading(&["remove", "--purge", "two"]).ok();
    assert_eq!(user.leftovers(), "");
}

#[test]
fn a_server_with_workers_gets_its_socket_and_keeps_it_over_a_reload() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let port = user.free_port().to_string();
    user.steading(&["install", "nginx@1.22", "--port", &format!("http={port}")]).ok();
    let get = || {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; timeout 5 cat <&3");
        assert!(user.sh(&script).ok().contains("Welcome to nginx!"));
    };
    get();
    // The supervisor passes SIGHUP on; new workers serve from the same socket.
    user.sh("kill -HUP $(systemctl --user show -P MainPID nginx@1.22)").ok();
    get();
    user.run(&["systemctl", "--user", "restart", "nginx@1.22"]).ok();
    get();
    let log = user.sh("cat ~/.local/share/steading/services/nginx@1.22/data/log/access.log").ok();
    assert!(log.contains("127.0.0.1") && log.lines().count() >= 3, "{log}");
    user.steading(&["remove", "--purge", "nginx@1.22"]).ok();
    assert_eq!(user.leftovers(), "");
}
