//! Names of services, which are names of units.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// A service's name, and so the name of its unit without the suffix: `postgres@14`, `orders`.
///
/// Characters are those of systemd.unit(5) without the backslash; it begins with a letter or digit, so that it is never
/// an option, a hidden file, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ServiceName(String);

impl ServiceName {
    /// Longest name: a unit name has at most 255 characters, `.service` included, and lock files add to it.
    pub const MOST: usize = 200;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `NAME.service`.
    #[must_use]
    pub fn unit(&self) -> String {
        format!("{}.service", self.0)
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = text.bytes().all(|c| c.is_ascii_alphanumeric() || b":_.-@".contains(&c));
        let ats = text.bytes().filter(|c| *c == b'@').count();
        let reserved = text.starts_with("steading-") || text == "steading" || text.ends_with('@');
        if first && rest && ats <= 1 && !reserved && text.len() <= Self::MOST {
            return Ok(ServiceName(text.to_owned()));
        }
        // In one text: of an argument that is wrong, clap shows the first line only.
        Err(Error::usage(format!(
            "`{}` cannot be the name of a service: a name begins with a letter or digit and has only letters, digits, `:` `_` `.` `-` and \
             one `@`; `steading-` is reserved",
            text.escape_debug()
        )))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_directory_or_be_options_are_refused() {
        for good in ["postgres@14", "orders", "a", "0x.y-z_1:2"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        let long = "a".repeat(201);
        for bad in
            ["", ".", "..", "-x", "a/b", "a b", "ü", "a@", "@a", "a@b@c", "steading-yard", "steading", "a\n", long.as_str()]
        {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
