//! Commands inside a running service. Called without an event loop: entering namespaces needs a process with one thread.

use super::{Context, access};
use crate::error::{Error, Result};
use crate::report::Silent;
use crate::resolve::ServiceName;
use crate::runtime;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs `command` inside the running service with our own standard streams.
///
/// # Errors
/// When the service is not installed, does not run or cannot be entered.
pub fn exec(name: &ServiceName, command: Vec<OsString>) -> Result<ExitCode> {
    let context = Context::load(Arc::new(Silent))?;
    enter(&context, name, command)
}

/// Runs the client of the service inside it; where its recipe names none, the first shell that there is.
///
/// # Errors
/// As [`exec`].
pub fn shell(name: &ServiceName) -> Result<ExitCode> {
    let context = Context::load(Arc::new(Silent))?;
    let client = access::connect(&context, name)?.shell;
    let command: Vec<OsString> = if client.is_empty() {
        ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -i || exec sh -i"].map(Into::into).to_vec()
    } else {
        client.into_iter().map(Into::into).collect()
    };
    enter(&context, name, command)
}

fn enter(context: &Context, name: &ServiceName, args: Vec<OsString>) -> Result<ExitCode> {
    if args.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::usage("no command was given"));
    }
    let mut command = runtime::Command { args, ..runtime::Command::default() };
    // What a program needs to know about the terminal it is on.
    for key in ["TERM", "COLORTERM", "NO_COLOR"] {
        command.env.extend(std::env::var_os(key).map(|value| (key.to_owned(), value)));
    }
    runtime::exec(&context.paths, name, &command).map(ExitCode::from)
}
