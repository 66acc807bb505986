//! `steading restart`.

use super::Name;
use super::dispatch::App;
use crate::error::Result;
use crate::service;
use clap::Args;

/// Stop and start a service, and wait until it is ready
#[derive(Debug, Args)]
#[command(after_help = "The same as: systemctl --user restart NAME")]
pub(crate) struct Restart {
    #[command(flatten)]
    of: Name,
}

impl Restart {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        service::restart(&app.context()?, &self.of.name).await
    }
}
