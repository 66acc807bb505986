//! The store over its life: several users at once, removal, power cuts, damage, full disks.

use super::kit::{Fixture, TAR, cannot, config_of, gzip, tar_of};
use crate::error::Kind;
use crate::image::Digest;
use crate::layer::Limits;
use crate::report::Silent;
use crate::resolve::PlanLayer;
use crate::store::{ImageRecord, Store};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn objects(store: &Store) -> usize {
    let mut count = 0;
    store
        .each_object(|_, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
    count
}

fn spoil(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn images_share_layers_have_their_own_slots_and_are_listed() {
    let fixture = Fixture::new();
    let base = fixture.import(&tar_of(&["f base=1"])).unwrap();
    let top = fixture.import(&tar_of(&["f top=22"])).unwrap();
    let first = fixture.commit(&[base], Some("registry.example/library/base:1")).unwrap();
    let second = fixture.commit(&[base, top], Some("registry.example/library/top:1")).unwrap();
    // Again, with another name: the same image, the same slot.
    assert_eq!(fixture.commit(&[base, top], Some("registry.example/library/top:latest")).unwrap(), second);
    let list = fixture.store.images().unwrap();
    let info = list.iter().find(|info| info.digest == second).unwrap();
    assert_eq!(info.references, ["registry.example/library/top:1", "registry.example/library/top:latest"]);
    assert_eq!((info.entries, info.size, info.layers.as_slice()), (3, 3, &[base, top][..]));
    assert_eq!(list.iter().map(|info| info.slot).max(), Some(2));
    assert_ne!(list[0].slot, list[1].slot);
    assert_eq!(fixture.store.reference("registry.example/library/base:1").unwrap(), Some(first));
    assert_eq!(fixture.store.config(&first).unwrap(), config_of(&[base]).as_bytes());
    assert_eq!(fixture.store.config(&base).unwrap_err().kind(), Kind::NotFound);
    // A slot is never given again.
    assert!(fixture.store.remove_image(&second).unwrap());
    assert!(!fixture.store.remove_image(&second).unwrap());
    assert_eq!(fixture.store.reference("registry.example/library/top:1").unwrap(), None);
    fixture.commit(&[base, top], None).unwrap();
    assert_eq!(fixture.store.image(&second).unwrap().unwrap().slot(), 3);
    let reader = Store::open_read_only(fixture.store.root()).unwrap();
    assert_eq!(reader.image(&second).unwrap().unwrap().slot(), 3);
    assert!(reader.prune().is_err());
}

#[test]
fn modes_and_places_are_as_specified() {
    let fixture = Fixture::new();
    let layer = fixture.import(&tar_of(&["f x=content", "f empty="])).unwrap();
    let digest = fixture.commit(&[layer], Some("a/b:c")).unwrap();
    let root = fixture.store.root();
    let object = fixture.store.object_path(&Digest::of(b"content"));
    assert_eq!(fs::read(&object).unwrap(), b"content");
    assert_eq!(fs::metadata(&object).unwrap().permissions().mode() & 0o333, 0);
    assert_eq!(fs::metadata(root).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(objects(&fixture.store), 1, "an empty file has no object");
    for path in [format!("layers/{}", layer.hex()), format!("images/sha256-{}/index", digest.hex()), "refs/a%2Fb%3Ac".into()] {
        assert!(root.join(&path).is_file(), "{path}");
    }
}

#[test]
fn prune_keeps_what_images_and_their_readers_need() {
    let fixture = Fixture::new();
    let base = fixture.import(&tar_of(&["f base=1", "f hidden=2"])).unwrap();
    let one = fixture.import(&tar_of(&["f .wh.hidden=", "f one=3"])).unwrap();
    let lost = fixture.import(&tar_of(&["f lost=4"])).unwrap();
    let image = fixture.commit(&[base, one], None).unwrap();
    let hold = fixture.store.hold().unwrap();
    assert!(fixture.store.prune().unwrap_err().find_hint().is_some(), "somebody pulls");
    drop(hold);
    let freed = fixture.store.prune().unwrap();
    assert_eq!((freed.images, freed.layers, freed.objects), (0, 1, 1));
    assert!(freed.bytes > 0 && !fixture.store.has_layer(&lost) && fixture.store.has_layer(&base));
    // The hidden content stays for the next image on that base.
    assert_eq!(objects(&fixture.store), 3);
    let reader = fixture.store.image(&image).unwrap().unwrap();
    fixture.store.remove_image(&image).unwrap();
    assert_eq!(fixture.store.prune().unwrap().images, 0, "it is being read");
    assert_eq!(fixture.store.read_file(&reader, b"one", 9).unwrap().unwrap(), b"3");
    assert_eq!(objects(&fixture.store), 2);
    drop(reader);
    assert_eq!(fixture.store.prune().unwrap().images, 1);
    assert_eq!(objects(&fixture.store), 0);
    assert!(!fixture.store.root().join("pending").exists());
    assert!(fixture.store.fsck(false, &Silent).unwrap().is_clean());
}

#[test]
fn threads_and_stores_import_the_same_at_once() {
    let fixture = Fixture::new();
    let tars: Vec<Vec<u8>> = (0..4)
        .map(|nth| tar_of(&[&format!("f own{nth}={nth}"), "f shared=same", &format!("f big{nth}={}", "x".repeat(2 << 20))]))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            for tar in &tars {
                let fixture = &fixture;
                scope.spawn(move || {
                    let store = Store::open(fixture.store.root()).unwrap();
                    let layer =
                        fixture.import_blob(&gzip(tar), &format!("{TAR}+gzip"), Digest::of(tar), &Limits::default()).unwrap();
                    assert!(store.has_layer(&layer));
                    fixture.commit(&[layer], Some("one/name:for-all")).unwrap();
                });
            }
        }
    });
    let list = fixture.store.images().unwrap();
    let mut slots: Vec<u32> = list.iter().map(|info| info.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots.len(), 4);
    slots.dedup();
    assert_eq!(slots.len(), 4, "slots differ");
    let report = fixture.store.fsck(true, &Silent).unwrap();
    assert!(report.is_clean() && report.leftovers == 0 && report.orphans == 0, "{report:?}");
    assert_eq!(report.objects, 6, "4 own, the shared and the big one");
}

