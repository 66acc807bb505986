//! `steading info`.

use super::dispatch::App;
use super::printer;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::recipe::{Date, Selected, Setting, Version};
use crate::resolve::{Departure, Isolation};
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::SystemTime;

/// Show a recipe: versions, settings, ports, data, and how it departs from the default isolation
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  steading info postgres@14")]
pub(crate) struct Info {
    /// Recipe and perhaps version
    #[arg(value_name = "RECIPE[@VERSION]")]
    recipe: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(self, app: &App) -> Result<()> {
        let catalog = Catalog::load(&app.context()?.paths.user_catalog())?;
        let selected = catalog.find(&self.recipe)?;
        if self.json { app.printer.json(&describe(&selected)?) } else { app.printer.bytes(text(&selected)?.as_bytes()) }
    }
}

fn describe(selected: &Selected<'_>) -> Result<Value> {
    let head = &selected.recipe.head;
    let version = |version: &Version| json!({ "name": version.name.as_str(), "eol": version.eol.map(|date| date.to_string()) });
    let parts = &selected.version.parts;
    let setting = |(name, setting): (&crate::recipe::Name, &Setting)| {
        (name.to_string(), json!({ "summary": setting.summary, "default": setting.default, "choices": setting.choices }))
    };
    let port = |(name, port): (&crate::recipe::Name, &crate::recipe::Port)| {
        (name.to_string(), json!({ "container": port.container, "default": port.default.unwrap_or(port.container) }))
    };
    let data = |(name, data): (&crate::recipe::Name, &crate::recipe::Data)| (name.to_string(), json!(data.path.to_string()));
    Ok(json!({
        "name": selected.recipe.name(),
        "title": head.title,
        "summary": head.summary,
        "homepage": head.homepage,
        "license": head.license,
        "source": selected.source,
        "version": selected.version.name.as_str(),
        "versions": selected.recipe.versions.iter().map(version).collect::<Vec<_>>(),
        "image": selected.reference()?.to_string(),
        "settings": parts.settings.iter().map(setting).collect::<serde_json::Map<_, _>>(),
        "ports": parts.ports.iter().map(port).collect::<serde_json::Map<_, _>>(),
        "data": parts.data.iter().map(data).collect::<serde_json::Map<_, _>>(),
        "isolation": departures(&Isolation::of(&parts.isolation)),
        "notes": selected.recipe.lifecycle.notes,
    }))
}

/// How a recipe departs from the default isolation, as JSON: part to value.
pub(super) fn departures(isolation: &Isolation) -> Value {
    let object = |list: Vec<Departure>| {
        list.into_iter().map(|it| (it.part.to_owned(), json!(it.value))).collect::<serde_json::Map<_, _>>()
    };
    json!({ "loosens": object(isolation.loosened()), "tightens": object(isolation.tightened()) })
}

/// The same as lines for people: key and value.
pub(super) fn departure_lines(isolation: &Isolation) -> Vec<(&'static str, String)> {
    let line = |key: &'static str| move |it: Departure| (key, format!("{}: {}", it.part, it.value));
    let mut lines: Vec<_> = isolation.loosened().into_iter().map(line("loosens")).collect();
    if lines.is_empty() {
        lines.push(("loosens", "nothing of the default isolation".to_owned()));
    }
    lines.extend(isolation.tightened().into_iter().map(line("tightens")));
    lines
}

fn text(selected: &Selected<'_>) -> Result<String> {
    let (recipe, parts) = (selected.recipe, &selected.version.parts);
    let head = &recipe.head;
    let mut text = format!("{} {}\n{}\n\n", head.title, selected.version.name, head.summary);
    let mut line = |key: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:9} {}", printer::clean(value));
    };
    let today = Date::of(SystemTime::now());
    let versions: Vec<String> = recipe
        .versions
        .iter()
        .map(|version| match version.eol.filter(|eol| *eol <= today) {
            Some(eol) => format!("{} (no updates since {eol})", version.name),
            None => version.name.to_string(),
        })
        .collect();
    line("versions", &versions.join(", "));
    line("image", &selected.reference()?.to_string());
    for (key, value) in [("homepage", &head.homepage), ("license", &head.license), ("notes", &recipe.lifecycle.notes)] {
        if let Some(value) = value {
            line(key, value);
        }
    }
    line("recipe", selected.source);
    for (name, port) in &parts.ports {
        line("port", &format!("{name}: {} ({} in the container)", port.default.unwrap_or(port.container), port.container));
    }
    for (name, data) in &parts.data {
        line("data", &format!("{name}: {}", data.path));
    }
    for (name, setting) in &parts.settings {
        let default = setting.default.as_ref().map(|default| format!(" [{default}]")).unwrap_or_default();
        line("setting", &format!("{name}: {}{default}", setting.summary));
    }
    for (key, value) in departure_lines(&Isolation::of(&parts.isolation)) {
        line(key, &value);
    }
    line("install", &format!("steading install {}@{}", recipe.name(), selected.version.name));
    Ok(text)
}
