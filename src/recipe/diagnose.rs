//! Errors in TOML texts: `FILE:LINE:COLUMN: what`, the line, and a caret under the place.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::fmt::Write as _;
use std::ops::Range;

/// Most characters of a line that are shown.
const WIDTH: usize = 140;
/// Characters shown before the place when a line is cut.
const BEFORE: usize = 50;

/// A usage error that shows where in `text` (the content of `file`) it is. Without `span` only the file is named.
#[must_use]
pub fn diagnose(file: &str, text: &str, span: Option<Range<usize>>, message: &str) -> Error {
    let message = printable(message.trim());
    let file = printable(file);
    let Some(span) = span else {
        return Error::usage(format!("{file}: {message}"));
    };
    let place = Place::find(text, &span);
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let mut what = format!("{file}:{}:{}: {message}", place.line, place.column);
    // Writing to a String cannot fail.
    let _ = write!(what, "\n{margin} |\n{number} | {}", place.shown.trim_end());
    let _ = write!(what, "\n{margin} | {}{}", " ".repeat(place.indent), "^".repeat(place.width));
    Error::usage(what)
}

/// Reads `text`, the content of `file`, as a `T`.
///
/// # Errors
/// When it is not TOML or not of that shape; the error shows where.
pub fn from_toml<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| toml_error(file, text, &error))
}

/// The error of the TOML crate, shown as [`diagnose`] shows it.
pub(crate) fn toml_error(file: &str, text: &str, error: &toml::de::Error) -> Error {
    diagnose(file, text, error.span(), error.message())
}

/// A place in a text, ready to be drawn.
struct Place {
    line: usize,
    column: usize,
    shown: String,
    indent: usize,
    width: usize,
}

impl Place {
    fn find(text: &str, span: &Range<usize>) -> Place {
        let start = boundary(text, span.start);
        let (before, after) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = after.find('\n').map_or(text.len(), |at| start + at);
        let end = boundary(text, span.end).clamp(start, line_end);
        let count = |range: Range<usize>| text.get(range).map_or(0, |part| part.chars().count());
        let (column, width) = (count(line_start..start), count(start..end).max(1));
        let all: Vec<char> = text.get(line_start..line_end).unwrap_or_default().chars().collect();
        let from = if all.len() > WIDTH { column.saturating_sub(BEFORE) } else { 0 };
        let shown: String = all.iter().skip(from).take(WIDTH).map(|c| if c.is_control() { ' ' } else { *c }).collect();
        let indent = column - from;
        Place {
            line: before.matches('\n').count() + 1,
            column: column + 1,
            shown,
            indent,
            width: width.min(WIDTH.saturating_sub(indent).max(1)),
        }
    }
}

/// The greatest character boundary not after `at`.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A hostile file must not move the cursor of a terminal: no control characters, on one line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code)]
        name: String,
    }

    fn said(text: &str) -> String {
        from_toml::<Sample>("a.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn the_caret_stands_under_the_fault() {
        assert_eq!(
            said("# first\nname = \"ü\"\nother = 1\n"),
            "a.toml:3:1: unknown field `other`, expected `name`\n  |\n3 | other = 1\n  | ^^^^^"
        );
        assert_eq!(
            said("name = 17"),
            "a.toml:1:8: invalid type: integer `17`, expected a string\n  |\n1 | name = 17\n  |        ^^"
        );
    }

    #[test]
    fn syntax_errors_and_the_end_of_the_file_have_a_place_too() {
        assert!(said("name = ").starts_with("a.toml:1:8: "), "{}", said("name = "));
        assert!(said("\n\n[x").starts_with("a.toml:3:"), "{}", said("\n\n[x"));
    }

    #[test]
    fn long_lines_are_cut_around_the_place_and_escapes_are_blanked() {
        let text = format!("name = \"{}\" \x07", "x".repeat(5000));
        let said = diagnose("a", &text, Some(5009..5010), "no\x1b[2J").to_string();
        assert!(said.lines().all(|line| line.len() < 200), "{said}");
        assert!(!said.contains(['\x1b', '\x07']), "{said}");
        assert!(said.starts_with("a:1:5010: no [2J"), "{said}");
    }

    #[test]
    fn any_span_is_drawn() {
        for (start, end) in [(0, 0), (1, 2), (4, 1), (99, 100), (0, 99)] {
            let said = diagnose("a", "üü\n", Some(start..end), "x").to_string();
            assert!(said.contains('^'), "{said}");
        }
    }
}