#[test]
fn after_a_power_cut_what_is_torn_goes_and_comes_back() {
    let fixture = Fixture::new();
    let safe = fixture.import(&tar_of(&["f safe=1"])).unwrap();
    let image = fixture.commit(&[safe], None).unwrap();
    let tar = tar_of(&["f safe=1", "f torn=22", "f whole=333"]);
    let half = fixture.import(&tar).unwrap();
    let fine = fixture.import(&tar_of(&["f fine=4444"])).unwrap();
    let cut = fixture.import(&tar_of(&["f cut=55555"])).unwrap();
    let root = fixture.store.root();
    // What a file system may show after the power went: right length, wrong bytes; an index of zeros; leftovers.
    spoil(&fixture.store.object_path(&Digest::of(b"22")), b"\0\0");
    let length = fs::metadata(fixture.store.layer_path(&cut)).unwrap().len();
    spoil(&fixture.store.layer_path(&cut), &vec![0; usize::try_from(length).unwrap()]);
    fs::write(root.join("objects/00/.tmp-1-2-x"), "").unwrap();
    fs::create_dir(root.join("images/.tmp-1-2-x")).unwrap();
    assert!(root.join("pending").exists());
    // The same boot: nothing to do.
    let store = Store::open(root).unwrap();
    assert!(store.has_layer(&half));
    fs::write(root.join("pending"), "another boot").unwrap();
    let store = Store::open(root).unwrap();
    assert!(!store.has_layer(&half) && !store.has_layer(&cut) && store.has_layer(&fine) && store.has_layer(&safe));
    assert!(!store.object_path(&Digest::of(b"22")).exists() && store.object_path(&Digest::of(b"333")).exists());
    assert!(!root.join("pending").exists() && store.has_image(&image));
    assert!(!root.join("objects/00/.tmp-1-2-x").exists() && !root.join("images/.tmp-1-2-x").exists());
    fixture.import(&tar).unwrap();
    let index = fixture.image(&[tar]).unwrap();
    assert_eq!(fixture.store.read_file(&index, b"torn", 9).unwrap().unwrap(), b"22");
    assert!(fixture.store.fsck(false, &Silent).unwrap().is_clean());
}

