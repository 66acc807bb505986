//! Holds the module table of the design: who may touch what. The checker itself is tested on text that breaks each rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test program")]

use std::fs;
use std::path::{Path, PathBuf};

/// A word that only some modules may use, with the reason.
struct Rule {
    /// Any of these, as whole words (a word that ends with `!` or `::` also matches what follows).
    words: &'static [&'static str],
    /// Modules that may; a file `x.rs` at the top is the module `x`.
    allowed: &'static [&'static str],
    /// Only these modules are looked at; empty: all.
    among: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule { words: &["reqwest"], allowed: &["registry"], among: &[], why: "HTTP is the matter of registry/" },
    Rule { words: &["zbus"], allowed: &["systemd"], among: &[], why: "D-Bus is the matter of systemd/" },
    Rule {
        words: &["clap", "clap_complete", "clap_mangen", "indicatif"],
        allowed: &["cli"],
        among: &[],
        why: "the command line is the matter of cli/",
    },
    Rule {
        words: &["println!", "eprintln!", "print!", "eprint!", "dbg!"],
        allowed: &["cli"],
        among: &[],
        why: "only cli/ prints",
    },
    Rule { words: &["unsafe"], allowed: &["sys"], among: &[], why: "unsafe code lives in sys/" },
    Rule {
        words: &["tokio", "futures_util", "async"],
        allowed: &[],
        among: &[
            "runtime", "rootfs", "yard", "ready", "sys", "spec", "idmap", "layer", "store", "image", "recipe", "catalog",
            "resolve", "unit", "state",
        ],
        why: "the run lane and what it uses have no event loop",
    },
    Rule { words: &["fuser"], allowed: &["yard", "rootfs"], among: &[], why: "FUSE is the matter of yard/ and rootfs/" },
    Rule {
        words: &["crate::registry", "crate::systemd", "crate::service", "crate::cli"],
        allowed: &[],
        among: &[
            "runtime", "rootfs", "yard", "ready", "sys", "spec", "idmap", "layer", "store", "image", "recipe", "catalog",
            "resolve", "unit",
        ],
        why: "these modules lie below the use cases",
    },
    Rule {
        words: &["process::exit", "env::args()", "env::vars()"],
        allowed: &[],
        among: &[],
        why: "they skip destructors, or panic on bytes that are not UTF-8",
    },
];

/// `config.toml` has a table for registries, whose type lives there.
const EXCEPTIONS: &[(&str, &str)] = &[("src/state/settings.rs", "crate::registry")];

const MOST_LINES: usize = 600;
const MOST_LINES_OF_MAIN: usize = 60;

/// What is wrong in a file, in words. `path` is relative to the package.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut list = Vec::new();
    let lines = text.lines().count();
    let most = if path == "src/main.rs" { MOST_LINES_OF_MAIN } else { MOST_LINES };
    if lines > most {
        list.push(format!("{path}: {lines} lines, at most {most}"));
    }
    let Some(inside) = path.strip_prefix("src/") else { return list };
    let module = inside.split(['/', '.']).next().unwrap_or_default();
    let code: Vec<String> = text.lines().map(code_of).collect();
    // Tests of a module may say why they skip, as `allow-print-in-tests` of clippy.toml has it.
    let is_test = inside.contains("/tests/") || inside.ends_with("/tests.rs");
    for rule in RULES.iter().filter(|rule| !(is_test && rule.words.contains(&"println!"))) {
        if rule.allowed.contains(&module) || !(rule.among.is_empty() || rule.among.contains(&module)) {
            continue;
        }
        for (number, line) in code.iter().enumerate() {
            for word in rule.words.iter().filter(|word| has_word(line, word)) {
                if !EXCEPTIONS.contains(&(path, word)) {
                    list.push(format!("{path}:{}: `{word}`: {}", number + 1, rule.why));
                }
            }
        }
    }
    list
}

/// The line without its comment and without the insides of its strings. Good enough for code that rustfmt has formatted.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if before != '\'' && !(quoted && before == '\\') => quoted = !quoted,
            '/' if !quoted && rest.peek() == Some(&'/') => break,
            _ if !quoted => code.push(c),
            _ => {}
        }
        before = if before == '\\' && c == '\\' { ' ' } else { c };
    }
    code
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_open = !word.ends_with(part);
        !before.is_some_and(part) && (ends_open || !after.is_some_and(part))
    })
}

