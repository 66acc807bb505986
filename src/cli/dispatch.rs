//! From the words of the command line to the exit code.

use super::printer::{self, Printer};
use super::progress::Progress;
use super::{Cli, Quick, Verb};
use crate::error::{Error, Result};
use crate::resolve::ServiceName;
use crate::service::Context;
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

/// A command line that was understood.
#[derive(Debug)]
pub struct Line(Cli);

/// Which part of the program a command line is for.
#[derive(Debug)]
pub enum Role {
    /// Run lane: the supervisor of a service.
    Supervise(ServiceName),
    /// Run lane: the yard.
    Yard,
    /// Run lane: what keeps the yard up for containers that run once.
    Hold,
    /// What enters namespaces and so needs one thread: a command inside a running service, a container that runs once,
    /// a probe of doctor, a removal.
    Enter(Line),
    /// Everything else.
    Verb(Line),
}

/// Verbs of [`Quick`].
const QUICK: [&str; 6] = ["exec", "shell", "run", "supervise", "yard", "hold"];

/// Reads the command line. Help, version and errors of usage are printed here.
///
/// # Errors
/// The exit code, when there is nothing left to do.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Role, ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    // Whatever is not right there is told by the parser that knows everything.
    let quick = words.get(1).is_some_and(|verb| QUICK.iter().any(|quick| verb == quick));
    let quick = quick.then(|| Quick::try_parse_from(&words).ok()).flatten();
    match quick.map_or_else(|| Cli::try_parse_from(&words), |line| Ok(line.into())) {
        Ok(cli) => Ok(match cli.verb {
            Verb::Supervise(of) => Role::Supervise(of.name),
            Verb::Yard => Role::Yard,
            Verb::Hold => Role::Hold,
            Verb::Exec(_) | Verb::Shell(_) | Verb::Run(_) | Verb::Reclaim(_) => Role::Enter(Line(cli)),
            Verb::Doctor(ref doctor) if doctor.is_probe() => Role::Enter(Line(cli)),
            _ => Role::Verb(Line(cli)),
        }),
        Err(error) => {
            // Nothing better can be done when even this cannot be written.
            let _ = error.print();
            Err(ExitCode::from(if error.use_stderr() { 2 } else { 0 }))
        }
    }
}

/// The exit code of a result; prints its error.
#[must_use]
pub fn end(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        printer::problem(&error);
        ExitCode::from(error.kind().exit_code())
    })
}

/// What verbs print with.
#[derive(Debug)]
pub(crate) struct App {
    /// Data.
    pub(crate) printer: Printer,
    /// Everything else.
    pub(crate) progress: Arc<Progress>,
}

impl App {
    /// The user's places and settings.
    pub(crate) fn context(&self) -> Result<Context> {
        Context::load(self.progress.clone())
    }
}

/// Carries out `exec`, `shell`, `run`, removals and probes, which enter namespaces and so need a process with one thread.
///
/// # Errors
/// Those of the verb.
pub fn in_run_lane(line: Line) -> Result<ExitCode> {
    match line.0.verb {
        Verb::Exec(verb) => verb.run(),
        Verb::Shell(verb) => verb.run(),
        Verb::Run(verb) => verb.run(line.0.quiet),
        Verb::Reclaim(verb) => verb.run(),
        Verb::Doctor(verb) => {
            let app = App { printer: Printer::new(), progress: Progress::silent() };
            let code = verb.run_probe(&app)?;
            app.printer.finish().map(|()| code)
        }
        _ => Err(Error::usage("this verb does not enter a service")),
    }
}

/// Carries out a verb of the install lane.
///
/// # Errors
/// Those of the verb.
pub fn install_lane(line: Line) -> Result<ExitCode> {
    let app = App { printer: Printer::new(), progress: if line.0.quiet { Progress::silent() } else { Progress::new() } };
    // One thread for everything that waits; unpacking has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::failed("cannot start the event loop").because(error))?;
    let result = runtime.block_on(carry_out(line.0.verb, &app));
    // An unpacking that nobody waits for any more is cut off; the store bears that.
    runtime.shutdown_background();
    app.progress.clear();
    let flushed = app.printer.finish();
    result.and_then(|code| flushed.map(|()| code))
}

async fn carry_out(verb: Verb, app: &App) -> Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match verb {
        Verb::Install(verb) => verb.run(app).await.map(done),
        Verb::Remove(verb) => verb.run(app).await.map(done),
        Verb::Start(verb) => verb.run(app).await.map(done),
        Verb::Stop(verb) => verb.run(app).await.map(done),
        Verb::Restart(verb) => verb.run(app).await.map(done),
        Verb::Status(verb) => verb.run(app).await.map(done),
        Verb::List(verb) => verb.run(app).await.map(done),
        Verb::Logs(verb) => verb.run(app),
        Verb::Url(verb) => verb.run(app).map(done),
        Verb::Env(verb) => verb.run(app).map(done),
        Verb::Search(verb) => verb.run(app).map(done),
        Verb::Info(verb) => verb.run(app).map(done),
        Verb::Image(verb) => verb.run(app).await.map(done),
        Verb::Doctor(verb) => verb.run(app).await,
        Verb::Fsck(verb) => verb.run(app).await,
        Verb::Generate(verb) => verb.run(app).map(done),
        Verb::Prepare(verb) => verb.run(app).await.map(done),
        Verb::Exec(_) | Verb::Shell(_) | Verb::Run(_) | Verb::Reclaim(_) | Verb::Supervise(_) | Verb::Yard | Verb::Hold => {
            Err(Error::usage("this verb belongs to the run lane"))
        }
    }
}
