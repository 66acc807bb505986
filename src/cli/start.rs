//! `steading start`.

use super::Name;
use super::dispatch::App;
use crate::error::Result;
use crate::service;
use clap::Args;

/// Start a service, and wait until it is ready
#[derive(Debug, Args)]
#[command(after_help = "The same as: systemctl --user start NAME")]
pub(crate) struct Start {
    #[command(flatten)]
    of: Name,
}

impl Start {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        service::start(&app.context()?, &self.of.name).await
    }
}