fn sources(directory: &Path, list: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, list);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            list.push(path);
        }
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_keeps_to_the_table() {
    let mut files = Vec::new();
    sources(&package().join("src"), &mut files);
    sources(&package().join("tests"), &mut files);
    assert!(files.len() > 50, "only {} files were found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(package()).unwrap().to_str().unwrap().to_owned();
        wrong.extend(violations(&path, &fs::read_to_string(&file).unwrap()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_documentation_of_the_crate() {
    let lib = fs::read_to_string(package().join("src/lib.rs")).unwrap();
    let undocumented = undocumented(&lib);
    assert!(undocumented.is_empty(), "lib.rs documents nothing of {undocumented:?}");
    let top: Vec<String> = fs::read_dir(package().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "lib" && name != "main")
        .collect();
    let missing: Vec<&String> = top.iter().filter(|name| !lib.contains(&format!("pub mod {name};"))).collect();
    assert!(missing.is_empty(), "lib.rs has no module {missing:?}");
}

/// Modules of lib.rs that its documentation does not name as a link.
fn undocumented(lib: &str) -> Vec<&str> {
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let documentation: String = lib.lines().filter(|line| line.starts_with("//!")).collect();
    modules.filter(|name| !documentation.contains(&format!("[`{name}`]"))).collect()
}

#[test]
fn the_checker_sees_what_breaks_a_rule() {
    for (path, text) in [
        ("src/store/mod.rs", "use reqwest::Client;"),
        ("src/cli/mod.rs", "    let x = zbus::Connection::session();"),
        ("src/service/install.rs", "println!(\"x\");"),
        ("src/store/tests/kit.rs", "use reqwest::Client;"),
        ("src/main.rs", "eprintln!(\"x\");"),
        ("src/state/mod.rs", "use clap::Args;"),
        ("src/runtime/mod.rs", "let x = unsafe { y() };"),
        ("src/yard/server.rs", "use tokio::net::UnixListener;"),
        ("src/sys/file.rs", "pub async fn x() {}"),
        ("src/error.rs", "use crate::sys::x; use fuser::Filesystem;"),
        ("src/unit/mod.rs", "use crate::systemd::Manager;"),
        ("src/state/locks.rs", "use crate::registry::Client; tokio::spawn(x);"),
        ("src/service/x.rs", "std::process::exit(1)"),
        ("src/runtime/x.rs", "let a = '\"'; unsafe {}"),
        ("src/runtime/x.rs", "let a = \"\\\\\"; unsafe {}"),
    ] {
        assert_ne!(violations(path, text), Vec::<String>::new(), "{path}: {text}");
    }
    assert_eq!(violations("src/main.rs", &"x\n".repeat(61)).len(), 1);
    assert_eq!(violations("tests/x.rs", &"x\n".repeat(601)).len(), 1);
    assert_eq!(undocumented("//! [`a`]\npub mod a;\npub mod b;"), ["b"]);
}

#[test]
fn the_checker_lets_pass_what_keeps_them() {
    for (path, text) in [
        ("src/registry/mod.rs", "use reqwest::Client;"),
        ("src/store/mod.rs", "// reqwest is elsewhere"),
        ("src/store/mod.rs", "let hint = \"say \\\"reqwest\\\" // unsafe\";"),
        ("src/lib.rs", "//! [`registry`]: the only `reqwest`"),
        ("src/service/mod.rs", "writeln!(text, \"x\"); let blueprint = 1;"),
        ("src/recipe/mod.rs", "#![deny(unsafe_code)] fn asynchronous() {}"),
        ("src/service/pull.rs", "tokio::spawn(async move {})"),
        ("src/state/settings.rs", "use crate::registry::RegistrySettings;"),
        ("tests/x.rs", "println!(\"x\"); unsafe {}"),
        ("src/store/tests/kit.rs", "eprintln!(\"skipped\");"),
    ] {
        assert_eq!(violations(path, text), Vec::<String>::new());
    }
}
