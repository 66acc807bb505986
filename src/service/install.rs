//! Install: resolve, pull, write down, start; or everything as before.

use super::transaction::Transaction;
use super::units::UserUnits;
use super::{Context, context, control, ids, limits, ports, pull, remove};
use crate::catalog::Catalog;
use crate::error::{Context as _, Error, Result};
use crate::image::{ImageConfig, Platform};
use crate::recipe::{Date, Selected};
use crate::registry::{Client, ResolvedImage};
use crate::resolve::{self, ImageFacts, Plan, ServiceName};
use crate::runtime;
use crate::service::interrupt::Interrupts;
use crate::spec::{self, HostFacts};
use crate::state::{NameLock, Secret, Services, SharedLock, plan_text};
use crate::store::Store;
use crate::systemd;
use crate::unit;
use nix::unistd::getuid;
use std::sync::Arc;
use std::time::SystemTime;

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Request {
    /// `RECIPE[@VERSION]`.
    pub recipe: String,
    /// Everything that the user wants otherwise than the recipe.
    pub wishes: resolve::Request,
    /// Whether it is started now.
    pub start: bool,
}

/// What was installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The plan in force.
    pub plan: Plan,
    /// It took up the data of an earlier service of the name.
    pub kept_data: bool,
    /// It runs and is ready.
    pub started: bool,
    /// Whether the user's services outlive the login session; `None` when nobody knows.
    pub lingers: Option<bool>,
}

/// The plan that [`install`] would apply; nothing is written.
///
/// # Errors
/// As [`install`], but for the host's part.
pub async fn plan(context: &Context, request: &Request) -> Result<Plan> {
    let catalog = Catalog::load(&context.paths.user_catalog())?;
    let selected = catalog.find(&request.recipe)?;
    warn(context, &selected);
    let client = Client::new(context.settings.registry.clone())?;
    let name = service_name(request, &selected)?;
    let image = resolve_image(context, &client, &selected).await?;
    make_plan(context, request, &selected, &image, &name)
}

/// Installs a service and starts it. On any failure, and when interrupted, the machine is as before, but for finished downloads
/// and images.
///
/// # Errors
/// Not found: no such recipe or version. Failed: the name, the unit or a port is taken; the registry, the disk or systemd refuse.
pub async fn install(context: &Context, request: &Request) -> Result<Installed> {
    let mut interrupts = Interrupts::listen()?;
    let mut work = Work::default();
    match interrupts.unless(work.carry_out(context, request)).await {
        Ok(installed) => Ok(installed),
        Err(error) => {
            work.roll_back(context).await;
            Err(error)
        }
    }
}

/// Tells what the reader should know before installing: ended versions, successors, notes.
fn warn(context: &Context, selected: &Selected<'_>) {
    for notice in selected.notices(Date::of(SystemTime::now())) {
        context.reporter.warn(&notice);
    }
}

fn service_name(request: &Request, selected: &Selected<'_>) -> Result<ServiceName> {
    match &request.wishes.name {
        Some(name) => Ok(name.clone()),
        None => format!("{}@{}", selected.recipe.name(), selected.version.name).parse(),
    }
}

async fn resolve_image(context: &Context, client: &Client, selected: &Selected<'_>) -> Result<ResolvedImage> {
    let reference = selected.reference()?;
    context.reporter.step(&format!("looking up {reference}"));
    client.resolve(&reference, &Platform::host(), &*context.reporter).await
}

fn make_plan(
    context: &Context,
    request: &Request,
    selected: &Selected<'_>,
    image: &ResolvedImage,
    name: &ServiceName,
) -> Result<Plan> {
    let facts = ImageFacts {
        reference: image.reference.clone(),
        digest: image.digest,
        index_digest: image.index_digest,
        config_digest: image.config_digest,
        platform: image.platform.clone(),
        layers: image.layers.clone(),
        config: ImageConfig::parse(&image.config)?,
    };
    resolve::plan(&request.wishes, selected, &facts, &ports::host(context, name)?)
}

/// An install under way. The locks are held until it is done or taken back.
#[derive(Debug, Default)]
struct Work {
    steps: Transaction,
    units: Option<UserUnits>,
    name: Option<(ServiceName, NameLock)>,
    images: Option<SharedLock>,
    /// Nothing of the service was there before.
    fresh: bool,
}

impl Work {
    async fn carry_out(&mut self, context: &Context, request: &Request) -> Result<Installed> {
        let catalog = Catalog::load(&context.paths.user_catalog())?;
        let selected = catalog.find(&request.recipe)?;
        warn(context, &selected);
        let name = service_name(request, &selected)?;
        let services = Services::new(&context.paths);
        let lock = context.lock(&name, "install").await?;
        let fresh = !context.paths.service(&name).path().exists();
        self.name = Some((name.clone(), lock));
        self.fresh = fresh;
        if services.is_installed(&name) {
            return Err(Error::failed(format!("`{name}` is installed already"))
                .hint(format!("choose another name with --name, or remove it first: steading remove {name} (keeps its data)")));
        }
        // All that can be known without the network is asked before it.
        let units = UserUnits::connect(context).await?;
        units.check_name(&name).await?;
        self.units = Some(units);
        self.images = Some(context.lock_images().await?);

        let client = Client::new(context.settings.registry.clone())?;
        let image = resolve_image(context, &client, &selected).await?;
        // Before the pull, which may take minutes: a taken port ends it here.
        let plan = make_plan(context, request, &selected, &image, &name)?;
        ids::check(&plan)?;
        check_volumes(&plan)?;
        ports::check(&plan, &services)?;
        if let Some(units) = &self.units {
            limits::warn(context, &plan, &units.manager).await?;
        }
        let store = pull::open_store(context, &image)?;
        pull::pull(context, &client, &store, &image).await?;
        self.apply(context, &plan, &store).await?;

        let kept_data = !fresh && plan.volumes.iter().any(|volume| volume.source.is_none());
        let units = self.units.as_ref().ok_or_else(|| Error::failed("systemd is not connected"))?;
        if request.start {
            control::start_unit(context, &units.manager, &name).await?;
        }
        let lingers = systemd::lingering(getuid().as_raw()).await;
        Ok(Installed { plan, kept_data, started: request.start, lingers })
    }

