//! Progress as a trait: the library tells, `cli/` draws.

use std::fmt;

/// Identifies one running transfer of a [`Reporter`].
pub type TransferId = u64;

/// Receives the progress of long work. All methods may be called from several threads.
pub trait Reporter: Send + Sync + fmt::Debug {
    /// A new step of the work begins, e.g. `pulling docker.io/library/postgres:14`.
    fn step(&self, text: &str);
    /// A transfer of `total` bytes begins; `name` is short (`layer 3f2a…`).
    fn transfer(&self, name: &str, total: u64) -> TransferId;
    /// `bytes` more have arrived on a transfer.
    fn advance(&self, id: TransferId, bytes: u64);
    /// A transfer ended, well or not.
    fn finish(&self, id: TransferId);
    /// Something the user should know, though the work goes on.
    fn warn(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Reporter for Silent {
    fn step(&self, _: &str) {}
    fn transfer(&self, _: &str, _: u64) -> TransferId {
        0
    }
    fn advance(&self, _: TransferId, _: u64) {}
    fn finish(&self, _: TransferId) {}
    fn warn(&self, _: &str) {}
}
