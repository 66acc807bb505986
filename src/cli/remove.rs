//! `steading remove`.

use super::dispatch::App;
use super::{Name, printer};
use crate::error::Result;
use crate::service;
use clap::Args;

/// Stop and remove a service; its data and secrets stay
#[derive(Debug, Args)]
#[command(
    after_help = "A later install of the same name takes the data up again.\nsteading remove --purge NAME deletes data that was kept, too"
)]
pub(crate) struct Remove {
    #[command(flatten)]
    of: Name,
    /// Delete its data and secrets, and its image if no other service uses it
    #[arg(long)]
    purge: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Remove {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        let name = &self.of.name;
        let removed = service::remove(&app.context()?, name, self.purge).await?;
        app.progress.clear();
        if self.json {
            return app.printer.json(&serde_json::json!({
                "name": name,
                "kept": removed.kept.as_ref().map(|path| path.display().to_string()),
                "image": removed.image,
            }));
        }
        match &removed.kept {
            Some(path) => printer::note(&format!(
                "{name} is removed; its data is kept in {} (delete it: steading remove --purge {name})",
                path.display()
            )),
            None => printer::note(&format!("{name} is removed")),
        }
        Ok(())
    }
}
