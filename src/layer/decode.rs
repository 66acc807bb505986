//! Decompressing a blob in a thread of its own, and hashing what comes out in another, while the caller reads it.

use crate::error::{Context, Error, Result};
use crate::image::{Digest, Hasher};
use crate::report::{Reporter, TransferId};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes handed over at a time: small enough to stay in the cache of a core, big enough to hide the hand-over.
const CHUNK: usize = 128 << 10;
/// Chunks that may wait in one channel.
const WAITING: usize = 4;
/// Buffers in use at most: waiting in the channels, held by both readers, being filled.
const BUFFERS: usize = WAITING + 3;

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// From the media type of a layer, OCI's or docker's.
    ///
    /// # Errors
    /// When it is no layer that can be unpacked.
    pub(super) fn of(media_type: &str) -> Result<Compression> {
        let (base, rest) = media_type.split_once("tar").unwrap_or((media_type, "?"));
        let layer = matches!(
            base,
            "application/vnd.oci.image.layer.v1."
                | "application/vnd.oci.image.layer.nondistributable.v1."
                | "application/vnd.docker.image.rootfs.diff."
                | "application/vnd.docker.image.rootfs.foreign.diff."
        );
        match (layer, rest) {
            (true, "") => Ok(Compression::None),
            (true, "+gzip" | ".gzip") => Ok(Compression::Gzip),
            (true, "+zstd" | ".zstd") => Ok(Compression::Zstd),
            _ => Err(Error::failed(format!("a layer has the unknown media type `{}`", media_type.escape_debug()))
                .hint("it may be an artifact rather than an image, or encrypted")),
        }
    }
}

type Chunk = Arc<Vec<u8>>;

/// The uncompressed bytes, as they come.
#[derive(Debug)]
pub(super) struct Pipe {
    chunks: Receiver<io::Result<Chunk>>,
    current: Chunk,
    at: usize,
}

impl BufRead for Pipe {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.current.len() {
            // Dropped before the next is taken, so that the writer finds it free.
            self.current = Chunk::default();
            self.at = 0;
            if let Ok(next) = self.chunks.recv() {
                self.current = next?;
            }
        }
        Ok(self.current.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Runs `body` on the uncompressed bytes of `blob`; returns its result and the digest of all of them.
///
/// More than `most` uncompressed bytes are an error. What `body` leaves unread is read for it.
pub(super) fn decode<T>(
    blob: File,
    compression: Compression,
    most: u64,
    (reporter, transfer): (&dyn Reporter, TransferId),
    body: impl FnOnce(&mut Pipe) -> Result<T>,
) -> Result<(T, Digest)> {
    let (to_body, chunks) = sync_channel(WAITING);
    let (to_hash, hashed) = sync_channel::<Chunk>(WAITING);
    std::thread::scope(|scope| {
        let hash = scope.spawn(move || {
            let mut hasher = Hasher::new();
            for chunk in hashed {
                hasher.update(&chunk);
            }
            hasher.finish()
        });
        let feeder = scope.spawn(move || {
            let counted = Counted { inner: blob, reporter, transfer };
            let fed = reader(counted, compression).and_then(|mut reader| feed(&mut *reader, most, &to_body, &to_hash));
            if let Err(error) = fed {
                // A reader that is gone has its own error to report.
                let _ = to_body.send(Err(error));
            }
        });
        let mut pipe = Pipe { chunks, current: Chunk::default(), at: 0 };
        let result = body(&mut pipe).and_then(|value| {
            io::copy(&mut pipe, &mut io::sink()).context(|| "cannot read the layer")?;
            Ok(value)
        });
        // Without a reader the writer stops at its next chunk, and then the hasher.
        drop(pipe);
        // Both are joined before anything returns, so that not even a panic of a decoder gets out of here.
        let (fed, digest) = (feeder.join(), hash.join());
        let (Ok(()), Ok(digest)) = (fed, digest) else {
            return Err(Error::failed("the decoder of the layer crashed"));
        };
        Ok((result?, digest))
    })
}

fn reader<'a>(blob: impl Read + 'a, compression: Compression) -> io::Result<Box<dyn Read + 'a>> {
    let buffered = BufReader::with_capacity(CHUNK, blob);
    Ok(match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
    })
}

fn feed(
    reader: &mut dyn Read,
    most: u64,
    to_body: &SyncSender<io::Result<Chunk>>,
    to_hash: &SyncSender<Chunk>,
) -> io::Result<()> {
    let mut buffers: Vec<Chunk> = (0..BUFFERS).map(|_| Chunk::default()).collect();
    let mut total: u64 = 0;
    for turn in 0.. {
        let Some(slot) = buffers.get_mut(turn % BUFFERS) else { return Ok(()) };
        if Arc::get_mut(slot).is_none() {
            // Both readers keep up in all but a race of a moment; then one more buffer is made.
            *slot = Chunk::default();
        }
        let Some(buffer) = Arc::get_mut(slot) else { return Ok(()) };
        buffer.resize(CHUNK, 0);
        let mut have = 0;
        while let Some(space) = buffer.get_mut(have..).filter(|space| !space.is_empty()) {
            match reader.read(space) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(have);
        if have == 0 {
            return Ok(());
        }
        total = total.saturating_add(have as u64);
        if total > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("uncompressed it has more than {most} bytes")));
        }
        if to_hash.send(Arc::clone(slot)).is_err() || to_body.send(Ok(Arc::clone(slot))).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Tells the reporter how much of the blob was read.
struct Counted<'a> {
    inner: File,
    reporter: &'a dyn Reporter,
    transfer: TransferId,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.reporter.advance(self.transfer, count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_of_oci_and_docker() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", Compression::None),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
            ("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Compression::Zstd),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
        ] {
            assert_eq!(Compression::of(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "tar", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "application/json"] {
            assert!(Compression::of(bad).is_err(), "{bad}");
        }
    }
}
