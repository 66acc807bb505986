//! `steading run`: a container that runs once, from any image of the store.
//!
//! What is there already is used without an event loop and without asking systemd: the image, and the yard, which
//! `steading-run.service` holds. Whatever is missing is brought by another process of this program (`steading prepare`, install
//! lane), so that this one has one thread and may enter namespaces.

use super::units::UserUnits;
use super::{Context, context, images};
use crate::error::{Context as _, Error, Result};
use crate::idmap::{self, IdMaps};
use crate::image::{Digest, Identity, ImageConfig, Reference, UserText};
use crate::report::Silent;
use crate::resolve::{self, HostPath, IdKind, OneOff, OneOffImage, Plan, ServiceName};
use crate::runtime;
use crate::spec::{self, HostFacts};
use crate::state::{Keeper, RunDir, RunLock};
use crate::store::{Index, Kind, Store};
use crate::sys::file::create_dir_all;
use crate::unit::{self, RUN};
use oci_spec::runtime::Spec;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

/// Largest /etc/passwd and /etc/group that are read.
const MOST: u64 = 4 << 20;

/// What is to run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The image.
    pub image: Reference,
    /// As whom; the image's own user when not given.
    pub user: Option<UserText>,
    /// Everything that is wanted otherwise than the image has it.
    pub wishes: OneOff,
    /// Whether it gets a terminal of its own.
    pub terminal: bool,
    /// No progress of a pull.
    pub quiet: bool,
}

/// Runs it and waits for its end; removes all that it left. Returns its exit code.
///
/// # Errors
/// When the image cannot be had, the yard does not come up, or the container cannot be made.
pub fn run(request: &RunRequest) -> Result<ExitCode> {
    let context = Context::load(Arc::new(Silent))?;
    let held = RunLock::share(&context.paths)?;
    let image = match obtain(&context, request, !Keeper::is_there(&context.paths)?)? {
        Ok(image) => image,
        Err(code) => return Ok(code),
    };
    // From here on as root of the yard's namespace: what belongs to any id of the user can be removed.
    let u0 = runtime::enter_yard(&context.paths)?;
    let dir = RunDir::create(&context.paths)?;
    let code = image.plan(request, dir.name.clone()).and_then(|mut plan| {
        let data = dir.data.join("data");
        let ids = ids_of(&mut plan, &u0)?;
        let spec = image.spec(&plan, &ids, request.terminal, Places { root: &dir.data, data: &data, etc: &dir.runtime })?;
        image.fill_volumes(&plan, &data)?;
        held.touch()?;
        runtime::run_once(&context.paths, &plan, spec, &dir, request.terminal)
    });
    let removed = dir.remove();
    held.touch()?;
    let code = code?;
    removed.map(|()| ExitCode::from(code))
}

/// The image, and with `yard` somebody who holds the yard; what is missing is brought. An exit code when that failed, and was told.
pub(super) fn obtain(context: &Context, request: &RunRequest, yard: bool) -> Result<std::result::Result<Image, ExitCode>> {
    let found = find(context, &request.image)?;
    if (found.is_none() || yard)
        && let Some(code) = prepare_in_child(request, found.is_none(), yard)?
    {
        return Ok(Err(code));
    }
    let image = found.map_or_else(|| find(context, &request.image), |image| Ok(Some(image)))?;
    image.map(Ok).ok_or_else(|| Error::not_found(format!("the image `{}` is not here", request.image)))
}

/// What a program that starts as root needs over its own ids, and nothing else, to give files to another user and become him. Of the
/// fourteen that other tools leave to every container.
const DROPPING: [&str; 8] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETPCAP", "SETUID"];

/// The ids of a container: one that starts as root most likely drops to another user, for which it has the user's whole range, where
/// there is one; else its user is all there is.
fn ids_of(plan: &mut Plan, u0: &IdMaps) -> Result<IdMaps> {
    plan.isolation.ids = idmap::kind_for_image(plan.process.uid, u0.uids.len() > 1 && u0.gids.len() > 1);
    if plan.isolation.ids == IdKind::Range {
        plan.isolation.capabilities = DROPPING.map(str::to_owned).to_vec();
        return Ok(idmap::range(u0));
    }
    let own = u0.uids.outside(0).zip(u0.gids.outside(0)).ok_or_else(|| Error::failed("the yard's namespace has no root"))?;
    Ok(idmap::user((plan.process.uid, plan.process.gid), own))
}

/// Where a container's parts are.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) root: &'a Path,
    pub(super) data: &'a Path,
    pub(super) etc: &'a Path,
}

/// An image of the store that is to run.
pub(super) struct Image {
    pub(super) store: Store,
    digest: Digest,
    config: ImageConfig,
}

