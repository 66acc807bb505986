//! The words of a recipe and of the command line: names, paths, signals, sizes, periods. Each is checked once, when it is read.

use crate::error::{Error, Result};
use nix::sys::signal::Signal;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Deserialises by [`FromStr`]; the hint becomes part of the message, since TOML errors have one text.
macro_rules! deserialize_by_text {
    ($($name:ident),+) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error: Error| serde::de::Error::custom(flat(&error)))
            }
        }
    )+};
}

/// A checked text.
macro_rules! word {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

word! {
    /// Name of a recipe, setting, port, secret or volume: a lower-case letter, then such letters, digits and single `-`.
    Name;
    /// Name of a version: a letter or digit, then those and `.` `_` `-`.
    VersionName;
    /// Name of an environment variable.
    EnvName;
    /// An absolute path in the container, without `.`, `..`, empty parts and a final `/`.
    ContainerPath;
    /// Name of a signal, e.g. `SIGINT`, `SIGRTMIN+3`.
    SignalName;
}

deserialize_by_text!(Name, VersionName, EnvName, ContainerPath, SignalName, Size, Cpus, Period);

/// What failed and what to do, as one text.
pub(crate) fn flat(error: &Error) -> String {
    match error.find_hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// The error for a text that is not `what`.
pub(super) fn wrong(text: &str, what: &str, hint: &str) -> Error {
    // An error is read by people: a long text is only begun.
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    Error::usage(format!("`{shown}` is not {what}")).hint(hint)
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = text.bytes().next().is_some_and(|c| c.is_ascii_lowercase());
        let all = text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if first && all && text.len() <= 63 && !text.contains("--") && !text.ends_with('-') {
            return Ok(Name(text.to_owned()));
        }
        Err(wrong(text, "a name", "a name begins with a lower-case letter and has only those, digits and single `-`, at most 63"))
    }
}

impl FromStr for VersionName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let all = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
        if first && all && text.len() <= 63 {
            return Ok(VersionName(text.to_owned()));
        }
        Err(wrong(text, "a version", "a version begins with a letter or digit and has only those, `.` `_` `-`, at most 63"))
    }
}

impl FromStr for EnvName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = text.bytes().next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
        // Elasticsearch and others read variables with dots and dashes in their names.
        let all = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
        if first && all && text.len() <= 255 {
            return Ok(EnvName(text.to_owned()));
        }
        Err(wrong(text, "the name of an environment variable", "it has letters, digits, `_` `.` `-` and begins with no digit"))
    }
}

impl ContainerPath {
    /// Whether a volume may be mounted there: not on `/`, nor on what the runtime itself mounts.
    #[must_use]
    pub fn may_be_volume(&self) -> bool {
        let within = |top: &str| self.0.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.0 != "/" && !["/proc", "/sys", "/dev", "/run/secrets"].into_iter().any(within)
    }

    /// Whether `other` is this path or lies below it.
    #[must_use]
    pub fn covers(&self, other: &ContainerPath) -> bool {
        self.0 == "/" || other.0.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// As an image writes paths: `data/`, `/a/./b` and `//a` are taken for what they mean, `..` is not.
    ///
    /// # Errors
    /// When a part is `..`, or a byte is a control character.
    pub fn lenient(text: &str) -> Result<ContainerPath> {
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        format!("/{}", parts.join("/")).parse()
    }
}

impl FromStr for ContainerPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = || text.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        let clean = text.len() <= 4095 && !text.chars().any(char::is_control);
        if clean && (text == "/" || text.starts_with('/') && parts()) {
            return Ok(ContainerPath(text.to_owned()));
        }
        Err(wrong(
            text,
            "a path in the container",
            "it begins with `/`, does not end with it and has no `..`, e.g. `/var/lib/data`",
        ))
    }
}

impl SignalName {
    /// `SIGTERM`.
    #[must_use]
    pub fn term() -> SignalName {
        SignalName("SIGTERM".into())
    }
}

impl FromStr for SignalName {
    type Err = Error;

