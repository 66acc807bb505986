//! A program that means harm as the service: whatever it tries stays inside, and a stop ends all of it.
//!
//! The program (`tests/services/hostile/`, C, static) takes its orders through the published port, so that it tries from the
//! service's own place; it prints `held: ...` for each attempt that was contained, `BREACH: ...` for each that was not.

use crate::support;
use crate::support::{Done, User};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/hostile");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
        let files = ["main.c", "look.c", "try.c", "net.c", "eat.c"].map(|name| source.join(name));
        let mut gcc = Command::new("gcc");
        gcc.args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&target).args(files);
        assert!(gcc.status().expect("gcc runs").success(), "the hostile program does not compile");
        target
    })
}

/// A service that runs it, in the busybox image.
pub struct Hostile<'a> {
    user: &'a User,
    name: &'static str,
    pub port: u16,
}

/// What differs between them.
#[derive(Default)]
pub struct Manner {
    serve: &'static str,
    init: bool,
    recipe: &'static str,
    /// Further arguments of the install.
    options: Vec<String>,
}

impl<'a> Hostile<'a> {
    pub fn install(user: &'a User, name: &'static str, manner: &Manner) -> Self {
        let place = user.machine.path().join(format!("home/{}/{name}", user.name));
        user.sh(&format!("mkdir -p ~/{name} ~/.config/steading/catalog")).ok();
        std::fs::copy(program(), place.join("hostile")).expect("the program is copied");
        let recipe = format!(
            "[recipe]\nschema = 1\nname = \"{name}\"\ntitle = \"Hostile\"\nsummary = \"Means harm\"\ndefault-version = \"1\"\n\
             [image]\nreference = \"docker.io/library/busybox\"\n\
             [run]\nuid = 4321\ngid = 4321\ninit = {}\nargs = [\"/data/hostile\", \"serve\", \"{}\"]\n\
             [ports.web]\ncontainer = 8080\n[data.data]\npath = \"/data\"\n[ready]\nprobe = \"listen\"\n\
             [stop]\nsignal = \"SIGTERM\"\ntimeout = \"2s\"\n{}\n[versions.\"1\"]\ntag = \"1\"\n",
            manner.init, manner.serve, manner.recipe
        );
        std::fs::write(place.join("recipe.toml"), recipe).expect("the recipe is written");
        user.sh(&format!("chmod 755 ~/{name}/hostile; mv ~/{name}/recipe.toml ~/.config/steading/catalog/{name}.toml")).ok();
        let port = user.free_port();
        let (publish, volume) = (format!("web=127.0.0.1:{port}"), format!("data=/home/{}/{name}", user.name));
        let mut args = vec!["install", name, "--name", name, "--port", &publish, "--volume", &volume];
        args.extend(manner.options.iter().map(String::as_str));
        user.steading(&args).ok();
        Hostile { user, name, port }
    }

    fn ask(&self, order: &str) -> Done {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; printf '%s\\n' '{order}' >&3; timeout 120 cat <&3", self.port);
        self.user.sh(&script)
    }

    /// Its report of an order: no breach, and at least `least` attempts.
    #[track_caller]
    fn contained(&self, order: &str, least: usize) -> String {
        contained(&self.ask(order).ok(), least)
    }

    /// Connections that it may do with as it likes, for as long as the child lives.
    fn lend(&self, count: usize) -> Running {
        let script = format!(
            "use IO::Socket::INET; $| = 1; my @s; for (1 .. {count}) {{ my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => {}) or die; \
             print $s \"lend\\n\"; $s->flush; push @s, $s; }} select undef, undef, undef, 0.2; print \"lent\\n\"; sleep 60",
            self.port
        );
        perl(self.user, &script)
    }

