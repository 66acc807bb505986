//! `steading exec`.

use super::Name;
use crate::error::{Error, Result};
use crate::image::UserText;
use crate::runtime::{Command, is_interactive};
use crate::service;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Run a command inside a running service
///
/// The command has the service's environment, user, limits of privilege and file system. It has a terminal of its own when standard
/// input and output are terminals; otherwise it has the standard streams of `steading exec`, so that data can be piped through it. A
/// signal sent to `steading exec` is passed on; if it is killed, so is the command.
///
/// Exit code: the command's; 128 and the signal's number when a signal ended it; 127 when there is no such command, 126 when it cannot
/// be executed; 1 to 4 when the service cannot be entered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  steading exec postgres@14 -- pg_dump -U postgres postgres > dump.sql\n  \
    steading exec --env PGOPTIONS=-cstatement_timeout=5s postgres@14 -- psql -U postgres")]
pub(crate) struct Exec {
    #[command(flatten)]
    options: Options,
    /// User inside, USER[:GROUP] by name or number; only those that the container's id map has
    #[arg(short, long, value_name = "USER")]
    user: Option<UserText>,
    #[command(flatten)]
    of: Name,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What `exec` and `run` have in common.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For habit's sake: standard input is always the command's (`</dev/null` keeps it away)
    #[arg(short, long)]
    interactive: bool,
    /// A terminal for the command, also when standard input or output is none
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// No terminal for the command, also when standard input and output are terminals
    #[arg(short = 'T', long, overrides_with = "tty")]
    no_tty: bool,
    /// A variable in the command's environment; without a value as it is here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<OsString>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
}

impl Options {
    /// Whether the command gets a terminal.
    pub(crate) fn terminal(&self) -> bool {
        self.tty || (!self.no_tty && is_interactive())
    }

    /// Variables with their values; one that is not set here is left out.
    pub(crate) fn env(&self) -> Result<Vec<(String, OsString)>> {
        let mut list = Vec::new();
        for text in &self.env {
            let bytes = text.as_bytes();
            let (key, value) = match bytes.iter().position(|byte| *byte == b'=') {
                Some(at) => (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..]).to_owned())),
                None => (bytes, std::env::var_os(text)),
            };
            let key = std::str::from_utf8(key).ok().filter(|key| !key.is_empty());
            let key = key.ok_or_else(|| {
                Error::usage(format!("`--env {}` is not KEY=VALUE or KEY", text.to_string_lossy().escape_debug()))
            })?;
            list.extend(value.map(|value| (key.to_owned(), value)));
        }
        Ok(list)
    }

    /// The working directory.
    pub(crate) fn workdir(&self) -> Result<Option<OsString>> {
        match &self.workdir {
            Some(path) if path.as_bytes().first() != Some(&b'/') => {
                Err(Error::usage(format!("`--workdir {}` is no absolute path", path.to_string_lossy().escape_debug())))
            }
            other => Ok(other.clone()),
        }
    }
}

impl Exec {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let command = Command {
            args: self.command,
            env: self.options.env()?.into_iter().collect(),
            cwd: self.options.workdir()?,
            user: self.user,
            terminal: self.options.terminal(),
        };
        service::exec(&self.of.name, command)
    }
}
