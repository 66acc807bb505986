//! Reading a tar archive entry by entry: ustar, old, GNU (long names, sparse) and PAX.
//!
//! The framing is our own, over the header layout of the `tar` crate: that crate splits PAX records at newlines, which
//! binary xattrs contain, and knows neither PAX sparse files nor times before 1970.

use super::Limits;
use super::pax::{self, Extended, Extent};
use super::refusal::{refuse, refuse_layer};
use crate::error::{Context, Result};
use crate::store::Xattrs;
use std::io::BufRead;

const BLOCK: usize = 512;
const BLOCK_BYTES: u64 = BLOCK as u64;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Dir,
    Symlink,
    /// A further name of what `link` names.
    HardLink,
    Fifo,
    Char,
    Block,
}

/// One entry with everything its headers say. Its data is to be read before the next entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    /// Bytes of the file, holes included.
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Xattrs,
    /// Where the stored bytes belong, of a sparse file.
    pub(super) extents: Option<Vec<Extent>>,
}

/// A tar archive being read.
#[derive(Debug)]
pub(super) struct Archive<'l, R> {
    source: R,
    limits: &'l Limits,
    /// Stored bytes of the current entry that were not read yet, and the padding after them.
    left: u64,
    padding: u64,
    entries: u64,
    metadata: u64,
    logical: u64,
}

/// Headers that describe the entry that follows.
#[derive(Default)]
struct Before {
    extended: Option<Extended>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<'l, R: BufRead> Archive<'l, R> {
    pub(super) fn new(source: R, limits: &'l Limits) -> Self {
        Archive { source, limits, left: 0, padding: 0, entries: 0, metadata: 0, logical: 0 }
    }

    /// The next entry; `None` after the last, when the source was read to its end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        self.skip_data()?;
        let mut before = Before::default();
        loop {
            let Some(block) = self.header()? else {
                let dangling = before.extended.is_some() || before.long_name.is_some() || before.long_link.is_some();
                return if dangling { Err(refuse_layer("it ends after an extended header")) } else { Ok(None) };
            };
            let header = tar::Header::from_byte_slice(&block);
            let name = header.path_bytes();
            let twice = || refuse(&name, "it has two extended headers of one kind");
            match header.entry_type().as_byte() {
                b'x' | b'X' => {
                    let bytes = self.extension(&block, &name)?;
                    let extended = pax::parse(&bytes, self.limits.max_extents).map_err(|why| refuse(&name, why))?;
                    if before.extended.replace(extended).is_some() {
                        return Err(twice());
                    }
                }
                // Global headers carry comments; docker and podman ignore them too.
                b'g' => drop(self.extension(&block, &name)?),
                b'L' => {
                    let text = cut(self.extension(&block, &name)?);
                    if before.long_name.replace(text).is_some() {
                        return Err(twice());
                    }
                }
                b'K' => {
                    let text = cut(self.extension(&block, &name)?);
                    if before.long_link.replace(text).is_some() {
                        return Err(twice());
                    }
                }
                kind => return self.entry(&block, kind, before).map(Some),
            }
        }
    }

