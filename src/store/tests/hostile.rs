//! Layers that must be refused, and strange ones that must not.

use super::kit::{Fixture, TAR, Tar, gzip, tar_of};
use crate::error::Error;
use crate::image::Digest;
use crate::layer::Limits;
use crate::store::Kind;
use std::fs;

/// All texts of an error.
fn texts(error: &Error) -> String {
    format!("{error}: {}", error.causes().join(": "))
}

/// Name of the case, its layer, and what the error must say.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let with = |change: &dyn Fn(&mut tar::Header)| {
        let mut header = Tar::header(b'0', b"bad", 0);
        change(&mut header);
        header.set_cksum();
        let mut tar = Tar::new();
        tar.0.append(&header, &b""[..]).unwrap();
        tar.end()
    };
    let mut wrong_sum = Tar::header(b'0', b"bad", 0);
    wrong_sum.set_cksum();
    wrong_sum.as_mut_bytes()[0] = b'B';
    let mut cut = Tar::new().file("bad", &"x".repeat(2000)).end();
    cut.truncate(1500);
    let mut cut_header = Tar::new().file("bad", "").end();
    cut_header.truncate(300);
    let mut zeros = vec![0; 512];
    zeros.extend(tar_of(&["f x=1"]));
    let mut dangling = Tar::new().pax([("path", &b"x"[..])]).end();
    dangling.truncate(1024);
    let name = "n".repeat(256);
    vec![
        ("up", tar_of(&["f ../bad=1"]), "`../bad`"),
        ("up inside", tar_of(&["f a/../bad=1"]), "`a/../bad`"),
        ("up after a slash", tar_of(&["f /../bad=1"]), "`/../bad`"),
        ("up by PAX", Tar::new().pax([("path", &b"../../bad"[..])]).file("x", "").end(), "`../../bad`"),
        ("NUL by PAX", Tar::new().pax([("path", &b"b\0ad"[..])]).file("x", "").end(), "`b\\0ad`"),
        ("long name", Tar::new().pax([("path", name.as_bytes())]).file("x", "").end(), "255 bytes"),
        ("hard link up", tar_of(&["h bad>../x"]), "`bad`"),
        ("hard link to nothing", tar_of(&["d a", "h a/bad>nothing"]), "`a/bad`"),
        ("hard link to itself", tar_of(&["h bad>bad"]), "`bad`"),
        ("hard links in a ring", tar_of(&["h bad>worse", "h worse>bad"]), "`bad`"),
        ("hard link forward", tar_of(&["h bad>later", "f later=1"]), "`bad`"),
        ("hard link to a directory", tar_of(&["d a", "h bad>a"]), "hard link to a directory"),
        ("hard link to the root", tar_of(&["h bad>/"]), "hard link to the root"),
        ("hard link to a whiteout", tar_of(&["f .wh.x=", "h bad>.wh.x"]), "hard link to a whiteout"),
        ("below a file", tar_of(&["f a=1", "f a/bad=1"]), "`a/bad`"),
        ("below a dead symlink", tar_of(&["s a>nowhere", "f a/bad=1"]), "`a/bad`"),
        ("below a symlink that leaves", tar_of(&["s a>../../etc", "f a/bad=1"]), "`a/bad`"),
        ("below a ring of symlinks", tar_of(&["s a>b", "s b>a", "f a/bad=1"]), "`a/bad`"),
        ("the root as a file", tar_of(&["f ./="]), "ok"),
        ("the root as a symlink", tar_of(&["s .>/etc"]), "root is not a directory"),
        ("whiteout of nothing", tar_of(&["f a/.wh.="]), "`a/.wh.`"),
        ("whiteout of here", tar_of(&["f .wh..="]), "whiteout of nothing"),
        ("whiteout of up", tar_of(&["f .wh...="]), "whiteout of nothing"),
        ("in a whiteout", tar_of(&["f .wh.a/bad=1"]), "lies in a whiteout"),
        ("empty symlink", tar_of(&["s bad>"]), "`bad`"),
        ("size without data", with(&|header| header.set_size(1 << 40)), "`bad`"),
        ("data of a directory", Tar::new().add(b'5', b"bad", b"data").end(), "`bad`"),
        (
            "data of a symlink",
            with(&|header| {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(5)
            }),
            "`bad`",
        ),
        ("negative size", with(&|header| header.as_old_mut().size = [0xff; 12]), "size is malformed"),
        ("size that is no number", with(&|header| header.as_old_mut().size = *b"0000000000x\0"), "size is malformed"),
        ("mode that is no number", with(&|header| header.as_old_mut().mode = *b"zzzzzzz\0"), "mode is malformed"),
        ("owner -1", with(&|header| header.set_uid(u64::from(u32::MAX))), "not a user id"),
        ("owner too big", Tar::new().pax([("gid", &b"4294967296"[..])]).file("bad", "").end(), "not a group id"),
        ("unknown type", Tar::new().add(b'V', b"bad", b"").end(), "type `V`"),
        (
            "checksum",
            {
                let mut tar = Tar::new();
                tar.0.append(&wrong_sum, &b""[..]).unwrap();
                tar.end()
            },
            "checksum",
        ),
        ("cut in data", cut, "`bad`"),
        ("cut in a header", cut_header, "cut short"),
        ("a zero block in the middle", zeros, "zero block"),
        ("a header about nothing", dangling, "after an extended header"),
        ("two headers", Tar::new().pax([("path", &b"a"[..])]).pax([("path", &b"b"[..])]).file("bad", "").end(), "two extended"),
        ("PAX that lies", Tar::new().add(b'x', b"bad", b"99 path=x\n").file("x", "").end(), "malformed"),
        (
            "sparse beyond its end",
            Tar::new().pax([("GNU.sparse.map", &b"9,4"[..]), ("GNU.sparse.size", b"10")]).file("bad", "1234").end(),
            "sparse map",
        ),
        (
            "sparse of unknown kind",
            Tar::new().pax([("GNU.sparse.major", &b"2"[..]), ("GNU.sparse.realsize", b"4")]).file("bad", "1234").end(),
            "sparse format",
        ),
        (
            "sparse map without end",
            Tar::new()
                .pax([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"4")])
                .file("bad", &"1".repeat(512))
                .end(),
            "sparse map",
        ),
        ("attribute without a name", Tar::new().pax([("SCHILY.xattr.", &b"x"[..])]).file("bad", "").end(), "extended attribute"),
        (
            "attribute too big",
            Tar::new().pax([("SCHILY.xattr.user.x", vec![b'x'; 65537].as_slice())]).file("bad", "").end(),
            "extended attribute",
        ),
        (
            "extended header too big",
            Tar::new().pax([("comment", vec![b'x'; 1 << 20].as_slice())]).file("bad", "").end(),
            "too big",
        ),
    ]
}

