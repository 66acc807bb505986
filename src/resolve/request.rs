//! What the user asks for on the command line, read into types. The last of several for the same thing counts.

use super::{HostPath, ServiceName};
use crate::error::{Error, Result};
use crate::recipe::{ContainerPath, Cpus, Size};
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// What the user asks for beside the recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `--name`; `RECIPE@VERSION` when not given.
    pub name: Option<ServiceName>,
    /// `--set KEY=VALUE`.
    pub settings: Vec<(String, String)>,
    /// `--env KEY=VALUE`.
    pub env: Vec<(String, String)>,
    /// `--port`.
    pub ports: Vec<PortOverride>,
    /// `--volume`.
    pub volumes: Vec<VolumeOverride>,
    /// `--memory`.
    pub memory: Option<Size>,
    /// `--cpus`.
    pub cpus: Option<Cpus>,
    /// Most tasks.
    pub tasks: Option<u32>,
}

/// Where a port is published: `[NAME=]ADDR:PORT`, `[NAME=]PORT`, `[NAME=]ADDR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOverride {
    /// Name of the port in the recipe, or its number in the container; not needed when there is one port.
    pub port: Option<String>,
    /// Address on the host; the default one when not given.
    pub address: Option<IpAddr>,
    /// Number on the host; the recipe's when not given.
    pub number: Option<u16>,
}

/// Where a persistent directory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeOverride {
    /// `NAME=HOST`: the volume of that name is this directory of the host.
    Named {
        /// Name of the volume.
        name: String,
        /// The host's directory.
        source: HostPath,
        /// `:ro`.
        read_only: bool,
    },
    /// `HOST:TARGET`: this directory of the host is at that path.
    Bind {
        /// The host's directory or file.
        source: HostPath,
        /// Where it is in the container.
        target: ContainerPath,
        /// `:ro`.
        read_only: bool,
    },
}

/// Reads `KEY=VALUE`; `option` is what the user typed before it, for the error.
///
/// # Errors
/// Without `=` or with an empty key.
pub fn key_value(option: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("`{option} {}` is not KEY=VALUE", text.escape_debug()))
            .hint(format!("write `{option} KEY=VALUE`, e.g. `{option} user=me`"))),
    }
}

impl std::str::FromStr for PortOverride {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("`--port {}` cannot be read", text.escape_debug()))
                .hint("write NAME=ADDR:PORT, NAME=PORT or NAME=ADDR, e.g. `--port db=127.0.0.1:5433` or `--port db=5433`")
        };
        let (port, place) = match text.split_once('=') {
            Some((port, place)) => (Some(port), place),
            None => (None, text),
        };
        if port.is_some_and(str::is_empty) {
            return Err(wrong());
        }
        let (address, number) = if let Ok(number) = number(place) {
            (None, Some(number))
        } else if let Ok(address) = place.parse::<IpAddr>() {
            (Some(address), None)
        } else if let Ok(both) = place.parse::<SocketAddr>() {
            (Some(both.ip()), Some(both.port()))
        } else {
            let bare = place.strip_prefix('[').and_then(|place| place.strip_suffix(']'));
            let address = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()).ok_or_else(wrong)?;
            (Some(IpAddr::V6(address)), None)
        };
        if number == Some(0) {
            return Err(wrong());
        }
        Ok(PortOverride { port: port.map(str::to_owned), address, number })
    }
}

/// Digits only: `u16::from_str` would take `+5`.
fn number(text: &str) -> std::result::Result<u16, ()> {
    if text.bytes().all(|c| c.is_ascii_digit()) { text.parse().map_err(|_| ()) } else { Err(()) }
}

