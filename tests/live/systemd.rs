//! `systemd/`, `unit/` and `doctor/` against a real user manager. `tests/live/run` runs it in the testbed; it needs nothing but a login.
//!
//! The services that it starts are this very binary: as `supervise NAME` and `yard` it plays steading's run lane, so that what
//! systemd does with our units (escapes, readiness, descriptor store, yard) is seen from the inside.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{env, fs, thread};
use steading::doctor::{self, Outcome, Severity};
use steading::error::Kind;
use steading::resolve::Plan;
use steading::state::Paths;
use steading::sys::notify::{Notify, take_listen_fds};
use steading::systemd::{self, JobResult, Manager, UnitOrigin, UnitStatus};
use steading::unit::{self, UnitFile, Units};

const PLACE: &str = "/srv/a b/100%/$HOME/\"q\"/back\\slash";

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().collect();
    match words.get(1).and_then(|word| word.to_str()) {
        Some("supervise") => return supervise(words.get(2).and_then(|word| word.to_str()).unwrap_or_default()),
        Some("yard") => return yard(),
        Some("doctor") => return probe(words.get(3).and_then(|word| word.to_str()).unwrap_or_default()),
        _ => {}
    }
    let mut arguments = Arguments::from_args();
    // All tests share one yard and one manager.
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("a_manager_answers", a_manager_answers),
        trial("rendered_units_live_a_whole_life", rendered_units_live_a_whole_life),
        trial("a_useless_session_bus_is_passed_over", a_useless_session_bus_is_passed_over),
        trial("a_failed_start_says_why", a_failed_start_says_why),
        trial("a_start_that_takes_too_long_says_so", a_start_that_takes_too_long_says_so),
        trial("a_name_is_free_ours_or_foreign", a_name_is_free_ours_or_foreign),
        trial("a_missing_and_a_masked_unit_are_told_apart", a_missing_and_a_masked_unit_are_told_apart),
        trial("the_user_lingers", the_user_lingers),
        trial("the_doctor_finds_this_host_able", the_doctor_finds_this_host_able),
        trial("the_doctor_notices_forbidden_namespaces", the_doctor_notices_forbidden_namespaces),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: fn() -> Result<(), Failed>) -> Trial {
    Trial::test(name, test)
}

// --- the run lane, played ------------------------------------------------------------------------------------------

fn supervise(name: &str) -> ExitCode {
    let notify = Notify::from_env().unwrap();
    let kept = take_listen_fds();
    assert!(notify.is_connected());
    assert_eq!(env::var("XDG_DATA_HOME").unwrap(), PLACE);
    println!("hello from {name}");
    match name {
        "live-fails" => return ExitCode::from(3),
        "live-hangs" => {
            notify.send("STATUS=waiting for ever").unwrap();
            thread::sleep(Duration::from_secs(600));
        }
        _ => {}
    }
    notify.send("STATUS=initialising").unwrap();
    thread::sleep(Duration::from_millis(300));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    if kept.is_empty() {
        notify.store_fd("db", std::os::fd::AsFd::as_fd(&listener)).unwrap();
    }
    notify.send(&format!("STATUS=kept {}\nREADY=1", kept.len())).unwrap();
    thread::sleep(Duration::from_secs(600));
    ExitCode::SUCCESS
}

fn yard() -> ExitCode {
    Notify::from_env().unwrap().send("READY=1").unwrap();
    thread::sleep(Duration::from_secs(600));
    ExitCode::SUCCESS
}

/// As `steading doctor --probe NAME` does.
fn probe(name: &str) -> ExitCode {
    let outcome = doctor::probe(name.parse().unwrap(), Paths::from_env().unwrap().data()).unwrap();
    println!("{}", serde_json::to_string(&outcome).unwrap());
    ExitCode::SUCCESS
}

// --- tools ---------------------------------------------------------------------------------------------------------

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn plan(name: &str) -> Plan {
    let digest = format!("sha256:{}", "0".repeat(64));
    toml::from_str(&format!(
        r#"
format = 1
name = "{name}"
recipe = {{ name = "live", version = "1", source = "built-in", title = "Live 100%" }}
image = {{ reference = "registry.example/live:1", digest = "{digest}", config = "{digest}", platform = "linux/amd64", layers = [] }}
process = {{ args = ["live"], cwd = "/", env = {{}}, uid = 1, gid = 1, hostname = "live" }}
ready = {{ probe = {{ type = "listen" }}, interval-ms = 100, timeout-ms = 1000, start-timeout-s = 60 }}
stop = {{ signal = "SIGTERM", timeout-s = 20 }}
limits = {{ memory-bytes = 268435456, cpu-percent = 150, tasks = 64 }}
"#
    ))
    .unwrap()
}