#[test]
fn fsck_finds_and_repairs_every_damage() {
    let fixture = Fixture::new();
    let tars = [tar_of(&["f a=1", "f b=22"]), tar_of(&["f c=333"])];
    let build = || fixture.image(&tars).map(drop).unwrap();
    let digest = {
        build();
        fixture.store.image_digests().unwrap()[0]
    };
    fixture.store.set_reference("x/y:z", &digest).unwrap();
    let root = fixture.store.root().to_owned();
    let image = fixture.store.image_dir(&digest);
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        spoil(path, &bytes);
    };
    let a = fixture.store.object_path(&Digest::of(b"1"));
    let layer = fixture.store.layer_path(&Digest::of(&tars[1]));
    let damages: [(&str, &dyn Fn()); 8] = [
        ("torn object", &|| spoil(&a, b"2")),
        ("missing object", &|| fs::remove_file(&a).unwrap()),
        ("layer index", &|| flip(&layer, 300)),
        ("image index body", &|| flip(&image.join("index"), 300)),
        ("image index header", &|| flip(&image.join("index"), 33)),
        ("manifest", &|| flip(&image.join("manifest.json"), 1)),
        ("config", &|| flip(&image.join("config.json"), 1)),
        ("slot", &|| fs::write(image.join("slot"), "").unwrap()),
    ];
    for (name, damage) in damages {
        assert!(fixture.store.fsck(false, &Silent).unwrap().is_clean(), "before {name}");
        damage();
        let report = fixture.store.fsck(false, &Silent).unwrap();
        assert!(!report.is_clean(), "{name}");
        assert_eq!(fixture.store.fsck(true, &Silent).unwrap(), report, "{name}: repair sees the same");
        let after = fixture.store.fsck(false, &Silent).unwrap();
        assert!(after.is_clean(), "{name}: {after:?}");
        build();
        assert_eq!(fixture.listing(&fixture.store.image(&digest).unwrap().unwrap()), ["f a=1", "f b=22", "f c=333"], "{name}");
    }
    fs::write(root.join("objects/ab/readme"), "").unwrap();
    assert_eq!(fixture.store.fsck(false, &Silent).unwrap().foreign, [root.join("objects/ab/readme")]);
}

#[test]
fn a_damaged_image_is_replaced_by_a_new_commit() {
    let fixture = Fixture::new();
    let layer = fixture.import(&tar_of(&["f a=1"])).unwrap();
    let digest = fixture.commit(&[layer], None).unwrap();
    spoil(&fixture.store.image_dir(&digest).join("index"), b"rubbish");
    assert!(!fixture.store.has_image(&digest) && fixture.store.image(&digest).is_err() && fixture.store.images().is_err());
    assert!(fixture.store.prune().is_err(), "what it needs is unknown");
    fixture.commit(&[layer], None).unwrap();
    assert_eq!(fixture.store.image(&digest).unwrap().unwrap().slot(), 2);
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let fixture = Fixture::new();
    let layer = fixture.import(&tar_of(&["f a=1"])).unwrap();
    let config = config_of(&[layer]);
    let good = ImageRecord {
        digest: Digest::of(b"{}"),
        manifest: b"{}",
        config: config.as_bytes(),
        diff_ids: &[layer],
        reference: None,
    };
    for bad in [
        ImageRecord { manifest: b"{ }", ..good.clone() },
        ImageRecord { diff_ids: &[], ..good.clone() },
        ImageRecord { config: b"{}", ..good.clone() },
        ImageRecord { config: config_of(&[Digest::of(b"")]).as_bytes(), diff_ids: &[Digest::of(b"")], ..good.clone() },
    ] {
        fixture.store.commit_image(&bad).unwrap_err();
    }
    assert!(fixture.store.images().unwrap().is_empty());
    fixture.store.commit_image(&good).unwrap();
}

#[test]
fn unknown_formats_are_refused_as_their_features_say() {
    let fixture = Fixture::new();
    let root = fixture.store.root();
    for (text, write, read) in [
        ("version = 2\n", false, false),
        ("version = 1\nincompat = [\"x\"]\n", false, false),
        ("version = 1\nro-compat = [\"x\"]\n", false, true),
        ("version = 1\ncompat = [\"x\"]\n", true, true),
        ("rubbish", false, false),
    ] {
        fs::write(root.join("format"), text).unwrap();
        assert_eq!((Store::open(root).is_ok(), Store::open_read_only(root).is_ok()), (write, read), "{text}");
    }
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("thesis.tex"), "").unwrap();
    assert!(Store::open(foreign.path()).unwrap_err().causes()[0].contains("thesis.tex"));
    assert_eq!(Store::open_read_only(foreign.path()).unwrap_err().kind(), Kind::NotFound);
}

