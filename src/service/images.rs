//! The images of the store and who uses them.

use super::{Context, pull};
use crate::error::{Error, Result};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::registry::Client;
use crate::resolve::ServiceName;
use crate::state::{Services, SharedLock};
use crate::store::{Freed, ImageInfo, Store};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// An image and its users.
#[derive(Clone, Debug)]
pub struct ImageReport {
    /// Digest of its manifest.
    pub digest: Digest,
    /// What it is called.
    pub references: Vec<String>,
    /// Bytes of its contents.
    pub size: u64,
    /// Files, directories, ... in it.
    pub entries: u32,
    /// Layers.
    pub layers: usize,
    /// When it was pulled.
    pub created: SystemTime,
    /// Services that run it.
    pub used_by: Vec<ServiceName>,
}

/// Brings an image into the store.
///
/// # Errors
/// Those of the registry, the disk and the store.
pub async fn pull_image(context: &Context, reference: &Reference) -> Result<Digest> {
    let _images = context.lock_images().await?;
    let client = Client::new(context.settings.registry.clone())?;
    context.reporter.step(&format!("looking up {reference}"));
    let image = client.resolve(reference, &Platform::host(), &*context.reporter).await?;
    let store = pull::open_store(context)?;
    pull::pull(context, &client, &store, &image).await?;
    Ok(image.digest)
}

/// All images, in the order of their names.
///
/// # Errors
/// When the store or the services cannot be read.
pub fn images(context: &Context) -> Result<Vec<ImageReport>> {
    let Some(store) = existing_store(context)? else { return Ok(Vec::new()) };
    reports(context, &store)
}

/// One image, named by a reference, a digest or the beginning of one, with its config.
///
/// # Errors
/// Not found, or when the name fits several.
pub fn show_image(context: &Context, name: &str) -> Result<(ImageReport, Vec<u8>, ImageConfig)> {
    let store = existing_store(context)?.ok_or_else(|| unknown(name))?;
    let report = find(reports(context, &store)?, name)?;
    let config = store.config(&report.digest)?;
    let parsed = ImageConfig::parse(&config)?;
    Ok((report, config, parsed))
}

/// Removes one image that no service uses, and frees its space.
///
/// # Errors
/// Not found; when a service uses it; when an install is under way.
pub async fn remove_image(context: &Context, name: &str) -> Result<(Digest, Freed)> {
    let _alone = alone(context)?;
    let store = existing_store(context)?.ok_or_else(|| unknown(name))?;
    let report = find(reports(context, &store)?, name)?;
    if let Some(user) = report.used_by.first() {
        return Err(Error::failed(format!("the service `{user}` uses the image `{name}`"))
            .hint(format!("remove the service first: steading remove {user}")));
    }
    refuse_unreadable(context)?;
    remove(store, vec![report.digest]).await.map(|freed| (report.digest, freed))
}

/// Removes all images that no service uses. Returns them and those that stay.
///
/// # Errors
/// As [`remove_image`].
pub async fn remove_all_images(context: &Context) -> Result<(Vec<ImageReport>, Vec<ImageReport>, Freed)> {
    let _alone = alone(context)?;
    let Some(store) = existing_store(context)? else { return Ok((Vec::new(), Vec::new(), Freed::default())) };
    refuse_unreadable(context)?;
    let (used, unused): (Vec<_>, Vec<_>) = reports(context, &store)?.into_iter().partition(|report| !report.used_by.is_empty());
    let freed = remove(store, unused.iter().map(|report| report.digest).collect()).await?;
    Ok((unused, used, freed))
}

/// As [`remove_all_images`], and removes finished and partial downloads too.
///
/// # Errors
/// As [`remove_image`].
pub async fn prune(context: &Context) -> Result<(Vec<ImageReport>, Freed)> {
    let (removed, _, freed) = remove_all_images(context).await?;
    crate::state::remove_tree(&context.paths.downloads())?;
    Ok((removed, freed))
}

async fn remove(store: Store, digests: Vec<Digest>) -> Result<Freed> {
    pull::in_background(move || {
        for digest in &digests {
            store.remove_image(digest)?;
        }
        store.prune()
    })
    .await
}

