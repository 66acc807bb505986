//! PAX extended headers (POSIX pax, "pax Extended Header") with the GNU and SCHILY keys that layers use.
//!
//! Records are taken by their length, so a value may hold any byte; `security.capability` does.

use crate::store::Xattrs;

/// A piece of a sparse file: offset and length.
pub(super) type Extent = (u64, u64);

/// What an extended header says of the entry that follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records: formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// Bytes of the file with its holes.
    pub(super) real_size: Option<u64>,
    pub(super) map: Option<Vec<Extent>>,
    /// Offset of format 0.0 that waits for its length.
    offset: Option<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Reads all records.
///
/// # Errors
/// Why the header is refused.
pub(super) fn parse(mut bytes: &[u8], max_extents: usize) -> Result<Extended, &'static str> {
    let mut extended = Extended::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or("its extended header is malformed")?;
        bytes = rest;
        take(&mut extended, key, value, max_extents)?;
    }
    if extended.sparse.offset.is_some() {
        return Err("its sparse map is malformed");
    }
    Ok(extended)
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts all of it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(bytes.get(..space)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (body.get(..equals)?, body.get(equals + 1..)?);
    (!key.is_empty()).then_some((key, value, rest))
}

fn take(extended: &mut Extended, key: &[u8], value: &[u8], max_extents: usize) -> Result<(), &'static str> {
    const NUMBER: &str = "a number in its extended header is malformed";
    // An empty value takes the record back (POSIX); the empty values of xattrs are values.
    let text = || Some(value.to_vec()).filter(|value| !value.is_empty());
    let number = || if value.is_empty() { Ok(None) } else { decimal(value).map(Some).ok_or(NUMBER) };
    let sparse = &mut extended.sparse;
    match key {
        b"path" => extended.path = text(),
        b"linkpath" => extended.link = text(),
        b"size" => extended.size = number()?,
        b"uid" => extended.uid = number()?,
        b"gid" => extended.gid = number()?,
        b"mtime" if value.is_empty() => extended.mtime = None,
        b"mtime" => extended.mtime = Some(time(value).ok_or(NUMBER)?),
        b"GNU.sparse.major" => sparse.major = number()?,
        b"GNU.sparse.minor" => sparse.minor = number()?,
        b"GNU.sparse.name" => sparse.name = text(),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.real_size = number()?,
        b"GNU.sparse.map" => {
            let mut numbers = value.split(|byte| *byte == b',').map(decimal);
            let mut map = Vec::new();
            // An empty map is one empty text.
            while let Some(offset) = numbers.next().filter(|_| !value.is_empty()) {
                let length = numbers.next().ok_or("its sparse map is malformed")?;
                push(&mut map, offset.zip(length), max_extents)?;
            }
            sparse.map = Some(map);
        }
        b"GNU.sparse.offset" => {
            let offset = decimal(value).ok_or(NUMBER)?;
            if sparse.offset.replace(offset).is_some() {
                return Err("its sparse map is malformed");
            }
        }
        b"GNU.sparse.numbytes" => {
            let extent = sparse.offset.take().zip(decimal(value));
            push(sparse.map.get_or_insert_default(), extent, max_extents)?;
        }
        _ => {
            if let Some(name) = key.strip_prefix(XATTR) {
                extended.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn push(map: &mut Vec<Extent>, extent: Option<Extent>, max_extents: usize) -> Result<(), &'static str> {
    if map.len() >= max_extents {
        return Err("it has too many sparse pieces");
    }
    map.push(extent.ok_or("its sparse map is malformed")?);
    Ok(())
}

/// Digits only.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// `[-]SECONDS[.FRACTION]` as seconds (rounded down) and nanoseconds (cut off, as GNU tar does).
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let dot = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(text.get(..dot)?)?).ok()?;
    let fraction = text.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds: u32 = 0;
    for nth in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.get(nth).map_or(0, |digit| digit - b'0'));
    }
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        // -1.25 is a quarter before one second before 1970.
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_any_byte() {
        let mut bytes = b"40 SCHILY.xattr.security.capability=\n\0\n\n".to_vec();
        assert_eq!(bytes.len(), 40);
        bytes.extend_from_slice(b"10 path=b\xff\n".get(..).unwrap());
        bytes[40..42].copy_from_slice(b"11");
        let extended = parse(&bytes, 9).unwrap();
        assert_eq!(extended.xattrs, [(b"security.capability".to_vec(), b"\n\0\n".to_vec())]);
        assert_eq!(extended.path.unwrap(), b"b\xff");
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        for (text, expected) in [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.1234567899", Some((12, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("12.", Some((12, 0))),
            ("", None),
            ("1.x", None),
            ("--1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in ["x", "5 a=b\n", "7 a=b\n", "6 a=bc", "6 aabc\n", " a=b\n", "5 =b\n\n", "-6 a=b\n", "10 size=x\n", "0 a=b\n"] {
            assert!(parse(bad.as_bytes(), 9).is_err(), "{bad:?}");
        }
        assert_eq!(parse(b"6 a=b\n", 9).unwrap(), Extended::default());
    }

    #[test]
    fn sparse_maps_of_all_formats() {
        let one = parse(b"26 GNU.sparse.map=0,2,8,1\n", 9).unwrap();
        assert_eq!(one.sparse.map.unwrap(), [(0, 2), (8, 1)]);
        let zero = parse(b"23 GNU.sparse.offset=7\n25 GNU.sparse.numbytes=3\n", 9).unwrap();
        assert_eq!(zero.sparse.map.unwrap(), [(7, 3)]);
        assert!(parse(b"24 GNU.sparse.map=0,2,8\n", 9).is_err());
        assert!(parse(b"26 GNU.sparse.map=0,2,8,1\n", 1).is_err());
        assert!(parse(b"23 GNU.sparse.offset=7\n", 9).is_err());
    }
}
