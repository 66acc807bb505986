//! The command line as a whole: its definition, its roles, its texts.

use super::*;
use clap::CommandFactory;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

fn role(words: &[&str]) -> Result<Role, ExitCode> {
    parse(std::iter::once("steading").chain(words.iter().copied()).map(OsString::from))
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn words_lead_to_their_lane() {
    assert!(matches!(role(&["supervise", "postgres@14"]), Ok(Role::Supervise(name)) if name.as_str() == "postgres@14"));
    assert!(matches!(role(&["yard"]), Ok(Role::Yard)));
    assert!(matches!(role(&["hold"]), Ok(Role::Hold)));
    for enter in [
        &["exec", "a", "--", "ls", "-l"][..],
        &["exec", "-it", "-e", "A=1", "-u", "0:0", "-w", "/", "a", "ls"],
        &["run", "--image", "x"],
        &["run", "--image", "x", "-T", "--", "ls", "-l"],
        &["exec", "a", "ls", "-l"],
        &["shell", "a"],
        &["doctor", "--probe", "fuse"],
    ] {
        assert!(matches!(role(enter), Ok(Role::Enter(_))), "{enter:?}");
    }
    for verb in [
        &["install", "postgres@14", "--port", "db=5433", "--set", "a=b", "--set", "c=d", "--dry-run", "--json"][..],
        &["remove", "a", "--purge"],
        &["start", "a"],
        &["stop", "a"],
        &["restart", "a"],
        &["status"],
        &["status", "a", "--json"],
        &["list", "--json"],
        &["logs", "a", "-f", "-n", "5"],
        &["url", "a"],
        &["env", "a", "--format", "fish"],
        &["search"],
        &["search", "two", "words"],
        &["info", "postgres"],
        &["image", "pull", "postgres:14", "--quiet"],
        &["image", "list"],
        &["image", "show", "x"],
        &["image", "remove", "x"],
        &["image", "remove", "--all"],
        &["image", "prune"],
        &["doctor"],
        &["fsck", "--repair"],
        &["generate", "man"],
        &["generate", "completions", "bash"],
    ] {
        assert!(matches!(role(verb), Ok(Role::Verb(_))), "{verb:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_an_error_of_usage() {
    for wrong in [
        &["nonsense"][..],
        &[],
        &["supervise", "../x"],
        &["start", "--", "-x"],
        &["start", "a/b"],
        &["image", "remove"],
        &["image", "remove", "x", "--all"],
        &["image", "pull", "UPPER"],
        &["exec", "a"],
        &["exec", "--user", ":", "a", "ls"],
        &["run"],
        &["run", "--image", "x", "ls"],
        &["run", "--image", "x", "--network", "host"],
        &["logs", "a", "-n", "-1"],
        &["doctor", "--probe", "nothing"],
    ] {
        assert_eq!(role(wrong).map(drop), Err(ExitCode::from(2)), "{wrong:?}");
    }
    for asked in [&["--help"][..], &["--version"], &["install", "--help"]] {
        assert_eq!(role(asked).map(drop), Err(ExitCode::SUCCESS), "{asked:?}");
    }
}

#[test]
fn words_in_other_bytes_are_no_reason_to_panic() {
    let bytes = || OsString::from_vec(b"\xff\xfe".to_vec());
    for verb in ["install", "start", "status", "search", "\u{fffd}"] {
        assert!(parse([OsString::from("steading"), OsString::from(verb), bytes()]).is_err(), "{verb}");
    }
    // Commands and directories may be any bytes.
    let words = ["steading", "exec", "a", "--"].map(OsString::from).into_iter().chain([bytes()]);
    assert!(matches!(parse(words), Ok(Role::Enter(_))));
    let mut volume = OsString::from("data=/");
    volume.push(bytes());
    let words = ["steading", "install", "postgres", "--volume"].map(OsString::from).into_iter().chain([volume]);
    assert!(matches!(parse(words), Ok(Role::Verb(_))));
}

#[test]
fn the_quick_definition_is_part_of_the_whole_one() {
    Quick::command().debug_assert();
    let options = |command: &clap::Command| {
        let mut list: Vec<_> = command.get_arguments().map(|arg| arg.get_id().to_string()).filter(|id| id != "help").collect();
        list.sort();
        list
    };
    let (quick, whole) = (Quick::command(), Cli::command());
    for verb in quick.get_subcommands() {
        let same = whole.find_subcommand(verb.get_name()).unwrap();
        assert_eq!(options(verb), options(same), "{}", verb.get_name());
    }
    // What the whole one says of help and of mistakes is what is seen.
    for words in [&["exec", "--help"][..], &["run", "-h"], &["exec", "-q", "a", "ls"], &["-q", "run", "--image", "x"]] {
        let words = std::iter::once("steading").chain(words.iter().copied());
        let quiet = matches!(parse(words.map(OsString::from)), Ok(Role::Enter(_)) | Err(ExitCode::SUCCESS));
        assert!(quiet);
    }
}

#[test]
fn every_verb_is_explained() {
    for verb in Cli::command().get_subcommands() {
        let name = verb.get_name();
        let about = verb.get_about().unwrap_or_else(|| panic!("{name} has no help")).to_string();
        assert!(!about.is_empty() && !about.ends_with('.'), "{name}: {about}");
        for argument in verb.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
        }
    }
}