    /// Takes `SIGINT`, `INT`, `2` and real-time signals (`SIGRTMIN+3`, `37`), as images write them.
    fn from_str(text: &str) -> Result<Self> {
        // Numbers of real-time signals are glibc's and musl's: the first two of the kernel's 32.. are (three with musl) their own.
        const FIRST: u8 = 34;
        let wrong = || wrong(text, "a signal", "use a name such as `SIGTERM`, `SIGINT`, `SIGQUIT` or `SIGRTMIN+3`");
        if text.bytes().all(|c| c.is_ascii_digit()) {
            let number: u8 = text.parse().map_err(|_| wrong())?;
            return match (number, Signal::try_from(i32::from(number))) {
                (_, Ok(signal)) => Ok(SignalName(signal.as_str().to_owned())),
                (FIRST..=64, _) => Ok(SignalName(realtime(number - FIRST))),
                _ => Err(wrong()),
            };
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(rest) = bare.strip_prefix("RTMIN") {
            let above = if rest.is_empty() { Some("0") } else { rest.strip_prefix('+') };
            let digits = above.filter(|digits| digits.bytes().all(|c| c.is_ascii_digit()));
            let above = digits.and_then(|digits| digits.parse::<u8>().ok()).filter(|above| *above <= 64 - FIRST);
            return above.map(|above| SignalName(realtime(above))).ok_or_else(wrong);
        }
        let name = format!("SIG{bare}");
        Signal::from_str(&name).map(|signal| SignalName(signal.as_str().to_owned())).map_err(|_| wrong())
    }
}

fn realtime(above: u8) -> String {
    if above == 0 { "SIGRTMIN".into() } else { format!("SIGRTMIN+{above}") }
}

/// A number of bytes: `512M`, `1.5G`, `65536`. Units are powers of 1024, as in systemd's own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || wrong(text, "a size", "a size is a number with an optional unit K, M, G or T, e.g. `512M` or `1.5G`");
        let lower = text.to_ascii_lowercase();
        let at = lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len());
        let (number, unit) = lower.split_at(at);
        let power = match unit {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            _ => return Err(wrong()),
        };
        let (value, scale) = decimal(number, 9).ok_or_else(wrong)?;
        let bytes = value.checked_mul(1024_u128.pow(power)).ok_or_else(wrong)?;
        // TOML and systemd know sizes up to 2^63 - 1. A part of a byte is refused, as a slip.
        let whole = bytes.is_multiple_of(scale) || power > 0;
        let bytes = u64::try_from(bytes / scale).ok().filter(|bytes| whole && i64::try_from(*bytes).is_ok());
        bytes.map(Size).ok_or_else(wrong)
    }
}

/// A share of processors in percent of one: `1.5` is 150.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpus(pub u32);

impl FromStr for Cpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || wrong(text, "a number of processors", "it is above 0 with at most two decimals, e.g. `1.5` or `0.25`");
        let (value, scale) = decimal(text, 2).ok_or_else(wrong)?;
        let percent = value.checked_mul(100 / scale).and_then(|percent| u32::try_from(percent).ok());
        percent.filter(|percent| (1..=1_000_000).contains(percent)).map(Cpus).ok_or_else(wrong)
    }
}

/// `12.50` as (1250, 100); at most `most` decimals.
fn decimal(text: &str, most: u32) -> Option<(u128, u128)> {
    let (whole, part) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let digits = |text: &str| !text.is_empty() && text.len() <= 20 && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || part.is_some_and(|part| !digits(part)) {
        return None;
    }
    let part = part.unwrap_or_default();
    let decimals = u32::try_from(part.len()).ok().filter(|decimals| *decimals <= most)?;
    let scale = 10_u128.pow(decimals);
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    Some((whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(part)?, scale))
}

