//! What is so on this host, gathered once.

use super::ids::IdFacts;
use super::probe::{Outcome, Probe};
use crate::error::Error;
use crate::state::{Paths, Services};
use crate::sys::space;
use crate::systemd::{self, Manager};
use crate::unit;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::utsname::uname;
use nix::unistd::{User, getuid};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a probe may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

const CGROUP: &str = "/sys/fs/cgroup";

/// What is so on this host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Release of the kernel, e.g. `6.1.0-28-amd64`.
    pub kernel: String,
    /// Name of the user, or the number.
    pub user: String,
    /// Settings of the kernel that stand in the way of user namespaces.
    pub sysctls: Sysctls,
    /// What came of each probe.
    pub probes: BTreeMap<Probe, Outcome>,
    /// Whether /dev/fuse can be opened.
    pub fuse_device: Result<(), String>,
    /// The run-time directory of the user.
    pub runtime_dir: RuntimeDir,
    /// Whether systemd is pid 1 here.
    pub booted: bool,
    /// The user's service manager.
    pub manager: Result<ManagerFacts, Absent>,
    /// Whether the user lingers; `None` when nobody tells.
    pub linger: Option<bool>,
    /// Whether /sys/fs/cgroup is cgroup v2.
    pub unified: bool,
    /// Controllers that the user's manager may use.
    pub controllers: Option<Vec<String>>,
    /// Subordinate ids.
    pub ids: IdFacts,
    /// Controllers that limits of installed services need.
    pub needed_controllers: BTreeSet<&'static str>,
    /// The store, and the bytes free there.
    pub store: Option<(PathBuf, Result<u64, String>)>,
}

/// Settings in /proc/sys; `None` where the kernel has no such setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// `kernel.unprivileged_userns_clone` (Debian's and Arch's kernels).
    pub unprivileged_userns_clone: Option<String>,
    /// `user.max_user_namespaces`.
    pub max_user_namespaces: Option<String>,
    /// `kernel.apparmor_restrict_unprivileged_userns` (Ubuntu's kernels).
    pub apparmor_restrict: Option<String>,
}

/// `$XDG_RUNTIME_DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeDir {
    /// It is there and the user's own.
    Good(PathBuf),
    /// The variable is not set, or not to an absolute path.
    Unset,
    /// It names something else than a directory that only the user may enter.
    Bad(PathBuf, String),
}

/// What the user's service manager tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerFacts {
    /// Version of systemd.
    pub version: u32,
    /// Its control group.
    pub control_group: String,
}

/// Why the user's service manager could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl From<Error> for Absent {
    fn from(error: Error) -> Self {
        Absent { cause: error.causes().join(": "), remedy: error.find_hint().unwrap_or_default().to_owned() }
    }
}

impl Facts {
    /// Looks at this host.
    pub async fn gather(paths: Option<&Paths>) -> Facts {
        // They run while the rest is gathered.
        let probes: Vec<(Probe, io::Result<Child>)> = Probe::ALL.into_iter().map(|probe| (probe, start(probe))).collect();
        let uid = getuid();
        let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let (manager, controllers) = match ask_manager().await {
            Ok((manager, controllers)) => (Ok(manager), controllers),
            Err(absent) => (Err(absent), None),
        };
        let unified = statfs(CGROUP).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC);
        Facts {
            kernel: uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default(),
            sysctls: Sysctls {
                unprivileged_userns_clone: sysctl("kernel/unprivileged_userns_clone"),
                max_user_namespaces: sysctl("user/max_user_namespaces"),
                apparmor_restrict: sysctl("kernel/apparmor_restrict_unprivileged_userns"),
            },
            fuse_device: fs::OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_CLOEXEC)
                .open("/dev/fuse")
                .map(drop)
                .map_err(|error| error.to_string()),
            runtime_dir: runtime_dir(env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), uid.as_raw()),
            booted: Path::new("/run/systemd/system").is_dir(),
            manager,
            linger: systemd::lingering(uid.as_raw()).await,
            unified,
            controllers,
            ids: IdFacts::gather(&user),
            needed_controllers: paths.map(needed_controllers).unwrap_or_default(),
            store: paths.map(|paths| {
                let store = paths.store();
                let free = space::at(&store).map(|space| space.available).map_err(|error| error.to_string());
                (store, free)
            }),
            user,
            probes: probes.into_iter().map(|(probe, child)| (probe, finish(child))).collect(),
        }
    }
}

async fn ask_manager() -> Result<(ManagerFacts, Option<Vec<String>>), Absent> {
    let manager = Manager::connect().await?;
    let facts = ManagerFacts { version: manager.version().await?, control_group: manager.control_group().await? };
    Ok((facts, manager.controllers().await?))
}

/// A service that cannot be read is for `fsck` to tell of.
fn needed_controllers(paths: &Paths) -> BTreeSet<&'static str> {
    let services = Services::new(paths);
    let names = services.names().unwrap_or_default();
    let plans = names.iter().filter_map(|name| services.load(name).ok());
    plans.flat_map(|plan| unit::unenforced(&plan.limits, &[])).map(|(_, controller)| controller).collect()
}

fn sysctl(name: &str) -> Option<String> {
    Some(fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().to_owned())
}

pub(super) fn runtime_dir(told: Option<PathBuf>, uid: u32) -> RuntimeDir {
    let Some(path) = told.filter(|path| path.is_absolute()) else { return RuntimeDir::Unset };
    let why = match fs::metadata(&path) {
        Err(error) => error.to_string(),
        Ok(meta) if !meta.is_dir() => "it is not a directory".to_owned(),
        Ok(meta) if meta.uid() != uid => format!("it belongs to the user with the id {}", meta.uid()),
        Ok(meta) if meta.mode() & 0o077 != 0 => format!("others may enter it (mode {:o})", meta.mode() & 0o777),
        Ok(_) => return RuntimeDir::Good(path),
    };
    RuntimeDir::Bad(path, why)
}

fn start(probe: Probe) -> io::Result<Child> {
    // This very program, even if its file has been replaced meanwhile.
    Command::new("/proc/self/exe")
        .args(["doctor", "--probe", probe.name()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn finish(child: io::Result<Child>) -> Outcome {
    let fails = |error: io::Error| Outcome::failed("run the probe", &error);
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return fails(error),
    };
    let end = Instant::now() + PROBE_PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(_)) => break,
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return fails(io::Error::from(io::ErrorKind::TimedOut));
            }
        }
    }
    let mut said = String::new();
    let read = child.stdout.take().map_or(Ok(0), |mut out| out.read_to_string(&mut said));
    match read.map(|_| serde_json::from_str(&said)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            let mut words = String::new();
            if let Some(mut err) = child.stderr.take() {
                let _ = err.read_to_string(&mut words);
            }
            fails(io::Error::other(format!("it says nothing of use: {}", words.trim())))
        }
        Err(error) => fails(error),
    }
}