#[test]
fn hostile_layers_are_refused_by_name_and_leave_nothing() {
    for (name, tar, says) in cases() {
        let fixture = Fixture::new();
        let result = fixture.image(&[tar]);
        if says == "ok" {
            // A name that ends in a slash is a directory, whatever old tools call it.
            result.unwrap_or_else(|error| panic!("{name}: {}", texts(&error)));
            continue;
        }
        let error = result.err().unwrap_or_else(|| panic!("{name} was taken"));
        assert!(texts(&error).contains(says), "{name}: {}", texts(&error));
        assert!(error.find_hint().is_some(), "{name}");
        assert!(fixture.store.images().unwrap().is_empty(), "{name}");
        fixture.store.prune().unwrap();
        let left: usize = fs::read_dir(fixture.store.root().join("objects"))
            .unwrap()
            .map(|shard| fs::read_dir(shard.unwrap().path()).unwrap().count())
            .sum();
        assert_eq!(left, 0, "{name}");
        // Nothing was written outside the store.
        let mut names: Vec<_> = fs::read_dir(fixture.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !name.to_string_lossy().starts_with("blob-"));
        assert_eq!(names, ["store"], "{name}");
    }
}

#[test]
fn what_the_manifest_says_must_be_true() {
    let fixture = Fixture::new();
    let tar = tar_of(&["f x=1"]);
    let limits = Limits::default();
    let other = Digest::of(b"other");
    let error = fixture.import_blob(&tar, TAR, other, &limits).unwrap_err();
    assert!(texts(&error).contains(&other.to_string()), "{}", texts(&error));
    assert!(!fixture.store.has_layer(&other));
    let error = fixture.import_blob(&tar, &format!("{TAR}+gzip"), Digest::of(&tar), &limits).unwrap_err();
    assert!(texts(&error).contains("cannot unpack"), "{}", texts(&error));
    let mut cut = gzip(&tar);
    cut.truncate(cut.len() - 9);
    let error = fixture.import_blob(&cut, &format!("{TAR}+gzip"), Digest::of(&tar), &limits).unwrap_err();
    assert!(texts(&error).contains("cannot unpack"), "{}", texts(&error));
    let path = fixture.dir.path().join("short");
    fs::write(&path, &tar).unwrap();
    let layer = crate::resolve::PlanLayer { digest: other, size: 1, media_type: TAR.into(), diff_id: Digest::of(&tar) };
    let error = fixture.store.import(&layer, &path, &limits, &crate::report::Silent).unwrap_err();
    assert!(texts(&error).contains("the manifest says 1"), "{}", texts(&error));
}

