//! What the tests share: building layers, importing them, showing images.

use crate::error::Result;
use crate::image::Digest;
use crate::layer::Limits;
use crate::report::Silent;
use crate::resolve::PlanLayer;
use crate::store::{ImageRecord, Index, Kind, NodeId, Store};
use std::fs;
use std::io::Write as _;

pub(super) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer's tar under construction; names may be anything, as hostile layers have them.
pub(super) struct Tar(pub(super) tar::Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    pub(super) fn header(kind: u8, name: &[u8], size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(size);
        header.set_cksum();
        header
    }

    pub(super) fn add(mut self, kind: u8, name: &[u8], content: &[u8]) -> Tar {
        self.0.append(&Tar::header(kind, name, content.len() as u64), content).unwrap();
        self
    }

    pub(super) fn file(self, name: &str, content: &str) -> Tar {
        self.add(b'0', name.as_bytes(), content.as_bytes())
    }

    pub(super) fn dir(self, name: &str) -> Tar {
        self.add(b'5', name.as_bytes(), b"")
    }

    pub(super) fn link(mut self, kind: u8, name: &str, target: &[u8]) -> Tar {
        let mut header = Tar::header(kind, name.as_bytes(), 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(super) fn pax<'a>(mut self, records: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Tar {
        self.0.append_pax_extensions(records).unwrap();
        self
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// From lines: `d NAME`, `f NAME=CONTENT`, `s NAME>TARGET`, `h NAME>TARGET`.
pub(super) fn tar_of(lines: &[&str]) -> Vec<u8> {
    let mut tar = Tar::new();
    for line in lines {
        let (kind, rest) = line.split_once(' ').unwrap();
        tar = match kind {
            "d" => tar.dir(rest),
            "f" => rest.split_once('=').map(|(name, content)| tar.file(name, content)).unwrap(),
            "s" => rest.split_once('>').map(|(name, target)| tar.link(b'2', name, target.as_bytes())).unwrap(),
            "h" => rest.split_once('>').map(|(name, target)| tar.link(b'1', name, target.as_bytes())).unwrap(),
            _ => panic!("{line}"),
        };
    }
    tar.end()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Store,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        // In memory where there is such a place: a store syncs its whole file system.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Fixture { dir, store }
    }

    pub(super) fn import_blob(&self, blob: &[u8], media_type: &str, diff_id: Digest, limits: &Limits) -> Result<Digest> {
        let path = self.dir.path().join(format!("blob-{}-{:?}", diff_id.short(), std::thread::current().id()));
        fs::write(&path, blob).unwrap();
        let layer = PlanLayer { digest: Digest::of(blob), size: blob.len() as u64, media_type: media_type.into(), diff_id };
        self.store.import(&layer, &path, limits, &Silent)?;
        Ok(diff_id)
    }

    /// Imports an uncompressed tar.
    pub(super) fn import(&self, tar: &[u8]) -> Result<Digest> {
        self.import_blob(tar, TAR, Digest::of(tar), &Limits::default())
    }

    /// Commits an image of these layers; its manifest says only what makes it differ.
    pub(super) fn commit(&self, layers: &[Digest], reference: Option<&str>) -> Result<Digest> {
        let config = config_of(layers);
        let manifest = format!("{{\"config\":{{\"digest\":\"{}\"}}}}", Digest::of(config.as_bytes()));
        let digest = Digest::of(manifest.as_bytes());
        let record =
            ImageRecord { digest, manifest: manifest.as_bytes(), config: config.as_bytes(), diff_ids: layers, reference };
        self.store.commit_image(&record)?;
        Ok(digest)
    }

    /// Imports and commits.
    pub(super) fn image(&self, tars: &[Vec<u8>]) -> Result<Index> {
        let layers = tars.iter().map(|tar| self.import(tar)).collect::<Result<Vec<_>>>()?;
        let digest = self.commit(&layers, None)?;
        Ok(self.store.image(&digest)?.unwrap())
    }

    /// Every path but the root, sorted as the index is: `d a`, `f a/b=CONTENT`, `s a/c>TARGET`, ...
    pub(super) fn listing(&self, index: &Index) -> Vec<String> {
        let mut list = Vec::new();
        walk(index, &mut |path, id| {
            let node = index.node(id).unwrap();
            let path = String::from_utf8_lossy(path);
            list.push(match node.kind {
                Kind::Dir => format!("d {path}"),
                Kind::File => {
                    let content = self.store.read_file(index, path.as_bytes(), 1 << 20).unwrap().unwrap();
                    format!("f {path}={}", String::from_utf8_lossy(&content))
                }
                Kind::Symlink => format!("s {path}>{}", String::from_utf8_lossy(node.target())),
                other => format!("{other:?} {path}"),
            });
        });
        list
    }
}

pub(super) fn config_of(layers: &[Digest]) -> String {
    let list: Vec<String> = layers.iter().map(|digest| format!("\"{digest}\"")).collect();
    format!("{{\"rootfs\":{{\"diff_ids\":[{}]}}}}", list.join(","))
}

/// Calls `each` with every path below the root, parents first, in order of names.
pub(super) fn walk(index: &Index, each: &mut impl FnMut(&[u8], NodeId)) {
    fn below(index: &Index, dir: NodeId, path: &[u8], each: &mut impl FnMut(&[u8], NodeId)) {
        for entry in index.entries(dir) {
            let mut own = path.to_vec();
            if !own.is_empty() {
                own.push(b'/');
            }
            own.extend_from_slice(entry.name);
            each(&own, entry.node);
            below(index, entry.node, &own, each);
        }
    }
    below(index, index.root(), b"", each);
}

/// The host cannot run a test: a failure where everything must work, else a note.
pub(super) fn cannot(why: &str) {
    assert!(std::env::var_os("STEADING_MUST_WORK").is_none_or(|must| must != "1"), "cannot run: {why}");
    writeln!(std::io::stderr(), "skipped: {why}").unwrap();
}
