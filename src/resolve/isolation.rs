//! How much a plan loosens the isolation that every service has. The default loosens nothing.

use crate::recipe;
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

/// One line about how a plan departs from the default isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Departure {
    /// Which part, by its name in recipes, e.g. `capabilities`.
    pub part: &'static str,
    /// What it is set to, for people.
    pub value: String,
}

impl Isolation {
    /// What `asked`, the `[isolation]` of a recipe, comes to.
    #[must_use]
    pub fn of(asked: &recipe::Isolation) -> Isolation {
        Isolation {
            ids: asked.ids,
            extra_ids: asked.extra_ids.clone(),
            capabilities: asked.capabilities.iter().map(|name| name.as_str().to_owned()).collect(),
            syscalls: asked.syscalls.iter().map(|name| name.as_str().to_owned()).collect(),
            devices: asked.devices.iter().map(|device| device.as_str().to_owned()).collect(),
            read_only: asked.read_only,
            tmpfs: asked.tmpfs.iter().map(|(path, size)| (path.to_string(), size.0)).collect(),
            shm_bytes: asked.shm.map(|size| size.0),
            time: asked.time,
            cgroup_writable: asked.cgroup == recipe::Cgroup::Writable,
            sysctls: asked.sysctls.iter().map(|(key, value)| (key.as_str().to_owned(), value.clone())).collect(),
            rlimits: asked.rlimits.iter().map(|(name, value)| (name.as_str().to_owned(), value.0)).collect(),
        }
    }

    /// What the service may do that no other may; empty for the default.
    #[must_use]
    pub fn loosened(&self) -> Vec<Departure> {
        let pairs = |list: &mut dyn Iterator<Item = (String, String)>| {
            list.map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ")
        };
        let bound = |value: Option<u64>| value.map_or_else(|| "infinity".to_owned(), |value| value.to_string());
        let ids = match self.ids {
            IdKind::User => String::new(),
            IdKind::Range => "range (all ids: 0 is you, the others are your subordinate ids)".to_owned(),
            IdKind::Private => {
                let extra: Vec<String> = self.extra_ids.iter().filter(|id| **id != 0).map(u32::to_string).collect();
                let extra = if extra.is_empty() { String::new() } else { format!(", and {}", extra.join(", ")) };
                format!("private (0 and the service's own{extra}, as subordinate ids of yours that no other service has)")
            }
        };
        let rlimits = &mut self.rlimits.iter().map(|(name, limit)| {
            let (soft, hard) = (bound(limit.soft), bound(limit.hard));
            (name.clone(), if soft == hard { soft } else { format!("{soft} to {hard}") })
        });
        [
            ("ids", ids),
            ("capabilities", self.capabilities.join(", ")),
            ("syscalls", self.syscalls.join(", ")),
            ("devices", self.devices.join(", ")),
            ("cgroup", if self.cgroup_writable { "writable".to_owned() } else { String::new() }),
            ("sysctls", pairs(&mut self.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())))),
            ("rlimits", pairs(rlimits)),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(part, value)| Departure { part, value })
        .collect()
    }

    /// What is closed beyond the default.
    #[must_use]
    pub fn tightened(&self) -> Vec<Departure> {
        [
            ("read-only", self.read_only, "the root file system cannot be written"),
            ("time", self.time, "clocks of its own: the host's uptime is not seen"),
        ]
        .into_iter()
        .filter(|(_, set, _)| *set)
        .map(|(part, _, value)| Departure { part, value: value.to_owned() })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_loosens_is_told_and_nothing_else() {
        let mut isolation = Isolation {
            read_only: true,
            time: true,
            tmpfs: BTreeMap::from([("/tmp".into(), 4096)]),
            shm_bytes: Some(1),
            ..Isolation::default()
        };
        assert_eq!(isolation.loosened(), []);
        assert_eq!(isolation.tightened().len(), 2);
        isolation.ids = IdKind::Private;
        isolation.extra_ids = vec![33];
        isolation.capabilities = vec!["NET_ADMIN".into()];
        isolation.syscalls = vec!["bpf".into()];
        isolation.devices = vec!["fuse".into()];
        isolation.cgroup_writable = true;
        isolation.sysctls = BTreeMap::from([("net.core.somaxconn".into(), "9".into())]);
        isolation.rlimits =
            BTreeMap::from([("core".into(), Rlimit::default()), ("nofile".into(), Rlimit { soft: Some(1), hard: Some(2) })]);
        let parts: Vec<_> = isolation.loosened().into_iter().map(|it| (it.part, it.value)).collect();
        assert_eq!(
            parts.iter().map(|it| it.0).collect::<Vec<_>>(),
            ["ids", "capabilities", "syscalls", "devices", "cgroup", "sysctls", "rlimits"]
        );
        assert!(parts[0].1.contains("33"));
        assert_eq!(parts[6].1, "core = infinity, nofile = 1 to 2");
    }
}
