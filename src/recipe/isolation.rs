//! `[isolation]`: what a service needs beyond a container that may do nothing.

use super::words::{ContainerPath, Size, wrong};
use crate::error::{Error, Result};
use crate::resolve::{IdKind, Rlimit};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// `[isolation]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Isolation {
    /// Which ids exist in the container.
    pub ids: IdKind,
    /// For `private`: ids beside 0 and the service's own.
    pub extra_ids: Vec<u32>,
    /// Capabilities it keeps.
    pub capabilities: Vec<Capability>,
    /// System calls beyond the default policy.
    pub syscalls: Vec<SyscallName>,
    /// Devices beyond those of every container.
    pub devices: Vec<Device>,
    /// The root file system cannot be written.
    pub read_only: bool,
    /// File systems in memory and their sizes.
    pub tmpfs: BTreeMap<ContainerPath, Size>,
    /// Size of /dev/shm.
    pub shm: Option<Size>,
    /// A time namespace of its own.
    pub time: bool,
    /// Access to its control group.
    pub cgroup: Cgroup,
    /// Kernel settings of its own namespaces.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// Resource limits of its process.
    pub rlimits: BTreeMap<RlimitName, RlimitValue>,
}

/// What a service may do with its control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cgroup {
    /// Look at it.
    #[default]
    ReadOnly,
    /// Make groups below it.
    Writable,
}

/// A device of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// `/dev/fuse`.
    Fuse,
}

impl Device {
    /// Its name below `/dev`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Fuse => "fuse",
        }
    }
}

/// Capabilities of capabilities(7) without `CAP_`, by number.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Resource limits of getrlimit(2) without `RLIMIT_`.
pub const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A checked text of this table.
macro_rules! text {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error: Error| de::Error::custom(super::words::flat(&error)))
            }
        }
    )+};
}

text! {
    /// One of [`CAPABILITIES`].
    Capability;
    /// Name of a system call, e.g. `io_uring_setup`. Which there are is the kernel's matter.
    SyscallName;
    /// A kernel setting that a namespace has for itself: `net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`.
    Sysctl;
    /// One of [`RLIMITS`].
    RlimitName;
}

impl FromStr for Capability {
    type Err = Error;

    /// Takes `NET_ADMIN`, `CAP_NET_ADMIN` and lower case.
    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if CAPABILITIES.contains(&bare) {
            return Ok(Capability(bare.to_owned()));
        }
        Err(wrong(text, "a capability", "see capabilities(7), e.g. `NET_BIND_SERVICE`"))
    }
}

impl FromStr for SyscallName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if !text.is_empty() && text.len() <= 40 && text.bytes().all(good) {
            return Ok(SyscallName(text.to_owned()));
        }
        Err(wrong(text, "the name of a system call", "see syscalls(2), e.g. `io_uring_setup`"))
    }
}

impl FromStr for Sysctl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = text
            .split('.')
            .all(|word| !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-'));
        let own = ["net.", "kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| text.starts_with(prefix));
        if words && text.len() <= 200 && (own || text == "kernel.sem") {
            return Ok(Sysctl(text.to_owned()));
        }
        let hint =
            "only settings that a namespace has for itself: `net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`";
        Err(wrong(text, "a kernel setting of a container", hint))
    }
}

impl FromStr for RlimitName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if RLIMITS.contains(&text) {
            return Ok(RlimitName(text.to_owned()));
        }
        Err(wrong(text, "a resource limit", "see getrlimit(2), e.g. `nofile` or `memlock`"))
    }
}

/// `65536`, `"infinity"`, or a soft and a hard one: `[1024, 65536]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RlimitValue(pub Rlimit);

/// One number of a limit.
struct Bound(Option<u64>);

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        RlimitValue::deserialize(deserializer).map(|value| Bound(value.0.soft))
    }
}

impl<'de> Deserialize<'de> for RlimitValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Value;

        impl<'de> Visitor<'de> for Value {
            type Value = RlimitValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, `\"infinity\"`, or `[soft, hard]`")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<RlimitValue, E> {
                let value = u64::try_from(value).map_err(|_| E::custom("a limit is not negative"))?;
                Ok(RlimitValue(Rlimit { soft: Some(value), hard: Some(value) }))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<RlimitValue, E> {
                match text {
                    "infinity" | "unlimited" => Ok(RlimitValue(Rlimit::default())),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<RlimitValue, A::Error> {
                let two = (seq.next_element::<Bound>()?, seq.next_element::<Bound>()?, seq.next_element::<Bound>()?);
                let (Some(Bound(soft)), Some(Bound(hard)), None) = two else {
                    return Err(de::Error::custom("a limit has a soft and a hard value"));
                };
                if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
                    return Err(de::Error::custom("the soft limit is not above the hard one"));
                }
                Ok(RlimitValue(Rlimit { soft, hard }))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Table {
        isolation: Isolation,
    }

    fn read(text: &str) -> std::result::Result<Isolation, String> {
        toml::from_str::<Table>(&format!("[isolation]\n{text}")).map(|table| table.isolation).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_are_one_number_two_or_none() {
        let all = read("rlimits = { nofile = 64, core = \"infinity\", memlock = [1, \"infinity\"] }").unwrap();
        let of = |name: &str| all.rlimits.iter().find(|(key, _)| key.as_str() == name).unwrap().1.0;
        assert_eq!(of("nofile"), Rlimit { soft: Some(64), hard: Some(64) });
        assert_eq!(of("core"), Rlimit::default());
        assert_eq!(of("memlock"), Rlimit { soft: Some(1), hard: None });
        for wrong in ["nofile = -1", "nofile = [2, 1]", "nofile = [1]", "nofile = \"x\"", "files = 1", "nofile = [1, 2, 3]"] {
            assert!(read(&format!("rlimits = {{ {wrong} }}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_a_namespace_has_for_itself_can_be_set() {
        for good in ["net.core.somaxconn", "kernel.shmmax", "kernel.sem", "fs.mqueue.msg_max"] {
            assert!(good.parse::<Sysctl>().is_ok(), "{good}");
        }
        for bad in ["kernel.core_pattern", "vm.overcommit_memory", "net..x", "net.x/../../kernel", "", "net."] {
            assert!(bad.parse::<Sysctl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn capabilities_are_named_in_three_ways() {
        for text in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin"] {
            assert_eq!(text.parse::<Capability>().unwrap().as_str(), "NET_ADMIN");
        }
        assert!("ALL".parse::<Capability>().is_err());
    }
}
