//! `steading fsck`.

use super::dispatch::App;
use super::printer;
use crate::error::Result;
use crate::service;
use clap::Args;
use std::process::ExitCode;

/// Check that the store and all services are whole; exits with 1 when something is not
#[derive(Debug, Args)]
pub(crate) struct Fsck {
    /// Repair what can be repaired without loss: damaged contents go, so that a pull brings them again
    #[arg(long)]
    repair: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Fsck {
    pub(crate) async fn run(self, app: &App) -> Result<ExitCode> {
        let findings = service::fsck(&app.context()?, self.repair).await?;
        app.progress.clear();
        if self.json {
            app.printer.json(&findings)?;
        } else {
            for finding in &findings {
                app.printer.line(printer::clean(&finding.what))?;
                if !finding.remedy.is_empty() {
                    app.printer.line(format_args!("  {}", printer::clean(&finding.remedy)))?;
                }
            }
            if findings.is_empty() {
                printer::note("everything is whole");
            }
        }
        Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
