//! The program itself, with no service manager around: exit codes, streams, errors, odd bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program")]

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("run")).unwrap();
        fs::create_dir_all(home.path().join(".config/steading")).unwrap();
        Home(home)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steading"));
        command.env_clear().env("HOME", self.0.path()).env("XDG_RUNTIME_DIR", self.0.path().join("run"));
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command().args(words).output().unwrap()
    }

    fn settings(&self, text: &str) {
        fs::write(self.0.path().join(".config/steading/config.toml"), text).unwrap();
    }

    /// Everything of ours below the home but its settings.
    fn files(&self) -> Vec<String> {
        fn walk(path: &Path, list: &mut Vec<String>) {
            for entry in fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                list.push(path.display().to_string());
                if path.is_dir() {
                    walk(&path, list);
                }
            }
        }
        let mut list = Vec::new();
        walk(self.0.path(), &mut list);
        list.retain(|path| path.contains("steading") && !path.contains("/.config"));
        list
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn exit_codes_tell_what_kind_of_failure_it_was() {
    let home = Home::new();
    for (words, code, said) in [
        (&["--version"][..], 0, ""),
        (&["list"], 0, "no service is installed"),
        (&["nonsense"], 2, "unrecognized subcommand"),
        (&["install", "postgres@14", "--memory", "lots"], 2, "`--memory lots` cannot be read"),
        (&["install", "postgre"], 3, "hint: did you mean `postgres`"),
        (&["install", "postgres@13"], 3, "versions of postgres"),
        (&["url", "nothing"], 3, "error: no service `nothing` is installed"),
        (&["exec", "nothing", "--", "true"], 3, "error: no service `nothing` is installed"),
        (&["shell", "nothing"], 3, "error: no service `nothing` is installed"),
        (&["logs", "nothing"], 3, "error: no service `nothing` is installed"),
        (&["supervise", "nothing"], 3, "error: no service `nothing` is installed"),
        (&["image", "show", "nothing"], 3, "error: there is no image `nothing`"),
        (&["install", "postgres@14"], 4, "error: cannot reach the systemd of this user"),
    ] {
        let output = home.run(words);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
        assert!(errors.contains(said), "{words:?}: {errors}");
        assert!(!errors.contains('\x1b'), "no colours but on a terminal");
    }
    assert_eq!(home.files(), Vec::<String>::new(), "what failed left something");
}

#[test]
fn without_a_login_session_it_says_so() {
    let home = Home::new();
    let output = home.command().env_remove("XDG_RUNTIME_DIR").arg("list").output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("hint: log in as the user"));
}

#[test]
fn data_goes_to_stdout_and_is_json_where_that_was_asked_for() {
    let home = Home::new();
    for (words, part) in
        [(&["search", "--json"][..], "/0/name"), (&["info", "postgres@14", "--json"], "/settings/database/default")]
    {
        let output = home.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(value.pointer(part).is_some(), "{words:?}: {value}");
    }
    for words in [["list", "--json"], ["status", "--json"]] {
        assert_eq!(text(&home.run(&words).stdout), "[]\n");
    }
    assert_eq!(text(&home.run(&["image", "list", "--json"]).stdout), "[]\n");
    let table = home.run(&["search", "database"]);
    assert!(text(&table.stdout).starts_with("RECIPE"), "{table:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let mut child =
        home.command().args(["generate", "completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn a_full_disk_under_stdout_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Home::new().command().args(["generate", "man"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot write to the standard output"));
}

#[test]
fn a_slip_in_the_settings_is_named_with_its_place() {
    let home = Home::new();
    home.settings("[defaults]\nadress = \"127.0.0.1\"\n");
    let output = home.run(&["list"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("config.toml:2:1: unknown key `adress`"), "{errors}");
    assert!(errors.contains("hint: did you mean `address`?"), "{errors}");
}

#[test]
fn a_plan_broken_by_hand_names_its_file_and_hinders_nothing_else() {
    let home = Home::new();
    let generation = home.0.path().join(".local/share/steading/services/a/generations/1");
    fs::create_dir_all(&generation).unwrap();
    std::os::unix::fs::symlink("generations/1", generation.join("../../current")).unwrap();
    fs::File::create(generation.join("plan.toml")).unwrap().write_all(b"format = 1\nname = \"a\"\nnonsense = 1\n").unwrap();
    let output = home.run(&["url", "a"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("services/a/current/plan.toml") && errors.contains("nonsense"), "{errors}");
    let listed = home.run(&["list"]);
    assert!(listed.status.success() && text(&listed.stdout).contains("broken"), "{listed:?}");
    let checked = home.run(&["fsck", "--json"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).contains("plan.toml"), "{checked:?}");
}

#[test]
fn words_that_are_not_utf8_are_an_error_of_usage() {
    let output = Home::new().command().arg("install").arg(OsStr::from_bytes(b"\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn man_pages_and_completions_are_complete() {
    let home = Home::new();
    let man = home.run(&["generate", "man"]);
    assert!(text(&man.stdout).contains(".TH steading 1"));
    let directory = home.0.path().join("man");
    assert!(home.run(&["generate", "man", directory.to_str().unwrap()]).status.success());
    assert!(directory.join("steading-install.1").exists());
    for shell in ["bash", "zsh", "fish"] {
        let output = home.run(&["generate", "completions", shell]);
        assert!(text(&output.stdout).contains("install"), "{shell}");
    }
}
