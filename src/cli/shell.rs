//! `steading shell`.

use super::Name;
use crate::error::Result;
use crate::service;
use clap::Args;
use std::process::ExitCode;

/// Open the client of a service inside it, or a shell where it has none
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  steading shell postgres@14      (psql as the superuser)")]
pub(crate) struct Shell {
    #[command(flatten)]
    of: Name,
}

impl Shell {
    pub(crate) fn run(self) -> Result<ExitCode> {
        service::shell(&self.of.name)
    }
}
