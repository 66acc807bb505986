//! The journal, read by journalctl.

use std::process::Command;

/// `journalctl --user -u UNIT`, with `follow` and the number of last `lines` (all without one). No pager: the caller's terminal
/// is the caller's matter.
#[must_use]
pub fn journal_command(unit: &str, follow: bool, lines: Option<u64>) -> Command {
    let mut command = Command::new("journalctl");
    command.arg("--user").arg(format!("--unit={unit}")).arg("--no-pager");
    if follow {
        command.arg("--follow");
    }
    match lines {
        Some(lines) => drop(command.arg(format!("--lines={lines}"))),
        // With --follow journalctl shows ten lines unless told otherwise.
        None => drop(command.arg("--lines=all")),
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_name_is_never_an_option() {
        let command = journal_command("postgres@14.service", true, Some(5));
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert_eq!(args, ["--user", "--unit=postgres@14.service", "--no-pager", "--follow", "--lines=5"]);
    }
}
