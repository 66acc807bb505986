//! `steading doctor`.
use super::run::App;
use crate::error::Result;
use clap::Args;
/// x
#[derive(Debug, Args)]
pub(crate) struct Doctor {}
impl Doctor {
    pub(crate) async fn run(self, _: &App) -> Result<std::process::ExitCode> {
        Ok(std::process::ExitCode::SUCCESS)
    }
}
