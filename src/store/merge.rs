//! Laying one layer onto the tree of those below it (OCI image-spec `layer.md`, "Applying Changesets").

use super::index::format::{FLAG_IMPLICIT, FLAG_OPAQUE};
use super::index::{Index, Kind, Node, NodeId};
use super::tree::{Body, Item, ItemId, Meta, ROOT, Tree};
use crate::error::{Error, Result};

impl Tree {
    /// Applies the changes of `layer`, an index of a layer.
    ///
    /// # Errors
    /// A hard link to what the lower layers do not have; a damaged index.
    pub(crate) fn apply(&mut self, layer: &Index) -> Result<()> {
        let mut known = self.lower_links(layer)?;
        let broken = || Error::failed("the index of a layer is damaged").hint("`steading fsck` shows what is damaged");
        let mut dirs = vec![(NodeId::ROOT, ROOT)];
        // A root that the layer describes is a directory of it like any other.
        self.describe(layer, NodeId::ROOT, ROOT).ok_or_else(broken)?;
        while let Some((from, to)) = dirs.pop() {
            let record = layer.record(from).ok_or_else(broken)?;
            if record.flags & FLAG_OPAQUE != 0
                && let Some(dir) = self.dir_mut(to)
            {
                dir.children.clear();
            }
            for (name, change) in layer.changes(from) {
                let Some(id) = change else {
                    if let Some(dir) = self.dir_mut(to) {
                        dir.children.remove(name);
                    }
                    continue;
                };
                if layer.is_dir(id) {
                    let existing = self.child(to, name).filter(|id| self.dir(*id).is_some());
                    let target = existing.unwrap_or_else(|| self.put_dir(to, name, Meta::implicit(), true));
                    self.describe(layer, id, target).ok_or_else(broken)?;
                    dirs.push((id, target));
                    continue;
                }
                let slot = known.get_mut(id.0 as usize).ok_or_else(broken)?;
                let item = match *slot {
                    Some(item) => item,
                    None => {
                        let node = layer.node(id).ok_or_else(broken)?;
                        *slot.insert(self.add(Item { meta: meta_of(&node), body: body_of(&node) }))
                    }
                };
                self.link(to, name, item);
            }
        }
        Ok(())
    }

    /// Gives a directory the layer's metadata, unless the layer never described it.
    fn describe(&mut self, layer: &Index, from: NodeId, to: ItemId) -> Option<()> {
        let record = layer.record(from)?;
        if record.flags & FLAG_IMPLICIT == 0 {
            self.items.get_mut(to)?.meta = meta_of(&layer.node(from)?);
        }
        Some(())
    }

    /// The items of this tree, before any change, that nodes of the layer are further names of.
    fn lower_links(&mut self, layer: &Index) -> Result<Vec<Option<ItemId>>> {
        let mut known = vec![None; layer.len() as usize];
        for (id, slot) in (0..).zip(&mut known) {
            let Some(record) = layer.record(NodeId(id)) else { continue };
            let Some(path) = layer.lower(&record) else { continue };
            let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            let item = self.find(&names).filter(|item| self.dir(*item).is_none());
            *slot = Some(item.ok_or_else(|| {
                let text = |path: &[u8]| String::from_utf8_lossy(path).escape_debug().to_string();
                Error::failed(format!("the entry `{}` of a layer is refused", text(&path_of(layer, NodeId(id)))))
                    .because(format!("it is a hard link to `{}`, which is no file of the layers below", text(path)))
                    .hint("the image is broken or hostile; nothing of it is used")
            })?);
        }
        Ok(known)
    }
}

/// The first path of a node, for a message; empty when nothing names it.
fn path_of(layer: &Index, wanted: NodeId) -> Vec<u8> {
    let mut dirs = vec![(NodeId::ROOT, Vec::new())];
    while let Some((dir, path)) = dirs.pop() {
        for entry in layer.entries(dir) {
            let mut own = path.clone();
            if !own.is_empty() {
                own.push(b'/');
            }
            own.extend_from_slice(entry.name);
            if entry.node == wanted {
                return own;
            }
            if layer.is_dir(entry.node) {
                dirs.push((entry.node, own));
            }
        }
    }
    Vec::new()
}

fn meta_of(node: &Node<'_>) -> Meta {
    Meta {
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
    }
}

fn body_of(node: &Node<'_>) -> Body {
    match node.kind {
        Kind::Dir | Kind::File => Body::File { size: node.size, object: node.object },
        Kind::Symlink => Body::Symlink(node.target().into()),
        Kind::Fifo => Body::Fifo,
        Kind::Char => Body::Char(node.rdev.0, node.rdev.1),
        Kind::Block => Body::Block(node.rdev.0, node.rdev.1),
        Kind::Socket => Body::Socket,
    }
}
