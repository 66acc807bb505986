//! Images made by hand, for tests of the server without a store.

use crate::error::Result;
use crate::image::Digest;
use crate::yard::source::{Image, Kind, Meta, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// One node of a [`HandMade`] image.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) meta: Meta,
    pub(crate) parent: u32,
    pub(crate) children: BTreeMap<Vec<u8>, u32>,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub(crate) struct HandMade {
    pub(crate) slot: u32,
    pub(crate) nodes: Vec<Made>,
}

impl HandMade {
    pub(crate) fn new(slot: u32) -> Self {
        let mut image = HandMade { slot, nodes: Vec::new() };
        image.push(0, Kind::Dir, 0o755);
        image
    }

    fn push(&mut self, parent: u32, kind: Kind, mode: u32) -> u32 {
        let meta = Meta { kind, mode, uid: 0, gid: 0, size: 0, mtime: (1_700_000_000, 5), nlink: 1, rdev: (0, 0), object: None };
        self.nodes.push(Made { meta, parent, children: BTreeMap::new(), target: None, xattrs: Vec::new() });
        u32::try_from(self.nodes.len() - 1).unwrap()
    }

    pub(crate) fn add(&mut self, dir: u32, name: &str, kind: Kind, mode: u32) -> u32 {
        let node = self.push(dir, kind, mode);
        self.nodes[dir as usize].children.insert(name.as_bytes().to_vec(), node);
        node
    }

    pub(crate) fn at(&mut self, node: u32) -> &mut Made {
        &mut self.nodes[node as usize]
    }
}

impl Image for HandMade {
    fn slot(&self) -> u32 {
        self.slot
    }
    fn root(&self) -> u32 {
        0
    }
    fn meta(&self, node: u32) -> Option<Meta> {
        Some(self.nodes.get(node as usize)?.meta.clone())
    }
    fn lookup(&self, dir: u32, name: &[u8]) -> Option<u32> {
        self.nodes.get(dir as usize)?.children.get(name).copied()
    }
    fn parent(&self, dir: u32) -> u32 {
        self.nodes[dir as usize].parent
    }
    fn entries(&self, dir: u32, from: usize, each: &mut dyn FnMut(&[u8], u32) -> bool) {
        for (name, node) in self.nodes[dir as usize].children.iter().skip(from) {
            if !each(name, *node) {
                break;
            }
        }
    }
    fn target(&self, node: u32) -> Option<&[u8]> {
        self.nodes.get(node as usize)?.target.as_deref()
    }
    fn xattrs(&self, node: u32, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        for (name, value) in &self.nodes[node as usize].xattrs {
            if !each(name, value) {
                break;
            }
        }
    }
}

/// A changing set of hand-made images; objects lie in one directory.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) images: Mutex<BTreeMap<Digest, HandMade>>,
    pub(crate) objects: PathBuf,
}

impl Shelf {
    pub(crate) fn new(objects: &Path) -> Self {
        Shelf { images: Mutex::default(), objects: objects.to_owned() }
    }

    pub(crate) fn put(&self, object: &[u8]) -> Digest {
        let digest = Digest::of(object);
        std::fs::write(self.objects.join(digest.hex()), object).unwrap();
        digest
    }
}

impl Source for std::sync::Arc<Shelf> {
    type Image = HandMade;
    fn has(&self, digest: &Digest) -> bool {
        self.images.lock().unwrap().contains_key(digest)
    }
    fn open(&self, digest: &Digest) -> Result<Option<HandMade>> {
        Ok(self.images.lock().unwrap().get(digest).cloned())
    }
    fn list(&self) -> Result<Vec<Digest>> {
        Ok(self.images.lock().unwrap().keys().copied().collect())
    }
    fn changed(&self) -> SystemTime {
        UNIX_EPOCH
    }
    fn object_path(&self, object: &Digest) -> PathBuf {
        self.objects.join(object.hex())
    }
}
