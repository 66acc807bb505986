//! Ctrl-C and its relatives, so that an install can be taken back.

use crate::error::{Context, Error, Result};
use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a program to end.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// From here on they do not end the process any more.
    pub(super) fn listen() -> Result<Interrupts> {
        let listen = |kind| signal(kind).context(|| "cannot listen for signals");
        Ok(Interrupts {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Carries out `work` unless a signal comes first; then `work` is dropped where it waits.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let by = tokio::select! {
            result = work => return result,
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        };
        Err(Error::failed(format!("interrupted by {by}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, raise};
    use std::cell::Cell;

    #[test]
    fn a_signal_drops_the_work_where_it_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reached = Cell::new(0);
        let error = runtime.block_on(async {
            let mut interrupts = Interrupts::listen().unwrap();
            let work = async {
                reached.set(1);
                raise(Signal::SIGHUP).unwrap();
                std::future::pending::<()>().await;
                reached.set(2);
                Ok(())
            };
            interrupts.unless(work).await.unwrap_err()
        });
        assert_eq!((error.what(), reached.get()), ("interrupted by SIGHUP", 1));
    }
}