/// The store, if there is one: to look must not make it.
pub(super) fn existing_store(context: &Context) -> Result<Option<Store>> {
    if context.paths.store().exists() { Store::open(&context.paths.store()).map(Some) } else { Ok(None) }
}

fn alone(context: &Context) -> Result<SharedLock> {
    SharedLock::remove_images(&context.paths)?.ok_or_else(|| {
        Error::failed("images cannot be removed while an install or a pull is under way").hint("try again when it has ended")
    })
}

/// A service whose plan cannot be read may use any image.
fn refuse_unreadable(context: &Context) -> Result<()> {
    let (_, unreadable) = Services::new(&context.paths).load_all()?;
    match unreadable.into_iter().next() {
        None => Ok(()),
        Some(broken) => Err(Error::failed(format!("which image `{}` uses cannot be read", broken.name)).because(broken.error)),
    }
}

fn reports(context: &Context, store: &Store) -> Result<Vec<ImageReport>> {
    let (plans, _) = Services::new(&context.paths).load_all()?;
    let mut users: BTreeMap<Digest, Vec<ServiceName>> = BTreeMap::new();
    for plan in plans {
        users.entry(plan.image.digest).or_default().push(plan.name);
    }
    let report = |info: ImageInfo| ImageReport {
        used_by: users.get(&info.digest).cloned().unwrap_or_default(),
        digest: info.digest,
        references: info.references,
        size: info.size,
        entries: info.entries,
        layers: info.layers.len(),
        created: info.created,
    };
    let mut list: Vec<ImageReport> = store.images()?.into_iter().map(report).collect();
    list.sort_by(|a, b| (&a.references, a.digest).cmp(&(&b.references, b.digest)));
    Ok(list)
}

fn unknown(name: &str) -> Error {
    Error::not_found(format!("there is no image `{}`", name.escape_debug())).hint("`steading image list` shows what there is")
}

/// Names an image by a reference, in full or as people write it, or by the beginning of its digest.
fn find(list: Vec<ImageReport>, name: &str) -> Result<ImageReport> {
    let full = name.parse::<Reference>().map(|reference| reference.to_string()).ok();
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let by_digest = |report: &ImageReport| hex.len() >= 4 && report.digest.hex().starts_with(hex);
    let by_name = |report: &ImageReport| full.as_ref().is_some_and(|full| report.references.contains(full));
    let mut found: Vec<ImageReport> = match list.iter().any(by_name) {
        true => list.into_iter().filter(by_name).collect(),
        false => list.into_iter().filter(by_digest).collect(),
    };
    match (found.pop(), found.len()) {
        (None, _) => Err(unknown(name)),
        (Some(report), 0) => Ok(report),
        (Some(_), more) => {
            Err(Error::usage(format!("`{}` fits {} images", name.escape_debug(), more + 1)).hint("write more of the digest"))
        }
    }
}

/// The store for work beside the event loop.
pub(super) fn shared_store(context: &Context) -> Result<Option<Arc<Store>>> {
    existing_store(context).map(|store| store.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &[u8], reference: &str) -> ImageReport {
        ImageReport {
            digest: Digest::of(content),
            references: vec![reference.to_owned()],
            size: 0,
            entries: 0,
            layers: 0,
            created: SystemTime::UNIX_EPOCH,
            used_by: vec![],
        }
    }

    #[test]
    fn images_are_found_as_people_name_them() {
        let list = vec![image(b"a", "docker.io/library/postgres:14"), image(b"b", "docker.io/library/redis:latest")];
        let (a, b) = (list[0].digest, list[1].digest);
        let found = |name: &str| find(list.clone(), name).map(|report| report.digest);
        assert_eq!(found("postgres:14").unwrap(), a);
        assert_eq!(found("redis").unwrap(), b);
        assert_eq!(found(&a.to_string()).unwrap(), a);
        assert_eq!(found(&b.hex()[..4]).unwrap(), b);
        assert_eq!(found("postgres").unwrap_err().kind(), crate::error::Kind::NotFound);
        assert!(found("").is_err() && found(&a.hex()[..3]).is_err() && found("sha256:").is_err());
        let twins = vec![image(b"a", "x"), image(b"a", "y")];
        assert_eq!(find(twins, &a.hex()).unwrap_err().kind(), crate::error::Kind::Usage);
    }
}
