//! The part of org.freedesktop.systemd1(5) and org.freedesktop.login1(5) that is used.

use serde::Deserialize;
use zbus::{OwnedObjectPath, Type};

/// A change of a symbolic link: kind, path, target.
pub(super) type LinkChange = (String, String, String);

/// An element of `ListUnitsBy...`.
#[derive(Debug, Deserialize, Type)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    pub(super) _following: String,
    pub(super) _path: OwnedObjectPath,
    pub(super) job_id: u32,
    pub(super) job_type: String,
    pub(super) _job_path: OwnedObjectPath,
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Systemd {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn enable_unit_files(&self, files: &[&str], runtime: bool, force: bool) -> zbus::Result<(bool, Vec<LinkChange>)>;
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<LinkChange>>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Listed>>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn version(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn unit_path(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn control_group(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
pub(super) trait Login {
    fn get_user(&self, uid: u32) -> zbus::Result<OwnedObjectPath>;
    fn set_user_linger(&self, uid: u32, enable: bool, interactive: bool) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.login1.User", default_service = "org.freedesktop.login1")]
pub(super) trait LoginUser {
    #[zbus(property(emits_changed_signal = "false"))]
    fn linger(&self) -> zbus::Result<bool>;
}