#[test]
fn limits_hold() {
    let tar = Tar::new().file("a", &"x".repeat(5000)).file("b", "").end();
    let sparse =
        Tar::new().pax([("GNU.sparse.map", &b"0,4"[..]), ("GNU.sparse.size", b"1000000000000000")]).file("huge", "1234").end();
    let long = Tar::new().pax([("path", "x/".repeat(500).as_bytes())]).dir("x").end();
    let strict = Limits::default();
    for (tar, limits, says) in [
        (&tar, Limits { max_layer_bytes: 6000, ..strict.clone() }, "more than 6000 bytes"),
        (&tar, Limits { max_entries: 1, ..strict.clone() }, "more than 1 entries"),
        (&sparse, strict.clone(), "`huge`"),
        (&long, Limits { max_path: 999, ..strict.clone() }, "too long"),
        (&long, Limits { max_metadata_bytes: 999, ..strict.clone() }, "too big"),
        (&long, Limits { max_header_bytes: 999, ..strict.clone() }, "too big"),
    ] {
        let fixture = Fixture::new();
        let error = fixture.import_blob(&gzip(tar), &format!("{TAR}+gzip"), Digest::of(tar), &limits).unwrap_err();
        assert!(texts(&error).contains(says), "{}", texts(&error));
    }
}

#[test]
fn what_real_tools_write_is_taken() {
    let fixture = Fixture::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\n=\n\0\0\0\0\0\0\0\0\0";
    let mut device = Tar::header(b'3', b"null", 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    device.set_cksum();
    let tar = Tar::new().add(b'g', b"pax_global_header", b"15 comment=git\n");
    let tar = tar
        .pax([
            ("mtime", &b"-1.5"[..]),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("uid", b"4000000000"),
        ])
        .file("bin", "program");
    let mut tar = tar.link(b'1', "again", b"./bin").add(b'6', b"fifo", b"");
    tar.0.append(&device, &b""[..]).unwrap();
    let mut bytes = tar.end();
    bytes.extend_from_slice(b"whatever follows the end");
    let layer = fixture.import_blob(&gzip(&bytes), &format!("{TAR}+gzip"), Digest::of(&bytes), &Limits::default()).unwrap();
    let zstd = zstd::encode_all(tar_of(&["f z=zstd"]).as_slice(), 3).unwrap();
    let second =
        fixture.import_blob(&zstd, &format!("{TAR}+zstd"), Digest::of(&tar_of(&["f z=zstd"])), &Limits::default()).unwrap();
    let digest = fixture.commit(&[layer, second], None).unwrap();
    let index = fixture.store.image(&digest).unwrap().unwrap();
    let node = |path: &[u8]| index.node(index.resolve(path).unwrap()).unwrap();
    let bin = node(b"again");
    assert_eq!((bin.uid, bin.mtime, bin.nlink), (4_000_000_000, (-2, 500_000_000), 2));
    let xattrs: Vec<_> = bin.xattrs().collect();
    assert_eq!(xattrs, [(&b"security.capability"[..], &capability[..]), (b"user.empty", b"")]);
    assert!(index.has_xattrs());
    assert_eq!((node(b"null").kind, node(b"null").rdev, node(b"fifo").kind), (Kind::Char, (1, 3), Kind::Fifo));
    assert_eq!(fixture.store.read_file(&index, b"/z", 4).unwrap().unwrap(), b"zstd");
    assert!(fixture.store.read_file(&index, b"/z", 3).is_err());
    assert_eq!(fixture.store.read_file(&index, b"/nothing", 3).unwrap(), None);
}

#[test]
fn several_gzip_members_are_one_layer() {
    let fixture = Fixture::new();
    let tar = tar_of(&["f x=1", "f y=2"]);
    let mut blob = gzip(&tar[..700]);
    blob.extend(gzip(&tar[700..]));
    fixture
        .import_blob(&blob, "application/vnd.docker.image.rootfs.diff.tar.gzip", Digest::of(&tar), &Limits::default())
        .unwrap();
    let digest = fixture.commit(&[Digest::of(&tar)], None).unwrap();
    assert_eq!(fixture.listing(&fixture.store.image(&digest).unwrap().unwrap()), ["f x=1", "f y=2"]);
}
