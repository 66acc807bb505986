//! The life of a service: readiness, watchdog, stop, endings. Most services here are `actor.c`, which does what its arguments say.

mod endings;
mod notices;
mod ready;
mod stop;
mod watchdog;

use crate::support::{Done, Machine, User};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The actor's program, compiled once.
fn actor() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("actor-{}", std::process::id()));
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/life/actor.c");
            let done = Command::new("gcc").args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(source).status();
            assert!(done.expect("gcc runs").success(), "gcc compiles the actor");
            program
        })
        .clone()
}

/// A user with the actor in `~/tools`, and services of own recipes.
struct Stage {
    user: User,
}

impl Stage {
    fn new(machine: &Machine) -> Stage {
        let user = machine.user(false);
        user.sh("mkdir -p ~/tools ~/.config/steading/catalog").ok();
        let home = machine.path().join("home").join(&user.name);
        fs::copy(actor(), home.join("tools/actor")).expect("the actor is copied");
        Stage { user }
    }

    fn home(&self) -> PathBuf {
        self.user.machine.path().join("home").join(&self.user.name)
    }

    /// Installs a service that does `steps`, with more tables of its recipe; does not start it.
    #[track_caller]
    fn install(&self, name: &str, steps: &[&str], tables: &str) {
        let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}").replace("\\u{1b}", "\\u001b")).collect();
        let run = if tables.contains("init = true") { "init = true\n" } else { "" };
        let tables = tables.replace("init = true\n", "");
        let recipe = format!(
            "[recipe]\nschema = 1\nname = \"{name}\"\ntitle = \"Actor\"\nsummary = \"a test\"\ndefault-version = \"1\"\n\
             [image]\nreference = \"docker.io/library/busybox\"\n\
             [run]\nuid = 1000\nentrypoint = [\"/tools/actor\"]\nargs = [{}]\n{run}\
             {tables}\n[versions.1]\ntag = \"1\"\n",
            steps.join(", ")
        );
        fs::write(self.home().join(format!(".config/steading/catalog/{name}.toml")), recipe).expect("a recipe");
        let tools = format!("/home/{}/tools:/tools:ro", self.user.name);
        self.user.steading(&["install", name, "--name", name, "--no-start", "--volume", &tools]).ok();
    }

    /// With a drop-in that has systemd not restart it: what it shows of an ending stays.
    #[track_caller]
    fn once(&self, name: &str) {
        self.user
            .sh(&format!(
                "d=~/.config/systemd/user/{name}.service.d; mkdir -p $d; printf '[Service]\\nRestart=no\\n' > $d/once.conf; \
                 systemctl --user daemon-reload"
            ))
            .ok();
    }

    fn systemctl(&self, verb: &str, name: &str) -> Done {
        self.user.run(&["systemctl", "--user", verb, name])
    }

    fn show(&self, name: &str, property: &str) -> String {
        self.user.run(&["systemctl", "--user", "show", "-P", property, name]).out
    }

    /// Several properties, in the order of their names.
    fn shows(&self, name: &str, properties: &[&str]) -> Vec<String> {
        properties.iter().map(|property| self.show(name, property)).collect()
    }

    /// With the words of processes that are gone (see `systemd/journal.rs`).
    fn journal(&self, name: &str) -> String {
        let unit = format!("{name}.service");
        let matches = format!("_SYSTEMD_USER_UNIT={unit} + USER_UNIT={unit} + SYSLOG_IDENTIFIER={name}");
        self.user.sh(&format!("journalctl --user --no-pager -o cat {matches}")).out
    }

    /// Waits until `condition`, up to `seconds`.
    #[track_caller]
    fn wait(&self, what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while !condition() {
            assert!(Instant::now() < end, "not within {seconds} s: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the unit is no longer active or on its way.
    #[track_caller]
    fn ended(&self, name: &str) {
        self.wait("it ends", 30, || matches!(self.show(name, "ActiveState").as_str(), "inactive" | "failed"));
    }

    /// Process ids on the machine of the actors of this user but the supervisor and what it forked.
    fn actors(&self) -> Vec<String> {
        let out = self.user.sh("pgrep -u $(id -u) -x actor").out;
        out.lines().map(str::to_owned).collect()
    }

    /// Makes the file `/data/FILE` that a service waits for.
    #[track_caller]
    fn let_go(&self, name: &str, file: &str) {
        self.user.sh(&format!("touch ~/.local/share/steading/services/{name}/data/data/{file}")).ok();
    }

    /// Ends and forgets a service.
    #[track_caller]
    fn remove(&self, name: &str) {
        self.user.steading(&["remove", "--purge", name]).ok();
    }
}

/// The time that `work` took.
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
