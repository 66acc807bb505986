//! Any bytes as a layer: refused, or an image whose index passes its check.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use std::sync::LazyLock;
use steading::image::Digest;
use steading::layer::Limits;
use steading::report::Silent;
use steading::resolve::PlanLayer;
use steading::store::{ImageRecord, Store};

static STORE: LazyLock<(tempfile::TempDir, Store)> = LazyLock::new(|| {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory");
    let store = Store::open(&dir.path().join("store")).expect("a store");
    (dir, store)
});

/// Makes the checksums of header blocks right: a fuzzer would hardly ever find them.
fn seal(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_target!(|data: &[u8]| {
    let (dir, store) = &*STORE;
    let (Some((first, tar)), blob) = (data.split_first(), dir.path().join("blob")) else { return };
    let mut tar = tar.to_vec();
    if *first < 128 {
        seal(&mut tar);
    }
    let diff_id = Digest::of(&tar);
    // The first byte chooses how it is stored; compressed ones are refused for their digest, which is reached first.
    let kind = ["tar", "tar+gzip", "tar+zstd"][usize::from(*first) % 3];
    let limits = Limits { max_layer_bytes: 1 << 20, ..Limits::default() };
    fs::write(&blob, &tar).expect("a blob");
    let media_type = format!("application/vnd.oci.image.layer.v1.{kind}");
    let layer = PlanLayer { digest: diff_id, size: tar.len() as u64, media_type, diff_id };
    if store.import(&layer, &blob, &limits, &Silent).is_ok() {
        let config = format!("{{\"rootfs\":{{\"diff_ids\":[\"{diff_id}\"]}}}}");
        let digest = Digest::of(config.as_bytes());
        let record =
            ImageRecord { digest, manifest: config.as_bytes(), config: config.as_bytes(), diff_ids: &[diff_id], reference: None };
        if store.commit_image(&record).is_ok() {
            let index = store.image(&digest).expect("an image").expect("the image");
            index.check().expect("what was committed is right");
        }
        store.remove_image(&digest).expect("it can be removed");
    }
    store.prune().expect("what is left can be removed");
    assert_eq!(fs::read_dir(dir.path()).expect("a listing").count(), 2, "nothing but the store and the blob");
});
