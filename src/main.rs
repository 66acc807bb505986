//! Role dispatch and exit code.

use std::process::ExitCode;
use steading::cli::{self, Role};
use steading::error::Result;
use steading::state::{Paths, Settings};
use steading::{runtime, yard};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Err(code) => code,
        Ok(role) => cli::end(play(role)),
    }
}

fn play(role: Role) -> Result<ExitCode> {
    match role {
        // The run lane: no event loop, one thread.
        Role::Supervise(name) => runtime::supervise(&places()?, &name).map(exit_code),
        Role::Hold => runtime::hold(&places()?).map(|()| ExitCode::SUCCESS),
        Role::Yard => yard::serve(&places()?).map(|()| ExitCode::SUCCESS),
        Role::Enter(line) => cli::in_run_lane(line),
        Role::Verb(line) => cli::install_lane(line),
    }
}

/// What the service ended with; beyond a byte there is nothing but failure.
fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn places() -> Result<Paths> {
    let paths = Paths::from_env()?;
    let settings = Settings::load(&paths.settings_file())?;
    Ok(paths.with_store(settings.store))
}