    /// A header block whose checksum is right; `None` at the end, where the rest of the source is read and ignored.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            // Two zero blocks end an archive, and so does one that is the very last.
            if self.block(&mut block)? && block.iter().any(|byte| *byte != 0) {
                return Err(refuse_layer("it has a zero block among its entries"));
            }
            while !self.fill()?.is_empty() {
                let length = self.fill()?.len();
                self.source.consume(length);
            }
            return Ok(None);
        }
        let told = number(field(&block, 148, 8));
        let sums = block.iter().enumerate().fold((0_i64, 0_i64), |(unsigned, signed), (at, byte)| {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
        });
        // Some old tools summed signed bytes.
        if told != Some(sums.0) && told != Some(sums.1) {
            return Err(refuse_layer("the checksum of an entry's header is wrong"));
        }
        self.entries += 1;
        if self.entries > self.limits.max_entries {
            return Err(refuse_layer(format!("it has more than {} entries", self.limits.max_entries)));
        }
        Ok(Some(block))
    }

    fn fill(&mut self) -> Result<&[u8]> {
        self.source.fill_buf().context(|| "cannot read the layer")
    }

    /// Reads a whole block; `false` at the end of the source.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut have = 0;
        while let Some(space) = block.get_mut(have..).filter(|space| !space.is_empty()) {
            let bytes = self.fill()?;
            let count = bytes.len().min(space.len());
            if count == 0 {
                return if have == 0 { Ok(false) } else { Err(refuse_layer("it is cut short in a header")) };
            }
            for (to, from) in space.iter_mut().zip(bytes) {
                *to = *from;
            }
            self.source.consume(count);
            have += count;
        }
        Ok(true)
    }

    /// The data of an extended header.
    fn extension(&mut self, block: &[u8; BLOCK], name: &[u8]) -> Result<Vec<u8>> {
        let size = size(block).ok_or_else(|| refuse(name, "its size is malformed"))?;
        if size > self.limits.max_header_bytes {
            return Err(refuse(name, "its extended header is too big"));
        }
        self.count_metadata(size)?;
        self.expect(size);
        let mut bytes = Vec::new();
        self.data(name, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        self.skip_data()?;
        Ok(bytes)
    }

    fn count_metadata(&mut self, bytes: u64) -> Result<()> {
        self.metadata = self.metadata.saturating_add(bytes);
        if self.metadata > self.limits.max_metadata_bytes {
            return Err(refuse_layer("its names and attributes are too big"));
        }
        Ok(())
    }

    fn expect(&mut self, stored: u64) {
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK_BYTES;
    }

    /// Stored bytes of the current entry not read yet.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// All stored bytes of the current entry if they lie in the buffer already; to be followed by [`Self::skip_data`].
    pub(super) fn at_hand(&mut self) -> Result<Option<&[u8]>> {
        let Ok(left) = usize::try_from(self.left) else { return Ok(None) };
        Ok(self.fill()?.get(..left))
    }

    /// Hands the stored bytes of the current entry, all that are left, to `sink` in pieces.
    pub(super) fn data(&mut self, path: &[u8], mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.left > 0 {
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let bytes = self.fill()?;
            let piece = bytes.get(..left).unwrap_or(bytes);
            if piece.is_empty() {
                return Err(refuse(path, "the layer ends within its data"));
            }
            sink(piece)?;
            let count = piece.len();
            self.source.consume(count);
            self.left -= count as u64;
        }
        Ok(())
    }

    /// Goes to the next header.
    pub(super) fn skip_data(&mut self) -> Result<()> {
        self.left = self.left.saturating_add(self.padding);
        self.padding = 0;
        if self.left == 0 { Ok(()) } else { self.data(b"(padding)", |_| Ok(())) }
    }

    fn entry(&mut self, block: &[u8; BLOCK], kind: u8, before: Before) -> Result<Entry> {
        let header = tar::Header::from_byte_slice(block);
        let extended = before.extended.unwrap_or_default();
        let path = extended.sparse.name.clone().or(extended.path).or(before.long_name);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let no = |why: &str| refuse(&path, why);
        let kind = match kind {
            // Old archives mark directories by a final slash only.
            b'0' | b'\0' | b'7' if path.ends_with(b"/") => EntryKind::Dir,
            b'0' | b'\0' | b'7' | b'S' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::Char,
            b'4' => EntryKind::Block,
            b'5' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            other => return Err(no(&format!("its type `{}` does not belong into a layer", other.escape_ascii()))),
        };
        let gnu_sparse = header.entry_type().as_byte() == b'S';
        let link = extended.link.or(before.long_link);
        let link = link.unwrap_or_else(|| header.link_name_bytes().map_or_else(Vec::new, std::borrow::Cow::into_owned));
        let id = |long: Option<u64>, at: usize| {
            let value = long.or_else(|| u64::try_from(number(field(block, at, 8))?).ok())?;
            // -1 means "leave it" to chown(2), so no file can have it.
            u32::try_from(value).ok().filter(|id| *id != u32::MAX)
        };
        let mut entry = Entry {
            kind,
            link,
            mode: number(field(block, 100, 8)).map(|mode| (mode & 0o7777) as u32).ok_or_else(|| no("its mode is malformed"))?,
            uid: id(extended.uid, 108).ok_or_else(|| no("its owner is not a user id"))?,
            gid: id(extended.gid, 116).ok_or_else(|| no("its group is not a group id"))?,
            mtime: match extended.mtime {
                Some(time) => time,
                None => (number(field(block, 136, 12)).ok_or_else(|| no("its time is malformed"))?, 0),
            },
            size: 0,
            device: (0, 0),
            xattrs: extended.xattrs,
            extents: None,
            path: Vec::new(),
        };
        if matches!(kind, EntryKind::Char | EntryKind::Block) {
            let device = |at| number(field(block, at, 8)).and_then(|number| u32::try_from(number).ok());
            entry.device = device(329).zip(device(337)).ok_or_else(|| no("its device number is malformed"))?;
        }
        let stored = extended.size.or_else(|| size(block)).ok_or_else(|| no("its size is malformed"))?;
        match kind {
            EntryKind::File => {}
            // Some tools repeat the size of what a hard link names; no data follows.
            EntryKind::HardLink => return self.complete(entry, path, 0),
            _ if stored != 0 => return Err(no("it is no file but has data")),
            _ => return self.complete(entry, path, 0),
        }
        entry.size = stored;
        let mut map = None;
        if gnu_sparse {
            entry.size = u64::try_from(number(field(block, 483, 12)).unwrap_or(-1)).map_err(|_| no("its size is malformed"))?;
            map = Some(self.gnu_map(block, &path)?);
        }
        self.expect(stored);
        let sparse = extended.sparse;
        if sparse.map.is_some() || sparse.major.is_some() {
            if gnu_sparse {
                return Err(no("it is sparse in two ways"));
            }
            entry.size = sparse.real_size.ok_or_else(|| no("its sparse map has no size"))?;
            map = match (sparse.major, sparse.minor) {
                (None | Some(0), _) => sparse.map,
                (Some(1), None | Some(0)) => Some(self.data_map(&path)?),
                _ => return Err(no("its sparse format is unknown")),
            };
        }
        if let Some(map) = &map
            && !fits(map, self.left, entry.size)
        {
            return Err(no("its sparse map does not fit its size"));
        }
        entry.extents = map;
        let left = self.left;
        self.complete(entry, path, left)
    }

    fn complete(&mut self, mut entry: Entry, path: Vec<u8>, left: u64) -> Result<Entry> {
        self.left = left;
        let attributes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.count_metadata((path.len() + entry.link.len() + attributes) as u64)?;
        self.logical = self.logical.saturating_add(entry.size);
        if self.logical > self.limits.max_layer_bytes {
            return Err(refuse(&path, format!("with it the layer has more than {} bytes", self.limits.max_layer_bytes)));
        }
        entry.path = path;
        Ok(entry)
    }

    /// The map of a GNU `S` entry: four pieces in the header, 21 in each block that follows.
    fn gnu_map(&mut self, block: &[u8; BLOCK], path: &[u8]) -> Result<Vec<Extent>> {
        let mut map = Vec::new();
        let mut take = |pieces: &[u8]| -> Result<()> {
            for piece in pieces.chunks_exact(24) {
                if piece.first().is_none_or(|byte| *byte == 0) {
                    continue;
                }
                let number = |at| number(field(piece, at, 12)).and_then(|number| u64::try_from(number).ok());
                map.push(number(0).zip(number(12)).ok_or_else(|| refuse(path, "its sparse map is malformed"))?);
            }
            if map.len() > self.limits.max_extents { Err(refuse(path, "it has too many sparse pieces")) } else { Ok(()) }
        };
        take(field(block, 386, 96))?;
        let mut more = block.get(482) != Some(&0);
        let mut next = [0; BLOCK];
        while more {
            let mut have = 0;
            // As `block`, written out because `take` borrows.
            while have < BLOCK {
                let bytes = self.source.fill_buf().context(|| "cannot read the layer")?;
                let count = bytes.len().min(BLOCK - have);
                if count == 0 {
                    return Err(refuse(path, "the layer ends within its sparse map"));
                }
                for (to, from) in next.iter_mut().skip(have).zip(bytes) {
                    *to = *from;
                }
                self.source.consume(count);
                have += count;
            }
            take(field(&next, 0, 504))?;
            more = next.get(504) != Some(&0);
        }
        Ok(map)
    }

    /// The map of PAX format 1.0: decimal lines at the start of the data, padded to a block.
    fn data_map(&mut self, path: &[u8]) -> Result<Vec<Extent>> {
        let mut line = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted = None;
        let mut block = [0; BLOCK];
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.left < BLOCK_BYTES || !self.block(&mut block)? {
                return Err(refuse(path, "its sparse map is cut short"));
            }
            self.left -= BLOCK_BYTES;
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number = pax::decimal(&line).ok_or_else(|| refuse(path, "its sparse map is malformed"))?;
                line.clear();
                if wanted.is_some() {
                    numbers.push(number);
                } else {
                    let pieces = usize::try_from(number).ok().filter(|pieces| *pieces <= self.limits.max_extents);
                    let pieces = pieces.ok_or_else(|| refuse(path, "it has too many sparse pieces"))?;
                    wanted = Some(pieces.saturating_mul(2));
                }
            }
            if line.len() > BLOCK {
                return Err(refuse(path, "its sparse map is malformed"));
            }
        }
        Ok(numbers.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect())
    }
}

