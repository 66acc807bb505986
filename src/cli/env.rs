//! `steading env`.

use super::Name;
use super::dispatch::App;
use super::quote::{Format, assignment};
use crate::error::Result;
use crate::service;
use clap::Args;
use std::collections::BTreeMap;

/// Print the environment that clients of a service need, password included
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  eval \"$(steading env postgres@14)\"\n  steading env --format dotenv postgres@14 > .env")]
pub(crate) struct Env {
    #[command(flatten)]
    of: Name,
    /// How variables are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
}

impl Env {
    pub(crate) fn run(self, app: &App) -> Result<()> {
        let environment = service::environment(&app.context()?, &self.of.name)?;
        if self.json || self.format == Format::Json {
            let texts: BTreeMap<_, _> = environment.iter().collect();
            return app.printer.json(&texts);
        }
        environment.iter().try_for_each(|(key, value)| app.printer.bytes(&assignment(self.format, key, value.as_bytes())))
    }
}
