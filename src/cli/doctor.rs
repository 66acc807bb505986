//! `steading doctor`.

use super::dispatch::App;
use super::printer;
use crate::doctor::{self, Finding, Probe, Severity};
use crate::error::Result;
use crate::state::{Paths, Settings};
use clap::Args;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Check whether this host can run services, and say what to do where it cannot; exits with 4 then
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Try one thing in this process and write what came of it as JSON
    #[arg(long, hide = true, value_name = "NAME")]
    probe: Option<Probe>,
}

/// The user's places, where there are any: doctor runs on broken hosts too.
fn places() -> Result<Paths> {
    let paths = Paths::from_env()?;
    let settings = Settings::load(&paths.settings_file())?;
    Ok(paths.with_store(settings.store))
}

impl Doctor {
    /// Whether this is the hidden child, which enters namespaces.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    pub(crate) fn run_probe(self, app: &App) -> Result<ExitCode> {
        if let Some(probe) = self.probe {
            app.printer.json(&doctor::probe(probe, places()?.data())?)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    pub(crate) async fn run(self, app: &App) -> Result<ExitCode> {
        let places = places();
        if let Err(error) = &places {
            printer::note(&format!("warning: {error}"));
        }
        let report = doctor::examine(places.as_ref().ok()).await;
        if self.json {
            app.printer.json(&report.findings)?;
        } else {
            app.printer.bytes(report.findings.iter().map(text).collect::<String>().as_bytes())?;
        }
        match report.worst() {
            Severity::Ok => printer::note("this host can run services"),
            Severity::Warning => printer::note("this host can run services; the warnings say what is missing"),
            Severity::Fatal => {
                printer::note("this host cannot run services");
                return Ok(ExitCode::from(crate::error::Kind::HostCannot.exit_code()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Fatal => "fatal",
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{word:8} {:17} {}", finding.name, printer::clean(&finding.found));
    for (key, more) in [("", &finding.cause), ("hint: ", &finding.remedy)] {
        if let Some(more) = more {
            let _ = writeln!(text, "{:26} {key}{}", "", printer::clean(more));
        }
    }
    text
}
