//! `steading stop`.

use super::Name;
use super::dispatch::App;
use crate::error::Result;
use crate::service;
use clap::Args;

/// Stop a service, and wait until it is down; it starts again with the next login or boot
#[derive(Debug, Args)]
#[command(after_help = "The same as: systemctl --user stop NAME")]
pub(crate) struct Stop {
    #[command(flatten)]
    of: Name,
}

impl Stop {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        service::stop(&app.context()?, &self.of.name).await
    }
}
