//! `steading search`.

use super::dispatch::App;
use super::printer;
use crate::catalog::{Catalog, Entry};
use crate::error::Result;
use clap::Args;
use serde::Serialize;

/// Find recipes in the catalog
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  steading search\n  steading search database")]
pub(crate) struct Search {
    /// Words that occur in a name, alias, category, title or summary; all recipes without one
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    name: &'a str,
    title: &'a str,
    summary: &'a str,
    versions: Vec<&'a str>,
    default_version: &'a str,
    source: &'a str,
}

impl<'a> Found<'a> {
    fn new(entry: &'a Entry) -> Self {
        let recipe = &entry.recipe;
        Found {
            name: recipe.name(),
            title: &recipe.head.title,
            summary: &recipe.head.summary,
            versions: recipe.versions.iter().map(|version| version.name.as_str()).collect(),
            default_version: recipe.head.default_version.as_str(),
            source: entry.source,
        }
    }
}

impl Search {
    pub(crate) fn run(self, app: &App) -> Result<()> {
        let catalog = Catalog::load(&app.context()?.paths.user_catalog())?;
        for broken in catalog.broken() {
            printer::note(&format!("warning: {} is no recipe, ignoring: {}", broken.path.display(), broken.error));
        }
        let words = self.words.join(" ");
        let found: Vec<Found<'_>> = catalog.search(&words).into_iter().map(Found::new).collect();
        if self.json {
            return app.printer.json(&found);
        }
        if found.is_empty() {
            printer::note(&format!("no recipe has `{words}`; `steading search` shows all"));
            return Ok(());
        }
        let row = |found: &Found<'_>| vec![found.name.to_owned(), found.versions.join(" "), found.summary.to_owned()];
        app.printer.table(&["RECIPE", "VERSIONS", "SUMMARY"], &found.iter().map(row).collect::<Vec<_>>())
    }
}
