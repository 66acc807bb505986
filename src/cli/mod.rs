//! The command line: clap types with one file per verb, the printer, progress, errors. The only place that prints.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are those of [`crate::error::Kind`].

mod dispatch;
mod human;
mod printer;
mod progress;
mod quote;

mod doctor;
mod env;
mod exec;
mod fsck;
mod generate;
mod image;
mod info;
mod install;
mod list;
mod logs;
mod reclaim;
mod remove;
mod restart;
mod run;
mod search;
mod shell;
mod start;
mod status;
mod stop;
mod url;

pub use dispatch::{Line, Role, end, in_run_lane, install_lane, parse};

use crate::resolve::ServiceName;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// A yard of services for every user: isolated, without root, supervised by your own systemd
#[derive(Debug, Parser)]
#[command(name = "steading", version, styles = STYLES, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Examples:\n  steading install postgres@14\n  psql \"$(steading url postgres@14)\"\n  \
    systemctl --user status postgres@14")]
pub(crate) struct Cli {
    /// No progress, only results, warnings and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(install::Install),
    Remove(remove::Remove),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Status(status::Status),
    List(list::List),
    Logs(logs::Logs),
    Url(url::Url),
    Env(env::Env),
    Shell(shell::Shell),
    Exec(exec::Exec),
    Run(Box<run::Run>),
    Search(search::Search),
    Info(info::Info),
    Image(image::Image),
    Doctor(doctor::Doctor),
    Fsck(fsck::Fsck),
    Generate(generate::Generate),
    /// Runs a service; its unit does this
    #[command(hide = true)]
    Supervise(Name),
    /// Serves the images of this user's services; steading-yard.service does this
    #[command(hide = true)]
    Yard,
    /// Keeps the yard up while containers run once; steading-run.service does this
    #[command(hide = true)]
    Hold,
    #[command(hide = true)]
    Prepare(run::Prepare),
    #[command(hide = true)]
    Reclaim(reclaim::Reclaim),
}

/// The verbs of the run lane alone: to know all the others takes longer than what these do. Same words, same meaning.
#[derive(Debug, Parser)]
#[command(name = "steading", disable_help_flag = true, disable_help_subcommand = true)]
struct Quick {
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: QuickVerb,
}

#[derive(Debug, Subcommand)]
enum QuickVerb {
    Exec(exec::Exec),
    Shell(shell::Shell),
    Run(Box<run::Run>),
    Supervise(Name),
    Yard,
    Hold,
}

impl From<Quick> for Cli {
    fn from(Quick { quiet, verb }: Quick) -> Self {
        let verb = match verb {
            QuickVerb::Exec(verb) => Verb::Exec(verb),
            QuickVerb::Shell(verb) => Verb::Shell(verb),
            QuickVerb::Run(verb) => Verb::Run(verb),
            QuickVerb::Supervise(of) => Verb::Supervise(of),
            QuickVerb::Yard => Verb::Yard,
            QuickVerb::Hold => Verb::Hold,
        };
        Cli { quiet, verb }
    }
}

/// The one service that a verb is about.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Name of the service, as `steading list` shows it
    #[arg(value_name = "NAME")]
    name: ServiceName,
}

#[cfg(test)]
mod tests;
