//! The store as a [`Source`].

use crate::error::Result;
use crate::image::Digest;
use crate::store::{self, Index, NodeId, Store};
use crate::yard::source::{Image, Kind, Meta, Source};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

impl Image for Index {
    fn slot(&self) -> u32 {
        Index::slot(self)
    }

    fn root(&self) -> u32 {
        Index::root(self).0
    }

    fn meta(&self, node: u32) -> Option<Meta> {
        let store::Node { kind, mode, uid, gid, size, mtime, nlink, rdev, object, .. } = self.node(NodeId(node))?;
        let kind = match kind {
            store::Kind::File => Kind::File,
            store::Kind::Dir => Kind::Dir,
            store::Kind::Symlink => Kind::Symlink,
            store::Kind::Fifo => Kind::Fifo,
            store::Kind::Char => Kind::Char,
            store::Kind::Block => Kind::Block,
            store::Kind::Socket => Kind::Socket,
        };
        Some(Meta { kind, mode, uid, gid, size, mtime, nlink, rdev, object })
    }

    fn lookup(&self, dir: u32, name: &[u8]) -> Option<u32> {
        Index::lookup(self, NodeId(dir), name).map(|node| node.0)
    }

    fn parent(&self, dir: u32) -> u32 {
        Index::parent(self, NodeId(dir)).0
    }

    fn entries(&self, dir: u32, from: usize, each: &mut dyn FnMut(&[u8], u32) -> bool) {
        let mut entries = Index::entries(self, NodeId(dir));
        if from > 0 && entries.nth(from - 1).is_none() {
            return;
        }
        for entry in entries {
            if !each(entry.name, entry.node.0) {
                break;
            }
        }
    }

    fn target(&self, node: u32) -> Option<&[u8]> {
        self.node(NodeId(node)).filter(|node| node.kind == store::Kind::Symlink).map(|node| node.target())
    }

    fn xattrs(&self, node: u32, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        let Some(node) = self.node(NodeId(node)) else { return };
        for (name, value) in node.xattrs() {
            if !each(name, value) {
                break;
            }
        }
    }
}

impl Source for Store {
    type Image = Index;

    fn has(&self, digest: &Digest) -> bool {
        self.has_image(digest)
    }

    fn open(&self, digest: &Digest) -> Result<Option<Index>> {
        self.image(digest)
    }

    fn list(&self) -> Result<Vec<Digest>> {
        self.image_digests()
    }

    fn changed(&self) -> SystemTime {
        let found = std::fs::metadata(self.root().join("images")).and_then(|found| found.modified());
        found.unwrap_or(UNIX_EPOCH)
    }

    fn object_path(&self, object: &Digest) -> PathBuf {
        Store::object_path(self, object)
    }
}
