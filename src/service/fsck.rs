//! Whether what lies on the disk is whole: the store, every service, leftovers.

use super::discard::discard;
use super::{Context, images, pull};
use crate::error::{Error, Result};
use crate::resolve::{Plan, ServiceName};
use crate::state::Services;
use crate::store::FsckReport;
use crate::sys::file::TEMP_PREFIX;
use crate::unit::{Marker, RUN, marker};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What is wrong.
    pub what: String,
    /// What to do about it; empty when it was repaired.
    pub remedy: String,
}

impl Finding {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { what: what.into(), remedy: remedy.into() }
    }
}

/// Checks everything. With `repair`, what can be repaired without loss is.
///
/// # Errors
/// When the disk cannot be read.
pub async fn fsck(context: &Context, repair: bool) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let store = images::shared_store(context)?;
    if let Some(store) = store.clone() {
        context.reporter.step("checking the store");
        let reporter = context.reporter.clone();
        let report = pull::in_background(move || store.fsck(repair, &*reporter)).await?;
        findings.extend(of_store(&report, repair));
    }
    context.reporter.step("checking the services");
    let services = Services::new(&context.paths);
    for name in services.names()? {
        match services.load(&name) {
            Ok(plan) => {
                findings.extend(of_service(context, &plan));
                if store.as_ref().is_none_or(|store| !store.has_image(&plan.image.digest)) {
                    let remedy = format!("steading image pull {}", plan.image.reference);
                    findings.push(Finding::new(format!("the image of `{name}` is not in the store"), remedy));
                }
            }
            Err(error) => findings.push(Finding::new(line(&error), error.find_hint().unwrap_or_default())),
        }
    }
    findings.extend(of_units(context, &services)?);
    for path in leftovers(context) {
        let what = format!("an interrupted write left `{}`", path.display());
        if repair {
            discard(&path)?;
            findings.push(Finding::new(what, ""));
        } else {
            findings.push(Finding::new(what, "harmless; `steading fsck --repair` removes it"));
        }
    }
    Ok(findings)
}

fn of_store(report: &FsckReport, repaired: bool) -> Vec<Finding> {
    let repair = if repaired {
        "removed; `steading image pull` brings it again"
    } else {
        "`steading fsck --repair` removes it; then pull the image again"
    };
    let mut list = Vec::new();
    for digest in &report.torn {
        list.push(Finding::new(format!("the content {digest} in the store is damaged"), repair));
    }
    for digest in &report.missing {
        list.push(Finding::new(format!("the content {digest} is missing in the store"), repair));
    }
    for (what, why) in &report.damaged {
        list.push(Finding::new(format!("{what} cannot be used: {why}"), repair));
    }
    for path in &report.foreign {
        list.push(Finding::new(format!("`{}` does not belong into the store", path.display()), "move it elsewhere"));
    }
    list
}

fn of_service(context: &Context, plan: &Plan) -> Vec<Finding> {
    let name = &plan.name;
    let directory = context.paths.service(name);
    let again = || format!("`steading remove {name}` keeps its data; then install it again");
    let mut list = Vec::new();
    let spec = fs::read(directory.runtime_spec()).ok();
    if spec.is_none_or(|bytes| serde_json::from_slice::<oci_spec::runtime::Spec>(&bytes).is_err()) {
        list.push(Finding::new(format!("the runtime spec of `{name}` is missing or broken"), again()));
    }
    for secret in &plan.secrets {
        let path = directory.secrets().join(&secret.name);
        match fs::metadata(&path) {
            Ok(meta) if meta.permissions().mode() & 0o077 == 0 => {}
            Ok(_) => {
                list.push(Finding::new(format!("others may read `{}`", path.display()), format!("chmod 600 {}", path.display())))
            }
            Err(error) => {
                list.push(Finding::new(format!("the secret `{}` of `{name}` cannot be read: {error}", secret.name), again()))
            }
        }
    }
    for volume in &plan.volumes {
        let path = volume.source.as_ref().map_or_else(|| directory.volume(&volume.name), |source| source.as_path().to_owned());
        if !path.exists() {
            list.push(Finding::new(
                format!("the volume `{}` of `{name}` is missing: {}", volume.name, path.display()),
                "bring it back from a backup",
            ));
        }
    }
    let unit = context.paths.units().join(name.unit());
    let there = fs::read(&unit).ok();
    match (there, fs::read(directory.current().join(name.unit())).ok()) {
        (None, _) => list.push(Finding::new(format!("the unit file of `{name}` is missing"), again())),
        (Some(there), Some(ours)) if there != ours => {
            let remedy = format!("keep changes in a drop-in: systemctl --user edit {name}");
            list.push(Finding::new(format!("`{}` is not as steading wrote it", unit.display()), remedy));
        }
        _ => {}
    }
    list
}

/// Units of ours without a service.
fn of_units(context: &Context, services: &Services<'_>) -> Result<Vec<Finding>> {
    let mut list = Vec::new();
    let none_left = services.names()?.is_empty();
    let for_runs = context.paths.units().join(RUN).exists();
    for entry in fs::read_dir(context.paths.units()).into_iter().flatten().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let orphan = match marker(&text) {
            Some(Marker::Service(name)) => !services.is_installed(&name),
            Some(Marker::Yard | Marker::Slice) => none_left && !for_runs,
            Some(Marker::Run) | None => false,
        };
        if orphan {
            let path = entry.path();
            let remedy = format!("rm {}; systemctl --user daemon-reload", path.display());
            list.push(Finding::new(format!("the unit `{}` has no service", path.display()), remedy));
        }
    }
    Ok(list)
}

/// Temporary files of writers that died, in the directories of services.
fn leftovers(context: &Context) -> Vec<PathBuf> {
    let services = context.paths.services();
    let mut places = vec![services.clone(), context.paths.units().to_owned()];
    let installed = Services::new(&context.paths);
    let names: Vec<ServiceName> = installed.names().into_iter().chain(installed.kept()).flatten().collect();
    for name in names {
        let directory = context.paths.service(&name);
        places.extend([directory.path().to_owned(), directory.generations(), directory.secrets()]);
    }
    let temporary = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(TEMP_PREFIX.as_bytes()));
    let entries = places.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
    entries.map(|entry| entry.path()).filter(|path| temporary(path)).collect()
}

fn line(error: &Error) -> String {
    let causes = error.causes();
    std::iter::once(error.what()).chain(causes.iter().map(String::as_str)).collect::<Vec<_>>().join(": ")
}
