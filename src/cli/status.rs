//! `steading status`.

use super::dispatch::App;
use super::human;
use super::info::{departure_lines, departures};
use crate::error::Result;
use crate::resolve::ServiceName;
use crate::service::{self, State};
use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;

/// Show how a service does, or all of them
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  steading status postgres@14\n  steading status --json | jq '.[].state'\n\n\
    systemctl --user status NAME shows the processes and the last lines of the journal")]
pub(crate) struct Status {
    /// Name of a service; all without one
    #[arg(value_name = "NAME")]
    name: Option<ServiceName>,
    /// As JSON: an object for one service, a list for all
    #[arg(long)]
    json: bool,
}

/// A service in JSON. The names are stable.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    name: &'a ServiceName,
    state: State,
    since: Option<String>,
    title: &'a str,
    recipe: &'a str,
    version: &'a str,
    image: Option<String>,
    digest: Option<String>,
    ports: &'a [crate::resolve::PlanPort],
    isolation: serde_json::Value,
    url: Option<&'a str>,
    directory: String,
    generation: Option<u32>,
    enabled: Option<bool>,
    main_pid: Option<u32>,
    memory_bytes: Option<u64>,
    tasks: Option<u64>,
    restarts: Option<u32>,
    problem: Option<&'a str>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(status: &'a service::Status) -> Self {
        let unit = status.unit.as_ref();
        Report {
            name: &status.name,
            state: status.state,
            since: status.since.map(human::rfc3339),
            title: &status.title,
            recipe: &status.recipe,
            version: &status.version,
            image: status.image.as_ref().map(|image| image.reference.clone()),
            digest: status.image.as_ref().map(|image| image.digest.to_string()),
            ports: &status.ports,
            isolation: departures(&status.isolation),
            url: status.url.as_deref(),
            directory: status.directory.display().to_string(),
            generation: status.generation,
            enabled: unit.map(|unit| unit.file_state == "enabled"),
            main_pid: unit.and_then(|unit| unit.main_pid),
            memory_bytes: unit.and_then(|unit| unit.memory_bytes),
            tasks: unit.and_then(|unit| unit.tasks),
            restarts: unit.map(|unit| unit.restarts),
            problem: status.problem.as_deref(),
        }
    }
}

impl Status {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        let context = app.context()?;
        if let Some(name) = &self.name {
            let status = service::status(&context, name).await?;
            return if self.json { app.printer.json(&Report::new(&status)) } else { app.printer.bytes(text(&status).as_bytes()) };
        }
        let all = service::list(&context).await?;
        if self.json {
            return app.printer.json(&all.iter().map(Report::new).collect::<Vec<_>>());
        }
        if all.is_empty() {
            super::printer::note("no service is installed; `steading search` shows what there is");
        }
        let texts: Vec<String> = all.iter().map(text).collect();
        app.printer.bytes(texts.join("\n").as_bytes())
    }
}

fn text(status: &service::Status) -> String {
    let mut lines = vec![("state", state(status))];
    if let Some(problem) = &status.problem {
        lines.push(("problem", problem.clone()));
    }
    for port in &status.ports {
        lines.push(("port", format!("{} -> {} ({})", port.host, port.container, port.name)));
    }
    lines.extend(departure_lines(&status.isolation));
    if let Some(url) = &status.url {
        // The stars stand for a secret.
        let more = if url.contains("***") { format!("  (with password: steading url {})", status.name) } else { String::new() };
        lines.push(("url", format!("{url}{more}")));
    }
    if let Some(unit) = &status.unit {
        lines.push((
            "unit",
            format!("{} ({})", status.name.unit(), if unit.file_state.is_empty() { "no file" } else { &unit.file_state }),
        ));
        let usage = [
            unit.main_pid.map(|pid| format!("process {pid}")),
            unit.memory_bytes.map(|bytes| format!("memory {}", human::bytes(bytes))),
            unit.tasks.map(|tasks| format!("{tasks} tasks")),
            (unit.restarts > 0).then(|| format!("{} automatic restarts", unit.restarts)),
        ];
        let usage: Vec<String> = usage.into_iter().flatten().collect();
        if !usage.is_empty() {
            lines.push(("usage", usage.join(", ")));
        }
    }
    if let Some(image) = &status.image {
        lines.push(("image", format!("{} ({})", image.reference, image.digest.short())));
    }
    lines.push(("files", status.directory.display().to_string()));
    let mut text = format!("{}  {}\n", status.name, status.software());
    for (key, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key:8} {}", super::printer::clean(&value));
    }
    text
}

fn state(status: &service::Status) -> String {
    match status.since {
        Some(since) => format!("{}, since {} ({})", status.state, human::ago(since), human::rfc3339(since)),
        None => status.state.to_string(),
    }
}
