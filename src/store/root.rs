//! The store itself: opening it, its format, its locks, importing a layer.

use super::index::Index;
use super::index::format::Content;
use super::objects::{self, Objects};
use crate::error::{Context, Error, Result};
use crate::image::Digest;
use crate::layer::{self, Limits};
use crate::report::Reporter;
use crate::resolve::PlanLayer;
use crate::sys::file::{self, Lock, LockMode, TEMP_PREFIX};
use crate::sys::sync;
use nix::errno::Errno;
use serde::Deserialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
const FORMAT: &str = "# Image store of steading; the documentation of its module `store` is the specification.\n\
    version = 1\ncompat = []\nro-compat = []\nincompat = []\n";
/// What lies at the top of a store.
const NAMES: [&str; 9] = ["format", "lock", "commit.lock", "pending", "slots", "objects", "layers", "images", "refs"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Format {
    version: u32,
    #[serde(default)]
    ro_compat: Vec<String>,
    #[serde(default)]
    incompat: Vec<String>,
}

/// A store on disk. Cheap to open; shareable between threads.
#[derive(Debug)]
pub struct Store {
    pub(super) root: PathBuf,
    writable: bool,
}

/// While it lives, no prune removes anything. See [`Store::hold`].
#[derive(Debug)]
pub struct Hold(#[allow(dead_code, reason = "held for its lock")] Lock);

impl Store {
    /// Opens the store at `root` to read and write; makes it when there is none.
    ///
    /// # Errors
    /// When `root` holds something else, has a format or features this version does not know, or cannot be written.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store::at(root, true)?;
        if !store.read_format()? {
            store.make().map_err(with_space_hint)?;
            store.read_format()?;
        }
        store.recover()?;
        Ok(store)
    }

    /// Opens the store at `root` to read: no lock is waited for, nothing is written.
    ///
    /// # Errors
    /// When there is no store or it has a format or incompatible features this version does not know.
    pub fn open_read_only(root: &Path) -> Result<Store> {
        let store = Store::at(root, false)?;
        if store.read_format()? {
            return Ok(store);
        }
        Err(Error::not_found(format!("there is no image store at `{}`", root.display()))
            .hint("pull or install something first; `[store] path` in config.toml says where the store is"))
    }

    fn at(root: &Path, writable: bool) -> Result<Store> {
        let root = std::path::absolute(root).context(|| format!("cannot use the store `{}`", root.display()))?;
        Ok(Store { root, writable })
    }

    /// Whether there is a store, of a format that may be used.
    fn read_format(&self) -> Result<bool> {
        let path = self.root.join("format");
        let what = || format!("cannot use the store `{}`", self.root.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).context(|| format!("cannot read `{}`", path.display())),
        };
        let format: Format = toml::from_str(&text).context(what)?;
        let unknown = |features: &[String]| format!("it has features that this steading does not know: {}", features.join(", "));
        let why = if format.version != VERSION {
            format!("its format is version {}, this steading knows {VERSION}", format.version)
        } else if !format.incompat.is_empty() {
            unknown(&format.incompat)
        } else if self.writable && !format.ro_compat.is_empty() {
            unknown(&format.ro_compat)
        } else {
            return Ok(true);
        };
        Err(Error::failed(what()).because(why).hint("a newer steading made it; use that one, or another store"))
    }

    fn make(&self) -> Result<()> {
        file::create_dir_all(&self.root, 0o700)?;
        for entry in self.list(&self.root)? {
            if !NAMES.iter().any(|name| entry == *name) && entry != "trash" {
                return Err(Error::failed(format!("`{}` is not an image store and not empty", self.root.display()))
                    .because(format!("it holds `{}`", entry.display()))
                    .hint("give `[store] path` in config.toml a directory of its own"));
            }
        }
        for dir in ["layers", "images", "refs", "trash", "objects"] {
            file::create_dir_all(&self.root.join(dir), 0o700)?;
        }
        for shard in 0..=255_u8 {
            file::create_dir_all(&self.root.join(format!("objects/{shard:02x}")), 0o700)?;
        }
        // The last, on the disk too, so that a store with it is whole.
        sync::file_system_of(&self.root)?;
        file::write_atomic(&self.root.join("format"), FORMAT.as_bytes(), 0o600)
    }

    /// Where the store lies, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the object of a digest lies (whether or not it exists), absolute.
    #[must_use]
    pub fn object_path(&self, digest: &Digest) -> PathBuf {
        objects::place(&self.objects(), digest)
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    /// Whether the layer was imported.
    #[must_use]
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        matches!(self.layer(diff_id), Ok(Some(_)))
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> Result<Option<Index>> {
        Index::open_file(&self.layer_path(diff_id), Content::Layer)
    }

    /// Keeps every prune away until the returned value is dropped: to be held from the first [`Store::has_layer`] to the
    /// [`Store::commit_image`] of a pull. Waits while a prune or repair runs.
    ///
    /// # Errors
    /// When the lock cannot be taken.
    pub fn hold(&self) -> Result<Hold> {
        self.must_write()?;
        Ok(Hold(Lock::wait(&self.root.join("lock"), LockMode::Shared)?))
    }

    /// The exclusive lock, or an error that says the store is busy.
    pub(super) fn alone(&self) -> Result<Lock> {
        self.must_write()?;
        Lock::attempt(&self.root.join("lock"), LockMode::Exclusive)?.ok_or_else(|| {
            Error::failed(format!("the store `{}` is in use", self.root.display()))
                .because("another steading is pulling an image or cleaning up")
                .hint("try again when it has finished")
        })
    }

    pub(super) fn must_write(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(Error::failed(format!("the store `{}` was opened to read only", self.root.display())))
    }

    /// Unpacks one layer from its downloaded blob: contents become objects, the rest the layer's index. The blob's size
    /// and the digest of the uncompressed tar are verified. A layer that is there already costs nothing. May be called
    /// by several threads and processes at once.
    ///
    /// # Errors
    /// When the layer is not what `layer` says, is refused (the entry is named), or the disk fails or is full.
    pub fn import(&self, layer: &PlanLayer, blob: &Path, limits: &Limits, reporter: &dyn Reporter) -> Result<()> {
        let _hold = self.hold()?;
        if self.has_layer(&layer.diff_id) {
            return Ok(());
        }
        self.begin_writing()?;
        let import = || {
            let mut objects = Objects::new(self.objects());
            let tree = layer::unpack(&mut objects, layer, blob, limits, reporter)?;
            let bytes = tree.index(Content::Layer)?;
            // Checked before it gets its name: after that, it is believed.
            Index::open_any(bytes.clone())?;
            self.place(&self.layer_path(&layer.diff_id), &bytes)
        };
        import().map_err(with_space_hint)
    }

    /// Writes a read-only file by rename, not yet durable.
    pub(super) fn place(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temp = file::temp_beside(path);
        let write = || -> io::Result<()> {
            OpenOptions::new().write(true).create_new(true).mode(0o444).open(&temp)?.write_all(bytes)?;
            fs::rename(&temp, path)
        };
        write().inspect_err(|_| drop(fs::remove_file(&temp))).context(|| format!("cannot write `{}`", path.display()))
    }

    /// Names in a directory of the store, without temporary ones; none when the directory does not exist.
    pub(super) fn list(&self, dir: &Path) -> Result<Vec<std::ffi::OsString>> {
        let names = self.list_all(dir)?;
        Ok(names.into_iter().filter(|name| !is_temp(name)).collect())
    }

    pub(super) fn list_all(&self, dir: &Path) -> Result<Vec<std::ffi::OsString>> {
        let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect();
        match read() {
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.context(|| format!("cannot list `{}`", dir.display())),
        }
    }
}

pub(super) fn is_temp(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
}

/// Adds what to do when a disk or quota is full.
pub(super) fn with_space_hint(error: Error) -> Error {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut hint = None;
    while let Some(cause) = next {
        let code = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw);
        match code.or_else(|| cause.downcast_ref::<Errno>().copied()) {
            Some(Errno::ENOSPC) => hint = Some("the disk is full: free some space, `steading image prune` may help"),
            Some(Errno::EDQUOT) => hint = Some("your disk quota is used up: free some space, `steading image prune` may help"),
            _ => {}
        }
        next = cause.source();
    }
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
