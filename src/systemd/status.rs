//! What the manager knows of a unit, as plain data.

use super::proxy::Listed;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use zbus::OwnedVariant;

/// The short state of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitState {
    /// Name with suffix.
    pub name: String,
    /// `Description=`.
    pub description: String,
    /// `loaded`, `not-found`, `masked`, `error`, ...
    pub load: String,
    /// `active`, `activating`, `inactive`, `failed`, `deactivating`, `reloading`.
    pub active: String,
    /// Finer than `active`: `running`, `start`, `auto-restart`, `dead`, ...
    pub sub: String,
    /// A job that is under way: `start`, `stop`, `restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

impl From<Listed> for UnitState {
    fn from(listed: Listed) -> Self {
        UnitState {
            job: (listed.job_id != 0).then_some(listed.job_type),
            name: listed.name,
            description: listed.description,
            load: listed.load,
            active: listed.active,
            sub: listed.sub,
        }
    }
}

/// All that is worth telling of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnitStatus {
    /// Name with suffix.
    pub name: String,
    /// `Description=`.
    pub description: String,
    /// `loaded`, `not-found`, `masked`, `error`, ...
    pub load: String,
    /// `active`, `activating`, `inactive`, `failed`, `deactivating`, `reloading`.
    pub active: String,
    /// Finer than `active`: `running`, `start`, `auto-restart`, `dead`, ...
    pub sub: String,
    /// `enabled`, `disabled`, `masked`, ...; empty when there is no file.
    pub file_state: String,
    /// The unit file in force.
    pub fragment: Option<PathBuf>,
    /// Drop-in files in force.
    pub drop_ins: Vec<PathBuf>,
    /// Why it ended: `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, `start-limit-hit`, ...
    pub result: String,
    /// Main process, while there is one.
    pub main_pid: Option<u32>,
    /// How the last main process ended: 1 exited, 2 killed, 3 dumped core; 0 not yet.
    pub exit_code: i32,
    /// Its exit status or signal, by `exit_code`.
    pub exit_status: i32,
    /// Automatic restarts since it was last started by hand.
    pub restarts: u32,
    /// What the service last said of itself (`STATUS=`).
    pub status_text: String,
    /// Bytes of memory in its control group, where the controller is there.
    pub memory_bytes: Option<u64>,
    /// Processor time, where it is accounted.
    pub cpu_ns: Option<u64>,
    /// Tasks in its control group.
    pub tasks: Option<u64>,
    /// Microseconds since 1970 when it last became active.
    pub active_since_us: Option<u64>,
    /// Descriptors in its store.
    pub stored_descriptors: u32,
    /// Its control group relative to the cgroup root; empty while it is not running.
    pub control_group: String,
}

