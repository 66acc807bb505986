//! Role dispatch and exit code.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
