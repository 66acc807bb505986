//! Images: from a registry into the store. Layers download side by side, and each is unpacked as soon as it is there.

use super::Context;
use crate::error::{Context as _, Error, Result};
use crate::image::Digest;
use crate::layer::Limits;
use crate::registry::{Client, ResolvedImage};
use crate::report::Reporter;
use crate::resolve::PlanLayer;
use crate::store::{ImageRecord, Store};
use crate::sys::{file, space};
use futures_util::stream::{StreamExt, TryStreamExt};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Layers that are on their way at one time; how many connections there are is the client's matter.
const IN_FLIGHT: usize = 16;

/// How many times larger a layer is when it is unpacked: 2.5 to 3.5 for Debian's images.
const UNPACKED: u64 = 4;

/// Opens the store, which is made when missing.
pub(super) fn open_store(context: &Context) -> Result<Arc<Store>> {
    Store::open(&context.paths.store()).map(Arc::new)
}

/// Brings `image` into the store. What is there already is not fetched again; a failure or an interrupt keeps finished
/// downloads and unpacked layers for the next try.
pub(super) async fn pull(context: &Context, client: &Client, store: &Arc<Store>, image: &ResolvedImage) -> Result<()> {
    // From here to the commit no prune may take a layer that is there already.
    let holder = store.clone();
    let _hold = in_background(move || holder.hold()).await?;
    let missing = missing(store, image);
    if !missing.is_empty() {
        check_space(context, &missing)?;
        let bytes: u64 = missing.iter().map(|layer| layer.size).sum();
        let count = missing.len();
        let layers = if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") };
        context.reporter.step(&format!("pulling {} ({layers}, {:.1} MB)", image.reference, bytes as f64 / 1e6));
    }
    let directory = context.paths.downloads();
    file::create_dir_all(&directory, 0o700)?;
    // Unpacking keeps a processor busy; more at a time than there are would only take memory.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let unpackers = Arc::new(Semaphore::new(processors));
    let fetch = |layer: PlanLayer| {
        let (store, unpackers, reporter) = (store.clone(), unpackers.clone(), context.reporter.clone());
        let directory = &directory;
        async move {
            let blob = client.download(&image.reference, &layer, directory, &*context.reporter).await?;
            let _turn = unpackers.acquire_owned().await.context(|| "cannot wait for a processor")?;
            in_background(move || unpack(&store, &layer, &blob, &*reporter)).await
        }
    };
    futures_util::stream::iter(missing).map(fetch).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
    commit(store, image).await?;
    discard_blobs(&directory, &image.layers)
}

/// Layers that the store does not have, each once.
fn missing(store: &Store, image: &ResolvedImage) -> Vec<PlanLayer> {
    if store.has_image(&image.digest) {
        return Vec::new();
    }
    let mut list: Vec<PlanLayer> = Vec::new();
    for layer in &image.layers {
        if !store.has_layer(&layer.diff_id) && !list.iter().any(|other| other.diff_id == layer.diff_id) {
            list.push(layer.clone());
        }
    }
    list
}

fn unpack(store: &Store, layer: &PlanLayer, blob: &Path, reporter: &dyn Reporter) -> Result<()> {
    match store.import(layer, blob, &Limits::default(), reporter) {
        // Another steading unpacked the same layer and has removed the blob.
        Err(_) if store.has_layer(&layer.diff_id) => Ok(()),
        other => other,
    }
}

async fn commit(store: &Arc<Store>, image: &ResolvedImage) -> Result<()> {
    let store = store.clone();
    let (digest, reference) = (image.digest, image.reference.to_string());
    let (manifest, config) = (image.manifest.clone(), image.config.clone());
    let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
    in_background(move || {
        store.commit_image(&ImageRecord {
            digest,
            manifest: &manifest,
            config: &config,
            diff_ids: &diff_ids,
            reference: Some(&reference),
        })
    })
    .await
}

/// Runs work that computes or waits for the disk beside the event loop.
pub(super) async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(|| "a worker died")?
}

/// Removes the downloads of an image that is in the store.
fn discard_blobs(directory: &Path, layers: &[PlanLayer]) -> Result<()> {
    for layer in layers {
        let path = directory.join(format!("sha256-{}", layer.digest.hex()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("cannot remove `{}`", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Fails early where the disk is too small, rather than late and with half an image.
fn check_space(context: &Context, layers: &[PlanLayer]) -> Result<()> {
    let directory = context.paths.downloads();
    let finished = |layer: &&PlanLayer| directory.join(format!("sha256-{}", layer.digest.hex())).exists();
    let size = |layer: &PlanLayer| layer.size;
    let packed: u64 = layers.iter().filter(|layer| !finished(layer)).map(size).sum();
    let unpacked = layers.iter().map(size).sum::<u64>().saturating_mul(UNPACKED);
    let places = [(directory.clone(), packed), (context.paths.store(), unpacked)];
    fits(&places, |path| space::at(path))
}

fn fits(places: &[(PathBuf, u64)], space: impl Fn(&Path) -> Result<space::Space>) -> Result<()> {
    let mut wanted: Vec<(space::Space, &Path, u64)> = Vec::new();
    for (path, bytes) in places {
        let there = space(path)?;
        match wanted.iter_mut().find(|(other, ..)| other.device == there.device) {
            Some((_, _, sum)) => *sum = sum.saturating_add(*bytes),
            None => wanted.push((there, path, *bytes)),
        }
    }
    for (there, path, bytes) in wanted {
        if there.available < bytes {
            let (need, have) = (bytes.div_ceil(1_000_000), there.available / 1_000_000);
            return Err(Error::failed(format!("the disk of `{}` is too full", path.display()))
                .because(format!("the image needs about {need} MB there, {have} MB are free"))
                .hint("`steading image prune` removes unused images; `[store] path` in config.toml moves the store"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_one_disk_share_its_space() {
        let places = [(PathBuf::from("/cache"), 100), (PathBuf::from("/store"), 400)];
        let disks = |cache: (u64, u64), store: (u64, u64)| {
            move |path: &Path| {
                let (device, available) = if path == Path::new("/cache") { cache } else { store };
                Ok(space::Space { device, available })
            }
        };
        assert!(fits(&places, disks((1, 500), (1, 500))).is_ok());
        assert!(fits(&places, disks((1, 100), (2, 400))).is_ok());
        let error = fits(&places, disks((1, 499), (1, 499))).unwrap_err();
        assert!(error.what().contains("/cache") && error.find_hint().unwrap().contains("prune"));
        let error = fits(&places, disks((1, 100), (2, 399))).unwrap_err();
        assert!(error.what().contains("/store"));
    }
}