impl UnitStatus {
    /// Whether it runs and is ready.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active == "active" || self.active == "reloading"
    }

    /// Whether there is a unit of that name.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.load != "not-found"
    }

    /// In words, why it is not running; `None` when nothing went wrong.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let ended = || match self.exit_code {
            1 => format!("it exited with code {}", self.exit_status),
            2 | 3 => match nix::sys::signal::Signal::try_from(self.exit_status) {
                Ok(signal) => format!("it was killed by {signal}"),
                Err(_) => format!("it was killed by signal {}", self.exit_status),
            },
            _ => "its process ended".to_owned(),
        };
        match self.load.as_str() {
            "masked" => return Some("its unit is masked".to_owned()),
            "not-found" => return Some("there is no such unit".to_owned()),
            "error" | "bad-setting" => return Some("its unit file is not valid".to_owned()),
            _ => {}
        }
        match self.result.as_str() {
            "" | "success" => None,
            "exit-code" | "signal" | "core-dump" => Some(ended()),
            "timeout" => Some("it was not ready, or not gone, in time".to_owned()),
            "oom-kill" => Some("it was killed because memory ran out".to_owned()),
            "watchdog" => Some("it did not answer its watchdog".to_owned()),
            "protocol" => Some("it ended before it said that it is ready".to_owned()),
            "start-limit-hit" => Some("it failed so often that systemd gave it up".to_owned()),
            "resources" => Some("systemd could not start its process".to_owned()),
            other => Some(format!("systemd says `{other}`")),
        }
    }

    pub(super) fn from_properties(all: &HashMap<String, OwnedVariant>) -> UnitStatus {
        let text = |key| get::<String>(all, key).unwrap_or_default();
        // systemd writes "not known" as the largest number.
        let count = |key| get::<u64>(all, key).filter(|value| *value != u64::MAX);
        UnitStatus {
            name: text("Id"),
            description: text("Description"),
            load: text("LoadState"),
            active: text("ActiveState"),
            sub: text("SubState"),
            file_state: text("UnitFileState"),
            fragment: Some(text("FragmentPath")).filter(|path| !path.is_empty()).map(PathBuf::from),
            drop_ins: texts(all, "DropInPaths").into_iter().map(PathBuf::from).collect(),
            result: text("Result"),
            main_pid: get::<u32>(all, "MainPID").filter(|pid| *pid != 0),
            exit_code: get(all, "ExecMainCode").unwrap_or_default(),
            exit_status: get(all, "ExecMainStatus").unwrap_or_default(),
            restarts: get(all, "NRestarts").unwrap_or_default(),
            status_text: text("StatusText"),
            memory_bytes: count("MemoryCurrent"),
            cpu_ns: count("CPUUsageNSec"),
            tasks: count("TasksCurrent"),
            active_since_us: get::<u64>(all, "ActiveEnterTimestamp").filter(|time| *time != 0),
            stored_descriptors: get(all, "NFileDescriptorStore").unwrap_or_default(),
            control_group: text("ControlGroup"),
        }
    }
}

fn get<T>(all: &HashMap<String, OwnedVariant>, key: &str) -> Option<T>
where
    T: TryFrom<OwnedVariant>,
{
    all.get(key)?.try_clone().ok()?.try_into().ok()
}

fn texts(all: &HashMap<String, OwnedVariant>, key: &str) -> Vec<String> {
    get::<Vec<String>>(all, key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Variant;

    fn properties(list: Vec<(&str, Variant<'_>)>) -> HashMap<String, OwnedVariant> {
        list.into_iter().map(|(key, value)| (key.to_owned(), value.try_into().unwrap())).collect()
    }

    #[test]
    fn properties_become_plain_data_and_unknown_numbers_are_absent() {
        let status = UnitStatus::from_properties(&properties(vec![
            ("Id", "a.service".into()),
            ("LoadState", "loaded".into()),
            ("Result", "signal".into()),
            ("ExecMainCode", 2_i32.into()),
            ("ExecMainStatus", 9_i32.into()),
            ("MainPID", 0_u32.into()),
            ("MemoryCurrent", u64::MAX.into()),
            ("CPUUsageNSec", 5_u64.into()),
            ("NFileDescriptorStore", 2_u32.into()),
            ("DropInPaths", vec!["/x/y.conf"].into()),
        ]));
        assert_eq!((status.main_pid, status.memory_bytes, status.cpu_ns), (None, None, Some(5)));
        assert_eq!((status.stored_descriptors, status.drop_ins), (2, vec![PathBuf::from("/x/y.conf")]));
    }

    #[test]
    fn a_failure_is_told_in_words() {
        let status = |result: &str, exit_code, exit_status| UnitStatus {
            load: "loaded".into(),
            result: result.into(),
            exit_code,
            exit_status,
            ..UnitStatus::default()
        };
        assert_eq!(status("success", 0, 0).why(), None);
        assert_eq!(status("exit-code", 1, 3).why().unwrap(), "it exited with code 3");
        assert_eq!(status("signal", 2, 9).why().unwrap(), "it was killed by SIGKILL");
        assert_eq!(status("signal", 2, 64).why().unwrap(), "it was killed by signal 64");
        assert!(status("something-new", 0, 0).why().unwrap().contains("something-new"));
    }
}
