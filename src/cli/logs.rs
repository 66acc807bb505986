//! `steading logs`.

use super::Name;
use super::dispatch::App;
use crate::error::{Error, Result};
use crate::service;
use clap::Args;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

/// Show what a service wrote to the journal
#[derive(Debug, Args)]
#[command(after_help = "The same as: journalctl --user -u NAME")]
pub(crate) struct Logs {
    #[command(flatten)]
    of: Name,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u64>,
    /// As JSON, an object per line
    #[arg(long)]
    json: bool,
}

impl Logs {
    pub(crate) fn run(self, app: &App) -> Result<ExitCode> {
        let mut command = service::journal_command(&app.context()?, &self.of.name, self.follow, self.lines)?;
        if self.json {
            command.arg("--output=json");
        }
        // In our place, so that its pager, signals and exit code are the user's.
        let error = command.exec();
        Err(Error::host("cannot run journalctl").because(error).hint("journalctl is part of systemd; is it in PATH?"))
    }
}
