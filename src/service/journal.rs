//! The journal of a service, by way of journalctl(1), which knows its files' format.

use super::Context;
use crate::error::Result;
use crate::resolve::ServiceName;
use crate::state::Services;
use crate::systemd;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// `journalctl` for the messages of `name`: the last `lines` or all, and those to come with `follow`.
///
/// # Errors
/// When the service is neither installed nor has data that was kept.
pub fn journal_command(context: &Context, name: &ServiceName, follow: bool, lines: Option<u64>) -> Result<Command> {
    let services = Services::new(&context.paths);
    // A removed service still has its messages.
    if !services.is_installed(name) && !context.paths.service(name).path().exists() {
        return Err(services.missing(name));
    }
    Ok(systemd::journal_command(&name.unit(), follow, lines))
}

/// The last `count` lines that a service wrote since `since`; empty when there is no journal to read.
pub(super) async fn last_lines(name: &ServiceName, since: SystemTime, count: u64) -> Vec<String> {
    let mut command = systemd::journal_command(&name.unit(), false, Some(count));
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    command
        .arg(format!("--since=@{}.{:06}", since.as_secs(), since.subsec_micros()))
        .args(["--output=cat", "--quiet"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let Ok(Ok(output)) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
