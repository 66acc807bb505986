//! `steading generate`: man pages and completions from the one definition of the command line.

use super::Cli;
use super::dispatch::App;
use crate::error::{Context, Result};
use crate::sys::file;
use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Generate man pages and completions of shells
#[derive(Debug, Args)]
pub(crate) struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print steading(1), or write all pages into a directory
    Man {
        /// Where to write steading.1, steading-install.1, ...
        #[arg(value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Print completions
    #[command(
        after_help = "Example:\n  steading generate completions bash > ~/.local/share/bash-completion/completions/steading"
    )]
    Completions {
        /// For which shell
        shell: Shell,
    },
}

impl Generate {
    pub(crate) fn run(self, app: &App) -> Result<()> {
        let mut command = Cli::command();
        match self.what {
            What::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut command, "steading", &mut text);
                app.printer.bytes(&text)
            }
            What::Man { directory: None } => {
                let mut text = Vec::new();
                clap_mangen::Man::new(command).render(&mut text).context(|| "cannot make the man page")?;
                app.printer.bytes(&text)
            }
            What::Man { directory: Some(directory) } => {
                file::create_dir_all(&directory, 0o755)?;
                clap_mangen::generate_to(command, &directory)
                    .context(|| format!("cannot write man pages into `{}`", directory.display()))
            }
        }
    }
}
