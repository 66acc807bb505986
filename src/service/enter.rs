//! Commands inside a running service. Called without an event loop: entering namespaces needs a process with one thread.

use super::{Context, access};
use crate::error::{Error, Result};
use crate::report::Silent;
use crate::resolve::ServiceName;
use crate::runtime::{self, Command};
use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs `command` inside the running service.
///
/// # Errors
/// When the service is not installed, does not run or cannot be entered.
pub fn exec(name: &ServiceName, command: Command) -> Result<ExitCode> {
    enter(&Context::load(Arc::new(Silent))?, name, command)
}

/// Runs the client of the service inside it; where its recipe names none, the first shell that there is. With a terminal of its
/// own when `terminal` says so.
///
/// # Errors
/// As [`exec`].
pub fn shell(name: &ServiceName, terminal: bool) -> Result<ExitCode> {
    let context = Context::load(Arc::new(Silent))?;
    let client = access::connect(&context, name)?.shell;
    let args: Vec<OsString> = if client.is_empty() {
        ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -i || exec sh -i"].map(Into::into).to_vec()
    } else {
        client.into_iter().map(Into::into).collect()
    };
    enter(&context, name, Command { args, terminal, ..Command::default() })
}

fn enter(context: &Context, name: &ServiceName, mut command: Command) -> Result<ExitCode> {
    if command.args.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::usage("no command was given"));
    }
    add_terminal(&mut command);
    runtime::exec(&context.paths, name, &command).map(ExitCode::from)
}

/// What a program needs to know about the terminal it is on; what the user gave comes first.
fn add_terminal(command: &mut Command) {
    let keys: &[&str] = if command.terminal { &["TERM", "COLORTERM", "NO_COLOR"] } else { &["NO_COLOR"] };
    for key in keys {
        if let Some(value) = env::var_os(key) {
            command.env.entry((*key).to_owned()).or_insert(value);
        }
    }
}
