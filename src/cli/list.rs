//! `steading list`.

use super::dispatch::App;
use super::human;
use super::status::Report;
use crate::error::Result;
use crate::service;
use clap::Args;

/// List the installed services
#[derive(Debug, Args)]
#[command(visible_alias = "ls")]
pub(crate) struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        let services = service::list(&app.context()?).await?;
        if self.json {
            return app.printer.json(&services.iter().map(Report::new).collect::<Vec<_>>());
        }
        let row = |service: &service::Status| {
            let ports: Vec<String> = service.ports.iter().map(|port| port.host.to_string()).collect();
            let state = match &service.problem {
                Some(_) => "broken".to_owned(),
                None => service.state.to_string(),
            };
            let since = service.since.map(human::ago).unwrap_or_default();
            vec![service.name.to_string(), state, since, ports.join(" "), service.software()]
        };
        if services.is_empty() {
            super::printer::note("no service is installed; `steading search` shows what there is");
            return Ok(());
        }
        app.printer.table(&["NAME", "STATE", "SINCE", "PORTS", "SOFTWARE"], &services.iter().map(row).collect::<Vec<_>>())
    }
}