/// On a real full disk: a tmpfs of 1 MiB that only this thread sees.
#[test]
fn a_full_disk_says_so_and_leaves_the_store_whole() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let dir = tempfile::tempdir().unwrap();
    let done = std::thread::spawn(move || -> bool {
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        if unshare(CloneFlags::CLONE_NEWNS).is_err() || mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_err() {
            return false;
        }
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let outside = tempfile::tempdir().unwrap();
        let tar = tar_of(&["f small=1", &format!("f big={}", "x".repeat(2 << 20))]);
        let blob = outside.path().join("blob");
        fs::write(&blob, &tar).unwrap();
        let layer =
            PlanLayer { digest: Digest::of(&tar), size: tar.len() as u64, media_type: TAR.into(), diff_id: Digest::of(&tar) };
        let error = store.import(&layer, &blob, &Limits::default(), &Silent).unwrap_err();
        assert!(error.find_hint().unwrap().contains("disk is full"), "{error:?}");
        assert!(!store.has_layer(&layer.diff_id));
        let report = store.fsck(false, &Silent).unwrap();
        assert!(report.is_clean() && report.leftovers == 0, "{report:?}");
        store.prune().unwrap();
        assert_eq!(objects(&store), 0);
        nix::mount::umount(dir.path()).unwrap();
        true
    });
    if !done.join().unwrap() {
        cannot("a mount namespace needs root");
    }
}

/// Not a test of its own: the process that [`a_killed_import_leaves_a_clean_store`] kills.
#[test]
fn import_until_killed() {
    // Without a directory it is not that process.
    let Some(dir) = std::env::var_os("STEADING_TEST_DIR").map(std::path::PathBuf::from) else { return };
    let store = Store::open(&dir.join("store")).unwrap();
    for round in 0.. {
        let files: Vec<String> = (0..200).map(|nth| format!("f {round}-{nth}={round}{nth}{}", "x".repeat(nth * 100))).collect();
        let big = format!("f {round}-big={round}{}", "y".repeat(3 << 20));
        let lines: Vec<&str> = files.iter().map(String::as_str).chain([big.as_str()]).collect();
        let (tar, blob) = (tar_of(&lines), dir.join("blob"));
        fs::write(&blob, &tar).unwrap();
        let diff_id = Digest::of(&tar);
        let layer = PlanLayer { digest: diff_id, size: tar.len() as u64, media_type: TAR.into(), diff_id };
        store.import(&layer, &blob, &Limits::default(), &Silent).unwrap();
        let config = config_of(&[diff_id]);
        let digest = Digest::of(config.as_bytes());
        let (manifest, config) = (config.as_bytes(), config.as_bytes());
        let reference = Some("some/image:latest");
        store.commit_image(&ImageRecord { digest, manifest, config, diff_ids: &[diff_id], reference }).unwrap();
    }
}

#[test]
fn a_killed_import_leaves_a_clean_store() {
    let fixture = Fixture::new();
    let exe = std::env::current_exe().unwrap();
    for turn in 0..12 {
        let mut child = std::process::Command::new(&exe)
            .args(["--exact", "store::tests::life::import_until_killed", "--quiet"])
            .env("STEADING_TEST_DIR", fixture.dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20 + 23 * turn));
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(fixture.store.root()).unwrap();
        let report = store.fsck(false, &Silent).unwrap();
        assert!(report.is_clean() && report.foreign.is_empty(), "turn {turn}: {report:?}");
        for image in store.images().unwrap() {
            store.image(&image.digest).unwrap().unwrap().check().unwrap();
        }
    }
    assert!(!fixture.store.images().unwrap().is_empty(), "no turn got as far as an image");
    fixture.store.prune().unwrap();
    let report = fixture.store.fsck(true, &Silent).unwrap();
    assert!(report.is_clean() && report.orphans == 0 && report.leftovers == 0, "{report:?}");
}
