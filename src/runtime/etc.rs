//! Files of a container that are made on the host for each start, in `$XDG_RUNTIME_DIR/steading/services/NAME`:
//! `hosts`, `hostname`, `resolv.conf`, `secrets/`; others add `passwd`, `group`, `notify` and `pid`. The directory is a tmpfs on every systemd machine.

use crate::error::{Context, Result};
use crate::resolve::{Plan, ServiceName};
use crate::state::Paths;
use crate::sys::file::create_dir_all;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the notification socket in the run-time directory.
pub(super) const NOTIFY_FILE: &str = "notify";

/// Where the container sees it.
pub(super) const NOTIFY_SOCKET: &str = crate::spec::NOTIFY_SOCKET;

/// Directory of the run-time files of `name`.
#[must_use]
pub fn run_dir(paths: &Paths, name: &ServiceName) -> PathBuf {
    paths.runtime().join("services").join(name.as_str())
}

/// Makes the files anew; the secrets' values lie in `secret_values`.
///
/// # Errors
/// Those of writing, with the path.
pub fn write(plan: &Plan, secret_values: &Path, run_dir: &Path) -> Result<()> {
    create_dir_all(run_dir, 0o700)?;
    let host = &plan.process.hostname;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 {host}\n");
    write_file(&run_dir.join("hosts"), hosts.as_bytes(), 0o644)?;
    write_file(&run_dir.join("hostname"), format!("{host}\n").as_bytes(), 0o644)?;
    // No network but loopback: a resolver that is asked fails at once instead of after its time-outs.
    write_file(&run_dir.join("resolv.conf"), b"# no network outside: names resolve from /etc/hosts only\n", 0o644)?;
    let secrets = run_dir.join("secrets");
    remove_dir(&secrets)?;
    if !plan.secrets.is_empty() {
        // Nobody of the host gets here; of the container those who may read a secret may have other ids than the directory.
        create_dir_all(&secrets, 0o711)?;
        for secret in &plan.secrets {
            let from = secret_values.join(&secret.name);
            let value = fs::read(&from).context(|| format!("cannot read the secret `{}`", from.display()))?;
            write_file(&secrets.join(&secret.name), &value, 0o400)?;
        }
    }
    Ok(())
}

/// Nobody reads it before the start, and nothing of it outlives the machine: neither atomic nor durable.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes)).context(|| format!("cannot write `{}`", path.display()))
}

/// Removes the files of a service that does not run any more. The directory itself is systemd's (`RuntimeDirectory=`), and lies
/// outside of what a confined supervisor can write.
pub(super) fn remove(run_dir: &Path) -> Result<()> {
    match fs::remove_dir_all(run_dir) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ReadOnlyFilesystem) => {
            Err(error).context(|| format!("cannot remove `{}`", run_dir.display()))
        }
        _ => Ok(()),
    }
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(|| format!("cannot remove `{}`", path.display())),
        _ => Ok(()),
    }
}
