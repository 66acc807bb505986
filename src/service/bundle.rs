//! A container that runs once as an OCI bundle: `config.json`, `rootfs/`, and what the config refers to. Other runtimes do not know
//! the yard, so the image's files are copied (sharing disk blocks where the file system can).

use super::oneoff::{Image, Places, RunRequest, obtain};
use super::{Context, ids};
use crate::error::{Context as _, Error, Result};
use crate::report::Silent;
use crate::runtime;
use crate::spec;
use crate::state::RunDir;
use crate::store::NodeId;
use crate::sys::file::{create_dir_all, write_atomic};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

/// Writes the bundle of a container into `to`, which must not exist or be empty; it runs by `crun run --bundle TO NAME`.
///
/// # Errors
/// When the image cannot be had; when `to` holds something; when the disk is full.
pub fn bundle(request: &RunRequest, to: &Path) -> Result<ExitCode> {
    let context = Context::load(Arc::new(Silent))?;
    match obtain(&context, request, false)? {
        Err(code) => Ok(code),
        Ok(image) => {
            let name = "bundle".parse()?;
            write(&image, request, name, to).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Runs a container by another runtime, from a bundle that goes with it. Returns its exit code.
///
/// # Errors
/// As [`bundle`]; when there is no such runtime.
pub fn run_by(request: &RunRequest, program: &OsStr) -> Result<ExitCode> {
    let context = Context::load(Arc::new(Silent))?;
    let image = match obtain(&context, request, false)? {
        Err(code) => return Ok(code),
        Ok(image) => image,
    };
    let dir = RunDir::create(&context.paths)?;
    let to = dir.data.join("bundle");
    let code = write(&image, request, dir.name.clone(), &to).and_then(|()| {
        let mut command = Command::new(program);
        // The runtime's own state goes with ours. Without root there is no control group to make.
        command.arg("--root").arg(dir.runtime.join("runtime"));
        command.args(match Path::new(program).file_name().and_then(OsStr::to_str) {
            Some("crun") => &["--cgroup-manager=disabled"][..],
            Some("runc") => &["--rootless=true"],
            _ => &[],
        });
        command.args(["run", "--bundle"]).arg(&to).arg(dir.name.as_str());
        runtime::attend(command).map_err(|error| {
            let what = format!("cannot run the container by `{}`", program.display());
            Error::new(error.kind(), what).because(error).hint("is that runtime installed?")
        })
    });
    let removed = dir.remove();
    let code = code?;
    removed.map(|()| ExitCode::from(code))
}

fn write(image: &Image, request: &RunRequest, name: crate::resolve::ServiceName, to: &Path) -> Result<()> {
    match fs::read_dir(to).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Ok(true) => {
            return Err(Error::failed(format!("`{}` is not empty", to.display())).hint("name a directory that does not exist"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create_dir_all(to, 0o700)?,
        Err(error) => return Err(error).context(|| format!("cannot read `{}`", to.display())),
    }
    // A bundle can be moved; what is outside its rootfs is named from the root.
    let to = std::path::absolute(to).context(|| format!("cannot use `{}`", to.display()))?;
    let plan = image.plan(request, name)?;
    let ids = ids::one_line(&plan);
    let (etc, data) = (to.join("etc"), to.join("data"));
    runtime::write_etc(&plan, &data, &etc)?;
    image.fill_volumes(&plan, &data)?;
    let mut spec = image.spec(&plan, &ids, request.terminal, Places { root: Path::new("rootfs"), data: &data, etc: &etc })?;
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(Some(spec::policy(&plan)?));
    }
    image.store.export(&image.index()?, NodeId::ROOT, &to.join("rootfs"))?;
    let text = serde_json::to_vec_pretty(&spec).context(|| "cannot write the runtime spec")?;
    write_atomic(&to.join("config.json"), &text, 0o600)
}
