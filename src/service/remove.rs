//! Remove: the service goes, its data stays; with purge nothing of it is left.

use super::discard::discard;
use super::units::UserUnits;
use super::{Context, images, pull};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::resolve::ServiceName;
use crate::runtime;
use crate::state::{RunDir, Services, SharedLock, remove_dir_if_empty, remove_tree};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a removal left or took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The directory with data and secrets that were kept.
    pub kept: Option<PathBuf>,
    /// The image that went with the last service that used it.
    pub image: Option<Digest>,
}

/// Stops and removes a service. Without `purge` its data and secrets stay, and a later install of the name takes them up.
///
/// # Errors
/// Not found, when neither the service nor data of it is there; what systemd or the disk refuse. It can be repeated.
pub async fn remove(context: &Context, name: &ServiceName, purge: bool) -> Result<Removed> {
    let services = Services::new(&context.paths);
    let directory = context.paths.service(name);
    let lock = context.lock(name, "remove").await?;
    let installed = services.is_installed(name);
    let purges_kept_data = purge && directory.path().exists();
    if !installed && !purges_kept_data {
        let error = services.missing(name);
        if !directory.path().exists() {
            lock.forget()?;
            tidy(context)?;
        }
        return Err(error);
    }
    // A plan that cannot be read must not keep its service from being removed; it only costs the knowledge of its image.
    let image = services.load(name).ok().map(|plan| plan.image.digest);
    let units = UserUnits::connect(context).await?;
    units.remove(context, name, purge).await?;
    context.reporter.step(&format!("removing {name}"));
    let shared = context.lock_shared().await?;
    // The link first: without it the service is not installed, whatever else is left by a crash from here on.
    unlink(&directory.current())?;
    for part in [directory.generations(), directory.path().join("upper")] {
        discard(&part)?;
    }
    if purge {
        discard(directory.path())?;
    } else {
        let data = directory.path().join("data");
        remove_dir_if_empty(&data)?;
        if !data.exists() {
            // Nothing is left that belongs to them.
            unlink(&directory.ids())?;
        }
        remove_dir_if_empty(directory.path())?;
    }
    discard(&runtime::run_dir(&context.paths, name))?;
    units.remove_shared_if_unused(context).await?;
    drop(shared);
    let image = match image.filter(|_| purge) {
        Some(digest) => remove_unused_image(context, &digest).await?,
        None => None,
    };
    let kept = Some(directory.path().to_owned()).filter(|path| path.exists());
    if kept.is_none() {
        lock.forget()?;
    } else {
        drop(lock);
    }
    if services.names()?.is_empty() {
        units.tidy()?;
        if purge && services.kept()?.is_empty() {
            remove_tree(&context.paths.downloads())?;
        }
    }
    tidy(context)?;
    Ok(Removed { kept, image })
}

fn unlink(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed(format!("cannot remove `{}`", path.display())).because(error))
        }
        _ => Ok(()),
    }
}

/// Removes the image when no service uses it, and the store with the last image.
async fn remove_unused_image(context: &Context, digest: &Digest) -> Result<Option<Digest>> {
    let (plans, unreadable) = Services::new(&context.paths).load_all()?;
    if plans.iter().any(|plan| plan.image.digest == *digest) {
        return Ok(None);
    }
    if let Some(broken) = unreadable.first() {
        context.reporter.warn(&format!("the image stays, since `{}` may use it: its plan cannot be read", broken.name));
        return Ok(None);
    }
    let Some(lock) = SharedLock::remove_images(&context.paths)? else {
        context.reporter.warn("the image stays, since an install is under way; `steading image prune` removes it later");
        return Ok(None);
    };
    let Some(store) = images::existing_store(context)? else { return Ok(None) };
    let (digest, root) = (*digest, context.paths.store());
    let removed = pull::in_background(move || {
        store.remove_image(&digest)?;
        // With the last image the store goes as a whole, which is much quicker than to prune it.
        if store.images()?.is_empty() {
            drop(store);
            remove_tree(&root)?;
        } else {
            store.prune()?;
        }
        Ok(digest)
    })
    .await?;
    drop(lock);
    Ok(Some(removed))
}

/// Removes lock files and directories of ours that serve nothing any more.
pub(super) fn tidy(context: &Context) -> Result<()> {
    let services = Services::new(&context.paths);
    if !services.names()?.is_empty() || !services.kept()?.is_empty() {
        return Ok(());
    }
    SharedLock::sweep(&context.paths)?;
    RunDir::tidy(&context.paths)?;
    let downloads = context.paths.downloads();
    let cache = downloads.parent().map(Path::to_owned);
    for directory in
        [Some(context.paths.services()), Some(context.paths.data().to_owned()), Some(downloads), cache].into_iter().flatten()
    {
        remove_dir_if_empty(&directory)?;
    }
    Ok(())
}