/// A period with units: `500ms`, `30s`, `2min`, `1h30min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// Milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Seconds, rounded up.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.milliseconds().div_ceil(1000)
    }

    /// Of whole seconds.
    #[must_use]
    pub const fn of_seconds(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || wrong(text, "a period", "write numbers with a unit each: ms, s, min (m), h, d, e.g. `500ms` or `1h30min`");
        // A hundred years: no sum below can overflow, and systemd takes it.
        const MOST: u64 = 100 * 366 * 86_400_000;
        let (mut rest, mut total) = (text.trim(), 0_u64);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, after) = rest.split_at(at);
            let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let unit = match unit {
                "ms" => 1,
                "s" | "sec" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let sum = number.checked_mul(unit).and_then(|part| total.checked_add(part));
            total = sum.filter(|sum| *sum <= MOST).ok_or_else(wrong)?;
            rest = after.trim_start();
        }
        Ok(Period(Duration::from_millis(total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good<T: FromStr<Err = Error>>(texts: &[&str]) {
        for text in texts {
            assert!(text.parse::<T>().is_ok(), "{text:?}");
        }
    }

    fn bad<T: FromStr<Err = Error> + fmt::Debug>(texts: &[&str]) {
        for text in texts {
            let error = text.parse::<T>().expect_err(text);
            assert!(error.find_hint().is_some(), "{text:?}");
        }
    }

    #[test]
    fn names() {
        good::<Name>(&["a", "postgres", "max-connections", "s3"]);
        bad::<Name>(&["", "A", "3s", "-a", "a-", "a--b", "a_b", "a.b", "ä", "a b", &"a".repeat(64)]);
        good::<VersionName>(&["14", "8.4-lts", "2026.07", "v1_2"]);
        bad::<VersionName>(&["", ".", "..", "-1", "1/2", "1@2", "1 2"]);
        good::<EnvName>(&["PGDATA", "_x", "discovery.type"]);
        bad::<EnvName>(&["", "1A", "A=B", "A B", "A\0"]);
    }

    #[test]
    fn paths_of_containers() {
        good::<ContainerPath>(&["/", "/a", "/var/lib/x y", "/a/..b"]);
        bad::<ContainerPath>(&["", "a", "/a/", "//", "/a//b", "/..", "/a/../b", "/a/.", "/a\nb"]);
        let path = |text: &str| text.parse::<ContainerPath>().unwrap();
        for text in ["/", "/proc", "/proc/x", "/sys/fs", "/dev", "/dev/shm", "/run/secrets"] {
            assert!(!path(text).may_be_volume(), "{text}");
        }
        assert!(path("/process").may_be_volume() && path("/run").may_be_volume());
        assert!(path("/a").covers(&path("/a/b")) && path("/a").covers(&path("/a")) && path("/").covers(&path("/a")));
        assert!(!path("/a").covers(&path("/ab")) && !path("/a/b").covers(&path("/a")));
        for (written, meant) in [("data/", "/data"), ("//a/./b//", "/a/b"), ("", "/")] {
            assert_eq!(ContainerPath::lenient(written).unwrap().as_str(), meant);
        }
        assert!(ContainerPath::lenient("/a/../b").is_err());
    }

    #[test]
    fn signals_as_people_and_images_write_them() {
        for (text, name) in [
            ("SIGINT", "SIGINT"),
            ("int", "SIGINT"),
            ("3", "SIGQUIT"),
            ("WINCH", "SIGWINCH"),
            ("37", "SIGRTMIN+3"),
            ("SIGRTMIN", "SIGRTMIN"),
            ("rtmin+0", "SIGRTMIN"),
            ("SIGRTMIN+30", "SIGRTMIN+30"),
        ] {
            assert_eq!(text.parse::<SignalName>().unwrap().as_str(), name);
        }
        bad::<SignalName>(&[
            "",
            "SIG",
            "SIGFOO",
            "0",
            "32",
            "65",
            "300",
            "SIGRTMIN+31",
            "SIGRTMIN+",
            "RTMIN-1",
            "RTMIN++1",
            "-9",
        ]);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("512M", 512 << 20),
            ("512mb", 512 << 20),
            ("1.5G", 3 << 29),
            ("0.5KiB", 512),
            ("0.1M", 104_857),
            ("8388607T", 8_388_607 << 40),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        bad::<Size>(&[
            "",
            "M",
            "-1",
            "1.M",
            ".5M",
            "1e3",
            "1P",
            "0.5",
            "1 M",
            "8388608T",
            "9223372036854775808",
            "1.0000000001G",
        ]);
    }

    #[test]
    fn processors() {
        for (text, percent) in [("1.5", 150), ("1", 100), ("0.25", 25), ("0.01", 1), ("64", 6400)] {
            assert_eq!(text.parse::<Cpus>().unwrap(), Cpus(percent), "{text}");
        }
        bad::<Cpus>(&["", "0", "0.00", "-1", "1.555", "1,5", "all", "99999999999999999999", "10001"]);
    }

    #[test]
    fn periods() {
        for (text, milliseconds) in
            [("500ms", 500), ("30s", 30_000), ("2m", 120_000), ("1h30min", 5_400_000), ("1d 1s", 86_401_000)]
        {
            assert_eq!(text.parse::<Period>().unwrap().milliseconds(), milliseconds, "{text}");
        }
        assert_eq!("1500ms".parse::<Period>().unwrap().seconds(), 2);
        bad::<Period>(&["", " ", "30", "s", "1.5s", "-1s", "1w", "99999999999999999999s", "40000d", "1s,"]);
    }
}
