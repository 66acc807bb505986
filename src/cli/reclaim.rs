//! `steading reclaim`, which `steading remove` starts for files that belong to subordinate ids.

use crate::error::Result;
use crate::state::{self, Paths};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Removes directories of services whose files belong to the user's subordinate ids; `steading remove` does this
#[derive(Debug, Args)]
pub(crate) struct Reclaim {
    /// The directories
    #[arg(required = true, value_name = "PATH")]
    trees: Vec<PathBuf>,
}

impl Reclaim {
    pub(crate) fn run(self) -> Result<ExitCode> {
        state::reclaim(&Paths::from_env()?, &self.trees).map(|()| ExitCode::SUCCESS)
    }
}
