//! Host paths inside TOML, which is UTF-8, without losing bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A path of the host. In text a backslash and every byte that is not part of valid UTF-8 is written `\xNN`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPath(PathBuf);

impl HostPath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    fn escape(&self) -> String {
        let mut text = String::new();
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => text.push_str("\\x5c"),
                    c => text.push(c),
                }
            }
            for byte in chunk.invalid() {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    }

    fn unescape(text: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            let (before, escape) = rest.split_at(at);
            bytes.extend_from_slice(before.as_bytes());
            let hex = escape.strip_prefix("\\x")?.get(..2)?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = escape.get(4..)?;
        }
        bytes.extend_from_slice(rest.as_bytes());
        Some(HostPath(PathBuf::from(OsString::from_vec(bytes))))
    }
}

impl From<PathBuf> for HostPath {
    fn from(path: PathBuf) -> Self {
        HostPath(path)
    }
}

impl Serialize for HostPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.escape())
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HostPath::unescape(&text).ok_or_else(|| serde::de::Error::custom("a backslash in a path is written `\\x5c`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (1..=255).collect();
        let path = HostPath(PathBuf::from(OsString::from_vec(all)));
        assert_eq!(HostPath::unescape(&path.escape()), Some(path));
        assert_eq!(HostPath::unescape("/a\\x2"), None);
        assert_eq!(HostPath::unescape("/a\\y20"), None);
    }
}