    /// Nothing of it runs any more, whatever it is called and wherever it has gone.
    #[track_caller]
    fn is_gone(&self) {
        let found = self.user.sh(&format!(
            "for pid in $(pgrep -u $(id -u)); do grep -q -s /{}.service /proc/$pid/cgroup && echo $pid $(cat /proc/$pid/comm); done; true",
            self.name
        ));
        assert_eq!(found.out, "", "processes of `{}` are left", self.name);
    }

    /// A stop ends everything within its time-out, and the service starts again.
    #[track_caller]
    fn stops(&self) {
        let begin = Instant::now();
        self.user.run(&["systemctl", "--user", "stop", self.name]).ok();
        assert!(begin.elapsed() < Duration::from_secs(8), "the stop took {:?}", begin.elapsed());
        self.is_gone();
    }

    pub fn remove(&self) {
        self.user.steading(&["remove", "--purge", self.name]).ok();
        self.is_gone();
    }
}

#[track_caller]
fn contained(report: &str, least: usize) -> String {
    let breaches: Vec<_> = report.lines().filter(|line| line.starts_with("BREACH")).collect();
    assert!(breaches.is_empty(), "{}\nin:\n{report}", breaches.join("\n"));
    let held = report.lines().filter(|line| line.starts_with("held: ")).count();
    assert!(held >= least && report.ends_with("done"), "{held} attempts in:\n{report}");
    report.to_owned()
}

/// A perl program of the user, once it has said its first line.
fn perl(user: &User, script: &str) -> Running {
    use std::io::{BufRead, BufReader};
    let mut child = user.command(&["perl", "-e", script]).stdout(Stdio::piped()).spawn().expect("perl runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert_ne!(line, "", "perl said nothing");
    Running(child)
}

/// A program that is ended with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Linux 6.7 brought it; the tests and what they test share the kernel.
fn has_landlock_for_tcp() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|word| word.trim().parse().ok()).collect();
    numbers.as_slice() >= [6, 7].as_slice()
}

/// No file, process, mount, unit or descriptor of ours is left.
#[track_caller]
fn nothing_is_left(user: &User) {
    user.sh("rm -rf ~/.config/steading/catalog").ok();
    assert_eq!(user.leftovers(), "");
}

#[test]
fn it_sees_nothing_of_others() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(true);
    let home = format!("/home/{}", user.name);
    user.steading(&["install", "redis@7", "--name", "victim", "--port", &format!("redis={}", user.free_port())]).ok();
    let canary = format!("canary-{}-{}", user.name, std::process::id());
    user.sh(&format!("echo {canary} | tee ~/letter > ~/.local/share/steading/services/victim/data/data/letter; echo {canary} > $XDG_RUNTIME_DIR/letter")).ok();
    let hostile = Hostile::install(&user, "spy", &Manner::default());
    let reversed: String = canary.chars().rev().collect();
    let uid = user.sh("id -u").ok();
    let seen = hostile.contained(
        &format!("files {reversed} {home} {home}/letter {home}/.local/share/steading /run/user/{uid} /srv/registry /usr/local/bin/steading /usr/bin/systemctl /run/systemd /run/host"),
        10,
    );
    // It did look: busybox's programs and its own.
    let looked: u32 =
        seen.lines().find_map(|line| line.strip_prefix("held: ")?.strip_suffix(" files looked at")).unwrap().parse().unwrap();
    assert!(looked > 100, "{seen}");
    hostile.contained("processes", 2);
    hostile.contained("outside", 6);
    hostile.contained("privileges", 25);
    let descriptors = hostile.contained("descriptors", 1);
    assert!(descriptors.contains("descriptor 0 is /dev/null"), "{descriptors}");
    // Nor does a command that joins it inherit what its caller has open.
    let joined = user.sh("exec 3</etc/passwd 4<~ 5<>/dev/null 77</; steading exec spy -- /data/hostile descriptors < /dev/null");
    contained(&joined.ok(), 1);
    let own = user.steading(&["exec", "spy", "--", "/data/hostile", "privileges"]);
    contained(&own.ok(), 25);
    hostile.remove();
    user.steading(&["remove", "--purge", "victim"]).ok();
    nothing_is_left(&user);
}