/// Units on disk, all gone at the end, whatever happened in between.
struct Installed {
    dir: PathBuf,
    units: Vec<UnitFile>,
    home: PathBuf,
}

impl Installed {
    fn new(plan: &Plan) -> Installed {
        let home =
            PathBuf::from(env::var_os("HOME").unwrap()).join(format!("my tools 100% $HOME ${{x}} ü {}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let exe = home.join("steading");
        fs::copy(env::current_exe().unwrap(), &exe).unwrap();
        let Units { service, yard, slice } = unit::render(plan, &exe, &[("XDG_DATA_HOME".into(), PLACE.into())]).unwrap();
        Self::write(vec![service, yard, slice], home)
    }

    fn foreign(name: &str, text: &str) -> Installed {
        let home = env::temp_dir().join(format!("live-systemd-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        Self::write(vec![UnitFile { name: name.into(), text: text.into() }], home)
    }

    fn write(units: Vec<UnitFile>, home: PathBuf) -> Installed {
        let config = PathBuf::from(env::var_os("HOME").unwrap()).join(".config/systemd/user");
        let dir = block(async { Manager::connect().await.unwrap().unit_dir(&config).await.unwrap() });
        for unit in &units {
            systemd::install_unit(&dir, unit).unwrap();
        }
        block(async { Manager::connect().await.unwrap().reload().await.unwrap() });
        Installed { dir, units, home }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        block(async {
            let Ok(manager) = Manager::connect().await else { return };
            for unit in &self.units {
                let _ = manager.stop(&unit.name).await;
                let _ = manager.disable(&unit.name).await;
                let _ = systemd::remove_unit(&self.dir, &unit.name);
            }
            let _ = manager.reload().await;
            for unit in &self.units {
                let _ = manager.reset_failed(&unit.name).await;
            }
        });
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn systemctl(words: &[&str]) -> String {
    let out = Command::new("systemctl").arg("--user").args(words).output().unwrap();
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen within 10 s");
        thread::sleep(Duration::from_millis(50));
    }
}

fn status(unit: &str) -> UnitStatus {
    block(async { Manager::connect().await.unwrap().status(unit).await.unwrap() })
}

// --- tests ---------------------------------------------------------------------------------------------------------

fn a_manager_answers() -> Result<(), Failed> {
    block(async {
        let manager = Manager::connect().await.unwrap();
        assert!(manager.version().await.unwrap() >= 250);
        assert!(manager.control_group().await.unwrap().contains("user@"));
        // A directory that the manager does not read is replaced by the one that it does.
        let dir = manager.unit_dir(Path::new("/nonexistent/systemd/user")).await.unwrap();
        assert!(dir.ends_with(".config/systemd/user"), "{}", dir.display());
    });
    Ok(())
}

fn rendered_units_live_a_whole_life() -> Result<(), Failed> {
    let installed = Installed::new(&plan("live@14"));
    let unit = "live@14.service";
    block(async {
        let manager = Manager::connect().await.unwrap();
        assert_eq!(manager.unit_origin(unit).await.unwrap(), UnitOrigin::Ours(installed.dir.join(unit)));
        assert!(manager.enable(unit).await.unwrap());
        assert!(!manager.enable(unit).await.unwrap());
        assert_eq!(systemctl(&["is-enabled", unit]), "enabled");
        let verdict = Command::new("systemd-analyze").args(["--user", "verify", unit, unit::YARD]).output().unwrap();
        assert!(verdict.status.success() && verdict.stderr.is_empty(), "{}", String::from_utf8_lossy(&verdict.stderr));

        let mut said = Vec::new();
        let started = manager.start(unit, &mut |text| said.push(text.to_owned())).await.unwrap();
        assert_eq!(started.result, JobResult::Done);
        let status = started.require("it did not start").unwrap();
        assert_eq!(said.first().map(String::as_str), Some("initialising"), "{said:?}");
        assert!(status.is_active() && status.why().is_none() && status.main_pid.is_some());
        assert_eq!((status.stored_descriptors, status.status_text.as_str()), (1, "kept 0"));
        assert_eq!(status.description, "Live 100% 1 (live@14)");
        assert_eq!(status.fragment, Some(installed.dir.join(unit)));
        assert!(status.control_group.contains("/steading.slice/"), "{}", status.control_group);
        assert!(status.active_since_us.is_some());
        let limits = systemctl(&["show", unit, "-p", "MemoryMax,CPUQuotaPerSecUSec,TasksMax", "--value"]);
        for value in ["268435456", "1.500000s", "64"] {
            assert!(limits.contains(value) || limits.contains("1.5s"), "{value} is not in {limits}");
        }
        let both = manager.states(&[unit, unit::YARD, "live-absent.service"]).await.unwrap();
        assert_eq!(both.iter().map(|state| state.active.as_str()).collect::<Vec<_>>(), ["active", "active", "inactive"]);

        // Kept over a restart ...
        let again = manager.restart(unit, &mut |_| {}).await.unwrap();
        assert_eq!((again.result, again.status.status_text.as_str()), (JobResult::Done, "kept 1"));
        // ... and over a kill, from which systemd restarts it by itself.
        let pid = again.status.main_pid.unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
    });
    until("a restart after a kill", || {
        let status = status(unit);
        status.is_active() && status.restarts == 1 && status.status_text == "kept 1"
    });
    block(async {
        let manager = Manager::connect().await.unwrap();
        let stopped = manager.stop(unit).await.unwrap();
        assert_eq!((stopped.result, stopped.status.active.as_str()), (JobResult::Done, "inactive"));
        assert_eq!(stopped.status.stored_descriptors, 0);
        assert_eq!(stopped.status.why(), None);
        assert!(manager.disable(unit).await.unwrap());
        assert!(!manager.disable(unit).await.unwrap());
    });
    until("the end of the yard", || status(unit::YARD).active == "inactive");
    until("the service's words in the journal", || {
        let out = systemd::journal_command(unit, false, Some(50)).output().unwrap();
        String::from_utf8_lossy(&out.stdout).contains("hello from live@14")
    });
    let dir = installed.dir.clone();
    drop(installed);
    block(async {
        let manager = Manager::connect().await.unwrap();
        assert_eq!(manager.unit_origin(unit).await.unwrap(), UnitOrigin::Absent);
        assert!(!manager.status(unit).await.unwrap().exists());
        assert!(!manager.disable(unit).await.unwrap());
    });
    assert!(!dir.join("default.target.wants").join(unit).exists());
    Ok(())
}

/// The address in the environment may lead to a bus without a manager, or nowhere: then the one in the run-time directory counts.
fn a_useless_session_bus_is_passed_over() -> Result<(), Failed> {
    let ask = |address: &str| {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_manager_answers"])
            .env("DBUS_SESSION_BUS_ADDRESS", address)
            .output()
            .unwrap()
    };
    for address in ["", "unix:path=/nonexistent/bus", "nonsense", "unix:path=/run/dbus/system_bus_socket"] {
        let out = ask(address);
        assert!(out.status.success(), "{address}: {}", String::from_utf8_lossy(&out.stdout));
    }
    Ok(())
}

fn a_failed_start_says_why() -> Result<(), Failed> {
    let _installed = Installed::new(&plan("live-fails"));
    let error = block(async {
        let manager = Manager::connect().await.unwrap();
        let outcome = manager.start("live-fails.service", &mut |_| {}).await.unwrap();
        assert_eq!(outcome.result, JobResult::Failed);
        outcome.require("`live-fails` did not start").unwrap_err()
    });
    assert_eq!(error.causes(), ["it exited with code 3"]);
    assert!(error.find_hint().unwrap().contains("journalctl --user -u live-fails.service"));
    Ok(())
}

fn a_start_that_takes_too_long_says_so() -> Result<(), Failed> {
    let mut plan = plan("live-hangs");
    plan.stop.timeout_s = 5;
    let installed = Installed::new(&plan);
    // Sooner than the supervisor's own limit, as a user's drop-in would have it.
    let drop_in = installed.dir.join("live-hangs.service.d");
    fs::create_dir_all(&drop_in).unwrap();
    fs::write(drop_in.join("soon.conf"), "[Service]\nTimeoutStartSec=1s\nRestart=no\n").unwrap();
    let (error, said) = block(async {
        let manager = Manager::connect().await.unwrap();
        manager.reload().await.unwrap();
        let mut said = Vec::new();
        let outcome = manager.start("live-hangs.service", &mut |text| said.push(text.to_owned())).await.unwrap();
        assert_eq!(outcome.status.drop_ins, [drop_in.join("soon.conf")]);
        (outcome.require("`live-hangs` did not start").unwrap_err(), said)
    });
    assert!(systemd::remove_drop_ins(&installed.dir, "live-hangs.service").unwrap());
    assert_eq!(said, ["waiting for ever"]);
    assert!(error.causes()[0].contains("in time"), "{:?}", error.causes());
    Ok(())
}

fn a_name_is_free_ours_or_foreign() -> Result<(), Failed> {
    let origin = |unit: &str| block(async { Manager::connect().await.unwrap().unit_origin(unit).await.unwrap() });
    assert_eq!(origin("live-foreign.service"), UnitOrigin::Absent);
    let foreign = Installed::foreign("live-foreign.service", "[Service]\nExecStart=/bin/true\n");
    assert_eq!(origin("live-foreign.service"), UnitOrigin::Foreign(foreign.dir.join("live-foreign.service")));
    drop(foreign);
    // A template of somebody else makes every instance theirs.
    let template = Installed::foreign("live-template@.service", "[Service]\nExecStart=/bin/true\n");
    assert_eq!(origin("live-template@1.service"), UnitOrigin::Foreign(template.dir.join("live-template@.service")));
    Ok(())
}

fn a_missing_and_a_masked_unit_are_told_apart() -> Result<(), Failed> {
    let start = |unit: &'static str| {
        block(async { Manager::connect().await.unwrap().start(unit, &mut |_| {}).await.map(drop).unwrap_err() })
    };
    assert_eq!(start("live-absent.service").kind(), Kind::NotFound);
    systemctl(&["mask", "--runtime", "live-masked.service"]);
    let error = start("live-masked.service");
    let origin = block(async { Manager::connect().await.unwrap().unit_origin("live-masked.service").await.unwrap() });
    systemctl(&["unmask", "--runtime", "live-masked.service"]);
    assert_eq!(error.find_hint(), Some("take the mask off: systemctl --user unmask live-masked.service"));
    assert!(matches!(origin, UnitOrigin::Foreign(_)), "{origin:?}");
    Ok(())
}

fn the_user_lingers() -> Result<(), Failed> {
    let uid = nix::unistd::getuid().as_raw();
    let name = nix::unistd::User::from_uid(uid.into()).unwrap().unwrap().name;
    let lingers = Path::new("/var/lib/systemd/linger").join(name).exists();
    assert_eq!(block(systemd::lingering(uid)), Some(lingers));
    Ok(())
}

fn the_doctor_finds_this_host_able() -> Result<(), Failed> {
    let paths = Paths::from_env().unwrap();
    fs::create_dir_all(paths.data()).unwrap();
    let before = fs::read_dir(paths.data()).unwrap().count();
    let began = Instant::now();
    let report = block(doctor::examine(Some(&paths)));
    println!("{} checks in {} ms", report.findings.len(), began.elapsed().as_millis());
    assert_eq!(fs::read_dir(paths.data()).unwrap().count(), before, "a probe left something behind");
    for finding in &report.findings {
        // Only some controllers reach the testbed.
        let expected = if finding.name == "controllers" { Severity::Warning } else { Severity::Ok };
        assert!(finding.severity <= expected, "{finding:?}");
    }
    assert!(report.finding("fuse-mount").unwrap().found.contains("protocol 7."));
    Ok(())
}

/// The same user, in a unit that may not make namespaces.
fn the_doctor_notices_forbidden_namespaces() -> Result<(), Failed> {
    let out = Command::new("systemd-run")
        .args(["--user", "--quiet", "--pipe", "--wait", "--property=RestrictNamespaces=yes"])
        .arg(env::current_exe().unwrap())
        .args(["doctor", "--probe", "userns"])
        .output()
        .unwrap();
    let outcome: Outcome = serde_json::from_slice(&out.stdout).unwrap();
    assert!(matches!(&outcome, Outcome::Fails { step, errno: 1, .. } if step == "make a user namespace"), "{outcome:?}");
    Ok(())
}
