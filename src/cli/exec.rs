//! `steading exec`.

use super::Name;
use crate::error::Result;
use crate::service;
use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// Run a command inside a running service, as the service's user
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  steading exec postgres@14 -- pg_dump -U postgres postgres > dump.sql")]
pub(crate) struct Exec {
    #[command(flatten)]
    of: Name,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Exec {
    pub(crate) fn run(self) -> Result<ExitCode> {
        service::exec(&self.of.name, self.command)
    }
}
