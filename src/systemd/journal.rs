//! The journal, read by journalctl.

use std::process::Command;

/// The journal of `unit` (`NAME.service`), with `follow` and the number of last `lines` (all without one). No pager: the
/// caller's terminal is the caller's matter.
///
/// More than `journalctl --user --unit=`: journald learns the unit of a user's line from the process that wrote it, and finds none
/// for one that has ended already, such as a program that failed at once. Its identifier (`SyslogIdentifier=`) it always has.
#[must_use]
pub fn journal_command(unit: &str, follow: bool, lines: Option<u64>) -> Command {
    let mut command = Command::new("journalctl");
    command.args(["--user", "--no-pager"]);
    if follow {
        command.arg("--follow");
    }
    match lines {
        Some(lines) => drop(command.arg(format!("--lines={lines}"))),
        // With --follow journalctl shows ten lines unless told otherwise.
        None => drop(command.arg("--lines=all")),
    }
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    // Matches of journalctl(1): `+` is "or". Of the service, of systemd about it, of its processes that are gone.
    command.args([
        &format!("_SYSTEMD_USER_UNIT={unit}"),
        "+",
        &format!("USER_UNIT={unit}"),
        "+",
        &format!("SYSLOG_IDENTIFIER={name}"),
    ]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_name_is_never_an_option() {
        let command = journal_command("postgres@14.service", true, Some(5));
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let matches = args.iter().skip_while(|arg| arg.starts_with("--")).map(String::as_str).collect::<Vec<_>>();
        assert_eq!(args[..4], ["--user", "--no-pager", "--follow", "--lines=5"]);
        let unit = "postgres@14.service";
        let all = [format!("_SYSTEMD_USER_UNIT={unit}"), format!("USER_UNIT={unit}"), "SYSLOG_IDENTIFIER=postgres@14".to_owned()];
        assert_eq!(matches.join(" "), all.join(" + "));
    }
}
