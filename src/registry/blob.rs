//! Download of one layer.

use super::blame::Blame;
use super::client::{Client, mismatch};
use super::partial::{Partial, check_space, is_finished};
use super::retry::{Attempts, Fault};
use super::settings::Endpoint;
use crate::error::{Error, Result};
use crate::image::Reference;
use crate::report::{Reporter, TransferId};
use crate::resolve::PlanLayer;
use crate::sys::file::create_dir_all;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// Between two looks whether another process has finished the same blob. Polled, as a wait in flock(2) could not be cancelled.
const LOOK: Duration = Duration::from_millis(100);
/// Chunks on their way from the network to the disk.
const QUEUE: usize = 64;

/// Progress of one transfer; ends with it.
struct Progress<'a> {
    reporter: &'a dyn Reporter,
    name: String,
    total: u64,
    id: Option<TransferId>,
}

impl Progress<'_> {
    fn begin(&mut self, have: u64) {
        self.end();
        let id = self.reporter.transfer(&self.name, self.total);
        self.reporter.advance(id, have);
        self.id = Some(id);
    }

    fn advance(&self, bytes: u64) {
        if let Some(id) = self.id {
            self.reporter.advance(id, bytes);
        }
    }

    fn end(&mut self) {
        if let Some(id) = self.id.take() {
            self.reporter.finish(id);
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// One download: what is asked for and how far it is.
struct Job<'a> {
    client: &'a Client,
    reference: &'a Reference,
    layer: &'a PlanLayer,
    progress: Progress<'a>,
    /// Some of the bytes come from an earlier run or another endpoint, which may be what makes a digest wrong.
    inherited: bool,
}

/// How an answer ended that was not cut.
enum Got {
    /// With as many bytes as the layer has.
    Whole,
    /// With more.
    TooMuch,
    /// It was not the range that was asked for.
    NoRange,
}

/// What is on disk now, and how the request went. An outer error is this host's: then the part is dropped.
type Outcome = Result<(Partial, Result<Got, Fault>)>;

enum Step {
    Finished,
    Busy,
    Begin(Partial),
}

pub(super) async fn download(
    client: &Client,
    reference: &Reference,
    layer: &PlanLayer,
    dir: &Path,
    reporter: &dyn Reporter,
) -> Result<PathBuf> {
    let path = dir.join(format!("sha256-{}", layer.digest.hex()));
    let mut partial = loop {
        let (one, target) = (layer.clone(), path.clone());
        match blocking(move || begin(&one, &target)).await? {
            Step::Finished => return Ok(path),
            Step::Busy => tokio::time::sleep(LOOK).await,
            Step::Begin(partial) => break partial,
        }
    };
    // The semaphore is never closed; if it were, going on without a slot would be right.
    let _slot = client.slots.acquire().await.ok();
    let name = format!("layer {}", layer.digest.short());
    let mut blame = Blame::new(reference, format!("cannot download {name} of"), client.http.credentials.helper);
    let progress = Progress { reporter, name, total: layer.size, id: None };
    let mut job = Job { client, reference, layer, progress, inherited: false };
    for endpoint in client.endpoints(&reference.registry)? {
        let (back, fault) = job.run(&endpoint, partial).await?;
        let Some(fault) = fault else {
            blame.forgive(reporter);
            return blocking(move || back.finish(&path).map(|()| path)).await;
        };
        client.note(&endpoint, &fault);
        blame.add(&endpoint, fault)?;
        partial = back;
    }
    Err(blame.into_error())
}

/// Looks what is there, and locks.
fn begin(layer: &PlanLayer, path: &Path) -> Result<Step> {
    let (digest, size) = (layer.digest, layer.size);
    if let Some(dir) = path.parent() {
        create_dir_all(dir, 0o700)?;
    }
    if is_finished(path, digest, size)? {
        return Ok(Step::Finished);
    }
    let Some(mut partial) = Partial::attempt(path.with_extension("partial"))? else { return Ok(Step::Busy) };
    // Another may have finished it between the look and the lock.
    if is_finished(path, digest, size)? {
        return Ok(Step::Finished);
    }
    partial.recover(size)?;
    if partial.len == size && partial.digest() == digest {
        return partial.finish(path).map(|()| Step::Finished);
    }
    if partial.len == size {
        partial.restart()?;
    }
    check_space(path, size - partial.len)?;
    Ok(Step::Begin(partial))
}

impl Job<'_> {
    /// Downloads from one endpoint. No fault: what is on disk is whole and right.
    async fn run(&mut self, endpoint: &Endpoint, mut partial: Partial) -> Result<(Partial, Option<Fault>)> {
        let client = self.client;
        let mut attempts = Attempts::new(&client.http.tuning);
        self.inherited = partial.len > 0;
        self.progress.begin(partial.len);
        loop {
            let before = partial.len;
            let outcome;
            (partial, outcome) = self.once(endpoint, partial).await?;
            attempts.advance(partial.len.saturating_sub(before));
            let fault = match outcome {
                Ok(Got::Whole) if partial.digest() == self.layer.digest => return Ok((partial, None)),
                Ok(Got::Whole) => {
                    let fault = mismatch("content", self.layer.digest, partial.digest());
                    let second_chance = self.inherited;
                    partial = self.restart(partial).await?;
                    if second_chance { Fault::passing(fault.why) } else { fault }
                }
                Ok(Got::TooMuch) => {
                    partial = self.restart(partial).await?;
                    Fault::wrong(format!("it sends more than the {} bytes of the layer", self.layer.size))
                }
                Ok(Got::NoRange) if before > 0 => {
                    // Happens once at most: without a part no range is asked for.
                    partial = self.restart(partial).await?;
                    continue;
                }
                Ok(Got::NoRange) => Fault::wrong("it answers with a range that was not asked for"),
                Err(fault) => fault,
            };
            if let Err(fault) = attempts.again(fault).await {
                return Ok((partial, Some(fault)));
            }
        }
    }

    /// One request.
    async fn once(&mut self, endpoint: &Endpoint, mut partial: Partial) -> Outcome {
        let size = self.layer.size;
        let ranged = partial.len > 0;
        let mut headers = HeaderMap::new();
        if ranged && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", partial.len)) {
            headers.insert(RANGE, range);
        }
        let tail = format!("blobs/{}", self.layer.digest);
        let response = match self.client.http.get(endpoint, &self.reference.repository, &tail, &headers, ranged).await {
            Ok(response) => response,
            Err(fault) => return Ok((partial, Err(fault))),
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT if ranged && continues(&response, partial.len, size) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => return Ok((partial, Ok(Got::NoRange))),
            // It knows no ranges and sends all of it.
            _ if ranged => partial = self.restart(partial).await?,
            _ => {}
        }
        let rest = size - partial.len;
        if let Some(length) = response.content_length().filter(|&length| length != rest) {
            let why = format!("it announces {length} bytes where the manifest leaves {rest}");
            return Ok((partial, Err(Fault::wrong(why))));
        }
        self.pour(response, partial, rest).await
    }

    /// Streams an answer into the part; a blocking thread hashes and writes while the next bytes arrive.
    async fn pour(&self, mut response: Response, mut partial: Partial, rest: u64) -> Outcome {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = spawn_blocking(move || partial.pour(receiver).map(|()| partial));
        let mut received = 0u64;
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let count = chunk.len() as u64;
                    if count > rest - received {
                        break Ok(Got::TooMuch);
                    }
                    received += count;
                    if sender.send(chunk).await.is_err() {
                        // The writer has given up; its error comes below.
                        break Ok(Got::Whole);
                    }
                    self.progress.advance(count);
                }
                Ok(None) if received == rest => break Ok(Got::Whole),
                Ok(None) => break Err(Fault::passing(format!("the connection was cut {} bytes early", rest - received))),
                Err(error) => break Err(self.client.http.explain(&error)),
            }
        };
        drop(sender);
        let partial = writer.await.map_err(interrupted)??;
        Ok((partial, end))
    }

    async fn restart(&mut self, mut partial: Partial) -> Result<Partial> {
        self.inherited = false;
        self.progress.begin(0);
        blocking(move || partial.restart().map(|()| partial)).await
    }
}

/// Whether a 206 goes on exactly where the part ends.
fn continues(response: &Response, from: u64, size: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range_is(range, from, size))
}

fn range_is(range: &str, from: u64, size: u64) -> bool {
    let Some((span, total)) = range.trim().strip_prefix("bytes ").and_then(|range| range.trim().split_once('/')) else {
        return false;
    };
    let Some((first, last)) = span.split_once('-') else { return false };
    let is = |text: &str, number: u64| text.parse() == Ok(number);
    is(first, from) && size.checked_sub(1).is_some_and(|end| is(last, end)) && (total == "*" || is(total, size))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(interrupted)?
}

fn interrupted(error: tokio::task::JoinError) -> Error {
    Error::failed("the download was interrupted").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_range_continues() {
        assert!(range_is("bytes 5-9/10", 5, 10));
        assert!(range_is("bytes 5-9/*", 5, 10));
        for wrong in
            ["bytes 4-9/10", "bytes 5-8/10", "bytes 5-9/11", "bytes 0-9/10", "items 5-9/10", "bytes */10", "", "bytes 5-9"]
        {
            assert!(!range_is(wrong, 5, 10), "{wrong}");
        }
    }
}
