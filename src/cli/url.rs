//! `steading url`.

use super::Name;
use super::dispatch::App;
use crate::error::Result;
use crate::service;
use clap::Args;

/// Print the URL of a service, password included
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  psql \"$(steading url postgres@14)\" -c 'select version()'")]
pub(crate) struct Url {
    #[command(flatten)]
    of: Name,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Url {
    pub(crate) fn run(self, app: &App) -> Result<()> {
        let url = service::url(&app.context()?, &self.of.name)?;
        if self.json { app.printer.json(&serde_json::json!({ "name": self.of.name, "url": url })) } else { app.printer.line(url) }
    }
}