/// Pieces in order, within the file, and as many bytes as are stored.
fn fits(map: &[Extent], stored: u64, size: u64) -> bool {
    let mut end = 0;
    let mut sum: u64 = 0;
    for (offset, length) in map {
        let Some(next) = offset.checked_add(*length) else { return false };
        if *offset < end || next > size {
            return false;
        }
        end = next;
        sum = sum.saturating_add(*length);
    }
    sum == stored
}

fn cut(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|byte| *byte == 0) {
        text.truncate(end);
    }
    text
}

fn field(block: &[u8], start: usize, length: usize) -> &[u8] {
    block.get(start..start + length).unwrap_or_default()
}

fn size(block: &[u8]) -> Option<u64> {
    u64::try_from(number(field(block, 124, 12))?).ok()
}

/// An octal number between spaces and NULs (empty is 0), or GNU's base 256 with its sign.
fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign; the rest is two's complement, big-endian.
        let start = if first & 0x40 != 0 { i128::from(first | 0x80) - 256 } else { i128::from(first & 0x3f) };
        let value = rest.iter().try_fold(start, |value, byte| {
            // Values outside i64 are refused below; this only keeps the sum from overflowing.
            Some(value.checked_mul(256)?.checked_add(i128::from(*byte))?).filter(|value| value.unsigned_abs() < 1 << 100)
        })?;
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let text = field.get(start..)?;
    let end = text.iter().position(blank).unwrap_or(text.len());
    if !text.get(end..)?.iter().all(blank) {
        return None;
    }
    text.get(..end)?.iter().try_fold(0_i64, |value, digit| {
        let digit = char::from(*digit).to_digit(8)?;
        value.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_spellings() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"00000000", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"\x80\0\0\0\0\x01\0\x02", Some(0x1_0002)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"-0000644", None),
            (b"0000 44\0", None),
            (b"8\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn sparse_maps_must_fit() {
        assert!(fits(&[(0, 2), (8, 2), (10, 0)], 4, 10));
        assert!(!fits(&[(8, 2), (0, 2)], 4, 10), "out of order");
        assert!(!fits(&[(0, 4), (3, 1)], 5, 10), "overlap");
        assert!(!fits(&[(8, 3)], 3, 10), "beyond the end");
        assert!(!fits(&[(0, 2)], 3, 10), "stored bytes belong nowhere");
        assert!(!fits(&[(u64::MAX, 2)], 2, u64::MAX), "overflow");
    }
}
