//! Indexes with wrong bytes: refused by the full check, and never a panic or an endless walk without it.

use super::kit::{Fixture, Tar, tar_of};
use crate::image::Digest;
use crate::store::{Index, NodeId};
use proptest::prelude::*;
use std::fs;
use std::sync::LazyLock;

fn index_bytes() -> Vec<u8> {
    let fixture = Fixture::new();
    let lower = tar_of(&["d a", "f a/x=1", "d a/b", "f a/b/y=22", "s l>a/b", "h h>a/x"]);
    let upper = Tar::new()
        .pax([("SCHILY.xattr.user.k", &b"v"[..])])
        .file("a/.wh.x", "")
        .pax([("SCHILY.xattr.user.k", &b"v"[..])])
        .file("z", "3")
        .end();
    let index = fixture.image(&[lower, upper]).unwrap();
    drop(index);
    let digest = fixture.store.image_digests().unwrap()[0];
    fs::read(fixture.store.image_dir(&digest).join("index")).unwrap()
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(index_bytes);

/// Makes the two digests right again, so that the checks behind them are reached.
fn reseal(bytes: &mut [u8]) {
    if bytes.len() >= 256 {
        let body = Digest::of(&bytes[256..]);
        bytes[192..224].copy_from_slice(body.as_bytes());
        let header = Digest::of(&bytes[..224]);
        bytes[224..256].copy_from_slice(header.as_bytes());
    }
}

/// Calls everything, as a reader that trusts nobody would.
fn use_all(index: &Index) {
    for id in (0..index.len() + 2).map(NodeId) {
        if let Some(node) = index.node(id) {
            let _ = (node.target(), node.xattrs().count());
        }
        let _ = (index.parent(id), index.entries(id).nth(3), index.lookup(id, b"y"));
        for entry in index.entries(id).take(1000) {
            let _ = index.lookup(id, entry.name);
        }
        let _ = index.changes(id).take(1000).count();
    }
    let _ = (index.resolve(b"/l/../../a/b/y"), index.resolve(b"l/l/l"), index.digests().count());
}

#[test]
fn a_good_index_passes_and_any_single_wrong_byte_does_not() {
    Index::open_bytes(GOOD.clone()).unwrap();
    for at in 0..GOOD.len() {
        let mut bytes = GOOD.clone();
        bytes[at] ^= 1;
        assert!(Index::open_bytes(bytes).is_err(), "byte {at}");
    }
    for length in 0..GOOD.len() {
        assert!(Index::open_bytes(&GOOD[..length]).is_err(), "length {length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn wrong_bytes_behind_right_digests_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), at_header in any::<bool>()) {
        let mut bytes = GOOD.clone();
        for (at, value) in changes {
            // Half of the time in the header, which random positions would rarely hit.
            let at = if at_header { at.index(192) } else { at.index(bytes.len()) };
            bytes[at] = value;
        }
        reseal(&mut bytes);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        fs::write(&path, &bytes).unwrap();
        // Opened cheaply, as in service: the body is not checked.
        if let Ok(Some(index)) = Index::open_file(&path, crate::store::format::Content::Image) {
            use_all(&index);
        }
        if let Ok(index) = Index::open_bytes(bytes) {
            use_all(&index);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1000), sealed in any::<bool>()) {
        if sealed && bytes.len() >= 256 {
            bytes[..192].copy_from_slice(&GOOD[..192]);
            reseal(&mut bytes);
        }
        let _ = Index::open_bytes(bytes);
    }
}

#[test]
fn the_corpus_of_the_fuzz_targets_holds() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut seen = 0;
    for entry in fs::read_dir(root.join("index")).unwrap() {
        let mut bytes = fs::read(entry.unwrap().path()).unwrap();
        let taken = Index::open_bytes(bytes.clone()).map(|index| use_all(&index)).is_ok();
        reseal(&mut bytes);
        let resealed = Index::open_bytes(bytes).map(|index| use_all(&index)).is_ok();
        assert!(resealed || !taken);
        seen += 1;
    }
    for entry in fs::read_dir(root.join("layer")).unwrap() {
        let path = entry.unwrap().path();
        let fixture = Fixture::new();
        // The first byte tells the target how the rest is compressed; here all are plain.
        let result = fixture.image(&[fs::read(&path).unwrap()[1..].to_vec()]);
        let good = path.file_name().unwrap().to_string_lossy().starts_with("good");
        assert_eq!(result.is_ok(), good, "{}: {result:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 10, "the corpus is not there");
}
