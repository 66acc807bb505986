//! Images copied out of the store.

use super::kit::{Fixture, Tar};
use crate::store::NodeId;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn a_tree_comes_out_as_it_went_in_but_for_what_would_give_rights() {
    let fixture = Fixture::new();
    let mut tar = Tar::new().dir("bin").file("bin/tool", "#!").file("empty", "").dir("shut").file("shut/in", "x");
    for (name, mode) in [("bin/su", 0o6755), ("bin/w", 0o600)] {
        let mut header = Tar::header(b'0', name.as_bytes(), 1);
        header.set_mode(mode);
        header.set_cksum();
        tar.0.append(&header, &b"s"[..]).unwrap();
    }
    let mut closed = Tar::header(b'5', b"shut", 0);
    closed.set_mode(0o500);
    closed.set_cksum();
    tar.0.append(&closed, &b""[..]).unwrap();
    let tar = tar
        .link(b'1', "bin/same", b"bin/tool")
        .link(b'2', "up", b"../../etc/passwd")
        .add(b'6', b"pipe", b"")
        .add(b'3', b"device", b"");
    let layer = fixture.import(&tar.0.into_inner().unwrap()).unwrap();
    let image = fixture.commit(&[layer], None).unwrap();
    let index = fixture.store.image(&image).unwrap().unwrap();
    let to = tempfile::tempdir().unwrap();
    let root = to.path().join("rootfs");
    fixture.store.export(&index, NodeId::ROOT, &root).unwrap();

    let mode = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("bin/su"), mode("bin/w"), mode("shut"), mode("bin/tool")), (0o755, 0o600, 0o500, 0o644));
    assert_eq!(fs::read(root.join("bin/same")).unwrap(), b"#!");
    let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(inode("bin/same"), inode("bin/tool"));
    assert_eq!(fs::read_link(root.join("up")).unwrap(), Path::new("../../etc/passwd"));
    assert_eq!(fs::metadata(root.join("bin/tool")).unwrap().mtime(), 1000);
    assert_eq!(fs::metadata(root.join("bin")).unwrap().mtime(), 1000);
    assert!(root.join("pipe").exists() && !root.join("device").exists());
    assert_eq!(fs::read(root.join("empty")).unwrap(), b"");
    // What is there stays as it is.
    assert!(fixture.store.export(&index, NodeId::ROOT, &root).is_err());
    let bin = index.resolve(b"bin").unwrap();
    fixture.store.export(&index, bin, &to.path().join("part")).unwrap();
    assert!(to.path().join("part/tool").exists());
    fs::set_permissions(root.join("shut"), fs::Permissions::from_mode(0o700)).unwrap();
}
