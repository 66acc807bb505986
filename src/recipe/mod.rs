//! Recipes: the TOML schema, parsing with places in the text, lint. No disk, no network.
//!
//! A recipe (`catalog/NAME.toml`) says how one kind of service is installed in all its versions. Tables, schema 1:
//!
//! | table | keys |
//! |---|---|
//! | `[recipe]` | `schema` `name` `title` `summary` `homepage` `license` `categories` `aliases` `default-version` |
//! | `[lifecycle]` | `status` (active, maintenance, archived) `notes` `replaced-by` |
//! | `[versions."14"]` | `tag` `eol` (a date) `aliases`, and any table below as `[versions."14".run]`, ... |
//! | `[image]` | `reference` without tag |
//! | `[run]` | `uid` `gid` `init` `cwd` `entrypoint` `args` (in place of the image's command) `env` |
//! | `[settings.NAME]` | `type` (string bool int size duration enum path) `default` `summary` `env` `arg` `choices` `min` `max` |
//! | `[secrets.NAME]` | `length` `env-file`: the variable that gets the path `/run/secrets/NAME` |
//! | `[ports.NAME]` | `container` `protocol` `default` (port of the host) `app` |
//! | `[data.NAME]` | `path` |
//! | `[isolation]` | `ids` (user, range, private) `extra-ids` `capabilities` `syscalls` `devices` (fuse) `read-only` `tmpfs` (path = size) `shm` `time` `cgroup` (read-only, writable) `sysctls` `rlimits` (`nofile = 65536` or `[soft, hard]` or `"infinity"`) |
//! | `[ready]` | `probe` (listen, notify, tcp, http, exec, log, started) `command` (exec) `port` (tcp, http) `path` (http) `text` (log) `interval` `timeout` `start-timeout` `watchdog` `first-start` `phases` (exit code = text) |
//! | `[stop]` | `signal` `timeout` `command` (before the signal) `no-sigkill` |
//! | `[connect]` | `url` `env` `shell` |
//! | `[limits]` | `memory` `memory-high` `cpus` `cpu-weight` `io-weight` `tasks` `oom-score-adjust` |
//!
//! There must be `schema` `name` `title` `summary` `default-version`, one version with its `tag`, the image's `reference` and the `uid` of
//! `[run]`. A port of the host is the container's if no `default` is given, the probe is `listen` (which needs a TCP port).
//!
//! A version is the recipe's tables with the version's own laid over them: tables merge, everything else is replaced. Both are
//! merged before they are read, with their places in the text, so that an error always points at what was written.
//!
//! Texts are [`Template`]s: `{setting.user}` `{port.db}` (`ADDRESS:PORT` on the host) `{port.db.host}` `{port.db.port}`
//! `{secret.password}` `{name}`; in `arg` also `{value}` and `{value.kib}` `{value.mib}` `{value.ms}`. `{{` and `}}` are braces.

mod date;
mod diagnose;
mod isolation;
mod lint;
mod nearest;
mod parse;
mod schema;
mod setting;
mod template;
mod words;

#[cfg(test)]
mod replay;

pub use date::Date;
pub use diagnose::{diagnose, from_toml};
pub use isolation::{CAPABILITIES, Capability, Cgroup, Device, Isolation, RLIMITS, RlimitName, RlimitValue, SyscallName, Sysctl};
pub use nearest::{did_you_mean, nearest};
pub use parse::{LONGEST, parse};
pub use schema::*;
pub use setting::{Kind, Setting, Value};
pub use template::{Form, Hole, PortPart, Template, Unit, fill_secrets};
pub use words::{ContainerPath, Cpus, EnvName, Name, Period, SignalName, Size, VersionName};
