//! Data on stdout, everything else on stderr. A reader that went away (`steading list | head -1`) ends the output quietly.

use crate::error::{Context, Error, Result};
use serde::Serialize;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, IsTerminal, Write};

/// Writes a command's data.
#[derive(Debug)]
pub(crate) struct Printer {
    out: RefCell<BufWriter<io::Stdout>>,
    closed: Cell<bool>,
}

impl Printer {
    /// For stdout of this process.
    pub(crate) fn new() -> Self {
        Printer { out: RefCell::new(BufWriter::new(io::stdout())), closed: Cell::new(false) }
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        self.write(|out| out.write_all(bytes))
    }

    /// Writes a line of text.
    pub(crate) fn line(&self, text: impl fmt::Display) -> Result<()> {
        self.write(|out| writeln!(out, "{text}"))
    }

    /// Writes a value as indented JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value).context(|| "cannot write the result as JSON")?;
        self.line(text)
    }

    /// Writes columns, each as wide as its widest cell.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> Result<()> {
        self.bytes(columns(head, rows).as_bytes())
    }

    /// Hands everything to the system.
    pub(crate) fn finish(&self) -> Result<()> {
        self.write(|out| out.flush())
    }

    fn write(&self, write: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>) -> Result<()> {
        if self.closed.get() {
            return Ok(());
        }
        match write(&mut self.out.borrow_mut()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.set(true);
                Ok(())
            }
            other => other.context(|| "cannot write to the standard output"),
        }
    }
}

fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut widths = Vec::new();
    for row in std::iter::once(&head).chain(rows) {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{:width$}  ", clean(cell));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Whether texts on stderr may be coloured.
pub(crate) fn colours() -> bool {
    let set = |key: &str| std::env::var_os(key).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a line to stderr. If that fails there is nobody left to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", clean(text));
}

/// Prints an error: what failed, why, what to do.
pub(crate) fn problem(error: &Error) {
    let _ = io::stderr().lock().write_all(render(error, colours()).as_bytes());
}

fn render(error: &Error, colours: bool) -> String {
    let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    // A text of several lines (a journal, a diagnosis with its source line) stays aligned.
    let lines = |text: &str| clean(text.trim_end()).replace('\n', "\n    ");
    let mut text = format!("{} {}\n", paint("1;31", "error:"), lines(error.what()));
    for cause in error.causes() {
        let _ = writeln!(text, "  {} {}", paint("1", "because:"), lines(&cause));
    }
    if let Some(hint) = error.find_hint() {
        let _ = writeln!(text, "\n{} {}", paint("1;36", "hint:"), lines(hint));
    }
    text
}

/// The text without control characters: names of files, registries' answers and journals must not steer the terminal.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().flat_map(|c| {
        let (plain, escape) = if harmless(c) { (Some(c), None) } else { (None, Some(c.escape_default())) };
        plain.into_iter().chain(escape.into_iter().flatten())
    });
    Cow::Owned(escaped.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Error::failed("cannot install `a`")
            .because(Error::failed("port 1 is taken").because(io::Error::other("line one\nline two\u{1b}[2J")).hint("use 2"));
        let plain =
            "error: cannot install `a`\n  because: port 1 is taken\n  because: line one\n    line two\\u{1b}[2J\n\nhint: use 2\n";
        assert_eq!(render(&error, false), plain);
        assert!(render(&error, true).starts_with("\u{1b}[1;31merror:\u{1b}[0m cannot"));
        assert_eq!(render(&Error::failed("x"), false), "error: x\n");
    }

    #[test]
    fn columns_are_aligned_and_have_no_trailing_blanks() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["größer".to_owned(), String::new()]];
        assert_eq!(columns(&["N", "PORT"], &rows), "N       PORT\na       b\ngrößer\n");
    }
}