#[test]
fn it_changes_no_mount_and_no_mask_and_meets_a_closed_door_at_each_denied_call() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(true);
    let hostile = Hostile::install(&user, "breaker", &Manner::default());
    hostile.contained("mounts", 40);
    hostile.contained(
        "masks /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi \
         /proc/timer_list /sys/devices/virtual/powercap /sys/firmware",
        // As many as the kernel at hand has.
        15,
    );
    hostile.contained("syscalls", 50);
    // A command that joins the service has no more.
    for order in ["mounts", "syscalls"] {
        contained(&user.steading(&["exec", "breaker", "--", "/data/hostile", order]).ok(), 40);
    }
    // What it put into its volume leads nobody on the host astray.
    hostile.contained("outside", 6);
    user.run(&["systemctl", "--user", "restart", "breaker"]).ok();
    hostile.contained("outside", 6);
    hostile.remove();
    nothing_is_left(&user);
}

#[test]
fn its_reaper_is_not_its_own() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let hostile = Hostile::install(&user, "patricide", &Manner { init: true, ..Manner::default() });
    hostile.contained("pid-one", 11);
    hostile.contained("privileges", 20);
    hostile.stops();
    hostile.remove();
    nothing_is_left(&user);
}

#[test]
fn handed_over_sockets_lead_nowhere_else() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let hostile = Hostile::install(&user, "burglar", &Manner::default());
    let secret = user.free_port();
    // A program on the host's loopback, and on an abstract socket, that greets whoever reaches it.
    let greeter = perl(
        &user,
        &format!(
            "use IO::Socket::INET; use Socket; $| = 1; $SIG{{CHLD}} = 'IGNORE'; socket(my $u, AF_UNIX, SOCK_STREAM, 0) or die; \
             bind($u, pack('S a*', AF_UNIX, \"\\0canary-{secret}\")) or die $!; listen($u, 9); \
             my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => {secret}, Listen => 5, ReuseAddr => 1) or die $!; print \"up\\n\"; \
             while (my $c = $s->accept) {{ print $c \"hello\\n\"; close $c }}"
        ),
    );
    assert_eq!(user.sh(&format!("exec 3<>/dev/tcp/127.0.0.1/{secret}; timeout 2 cat <&3")).ok(), "hello", "the greeter works");
    let lent = hostile.lend(3);
    hostile.contained(&format!("fresh {secret}"), 3);
    hostile.contained(&format!("accepted-connect {secret}"), 2);
    // Clients knock at a port that it would like to open.
    let open = user.free_port();
    let knocker = perl(
        &user,
        &format!(
            "use IO::Socket::INET; $| = 1; print \"up\\n\"; for (1 .. 400) {{ IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => {open}, Timeout => 1); select undef, undef, undef, 0.02 }}"
        ),
    );
    hostile.contained(&format!("accepted-listen {open}"), 1);
    drop(knocker);
    let race = hostile.contained(&format!("race 4 {}", hostile.port), 1);
    let words: Vec<&str> = race.lines().find(|line| line.contains(" rounds, ")).unwrap().split(' ').collect();
    let counts: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    assert!(counts.iter().all(|count| *count > 10), "the race was none: {race}");
    // Landlock of 6.7 and later is what decides this one.
    let race = hostile.ask(&format!("race-connect 5 {secret}")).ok();
    if has_landlock_for_tcp() {
        contained(&race, 1);
    } else {
        println!("this kernel has no Landlock for TCP: {race}");
    }
    // Who enters may be the service's accomplice: what it runs belongs to the service.
    let mut taker = user.command(&["steading", "exec", "burglar", "--", "/data/hostile", "take", &secret.to_string()]);
    let taker = taker.stdout(Stdio::piped()).spawn().expect("steading runs");
    hostile.contained("give", 1);
    let taken = taker.wait_with_output().expect("the accomplice ends");
    let taken = contained(String::from_utf8_lossy(&taken.stdout).trim_end(), 2);
    assert!(taken.contains("the host's network"), "{taken}");
    // What is the service's own works as ever, and beside it too.
    for own in [hostile.contained("loopback", 6), user.steading(&["exec", "burglar", "--", "/data/hostile", "loopback"]).ok()] {
        assert_eq!(contained(&own, 6).matches("said hello").count(), 2, "{own}");
    }
    drop(lent);
    // What it does to the kept socket is mended by the next start.
    hostile.contained(&format!("listener-connect {secret}"), 2);
    user.run(&["systemctl", "--user", "restart", "burglar"]).ok();
    hostile.contained("fresh 1", 3);
    drop(greeter);
    hostile.remove();
    nothing_is_left(&user);
}

