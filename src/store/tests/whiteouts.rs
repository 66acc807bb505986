//! Layers on layers: what is hidden, what shines through.

use super::kit::{Fixture, Tar, tar_of};

/// Layers, lowest first, and what the image is.
type Case = (&'static str, &'static [&'static [&'static str]], &'static [&'static str]);

const CASES: &[Case] = &[
    ("a whiteout removes a file", &[&["d a", "f a/x=1", "f a/y=2"], &["d a", "f a/.wh.x="]], &["d a", "f a/y=2"]),
    ("a whiteout removes a directory with all in it", &[&["d a", "d a/b", "f a/b/x=1"], &["f .wh.a="]], &[]),
    ("a whiteout of nothing is nothing", &[&["f x=1"], &["f .wh.nothing=", "f a/.wh.b="]], &["d a", "f x=1"]),
    ("a whiteout spares its own layer, after", &[&["f x=1"], &["f .wh.x=", "f x=2"]], &["f x=2"]),
    ("a whiteout spares its own layer, before", &[&["f x=1"], &["f x=2", "f .wh.x="]], &["f x=2"]),
    (
        "a directory removed and made again shows nothing old",
        &[&["d a", "f a/old=1"], &["f .wh.a=", "d a", "f a/new=2"]],
        &["d a", "f a/new=2"],
    ),
    (
        "the same, the whiteout last and the directory implied",
        &[&["d a", "f a/old=1"], &["f a/new=2", "f .wh.a="]],
        &["d a", "f a/new=2"],
    ),
    (
        "opaque hides lower layers only",
        &[&["d a", "f a/old=1", "d a/b", "f a/b/c=1"], &["d a", "f a/new=2", "f a/.wh..wh..opq=", "f a/newer=3"]],
        &["d a", "f a/new=2", "f a/newer=3"],
    ),
    ("an opaque root", &[&["f x=1", "d a"], &["f .wh..wh..opq=", "f y=2"]], &["f y=2"]),
    ("a whiteout lasts one layer", &[&["f x=1"], &["f .wh.x="], &["f x=3"]], &["f x=3"]),
    (
        "opaque does not reach up",
        &[&["d a", "f a/1="], &["d a", "f a/.wh..wh..opq=", "f a/2="], &["d a", "f a/3="]],
        &["d a", "f a/2=", "f a/3="],
    ),
    ("a file replaces a directory", &[&["d a", "f a/x=1"], &["f a=2"]], &["f a=2"]),
    ("a directory replaces a file", &[&["f a=1"], &["d a", "f a/x=2"]], &["d a", "f a/x=2"]),
    ("and back", &[&["d a", "f a/x=1"], &["f a=2"], &["d a", "f a/y=3"]], &["d a", "f a/y=3"]),
    ("and back in one layer", &[&["d a", "f a/x=1"], &["f a=2", "d a", "f a/y=3"]], &["d a", "f a/y=3"]),
    (
        "a directory takes the place of a symlink of a lower layer",
        &[&["d usr", "d usr/lib", "s lib>usr/lib"], &["f lib/x=1"]],
        &["d lib", "d usr", "d usr/lib", "f lib/x=1"],
    ),
    (
        "a symlink of the same layer is followed",
        &[&["d usr", "d usr/lib", "s lib>usr/lib", "f lib/x=1"]],
        &["d usr", "d usr/lib", "f usr/lib/x=1", "s lib>usr/lib"],
    ),
    ("a hard link to a lower layer", &[&["d a", "f a/x=1"], &["h y>a/x"]], &["d a", "f a/x=1", "f y=1"]),
    ("a hard link to what its own layer removes", &[&["f x=1"], &["f .wh.x=", "h y>x"]], &["f y=1"]),
    ("a hard link to what its own layer replaced", &[&["f x=1"], &["f x=2", "h y>x"]], &["f x=2", "f y=2"]),
    ("a hard link to a symlink", &[&["s x>nowhere", "h y>x"]], &["s x>nowhere", "s y>nowhere"]),
    ("a later entry of one name wins", &[&["f x=1", "f x=2", "d a", "f a/y=1", "d a"]], &["d a", "f a/y=1", "f x=2"]),
    ("a later file takes a directory's content away", &[&["d a", "f a/y=1", "f a=2"]], &["f a=2"]),
    ("AUFS's own notes are skipped", &[&["d .wh..wh.plnk", "f .wh..wh.plnk/1.2=x", "f .wh..wh.aufs=", "f x=1"]], &["f x=1"]),
    (
        "leading slashes and dots are dropped",
        &[&["d ./", "f ./x=1", "f /y=2", "d .//a/./", "h /z>./x"]],
        &["d a", "f x=1", "f y=2", "f z=1"],
    ),
    ("an empty layer changes nothing", &[&["f x=1"], &[]], &["f x=1"]),
];

#[test]
fn cases() {
    for (name, layers, expected) in CASES {
        let fixture = Fixture::new();
        let tars: Vec<Vec<u8>> = layers.iter().map(|lines| tar_of(lines)).collect();
        let index = fixture.image(&tars).unwrap_or_else(|error| panic!("{name}: {error} {:?}", error.causes()));
        index.check().unwrap_or_else(|why| panic!("{name}: {why}"));
        let mut listing = fixture.listing(&index);
        listing.sort();
        assert_eq!(listing, *expected, "{name}");
    }
}

#[test]
fn metadata_of_implied_directories_comes_from_below_or_is_made_up() {
    let mut lower = Tar::header(b'5', b"a", 0);
    lower.set_mode(0o1777);
    lower.set_uid(5);
    lower.set_cksum();
    let mut tar = Tar::new();
    tar.0.append(&lower, &b""[..]).unwrap();
    let fixture = Fixture::new();
    let index = fixture.image(&[tar.end(), tar_of(&["f a/x=1", "f b/x=1"])]).unwrap();
    let of = |name: &[u8]| index.node(index.lookup(index.root(), name).unwrap()).unwrap();
    assert_eq!((of(b"a").mode, of(b"a").uid, of(b"a").mtime, of(b"a").nlink), (0o1777, 5, (1000, 0), 2));
    assert_eq!((of(b"b").mode, of(b"b").uid, of(b"b").mtime), (0o755, 0, (0, 0)));
    assert_eq!(index.node(index.root()).unwrap().nlink, 4);
}

#[test]
fn hard_links_over_layers_are_one_node() {
    let fixture = Fixture::new();
    let tars = [tar_of(&["f x=1", "h y>x"]), tar_of(&["d a", "h a/z>y", "h a/w>a/z", "f .wh.x="])];
    let index = fixture.image(&tars).unwrap();
    let id = |path: &[u8]| index.resolve(path).unwrap();
    assert_eq!((id(b"y"), id(b"y")), (id(b"a/z"), id(b"a/w")));
    assert_eq!(index.node(id(b"y")).unwrap().nlink, 3);
    assert_eq!(index.resolve(b"x"), None);
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let tars = [tar_of(&["d b", "f b/x=1", "d a", "f a/x=1", "f a/y=2"]), tar_of(&["f a/.wh.x=", "f c=3"])];
    let bytes = || {
        let fixture = Fixture::new();
        // A store with a history: slots differ, indexes do not.
        fixture.image(&[tar_of(&["f other=1"])]).unwrap();
        let index = fixture.image(&tars).unwrap();
        let digest = fixture.store.images().unwrap().into_iter().find(|image| image.slot == index.slot()).unwrap().digest;
        std::fs::read(fixture.store.image_dir(&digest).join("index")).unwrap()
    };
    assert!(bytes() == bytes());
}
