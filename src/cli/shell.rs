//! `steading shell`.

use super::Name;
use crate::error::Result;
use crate::runtime::is_interactive;
use crate::service;
use clap::Args;
use std::process::ExitCode;

/// Open the client of a service inside it, or a shell where it has none
///
/// It has a terminal when standard input and output are terminals; otherwise it reads its commands from standard input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  steading shell postgres@14      (psql as the superuser)\n  \
    echo 'select 1' | steading shell postgres@14")]
pub(crate) struct Shell {
    #[command(flatten)]
    of: Name,
}

impl Shell {
    pub(crate) fn run(self) -> Result<ExitCode> {
        service::shell(&self.of.name, is_interactive())
    }
}