#[test]
fn who_enters_brings_nothing_in() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    // A program that belongs to the user, as one in ~/.local/bin does: inside it belongs to the service's own id.
    user.sh("mkdir ~/bin && cp /usr/local/bin/steading ~/bin/").ok();
    let before = user.sh("sha256sum ~/bin/steading").ok();
    let hostile = Hostile::install(&user, "ambush", &Manner::default());
    let watch = format!("exec 3<>/dev/tcp/127.0.0.1/{}; printf 'entering 12\\n' >&3; timeout 60 cat <&3", hostile.port);
    let watcher = user.command(&["bash", "-c", &watch]).stdout(Stdio::piped()).spawn().expect("bash runs");
    for _ in 0..60 {
        user.sh("~/bin/steading exec ambush -- true; ~/bin/steading exec ambush -- sleep 0.03").ok();
    }
    let report = watcher.wait_with_output().expect("the watcher ends");
    let mut report: Vec<_> = String::from_utf8_lossy(&report.stdout).lines().map(str::to_owned).collect();
    // The same again and again.
    let mut seen = std::collections::HashSet::new();
    report.retain(|line| seen.insert(line.clone()));
    let report = contained(&report.join("\n"), 1);
    let newcomers: u32 = report.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(newcomers > 5, "it saw few: {report}");
    assert_eq!(user.sh("sha256sum ~/bin/steading && rm -r ~/bin").ok(), before);
    hostile.remove();
    nothing_is_left(&user);
}

#[test]
fn using_everything_up_it_harms_itself_only() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    // The volume is a disk of 24 MB, there before the yard is: nothing mounted later reaches it in the testbed, whose systemd, as
    // in any container, does not share its mounts.
    let disk = format!("/home/{}/glutton", user.name);
    machine
        .root(&format!("mkdir {disk} && mount -t tmpfs -o size=24M,mode=777 tmpfs {disk} && chown {0}:{0} {disk}", user.name))
        .ok();
    let neighbour = user.free_port();
    user.steading(&["install", "redis@7", "--name", "neighbour", "--port", &format!("redis={neighbour}")]).ok();
    let ping = || {
        user.sh(&format!(
            "exec 3<>/dev/tcp/127.0.0.1/{neighbour}; printf 'PING\\r\\n' >&3; read -t 5 -r line <&3; [ \"$line\" = $'+PONG\\r' ]"
        ))
        .ok()
    };
    let hostile =
        Hostile::install(&user, "glutton", &Manner { recipe: "[limits]\ntasks = 600\nmemory = \"512M\"", ..Manner::default() });
    hostile.contained("eat-run-time-files", 4);
    let full = hostile.contained("eat-disk 100000000", 1);
    assert!(full.contains("No space left"), "{full}");
    ping();
    // It is still a service like any other.
    assert!(user.steading(&["status", "glutton"]).ok().contains("running"));
    user.run(&["systemctl", "--user", "restart", "glutton"]).ok();
    assert!(user.steading(&["exec", "glutton", "--", "df", "/data"]).ok().contains("100%"));
    hostile.contained("eat-memory 300", 1);
    hostile.contained("eat-descriptors 20000", 1);
    hostile.contained("eat-processes 500", 1);
    ping();
    assert_eq!(user.sh("systemctl --user show -P TasksMax glutton").ok(), "600");
    hostile.stops();
    ping();
    user.run(&["systemctl", "--user", "start", "glutton"]).ok();
    hostile.remove();
    machine.root(&format!("umount {disk}")).ok();
    user.steading(&["remove", "--purge", "neighbour"]).ok();
    nothing_is_left(&user);
}