fn find(context: &Context, reference: &Reference) -> Result<Option<Image>> {
    let store = match Store::open_read_only(&context.paths.store()) {
        Ok(store) => store,
        Err(error) if error.kind() == crate::error::Kind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(digest) = store.reference(&reference.to_string())? else { return Ok(None) };
    let config = ImageConfig::parse(&store.config(&digest)?)?;
    Ok(Some(Image { store, digest, config }))
}

impl Image {
    pub(super) fn plan(&self, request: &RunRequest, name: ServiceName) -> Result<Plan> {
        let who = self.identity(request.user.as_ref())?;
        let reference = request.image.to_string();
        let image = OneOffImage { reference: &reference, digest: self.digest, config: &self.config };
        let plan = resolve::one_off(&request.wishes, &image, &who, name)?;
        check_volumes(&plan)?;
        Ok(plan)
    }

    pub(super) fn index(&self) -> Result<Index> {
        let index = self.store.image(&self.digest)?;
        index.ok_or_else(|| Error::not_found(format!("the image {} is not here", self.digest)))
    }

    /// The runtime spec of `plan`, with `ids` of the host, but for the system call policy.
    pub(super) fn spec(&self, plan: &Plan, ids: &IdMaps, terminal: bool, places: Places<'_>) -> Result<Spec> {
        let masked = runtime::masks_of_host();
        let Places { root, data, etc } = places;
        let mut spec = spec::without_policy(plan, &HostFacts { ids, root, data, runtime: etc, masked: &masked })?;
        if let Some(process) = spec.process_mut() {
            process.set_terminal(Some(terminal));
        }
        Ok(spec)
    }

    /// Makes the directories of the image's volumes, with what the image has there.
    pub(super) fn fill_volumes(&self, plan: &Plan, data: &Path) -> Result<()> {
        let own: Vec<_> = plan.volumes.iter().filter(|volume| volume.source.is_none()).collect();
        if own.is_empty() {
            return Ok(());
        }
        create_dir_all(data, 0o700)?;
        let index = self.index()?;
        for volume in own {
            let place = data.join(&volume.name);
            match index
                .resolve(volume.target.as_bytes())
                .filter(|node| index.node(*node).is_some_and(|node| node.kind == Kind::Dir))
            {
                Some(node) => self.store.export(&index, node, &place)?,
                None => create_dir_all(&place, 0o755)?,
            }
        }
        Ok(())
    }

    /// Who the program runs as: the wish, else the image's USER, else root.
    fn identity(&self, wish: Option<&UserText>) -> Result<Identity> {
        let own = match self.config.user.as_str() {
            "" => UserText::number(0),
            text => text.parse().context(|| "the image has a USER that is none")?,
        };
        let index = self.index()?;
        let file = |path: &str| self.read(&index, path);
        wish.unwrap_or(&own).look_up(&file("etc/passwd")?, &file("etc/group")?)
    }

    fn read(&self, index: &Index, path: &str) -> Result<Vec<u8>> {
        Ok(self.store.read_file(index, path.as_bytes(), MOST)?.unwrap_or_default())
    }
}

/// What the user names on the host must be there: to make it would hide a slip of the finger.
fn check_volumes(plan: &Plan) -> Result<()> {
    let missing = |path: &&HostPath| !path.as_path().exists();
    match plan.volumes.iter().filter_map(|volume| volume.source.as_ref()).find(missing) {
        Some(path) => Err(Error::usage(format!("`{}` does not exist on the host", path.as_path().display()))
            .hint("make it first: a slip of the finger is not to become a directory")),
        None => Ok(()),
    }
}

/// Has another process bring what is missing. Its exit code, if that is the end: it has told why.
fn prepare_in_child(request: &RunRequest, image: bool, yard: bool) -> Result<Option<ExitCode>> {
    let mut command = Command::new(context::executable()?);
    command.arg("prepare");
    if request.quiet {
        command.arg("--quiet");
    }
    if image {
        command.arg("--image").arg(request.image.to_string());
    }
    if yard {
        command.arg("--yard");
    }
    // Nothing of it is data.
    let status = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status();
    let status = status.context(|| "cannot start another steading to prepare the run")?;
    match status.code() {
        Some(0) => Ok(None),
        Some(code) => Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))),
        None => Err(Error::failed("the preparation of the run was interrupted")),
    }
}

/// Brings what a run needs and does not bring itself: `image` into the store, the yard up. The caller has a share in the run lock.
///
/// # Errors
/// Those of the registry, the disk and systemd.
pub async fn prepare(context: &Context, image: Option<&Reference>, yard: bool) -> Result<()> {
    if let Some(reference) = image {
        images::pull_image(context, reference).await?;
    }
    if !yard {
        return Ok(());
    }
    let units = UserUnits::connect(context).await?;
    units.check_shared().await?;
    let shared = context.lock_shared().await?;
    let changed = units.install_shared(&unit::shared(&context::executable()?, &context::places()?)?)?;
    if changed {
        units.manager.reload().await?;
    }
    drop(shared);
    units.manager.reset_failed(RUN).await?;
    let outcome = units.manager.start(RUN, &mut |_| {}).await?;
    outcome.require("the yard did not start").map(drop)
}
