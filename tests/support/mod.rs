//! The testbed from Rust: machines, users of one test each, commands with their results.
#![allow(dead_code, missing_docs, missing_debug_implementations, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program")]

pub mod ground;
pub mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where images are served inside every testbed.
pub const MIRROR: &str = "http://127.0.0.1:5000";

/// The machines that `tests/run` booted. Without any the test is skipped, which `STEADING_MUST_WORK=1` forbids.
pub fn machines() -> Vec<Machine> {
    let names = std::env::var("STEADING_TESTBEDS").unwrap_or_default();
    let list: Vec<_> = names.split_whitespace().map(|suite| Machine { suite: suite.to_owned() }).collect();
    if list.is_empty() {
        let must = std::env::var("STEADING_MUST_WORK").is_ok_and(|value| value == "1");
        assert!(!must, "no testbed is up: run tests/run as root");
        println!("skipped: no testbed is up (tests/run starts it)");
    }
    list
}

/// The first machine (trixie), for tests that need one only.
pub fn machine() -> Option<Machine> {
    machines().into_iter().next()
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub suite: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    fn new(output: &Output) -> Done {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Done { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The standard output of a command that had to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// The standard error of a command that had to fail with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self.err
    }
}

impl Machine {
    pub fn testbed(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/testbed");
        let mut command = Command::new(script);
        let instance = std::env::var("TESTBED_INSTANCE").unwrap_or_else(|_| "tests".into());
        command.args(["--suite", &self.suite, "--instance", &instance]).stdin(Stdio::null());
        command
    }

    fn run(mut command: Command) -> Done {
        Done::new(&command.output().expect("the testbed script runs"))
    }

    /// A verb of the testbed itself.
    pub fn verb(&self, args: &[&str]) -> Done {
        let mut command = self.testbed();
        command.args(args);
        Self::run(command)
    }

    /// A shell command as root.
    pub fn root(&self, script: &str) -> Done {
        let mut command = self.testbed();
        command.args(["exec", "--", "sh", "-c", script]);
        Self::run(command)
    }

    /// The machine's root directory as this computer sees it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.verb(&["root"]).ok())
    }

    /// A new user of this test alone, with or without a subuid range, lingering, with the mirror configured.
    pub fn user(&self, subuid: bool) -> User {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = (u64::from(std::process::id()) * 64 + u64::from(NEXT.fetch_add(1, Ordering::Relaxed))) % 1_000_000;
        let name = format!("t{number}");
        // An id that no former user had: logind takes its time to let go of one.
        let uid = 10_000 + number % 50_000;
        let drop_range = if subuid { "true" } else { "sed -i '/^'$n:/d /etc/subuid /etc/subgid" };
        self.root(&format!(
            "set -e; exec 9>/run/lock/test-users; flock 9; n={name}; useradd --uid {uid} --create-home --shell /bin/bash $n; {drop_range}; exec 9>&-; loginctl enable-linger $n; \
             for i in $(seq 600); do [ -S /run/user/$(id -u $n)/bus ] && exit 0; sleep 0.05; done; exit 1"
        ))
        .ok();
        let user = User { machine: self.clone(), name };
        user.mirror(MIRROR);
        user
    }
}

/// An unprivileged user of the machine. On drop it and all it had is removed.
#[derive(Debug)]
pub struct User {
    pub machine: Machine,
    pub name: String,
}

impl User {
    /// A command with exact arguments.
    pub fn run(&self, args: &[&str]) -> Done {
        Machine::run(self.command(args))
    }

    /// The same, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.testbed();
        command.args(["user", &self.name, "--"]).args(args);
        command
    }

    /// A shell command.
    pub fn sh(&self, script: &str) -> Done {
        self.run(&["bash", "-c", script])
    }

    pub fn steading(&self, args: &[&str]) -> Done {
        let mut all = vec!["steading"];
        all.extend(args);
        self.run(&all)
    }

    /// Points docker.io to `mirror`.
    pub fn mirror(&self, mirror: &str) {
        self.sh(&format!(
            "mkdir -p ~/.config/steading && printf '[registry.\"docker.io\"]\\nmirrors = [\"{mirror}\"]\\n' > ~/.config/steading/config.toml"
        ))
        .ok();
    }

    /// A host port of the machine that nothing listens on; below 32768, where the kernel takes the ports of clients from.
    pub fn free_port(&self) -> u16 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = 20_000 + (std::process::id() % 120) * 100 + NEXT.fetch_add(1, Ordering::Relaxed);
        u16::try_from(base).expect("a port")
    }

    /// Everything that is still there of steading: files, units, processes, mounts.
    pub fn leftovers(&self) -> String {
        self.sh(
            "find ~ $XDG_RUNTIME_DIR \\( -path '*steading*' -o -path '*/systemd/user/*' \\) \
               ! -path '*/.config/steading' ! -path '*/.config/steading/config.toml' ! -path \"$XDG_RUNTIME_DIR/systemd/*\" 2>/dev/null; \
             systemctl --user list-units --all --no-legend --plain 'steading*' '*@*.service' | grep -v -e ' app' -e ' background' ; \
             pgrep -u $(id -u) -a steading; pgrep -u $(id -u) -a postgres; pgrep -u $(id -u) -a redis; \
             for pid in $(pgrep -u $(id -u)); do cat /proc/$pid/mountinfo 2>/dev/null; done | sed s/steading-test//g | grep -i steading | sort -u; true",
        )
        .ok()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let name = &self.name;
        let script = format!(
            "loginctl disable-linger {name}; loginctl terminate-user {name}; \
             for i in $(seq 100); do pgrep -u {name} >/dev/null || break; sleep 0.05; done; flock /run/lock/test-users userdel --remove --force {name}"
        );
        drop(self.machine.root(&script));
    }
}
