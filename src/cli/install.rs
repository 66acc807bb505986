//! `steading install`.

use super::dispatch::App;
use super::printer;
use crate::error::{Error, Result};
use crate::recipe::{Cpus, Size};
use crate::resolve::{self, PortOverride, ServiceName, VolumeOverride, key_value};
use crate::service::{self, Installed};
use crate::state::plan_text;
use clap::Args;
use std::ffi::OsString;
use std::net::IpAddr;

/// Install a service from the catalog and start it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  steading install postgres@14\n  \
    steading install postgres --name orders --port db=5433 --set database=orders --memory 512M\n  \
    steading install redis --volume data=/big/disk/redis --dry-run")]
pub(crate) struct Install {
    /// What to install; without a version the recipe's default
    #[arg(value_name = "RECIPE[@VERSION]")]
    recipe: String,
    /// Name of the service and its unit [default: RECIPE@VERSION]
    #[arg(long, value_name = "NAME")]
    name: Option<ServiceName>,
    /// A setting of the recipe, see `steading info`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A variable in the service's environment
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Where a port is published: NAME=ADDR:PORT, NAME=PORT or NAME=ADDR
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// A directory of the host: NAME=/DIRECTORY for a volume of the recipe, or /DIRECTORY:/PATH, with `:ro` read-only
    #[arg(long, value_name = "VOLUME")]
    volume: Vec<OsString>,
    /// Where ports are published when nothing else says so [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR")]
    address: Option<IpAddr>,
    /// Most memory, e.g. 512M
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Most processors, e.g. 1.5
    #[arg(long, value_name = "COUNT")]
    cpus: Option<String>,
    /// Install and enable, but start it only with the next login or `steading start`
    #[arg(long)]
    no_start: bool,
    /// Print the plan as TOML and change nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Install {
    pub(crate) async fn run(self, app: &App) -> Result<()> {
        let mut context = app.context()?;
        context.settings.address = self.address.or(context.settings.address);
        let (json, dry_run) = (self.json, self.dry_run);
        let request = self.request()?;
        if dry_run {
            let plan = service::plan(&context, &request).await?;
            return if json { app.printer.json(&plan) } else { app.printer.bytes(plan_text(&plan)?.as_bytes()) };
        }
        let installed = service::install(&context, &request).await?;
        app.progress.clear();
        if json {
            let plan = &installed.plan;
            return app.printer.json(&serde_json::json!({
                "name": plan.name,
                "started": installed.started,
                "kept_data": installed.kept_data,
                "image": plan.image.reference,
                "digest": plan.image.digest,
                "ports": plan.ports,
            }));
        }
        farewell(&installed).iter().for_each(|line| printer::note(line));
        Ok(())
    }

    fn request(self) -> Result<service::Request> {
        let pairs = |option: &str, list: &[String]| list.iter().map(|text| key_value(option, text)).collect::<Result<Vec<_>>>();
        let wishes = resolve::Request {
            settings: pairs("--set", &self.set)?,
            env: pairs("--env", &self.env)?,
            ports: self.port.iter().map(|text| text.parse::<PortOverride>()).collect::<Result<_>>()?,
            volumes: self.volume.iter().map(|text| VolumeOverride::parse(text)).collect::<Result<_>>()?,
            memory: self.memory.as_deref().map(|text| read::<Size>("--memory", text)).transpose()?,
            cpus: self.cpus.as_deref().map(|text| read::<Cpus>("--cpus", text)).transpose()?,
            tasks: None,
            name: self.name,
        };
        Ok(service::Request { recipe: self.recipe, wishes, start: !self.no_start })
    }
}

fn read<T: std::str::FromStr<Err = Error>>(option: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error: Error| {
        let hint = error.find_hint().unwrap_or("see `steading install --help`").to_owned();
        Error::usage(format!("`{option} {}` cannot be read", text.escape_debug())).because(error).hint(hint)
    })
}

/// How to go on from here. Commands rather than a password: this may end in a log.
fn farewell(installed: &Installed) -> Vec<String> {
    let plan = &installed.plan;
    let name = &plan.name;
    let mut lines = Vec::new();
    let (title, version) = (&plan.recipe.title, &plan.recipe.version);
    lines.push(match installed.started {
        true => format!("{title} {version} runs as {name}"),
        false => format!("{title} {version} is installed as {name}; start it: steading start {name}"),
    });
    if installed.kept_data {
        lines.push("  with the data and secrets of the earlier service of that name".to_owned());
    }
    for port in &plan.ports {
        lines.push(format!("  {:8} {}", port.name, port.host));
    }
    let mut commands = Vec::new();
    if let Some(url) = &plan.connect.url {
        commands.push(match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("postgresql" | "postgres") => format!("psql \"$(steading url {name})\""),
            Some("redis") => format!("redis-cli -u \"$(steading url {name})\""),
            Some("http" | "https") => format!("curl \"$(steading url {name})\""),
            _ => format!("steading url {name}"),
        });
    }
    if !plan.connect.env.is_empty() {
        commands.push(format!("eval \"$(steading env {name})\""));
    }
    commands.push(format!("steading status {name}"));
    lines.extend(commands.iter().enumerate().map(|(at, command)| format!("  {:8} {command}", if at == 0 { "try" } else { "" })));
    if installed.lingers == Some(false) {
        lines.push("it stops with your last login session; to keep it: loginctl enable-linger".to_owned());
    }
    lines
}