#[test]
fn a_stop_ends_all_of_it() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    for (name, serve, init) in
        [("deaf", "deaf", false), ("bomb", "bomb", false), ("deafer", "deaf", true), ("bomber", "bomb", true)]
    {
        let hostile = Hostile::install(&user, name, &Manner { serve, init, ..Manner::default() });
        hostile.contained("many", 1);
        hostile.contained("rude", 1);
        hostile.stops();
        user.run(&["systemctl", "--user", "start", name]).ok();
        hostile.contained("many", 1);
        // Its supervisor killed: nothing of it lives on beside the next one.
        let pid = user.sh(&format!("systemctl --user show -P MainPID {name}")).ok();
        user.sh(&format!("kill -9 {pid}; for i in $(seq 200); do new=$(systemctl --user show -P MainPID {name}); [ $new != {pid} ] && [ $new != 0 ] && systemctl --user is-active --quiet {name} && exit 0; sleep 0.05; done; exit 1")).ok();
        let processes = hostile.contained("processes", 2);
        let listed: u32 = processes.split(' ').find_map(|word| word.parse().ok()).unwrap();
        assert!(listed <= 4, "{processes}");
        hostile.remove();
    }
    nothing_is_left(&user);
}

#[test]
fn links_that_come_and_go_in_a_shared_volume_lead_no_start_out() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let home = format!("/home/{}", user.name);
    user.sh("mkdir -p ~/shared/inner ~/trap ~/swapper/shared ~/guest/shared").ok();
    let shared = |extra: &[String]| {
        let mut options = vec!["--volume".to_owned(), format!("{home}/shared:/data/shared")];
        options.extend_from_slice(extra);
        options
    };
    let swapper = Hostile::install(&user, "swapper", &Manner { options: shared(&[]), ..Manner::default() });
    // The other one has a volume inside the shared one, where a directory turns into a link all the time.
    let inner = ["--volume".to_owned(), format!("{home}/inside:/data/shared/inner")];
    user.sh("mkdir ~/inside").ok();
    let guest = Hostile::install(&user, "guest", &Manner { options: shared(&inner), ..Manner::default() });
    let order =
        format!("exec 3<>/dev/tcp/127.0.0.1/{}; printf 'swap-links 8 {home}/trap\\n' >&3; timeout 60 cat <&3", swapper.port);
    let racing = user.command(&["bash", "-c", &order]).stdout(Stdio::piped()).spawn().expect("bash runs");
    let begin = Instant::now();
    let (mut starts, mut refused) = (0, 0);
    while begin.elapsed() < Duration::from_secs(8) {
        let started = user.sh("systemctl --user reset-failed guest; systemctl --user restart guest; steading exec guest -- sh -c 'touch /data/shared/inner/mark'");
        if started.code == 0 { starts += 1 } else { refused += 1 }
    }
    let report = racing.wait_with_output().expect("the swapper ends");
    contained(String::from_utf8_lossy(&report.stdout).trim_end(), 1);
    println!("{starts} starts, {refused} refused");
    assert!(starts + refused > 5);
    assert_eq!(user.sh("find ~/trap -mindepth 1").ok(), "", "a link led out of the volume");
    user.sh("rm -f ~/shared/link ~/shared/inner; rm -rf ~/shared/*; mkdir ~/shared/inner; systemctl --user reset-failed guest; systemctl --user restart guest").ok();
    guest.remove();
    swapper.remove();
    nothing_is_left(&user);
}
