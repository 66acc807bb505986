//! Any bytes as an image index, also with digests made right so that what lies behind them is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steading::image::Digest;
use steading::store::{Index, NodeId};

fn use_all(index: &Index) {
    for id in (0..index.len()).map(NodeId) {
        // A checked index answers for every id it has.
        let node = index.node(id).expect("a node of a checked index");
        let _ = (node.target(), node.xattrs().count());
        for entry in index.entries(id) {
            assert_eq!(index.lookup(id, entry.name), Some(entry.node));
        }
    }
    let _ = (index.resolve(b"a/../b/./c"), index.digests().count());
}

fuzz_target!(|data: &[u8]| {
    if let Ok(index) = Index::open_bytes(data) {
        use_all(&index);
    }
    if data.len() >= 256 {
        let mut sealed = data.to_vec();
        let body = Digest::of(&sealed[256..]);
        sealed[192..224].copy_from_slice(body.as_bytes());
        let header = Digest::of(&sealed[..224]);
        sealed[224..256].copy_from_slice(header.as_bytes());
        if let Ok(index) = Index::open_bytes(sealed) {
            use_all(&index);
        }
    }
});
