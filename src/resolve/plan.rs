//! The plan: everything of one install pinned. `plan.toml` of a generation is exactly this type; the run lane reads it.

use super::{HostPath, Isolation, ServiceName};
use crate::image::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Version of the format of `plan.toml`; a reader refuses a number it does not know.
pub const PLAN_FORMAT: u32 = 1;

/// Everything of one install, pinned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// Name of the service and its unit.
    pub name: ServiceName,
    /// Where it comes from.
    pub recipe: PlanRecipe,
    /// What runs.
    pub image: PlanImage,
    /// How it runs.
    pub process: PlanProcess,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PlanPort>,
    /// Persistent directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<PlanVolume>,
    /// Secrets delivered as files; the values are not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<PlanSecret>,
    /// What it may do beyond the default.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// When it counts as started.
    pub ready: Ready,
    /// How it is stopped.
    pub stop: Stop,
    /// Resource limits.
    #[serde(default)]
    pub limits: Limits,
    /// How people and programs reach it.
    #[serde(default)]
    pub connect: Connect,
    /// The settings of the recipe as they were resolved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// Which recipe and version a plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanRecipe {
    /// Name in the catalog, e.g. `postgres`.
    pub name: String,
    /// Version of the recipe that was chosen, e.g. `14`.
    pub version: String,
    /// Where the recipe was found: `built-in`, `user` or a path.
    pub source: String,
    /// Title for people, e.g. `PostgreSQL`.
    pub title: String,
}

/// The image, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanImage {
    /// Full reference as resolved, e.g. `docker.io/library/postgres:14`.
    pub reference: String,
    /// Digest of the manifest of this platform; names the image in the store and the yard.
    pub digest: Digest,
    /// Digest of the list or index it was chosen from, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_digest: Option<Digest>,
    /// Digest of the image's config.
    pub config: Digest,
    /// Platform chosen, e.g. `linux/amd64`.
    pub platform: String,
    /// Layers, lowest first.
    pub layers: Vec<PlanLayer>,
}

/// One layer as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanLayer {
    /// Digest of the compressed blob.
    pub digest: Digest,
    /// Bytes of the compressed blob.
    pub size: u64,
    /// Media type, e.g. `application/vnd.oci.image.layer.v1.tar+gzip`.
    pub media_type: String,
    /// Digest of the uncompressed tar (`rootfs.diff_ids` of the config).
    pub diff_id: Digest,
}

/// The process, image config and recipe already merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanProcess {
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// Working directory in the container.
    pub cwd: String,
    /// The whole environment in the container.
    pub env: BTreeMap<String, String>,
    /// User id in the container, onto which the user's own id is mapped.
    pub uid: u32,
    /// Group id in the container, onto which the user's own group is mapped.
    pub gid: u32,
    /// Host name in the container.
    pub hostname: String,
    /// Whether a small reaper is pid 1 rather than the service.
    #[serde(default)]
    pub init: bool,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A published port: bound in the container on `container`, kept by systemd on `host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanPort {
    /// Name in the recipe, e.g. `db`; also the name in the descriptor store.
    pub name: String,
    /// Port that the service binds inside.
    pub container: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Address and port on the host.
    pub host: SocketAddr,
}

/// A persistent directory bound into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanVolume {
    /// Name; without `source` the directory is `data/NAME` of the service.
    pub name: String,
    /// Absolute path in the container.
    pub target: String,
    /// A host directory the user named; it is never removed by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<HostPath>,
    /// Mounted read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A secret; its value is the content of `secrets/NAME` of the service and appears in `/run/secrets/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlanSecret {
    /// Name, e.g. `password`.
    pub name: String,
    /// Characters to generate when there is no value yet.
    pub length: u16,
}

/// When a service counts as started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ready {
    /// What is looked at (a table of its own: serde cannot refuse unknown keys of a flattened one).
    pub probe: Probe,
    /// Milliseconds between two tries.
    pub interval_ms: u64,
    /// Milliseconds one try may take.
    pub timeout_ms: u64,
    /// Seconds until a start is given up.
    pub start_timeout_s: u64,
    /// Seconds without a successful probe after which a ready service is restarted (`WatchdogSec=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_s: Option<u64>,
    /// What a start with empty volumes does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<String>,
    /// What exit codes of an exec probe mean, for people; such a start makes progress.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, String>,
}

/// What tells that a service is ready. `listen`, `tcp`, `http` and `exec` first wait until the service listens on its published TCP
/// ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// The program was executed.
    Started,
    /// The service called listen(2) on every published TCP port (seen by the supervisor, not polled).
    Listen,
    /// It sends `READY=1` (sd_notify(3)).
    Notify,
    /// A port accepts a connection.
    Tcp {
        /// Name of the port in the plan.
        port: String,
    },
    /// A GET request is answered with a status from 200 to 399.
    Http {
        /// Name of the port in the plan.
        port: String,
        /// Path and query.
        path: String,
    },
    /// A text appears in its output.
    Log {
        /// The text.
        text: String,
    },
    /// A command inside the container exits 0.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// How a service is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stop {
    /// Signal name, e.g. `SIGINT`.
    pub signal: String,
    /// Seconds until systemd kills what is left.
    pub timeout_s: u64,
    /// Program and arguments that run in the container before the signal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `SendSIGKILL=no`: what does not end is left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_sigkill: bool,
}

/// Resource limits, as systemd.resource-control(5) enforces them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// `MemoryMax=` in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// `MemoryHigh=` in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high_bytes: Option<u64>,
    /// `CPUQuota=` in percent of one CPU (150 = 1.5 CPUs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// `CPUWeight=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// `IOWeight=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u32>,
    /// `OOMScoreAdjust=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adjust: Option<i32>,
    /// `TasksMax=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
}

/// How people and programs reach the service. In the texts `{secret.NAME}` still stands for a secret's value
/// (percent-encoded in `url`); all else is filled in. `{{` and `}}` are braces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Connect {
    /// URL, e.g. `postgresql://postgres:{secret.password}@127.0.0.1:5432/postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Environment variables for clients, e.g. `PGHOST`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Client command run inside the container by `steading shell`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}
