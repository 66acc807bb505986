//! Quoting and escaping of values in unit files: systemd.syntax(7), systemd.service(5) "Command lines".
//!
//! Commands are written with the prefix `:`, which turns off `$` substitution in all arguments, so `$` needs no escape.

use crate::error::{Error, Result};
use std::fmt::Write as _;
use std::path::Path;

/// A line of text for people (`Description=`): specifiers are doubled, control characters become spaces.
///
/// The result never ends in a backslash, which would swallow the next line.
pub(super) fn text(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim();
    let clean = clean.trim_end_matches('\\');
    percent(clean)
}

/// The program of a command line, with the prefix `:`.
pub(super) fn program(path: &Path) -> Result<String> {
    let refuse = |why: &str| {
        Error::host(format!("steading's own path `{}` cannot stand in a unit file", path.display()))
            .because(why)
            .hint("install the binary at a plain path, e.g. ~/.local/bin/steading")
    };
    let Some(text) = path.to_str() else { return Err(refuse("it is not UTF-8")) };
    if !path.is_absolute() || text.ends_with('/') {
        return Err(refuse("it is not the absolute path of a file"));
    }
    // systemd takes no such program, escaped or not ("Executable name contains special characters").
    if text.chars().any(|c| c.is_control() || "\"'\\".contains(c)) {
        return Err(refuse("systemd runs no program whose path has a quote, a backslash or a control character"));
    }
    item(&format!(":{text}"))
}

/// One `KEY=VALUE` of `Environment=`.
pub(super) fn assignment(key: &str, value: &str) -> Result<String> {
    let mut chars = key.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Error::usage(format!("`{}` cannot be the name of an environment variable", key.escape_debug())));
    }
    // systemd drops an assignment with any other control character, silently but for a line in the journal.
    if value.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
        return Err(Error::usage(format!("the value of `{key}` has a control character, which no unit file can carry")));
    }
    item(&format!("{key}={value}"))
}

/// One item of a line on which quoting is allowed: left alone when plain, else in double quotes with C escapes.
pub(super) fn item(text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@/._:=+,-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\0' => return Err(Error::usage(format!("`{}` has a zero byte", text.escape_debug()))),
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '%' => quoted.push_str("%%"),
            // Writing to a String cannot fail.
            c if c.is_ascii_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn items_are_quoted_only_when_they_must_be() {
        for (raw, written) in [
            ("/usr/bin/steading", "/usr/bin/steading"),
            ("postgres@14", "postgres@14"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("100%", "\"100%%\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
            ("it's", "\"it's\""),
            ("back\\slash", "\"back\\\\slash\""),
            ("a\nb\tc\u{1}", "\"a\\nb\\tc\\x01\""),
            ("$HOME", "\"$HOME\""),
            (";", "\";\""),
            ("gr\u{fc}n", "\"gr\u{fc}n\""),
        ] {
            assert_eq!(item(raw).unwrap(), written, "{raw:?}");
        }
        assert!(item("a\0b").is_err());
    }

    #[test]
    fn a_description_stays_on_its_line() {
        assert_eq!(text("50% more\nsecond\u{7}"), "50%% more second");
        assert_eq!(text("  ends in \\\\"), "ends in ");
    }

    #[test]
    fn programs_that_systemd_would_not_run_are_refused() {
        assert_eq!(program(Path::new("/opt/my tools/100%/steading")).unwrap(), "\":/opt/my tools/100%%/steading\"");
        assert_eq!(program(Path::new("/home/a$b/steading")).unwrap(), "\":/home/a$b/steading\"");
        for bad in ["steading", "/a\"b/x", "/a'b/x", "/a\\b/x", "/a\nb/x", "/a/"] {
            let error = program(Path::new(bad)).unwrap_err();
            assert!(error.find_hint().is_some(), "{bad:?}");
        }
        assert!(program(Path::new(OsStr::from_bytes(b"/home/\xff/steading"))).is_err());
    }

    #[test]
    fn assignments_keep_their_value_or_are_refused() {
        assert_eq!(assignment("XDG_DATA_HOME", "/srv/a b").unwrap(), "\"XDG_DATA_HOME=/srv/a b\"");
        assert!(assignment("A B", "x").is_err());
        assert!(assignment("1A", "x").is_err());
        assert!(assignment("", "x").is_err());
        assert!(assignment("A", "\u{1b}[0m").is_err());
    }
}
