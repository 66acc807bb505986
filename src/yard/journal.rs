//! Lines for the journal: the server's stderr is the journal stream (sd-daemon(3): a leading `<N>` is the priority).

use std::io::Write;

/// Something is wrong with one file or one client; the server goes on.
pub(crate) fn warn(text: &str) {
    line(4, text);
}

/// Something worth knowing.
pub(crate) fn note(text: &str) {
    line(5, text);
}

fn line(priority: u8, text: &str) {
    let line = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => format!("<{priority}>{text}\n"),
        None => format!("{text}\n"),
    };
    // Nobody is left to tell when stderr is gone.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
