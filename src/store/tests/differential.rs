//! The same archive, extracted by GNU tar and read by us, in every format that GNU tar writes.

use super::kit::{Fixture, cannot, walk};
use crate::store::{Index, Kind};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// Runs GNU tar; its messages are the panic.
fn tar(args: &[&str], dir: &Path) {
    let output = Command::new("tar").args(args).current_dir(dir).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A tree with one of everything that a format of 1979 can hold, and what newer ones can.
fn plant(root: &Path, modern: bool) {
    let at = |name: &[u8]| root.join(std::ffi::OsStr::from_bytes(name));
    for (name, mode, owner) in [(&b"dir"[..], 0o1777, 0), (b"dir/deep", 0o700, 5), (b"dir/empty", 0o2755, 65534)] {
        fs::create_dir(at(name)).unwrap();
        chown(at(name), Some(owner), Some(owner + 1)).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    for (name, size, mode) in [
        (&b"empty"[..], 0, 0o600),
        (b"dir/deep/block", 512, 0o644),
        (b"odd\xff name\n", 513, 0o4755),
        (b"dir/big", 3 << 20, 0o444),
    ] {
        let content: Vec<u8> = (0..size).map(|byte: u32| u8::try_from(byte % 251).unwrap()).collect();
        fs::write(at(name), content).unwrap();
        chown(at(name), Some(1000), Some(2000)).unwrap();
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::hard_link(at(b"dir/deep/block"), at(b"link")).unwrap();
    symlink("../nowhere", at(b"dir/symlink")).unwrap();
    lchown(at(b"dir/symlink"), Some(33), Some(44)).unwrap();
    nix::unistd::mkfifo(&at(b"fifo"), nix::sys::stat::Mode::from_bits_truncate(0o640)).unwrap();
    if !modern {
        return;
    }
    let long = [&b"dir/"[..], &[b'l'; 200], b"/", &[b'n'; 255]].concat();
    fs::create_dir(at(&long[..204])).unwrap();
    fs::write(at(&long), "long").unwrap();
    fs::hard_link(at(&long), at(b"link-to-long")).unwrap();
    symlink("t".repeat(400), at(b"symlink-long")).unwrap();
    chown(at(b"empty"), Some(3_000_000_000), Some(4_000_000_000)).unwrap();
    // Six data pieces: more than the four that an old GNU header holds.
    let mut sparse = File::create(at(b"sparse")).unwrap();
    for piece in 0..6_u64 {
        sparse.seek(SeekFrom::Start(piece << 18)).unwrap();
        sparse.write_all(&[b'0' + u8::try_from(piece).unwrap(); 5000]).unwrap();
    }
    sparse.set_len(8 << 20).unwrap();
    File::create(at(b"hole")).unwrap().set_len(1 << 20).unwrap();
}

/// What lstat says, and what is in it, by path.
fn on_disk(root: &Path) -> BTreeMap<Vec<u8>, String> {
    fn below(root: &Path, dir: &Path, map: &mut BTreeMap<Vec<u8>, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let kind = found.file_type();
            let text = if kind.is_dir() {
                below(root, &path, map);
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("symlink {:?}", fs::read_link(&path).unwrap())
            } else if kind.is_file() {
                format!("file {}", crate::image::Digest::of(&fs::read(&path).unwrap()))
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else {
                format!("device {},{}", nix::sys::stat::major(found.rdev()), nix::sys::stat::minor(found.rdev()))
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let nlink = if kind.is_dir() { 0 } else { found.nlink() };
            let mtime = (found.mtime(), found.mtime_nsec());
            map.insert(name, format!("{text} {:o} {}:{} {nlink} {mtime:?}", found.mode() & 0o7777, found.uid(), found.gid()));
        }
    }
    let mut map = BTreeMap::new();
    below(root, root, &mut map);
    map
}

/// The same from the index.
fn in_index(fixture: &Fixture, index: &Index) -> BTreeMap<Vec<u8>, String> {
    let mut map = BTreeMap::new();
    walk(index, &mut |path, id| {
        let node = index.node(id).unwrap();
        let text = match node.kind {
            Kind::Dir => "dir".to_owned(),
            Kind::Symlink => format!("symlink {:?}", Path::new(std::ffi::OsStr::from_bytes(node.target()))),
            Kind::File => {
                let content = node.object.map(|object| fs::read(fixture.store.object_path(&object)).unwrap()).unwrap_or_default();
                assert_eq!(content.len() as u64, node.size);
                format!("file {}", crate::image::Digest::of(&content))
            }
            Kind::Fifo => "fifo".to_owned(),
            _ => format!("device {},{}", node.rdev.0, node.rdev.1),
        };
        let nlink = if node.kind == Kind::Dir { 0 } else { node.nlink };
        let mtime = (node.mtime.0, i64::from(node.mtime.1));
        map.insert(path.to_vec(), format!("{text} {:o} {}:{} {nlink} {mtime:?}", node.mode, node.uid, node.gid));
    });
    map
}

#[test]
fn gnu_tar_extracts_what_the_index_says() {
    if !nix::unistd::geteuid().is_root() {
        return cannot("owners and devices need root");
    }
    for (options, modern) in [
        (&["--format=pax"][..], true),
        (&["--format=pax", "-S", "--sparse-version=0.0"], true),
        (&["--format=pax", "-S", "--sparse-version=0.1"], true),
        (&["--format=pax", "-S", "--sparse-version=1.0"], true),
        (&["--format=gnu", "-S"], true),
        (&["--format=oldgnu"], true),
        (&["--format=ustar"], false),
        (&["--format=v7"], false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (tree, extracted) = (dir.path().join("tree"), dir.path().join("extracted"));
        fs::create_dir(&tree).unwrap();
        fs::create_dir(&extracted).unwrap();
        plant(&tree, modern);
        let archive = dir.path().join("archive.tar");
        let archive_text = archive.to_str().unwrap();
        let mut args = options.to_vec();
        args.extend(["--numeric-owner", "--sort=name", "-cf", archive_text, "."]);
        // The oldest format has no fifos, and says so by failing.
        if options == ["--format=v7"] {
            fs::remove_file(tree.join("fifo")).unwrap();
        }
        tar(&args, &tree);
        tar(&["--numeric-owner", "-xpf", archive_text], &extracted);
        let fixture = Fixture::new();
        let index = fixture.image(&[fs::read(&archive).unwrap()]).unwrap_or_else(|error| panic!("{options:?}: {:?}", error));
        let (theirs, ours) = (on_disk(&extracted), in_index(&fixture, &index));
        assert_eq!(ours, theirs, "{options:?}");
        assert!(ours.len() >= 9, "{options:?}");
    }
}

#[test]
fn devices_and_attributes_survive_gnu_tar() {
    if !nix::unistd::geteuid().is_root() {
        return cannot("devices and security attributes need root");
    }
    // Our archive, extracted by GNU tar and packed again by it, is read as the same image.
    let dir = tempfile::tempdir().unwrap();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut builder = super::kit::Tar::new()
        .dir("./")
        .pax([("SCHILY.xattr.security.capability", &capability[..]), ("SCHILY.xattr.user.note", b"a\nb"), ("mtime", b"5.25")])
        .file("ping", "program");
    for (kind, name, major, minor) in [(b'3', &b"null"[..], 1, 3), (b'4', b"disk", 259, 70_000)] {
        let mut header = super::kit::Tar::header(kind, name, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        builder.0.append(&header, &b""[..]).unwrap();
    }
    let first = builder.end();
    fs::write(dir.path().join("first.tar"), &first).unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    let all = "--xattrs-include=*";
    tar(&["--xattrs", all, "--numeric-owner", "-xpf", "../first.tar"], &dir.path().join("tree"));
    tar(&["--xattrs", all, "--format=pax", "--numeric-owner", "-cf", "../second.tar", "."], &dir.path().join("tree"));
    let fixture = Fixture::new();
    let index = fixture.image(&[first]).unwrap();
    let again = fixture.image(&[fs::read(dir.path().join("second.tar")).unwrap()]).unwrap();
    assert_eq!(in_index(&fixture, &index), in_index(&fixture, &again));
    assert_eq!(in_index(&fixture, &index), on_disk(&dir.path().join("tree")));
    for index in [&index, &again] {
        let node = index.node(index.resolve(b"ping").unwrap()).unwrap();
        let xattrs: Vec<_> = node.xattrs().collect();
        assert_eq!(xattrs, [(&b"security.capability"[..], &capability[..]), (b"user.note", b"a\nb")]);
    }
}
