//! Draws the progress of long work: bars on a terminal, plain lines otherwise.

use super::{human, printer};
use crate::report::{Reporter, TransferId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The progress of one command.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Bars that are redrawn.
    Bars(Bars),
    /// Lines, for logs and pipes.
    Lines(Lines),
}

impl Progress {
    /// What fits stderr.
    pub(crate) fn new() -> Arc<Progress> {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Arc::new(if terminal { Progress::Bars(Bars::default()) } else { Progress::Lines(Lines::default()) })
    }

    /// Takes bars off the terminal; what is printed next stands below the finished steps.
    pub(crate) fn clear(&self) {
        if let Progress::Bars(bars) = self {
            bars.end_step();
            // Only cosmetics are lost when the terminal is gone.
            let _ = bars.multi.clear();
        }
    }
}

impl Reporter for Progress {
    fn step(&self, text: &str) {
        match self {
            Progress::Bars(bars) => bars.step(text),
            Progress::Lines(_) => printer::note(text),
        }
    }

    fn transfer(&self, name: &str, total: u64) -> TransferId {
        match self {
            Progress::Bars(bars) => bars.transfer(name, total),
            Progress::Lines(lines) => lines.transfer(name, total),
        }
    }

    fn advance(&self, id: TransferId, bytes: u64) {
        match self {
            Progress::Bars(bars) => drop(lock(&bars.transfers).get(&id).map(|bar| bar.inc(bytes))),
            Progress::Lines(lines) => {
                if let Some(transfer) = lock(&lines.transfers).get_mut(&id) {
                    transfer.done += bytes;
                }
            }
        }
    }

    fn finish(&self, id: TransferId) {
        match self {
            Progress::Bars(bars) => {
                if let Some(bar) = lock(&bars.transfers).remove(&id) {
                    bar.finish_and_clear();
                    bars.multi.remove(&bar);
                }
            }
            Progress::Lines(lines) => {
                if let Some(transfer) = lock(&lines.transfers).remove(&id) {
                    printer::note(&transfer.end());
                }
            }
        }
    }

    fn warn(&self, text: &str) {
        let text = format!("warning: {text}");
        match self {
            Progress::Bars(bars) => bars.multi.suspend(|| printer::note(&text)),
            Progress::Lines(_) => printer::note(&text),
        }
    }
}

/// A poisoned lock only means that a thread died while drawing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Progress on a terminal.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    multi: MultiProgress,
    next: AtomicU64,
    transfers: Mutex<HashMap<TransferId, ProgressBar>>,
    current: Mutex<Option<(String, ProgressBar)>>,
}

impl Bars {
    fn step(&self, text: &str) {
        self.end_step();
        let text = printer::clean(text).into_owned();
        let spinner = self.multi.add(ProgressBar::new_spinner().with_message(text.clone()));
        spinner.enable_steady_tick(Duration::from_millis(120));
        *lock(&self.current) = Some((text, spinner));
    }

    /// Turns the step that spins into a line that stays.
    fn end_step(&self) {
        if let Some((text, spinner)) = lock(&self.current).take() {
            spinner.finish_and_clear();
            self.multi.remove(&spinner);
            self.multi.suspend(|| printer::note(&text));
        }
    }

    fn transfer(&self, name: &str, total: u64) -> TransferId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bar = ProgressBar::new(total).with_message(printer::clean(name).into_owned());
        let template = "  {msg:24!} {bar:30} {decimal_bytes:>10} / {decimal_total_bytes:>10} {decimal_bytes_per_sec:>12}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        lock(&self.transfers).insert(id, self.multi.add(bar));
        id
    }
}

/// Progress as lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    next: AtomicU64,
    transfers: Mutex<HashMap<TransferId, Transfer>>,
}

#[derive(Debug)]
struct Transfer {
    name: String,
    total: u64,
    done: u64,
    begun: Instant,
}

impl Lines {
    fn transfer(&self, name: &str, total: u64) -> TransferId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let transfer = Transfer { name: name.to_owned(), total, done: 0, begun: Instant::now() };
        lock(&self.transfers).insert(id, transfer);
        id
    }
}

impl Transfer {
    fn end(&self) -> String {
        let done = if self.done < self.total {
            format!("{} of {}", human::bytes(self.done), human::bytes(self.total))
        } else {
            human::bytes(self.done)
        };
        format!("  {}: {done} in {:.1} s", self.name, self.begun.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_transfer_says_how_far_it_came() {
        let mut transfer = Transfer { name: "layer a".into(), total: 2000, done: 1000, begun: Instant::now() };
        assert!(transfer.end().starts_with("  layer a: 1.0 kB of 2.0 kB in 0."));
        transfer.done = 2000;
        assert!(transfer.end().starts_with("  layer a: 2.0 kB in 0."));
    }

    #[test]
    fn unknown_transfers_are_ignored() {
        let progress = Progress::Lines(Lines::default());
        progress.advance(7, 1);
        progress.finish(7);
    }
}
