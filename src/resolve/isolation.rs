//! How much a plan loosens the isolation that every service has. The default loosens nothing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a service needs beyond a container that may do nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Isolation {
    /// Which user and group ids exist in the container.
    #[serde(skip_serializing_if = "IdKind::is_user")]
    pub ids: IdKind,
    /// For [`IdKind::Private`]: ids the service needs beside 0 and its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_ids: Vec<u32>,
    /// Capabilities it keeps, without `CAP_`, e.g. `NET_ADMIN`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// System calls it may make beyond the default policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<String>,
    /// Devices of the host it sees beyond those of every container; `fuse` is the only one there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// The root file system cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// File systems in memory: path in the container and most bytes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, u64>,
    /// Most bytes of /dev/shm; 64 MiB when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// A time namespace of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub time: bool,
    /// It may make control groups below its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cgroup_writable: bool,
    /// Kernel settings of its own namespaces, e.g. `net.core.somaxconn`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of its process (getrlimit(2)) by name, e.g. `nofile`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rlimits: BTreeMap<String, Rlimit>,
}

impl Isolation {
    /// Whether it loosens and changes nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Isolation::default()
    }
}

/// Which ids of the host stand behind the ids of a container (user_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdKind {
    /// The service's id alone: it is the user's own. Needs nothing of the host.
    #[default]
    User,
    /// All ids: 0 is the user, the others are the user's range of `/etc/subuid`.
    Range,
    /// Only the ids the service needs, each from a slice of the user's range that no other service has.
    Private,
}

impl IdKind {
    /// Whether it is the one-line map.
    #[must_use]
    pub fn is_user(&self) -> bool {
        *self == IdKind::User
    }

    /// Its name in recipes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            IdKind::User => "user",
            IdKind::Range => "range",
            IdKind::Private => "private",
        }
    }
}

/// A resource limit; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rlimit {
    /// What is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<u64>,
    /// How far the process itself may raise it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<u64>,
}