    /// Writes everything down and tells systemd.
    async fn apply(&mut self, context: &Context, plan: &Plan, _image_is_in: &Arc<Store>) -> Result<()> {
        let units = self.units.as_ref().ok_or_else(|| Error::failed("systemd is not connected"))?;
        let steps = &mut self.steps;
        let shared = context.lock_shared().await?;
        context.reporter.step(&format!("installing {}", plan.name));
        // Once more: what was free before the pull may be taken after it.
        ports::check(plan, &Services::new(&context.paths))?;
        let rendered = unit::render(plan, &context::executable()?, &context::places()?)?;
        let directory = context.paths.service(&plan.name);
        steps.create_shared_dir(&context.paths.services(), 0o700)?;
        steps.create_own_dir(directory.path(), 0o700)?;
        for volume in plan.volumes.iter().filter(|volume| volume.source.is_none()) {
            steps.create_own_dir(&directory.volume(&volume.name), 0o700)?;
        }
        for secret in &plan.secrets {
            steps.create_own_dir(&directory.secrets(), 0o700)?;
            let path = directory.secrets().join(&secret.name);
            if !path.exists() {
                steps.made_file(path);
            }
            Secret::read_or_generate(&directory.secrets(), &secret.name, secret.length)?;
        }
        let facts = HostFacts {
            ids: &ids::map(context, plan, steps)?,
            root: &directory.path().join("upper/root"),
            data: &directory.path().join("data"),
            runtime: &runtime::run_dir(&context.paths, &plan.name),
            masked: &runtime::masks_of_host(),
        };
        let described = spec::runtime_spec(plan, &facts)?;
        let runtime_spec = serde_json::to_vec_pretty(&described).context(|| "cannot write the runtime spec")?;
        let policies = runtime::Policies::of(&described)?.file(&runtime_spec);
        let text = plan_text(plan)?;
        let files = [
            ("plan.toml", text.as_bytes()),
            ("config.json", runtime_spec.as_slice()),
            ("seccomp.bpf", policies.as_slice()),
            (rendered.service.name.as_str(), rendered.service.text.as_bytes()),
        ];
        // The run lane makes `upper` at the first start; all generations are this install's, since `remove` leaves none.
        for made in [directory.path().join("upper"), directory.generations()] {
            if !made.exists() {
                steps.made_tree(made);
            }
        }
        let number = directory.write_generation(&files)?;
        steps.made_file(directory.current());
        directory.activate(number)?;
        steps.create_shared_dir(&units.dir, 0o755)?;
        steps.write(&units.dir.join(&rendered.service.name), rendered.service.text.as_bytes(), 0o644)?;
        units.write_shared(&rendered, steps)?;
        drop(shared);
        steps.used_unit(rendered.service.name.clone());
        units.manager.enable(&rendered.service.name).await?;
        units.manager.reload().await
    }

    /// Takes back what was done. What cannot be taken back is warned of.
    async fn roll_back(mut self, context: &Context) {
        let Some((name, lock)) = self.name.take() else { return };
        let touched = self.steps.units();
        if !self.steps.is_empty() {
            context.reporter.step(&format!("taking back the install of {name}"));
        }
        let warn = |result: Result<()>| {
            if let Err(error) = result {
                let causes = error.causes();
                context.reporter.warn(&format!("{error}{}", causes.iter().map(|cause| format!(": {cause}")).collect::<String>()));
            }
        };
        let shared = context.lock_shared().await;
        if let Some(units) = &self.units {
            for unit in &touched {
                warn(units.stop_and_disable(unit).await);
            }
        }
        for error in self.steps.roll_back() {
            warn(Err(error));
        }
        if let Some(units) = &self.units {
            if !touched.is_empty() {
                warn(units.manager.reload().await);
                for unit in &touched {
                    warn(units.manager.reset_failed(unit).await);
                }
            }
            warn(units.remove_shared_if_unused(context).await);
            if !touched.is_empty() {
                warn(units.tidy());
            }
        }
        warn(shared.map(drop));
        if self.fresh {
            warn(lock.forget());
        }
        drop(self.images);
        warn(remove::tidy(context));
    }
}

/// Directories that the user named must be there: to make them would hide a slip of the finger.
fn check_volumes(plan: &Plan) -> Result<()> {
    for volume in &plan.volumes {
        if let Some(source) = volume.source.as_ref().filter(|source| !source.as_path().exists()) {
            let what =
                format!("the host's directory for the volume `{}` does not exist: {}", volume.name, source.as_path().display());
            return Err(Error::usage(what).hint("make it first: the service's files will belong to you"));
        }
    }
    Ok(())
}