impl VolumeOverride {
    /// Reads `NAME=HOST[:ro]` or `HOST:TARGET[:ro]`; host paths are absolute and any bytes.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &OsStr) -> Result<VolumeOverride> {
        let wrong = |why: &str| {
            Error::usage(format!("`--volume {}` cannot be read: {why}", text.to_string_lossy().escape_debug())).hint(
                "write NAME=/host/directory for a volume of the recipe, or /host/directory:/path/in/container; `:ro` makes it read-only",
            )
        };
        let bytes = text.as_bytes();
        let (bytes, read_only) = match bytes.strip_suffix(b":ro") {
            Some(bytes) => (bytes, true),
            None => (bytes.strip_suffix(b":rw").unwrap_or(bytes), false),
        };
        let source = |bytes: &[u8]| {
            if bytes.first() != Some(&b'/') || bytes.contains(&0) || bytes.split(|c| *c == b'/').any(|part| part == b"..") {
                return Err(wrong("the host's directory is an absolute path without `..`"));
            }
            Ok(HostPath::from(PathBuf::from(OsString::from_vec(bytes.to_vec()))))
        };
        if bytes.first() == Some(&b'/') {
            // The last colon: a host path may have some, and a target with one can be reached by no other tool either.
            let at = bytes.iter().rposition(|c| *c == b':').ok_or_else(|| wrong("there is no `:` and path in the container"))?;
            let target = std::str::from_utf8(bytes.get(at + 1..).unwrap_or_default());
            if !target.is_ok_and(|target| target.starts_with('/')) && bytes.get(..at).is_some_and(|rest| rest.contains(&b':')) {
                return Err(wrong("after the path in the container only `:ro` and `:rw` are known"));
            }
            let target = target.map_err(|_| wrong("the path in the container is UTF-8"))?.parse::<ContainerPath>()?;
            if !target.may_be_volume() {
                return Err(wrong("nothing can be mounted at that path in the container"));
            }
            return Ok(VolumeOverride::Bind { source: source(bytes.get(..at).unwrap_or_default())?, target, read_only });
        }
        let at = bytes
            .iter()
            .position(|c| *c == b'=')
            .ok_or_else(|| wrong("the host's directory is an absolute path (or, for `run`, begins with `./`)"))?;
        let (name, path) = bytes.split_at(at);
        let name = std::str::from_utf8(name).map_err(|_| wrong("the name of a volume is UTF-8"))?;
        let path = path.get(1..).unwrap_or_default();
        Ok(VolumeOverride::Named { name: name.to_owned(), source: source(path)?, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Option<(Option<String>, Option<String>, Option<u16>)> {
        let read: PortOverride = text.parse().ok()?;
        Some((read.port, read.address.map(|address| address.to_string()), read.number))
    }

    #[test]
    fn ports() {
        let some = |text: &str| Some(text.to_owned());
        for (text, port_name, address, number) in [
            ("db=127.0.0.1:5433", some("db"), some("127.0.0.1"), Some(5433)),
            ("db=5433", some("db"), None, Some(5433)),
            ("db=0.0.0.0", some("db"), some("0.0.0.0"), None),
            ("db=[::1]:5433", some("db"), some("::1"), Some(5433)),
            ("db=::1", some("db"), some("::1"), None),
            ("db=[::1]", some("db"), some("::1"), None),
            ("6379=127.0.0.1:16379", some("6379"), some("127.0.0.1"), Some(16379)),
            ("5433", None, None, Some(5433)),
        ] {
            assert_eq!(port(text), Some((port_name, address, number)), "{text}");
        }
        for bad in ["", "=5433", "db=", "db=0", "db=65536", "db=+5", "db=host:5", "db=1.2.3:5", "db=127.0.0.1:", "db=127.0.0.1:0"]
        {
            assert_eq!(port(bad), None, "{bad}");
        }
    }

    fn volume(text: &[u8]) -> Option<VolumeOverride> {
        VolumeOverride::parse(OsStr::from_bytes(text)).ok()
    }

    fn host(text: &[u8]) -> HostPath {
        HostPath::from(PathBuf::from(OsStr::from_bytes(text)))
    }

    #[test]
    fn volumes() {
        let target = |text: &str| text.parse::<ContainerPath>().unwrap();
        let named = |source: &[u8], read_only| VolumeOverride::Named { name: "data".into(), source: host(source), read_only };
        let bind = |source: &[u8], read_only| VolumeOverride::Bind { source: host(source), target: target("/x"), read_only };
        assert_eq!(volume(b"data=/big"), Some(named(b"/big", false)));
        assert_eq!(volume(b"data=/big:ro"), Some(named(b"/big", true)));
        assert_eq!(volume(b"/a:/x"), Some(bind(b"/a", false)));
        assert_eq!(volume(b"/a:b\xff=c:/x:ro"), Some(bind(b"/a:b\xff=c", true)));
        assert_eq!(volume(b"/a:/x:rw"), Some(bind(b"/a", false)));
        for bad in [
            &b""[..],
            b"data",
            b"data=",
            b"data=x",
            b"/a",
            b"/a:x",
            b"/a:/x/../y",
            b"/a/../b:/x",
            b"/a:/proc",
            b"/a:\xff",
            b"/a:/",
        ] {
            assert_eq!(volume(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn keys_and_values() {
        assert_eq!(key_value("--env", "A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert_eq!(key_value("--env", "A=").unwrap(), ("A".to_owned(), String::new()));
        assert!(key_value("--env", "A").is_err() && key_value("--env", "=a").is_err());
    }
}
