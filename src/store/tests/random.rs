//! Random layers, laid onto each other by the store and by a model that knows only flat maps of paths.

use super::kit::{Fixture, Tar, walk};
use crate::image::Digest;
use crate::store::{Kind, NodeId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Path = Vec<u8>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Dir,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
    Char(u32, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing {
    what: What,
    mode: u32,
    uid: u32,
    mtime: (i64, u32),
    xattr: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Op {
    Put(Path, Thing),
    /// A hard link to one of the files there are, in this layer or below.
    Link(Path, prop::sample::Index),
    Whiteout(Path),
    Opaque(Path),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![&b"a"[..], b"b", b"c", b"\xff\xfe", b"caf\xc3\xa9", b"new\nline", b"..."]).prop_map(<[u8]>::to_vec),
        1 => Just(vec![b'n'; 120]),
        1 => Just(vec![b'm'; 251]),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

fn thing() -> impl Strategy<Value = Thing> {
    let what = prop_oneof![
        3 => Just(What::Dir),
        3 => prop::collection::vec(any::<u8>(), 0..700).prop_map(What::File),
        1 => prop::sample::select(vec![&b"a"[..], b"/x/../y", b"\xff", &[b't'; 300][..]]).prop_map(|target| What::Symlink(target.to_vec())),
        1 => Just(What::Fifo),
        1 => (0..4000_u32, 0..200_000_u32).prop_map(|(major, minor)| What::Char(major, minor)),
    ];
    let uid = prop_oneof![Just(0), Just(999), Just(3_000_000), Just(u32::MAX - 1)];
    let xattr = prop::option::of(prop::collection::vec(any::<u8>(), 0..30));
    (what, 0..0o10000_u32, uid, (-5_000_000_000..5_000_000_000_i64, 0..1_000_000_000_u32), xattr)
        .prop_map(|(what, mode, uid, mtime, xattr)| Thing { what, mode, uid, mtime, xattr })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (path(), thing()).prop_map(|(path, thing)| Op::Put(path, thing)),
        2 => (path(), any::<prop::sample::Index>()).prop_map(|(path, target)| Op::Link(path, target)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

/// All proper prefixes of a path that are directories on its way.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

fn below(path: &[u8], dir: &[u8]) -> bool {
    path.len() > dir.len() && path.starts_with(dir) && path[dir.len()] == b'/'
}

/// Numbers of things by path; numbers shared are hard links.
type Names = BTreeMap<Path, usize>;

#[derive(Default)]
struct Model {
    things: Vec<Thing>,
    names: Names,
}

/// One layer as it is read: what it puts, hides and never described.
#[derive(Default)]
struct Layer {
    names: Names,
    implied: BTreeSet<Path>,
    whiteouts: BTreeSet<Path>,
    opaque: BTreeSet<Path>,
}

impl Model {
    fn is_dir(&self, number: usize) -> bool {
        self.things[number].what == What::Dir
    }

    /// Whether extraction would stumble over a parent that is no directory.
    fn blocked(&self, layer: &Layer, path: &[u8]) -> bool {
        parents(path).any(|parent| layer.names.get(parent).is_some_and(|number| !self.is_dir(*number)))
    }

    fn make_parents(&mut self, layer: &mut Layer, path: &[u8]) {
        for parent in parents(path).map(<[u8]>::to_vec).collect::<Vec<_>>() {
            if !layer.names.contains_key(&parent) {
                self.things.push(Thing { what: What::Dir, mode: 0o755, uid: 0, mtime: (0, 0), xattr: None });
                layer.names.insert(parent.clone(), self.things.len() - 1);
                layer.implied.insert(parent.clone());
                if layer.whiteouts.remove(&parent) {
                    layer.opaque.insert(parent);
                }
            }
        }
    }

    /// Puts a thing at a path of the layer; what was there goes, but a directory described again keeps its content.
    fn put(&mut self, layer: &mut Layer, path: &[u8], number: usize) {
        self.make_parents(layer, path);
        let hidden = layer.whiteouts.remove(path);
        let old = layer.names.insert(path.to_vec(), number);
        layer.implied.remove(path);
        let was_dir = old.is_some_and(|old| self.is_dir(old));
        if self.is_dir(number) {
            if hidden || (old.is_some() && !was_dir) {
                layer.opaque.insert(path.to_vec());
            }
        } else if was_dir {
            layer.names.retain(|other, _| !below(other, path));
            layer.implied.retain(|other| !below(other, path));
            layer.whiteouts.retain(|other| !below(other, path));
            layer.opaque.retain(|other| !below(other, path) && other != path);
        }
    }

    /// Lays a finished layer onto what there is.
    fn merge(&mut self, layer: &Layer) {
        let lower = std::mem::take(&mut self.names);
        for (path, number) in lower {
            let gone = parents(&path).any(|parent| {
                layer.whiteouts.contains(parent)
                    || layer.opaque.contains(parent)
                    || layer.names.get(parent).is_some_and(|number| !self.is_dir(*number))
            });
            let kept = match layer.names.get(&path) {
                // Nobody described it here: the description below holds.
                Some(_) => layer.implied.contains(&path) && self.is_dir(number),
                None => !layer.whiteouts.contains(&path),
            };
            if !gone && kept && !layer.opaque.contains(&Vec::new()) {
                self.names.insert(path, number);
            }
        }
        for (path, number) in &layer.names {
            self.names.entry(path.clone()).or_insert(*number);
        }
    }
}

fn pax_of(thing: &Thing) -> Vec<(String, Vec<u8>)> {
    let (seconds, nanos) = thing.mtime;
    // PAX times are decimals, so before 1970 the fraction counts the other way.
    let time = match (seconds < 0, nanos) {
        (true, 1..) if seconds == -1 => format!("-0.{:09}", 1_000_000_000 - nanos),
        (true, 1..) => format!("{}.{:09}", seconds + 1, 1_000_000_000 - nanos),
        _ => format!("{seconds}.{nanos:09}"),
    };
    let mut records = vec![("mtime".to_owned(), time.into_bytes()), ("uid".to_owned(), thing.uid.to_string().into_bytes())];
    records.extend(thing.xattr.iter().map(|value| ("SCHILY.xattr.user.k".to_owned(), value.clone())));
    records
}

/// A header with names of any length: what does not fit goes into a PAX or, by `gnu`, a GNU header before it.
fn header(
    tar: &mut Tar,
    gnu: bool,
    mut pax: Vec<(String, Vec<u8>)>,
    kind: u8,
    path: &[u8],
    link: &[u8],
    size: usize,
) -> tar::Header {
    let fits = |name: &[u8]| name.len() <= 100;
    for (name, key, gnu_kind) in [(path, "path", b'L'), (link, "linkpath", b'K')] {
        if fits(name) {
            continue;
        }
        if gnu {
            let long = [name, b"\0"].concat();
            tar.0.append(&Tar::header(gnu_kind, b"././@LongLink", long.len() as u64), long.as_slice()).unwrap();
        } else {
            pax.push((key.to_owned(), name.to_vec()));
        }
    }
    tar.0.append_pax_extensions(pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()))).unwrap();
    let short = |name: &[u8]| if fits(name) { name.to_vec() } else { b"short".to_vec() };
    let mut header = Tar::header(kind, &short(path), size as u64);
    let link = short(link);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(&link);
    header
}

fn append(tar: &mut Tar, path: &[u8], thing: &Thing) {
    let (kind, link, content): (u8, &[u8], &[u8]) = match &thing.what {
        What::Dir => (b'5', b"", b""),
        What::File(content) => (b'0', b"", content),
        What::Symlink(target) => (b'2', target, b""),
        What::Fifo => (b'6', b"", b""),
        What::Char(..) => (b'3', b"", b""),
    };
    let mut header = header(tar, thing.uid == 0, pax_of(thing), kind, path, link, content.len());
    header.set_mode(thing.mode);
    if let What::Char(major, minor) = thing.what {
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
    }
    header.set_cksum();
    tar.0.append(&header, content).unwrap();
}

fn mark(tar: &mut Tar, kind: u8, path: &[u8], link: &[u8]) {
    let mut header = header(tar, false, Vec::new(), kind, path, link, 0);
    header.set_cksum();
    tar.0.append(&header, &b""[..]).unwrap();
}

/// Writes the layer as a tar and into the model; operations that extraction would refuse are left out.
fn play(model: &mut Model, ops: &[Op]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut layer = Layer::default();
    for op in ops {
        let (Op::Put(path, _) | Op::Link(path, _) | Op::Whiteout(path) | Op::Opaque(path)) = op;
        if model.blocked(&layer, path) {
            continue;
        }
        match op {
            Op::Put(path, thing) => {
                append(&mut tar, path, thing);
                model.things.push(thing.clone());
                model.put(&mut layer, path, model.things.len() - 1);
            }
            Op::Link(path, target) => {
                let usable = |(path, number): (&Path, &usize)| {
                    (!model.is_dir(*number) && !model.blocked(&layer, path)).then(|| (path.clone(), *number))
                };
                let mut targets: BTreeMap<Path, usize> = model.names.iter().filter_map(usable).collect();
                // What this layer has at a path hides what is below.
                targets.retain(|path, _| !layer.names.contains_key(path));
                targets.extend(layer.names.iter().filter_map(usable));
                if targets.is_empty() {
                    continue;
                }
                let (to, number) = targets.iter().nth(target.index(targets.len())).unwrap();
                if to == path || parents(to).any(|parent| parent == path.as_slice()) || parents(path).any(|parent| parent == to) {
                    continue;
                }
                mark(&mut tar, b'1', path, to);
                model.put(&mut layer, path, *number);
            }
            Op::Whiteout(path) => {
                let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                mark(&mut tar, b'0', &[&path[..at], b".wh.", &path[at..]].concat(), b"");
                model.make_parents(&mut layer, path);
                match layer.names.get(path) {
                    None => drop(layer.whiteouts.insert(path.clone())),
                    Some(number) if model.is_dir(*number) => drop(layer.opaque.insert(path.clone())),
                    Some(_) => {}
                }
            }
            Op::Opaque(path) => {
                if layer.names.get(path).is_some_and(|number| !model.is_dir(*number)) {
                    continue;
                }
                let inside = [path.as_slice(), b"/.wh..wh..opq"].concat();
                mark(&mut tar, b'0', &inside, b"");
                model.make_parents(&mut layer, &inside);
                layer.opaque.insert(path.clone());
            }
        }
    }
    model.merge(&layer);
    tar.end()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn the_store_and_the_model_agree(layers in prop::collection::vec(prop::collection::vec(op(), 0..25), 1..5)) {
        let mut model = Model::default();
        let tars: Vec<Vec<u8>> = layers.iter().map(|ops| play(&mut model, ops)).collect();
        let fixture = Fixture::new();
        let index = fixture.image(&tars).unwrap();
        prop_assert_eq!(index.check(), Ok(()));
        let mut links: HashMap<usize, u32> = HashMap::new();
        for number in model.names.values() {
            *links.entry(*number).or_default() += 1;
        }
        let mut found: BTreeMap<Path, NodeId> = BTreeMap::new();
        walk(&index, &mut |path, id| found.extend([(path.to_vec(), id)]));
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), model.names.keys().collect::<Vec<_>>());
        let mut ids: HashMap<usize, NodeId> = HashMap::new();
        for (path, number) in &model.names {
            let thing = &model.things[*number];
            let id = found[path];
            prop_assert_eq!(*ids.entry(*number).or_insert(id), id, "one thing is one node");
            let node = index.node(id).unwrap();
            prop_assert_eq!((node.mode, node.uid, node.mtime), (thing.mode, thing.uid, thing.mtime), "{}", path.escape_ascii());
            let xattrs: Vec<_> = node.xattrs().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(xattrs, thing.xattr.iter().map(|value| (b"user.k".to_vec(), value.clone())).collect::<Vec<_>>());
            match &thing.what {
                What::Dir => {
                    let subdirs = model.names.iter().filter(|(other, number)| {
                        below(other, path) && !other[path.len() + 1..].contains(&b'/') && model.is_dir(**number)
                    });
                    prop_assert_eq!((node.kind, node.nlink), (Kind::Dir, 2 + u32::try_from(subdirs.count()).unwrap()));
                    let parent = parents(path).last().map_or(NodeId::ROOT, |parent| found[parent]);
                    prop_assert_eq!(index.parent(id), parent);
                    continue;
                }
                What::File(content) => {
                    prop_assert_eq!((node.kind, node.size), (Kind::File, content.len() as u64));
                    let expected = (!content.is_empty()).then(|| Digest::of(content));
                    prop_assert_eq!(node.object, expected);
                    if let Some(object) = node.object {
                        prop_assert_eq!(&std::fs::read(fixture.store.object_path(&object)).unwrap(), content);
                    }
                }
                What::Symlink(target) => prop_assert_eq!((node.kind, node.target()), (Kind::Symlink, target.as_slice())),
                What::Fifo => prop_assert_eq!(node.kind, Kind::Fifo),
                What::Char(major, minor) => prop_assert_eq!((node.kind, node.rdev), (Kind::Char, (*major, *minor))),
            }
            prop_assert_eq!(node.nlink, links[number], "{}", path.escape_ascii());
        }
    }
}
