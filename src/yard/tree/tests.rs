use super::*;
use crate::yard::testing::{HandMade, Shelf};

struct Yard {
    _dir: tempfile::TempDir,
    shelf: Arc<Shelf>,
    tree: Tree<Arc<Shelf>>,
}

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

fn yard() -> Yard {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Arc::new(Shelf::new(dir.path()));
    let tree = Tree::new(Arc::clone(&shelf));
    Yard { _dir: dir, shelf, tree }
}

/// `/etc/shadow` (0:42 0640, `user.a`, `trusted.b`, `user.overlay.opaque`), `/bin/su` (4755), `/lib -> usr/lib`, `/dev/sda1`
fn image(shelf: &Shelf, slot: u32) -> HandMade {
    let mut image = HandMade::new(slot);
    let etc = image.add(0, "etc", Kind::Dir, 0o755);
    let shadow = image.add(etc, "shadow", Kind::File, 0o640);
    let node = image.at(shadow);
    (node.meta.gid, node.meta.size, node.meta.object) = (42, 6, Some(shelf.put(b"secret")));
    for name in ["user.a", "trusted.b", "user.overlay.opaque", "security.capability", "system.posix_acl_access"] {
        node.xattrs.push((name.as_bytes().to_vec(), b"value".to_vec()));
    }
    let bin = image.add(0, "bin", Kind::Dir, 0o755);
    image.add(bin, "su", Kind::File, 0o4755);
    let lib = image.add(0, "lib", Kind::Symlink, 0o777);
    image.at(lib).target = Some(b"usr/lib".to_vec());
    let dev = image.add(0, "dev", Kind::Dir, 0o755);
    let disk = image.add(dev, "sda1", Kind::Block, 0o660);
    image.at(disk).meta.rdev = (8, 257);
    image
}

fn walk(yard: &Yard, path: &str) -> Answer<Attr> {
    let mut number = 1;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        number = match yard.tree.lookup(number, part.as_bytes())? {
            Found::Entry(entry) => entry.attr.number,
            Found::Never => return Err(Errno::ENOENT),
        };
    }
    yard.tree.attr(number)
}

fn names(yard: &Yard, number: u64) -> Vec<String> {
    // Two entries at a time, as a kernel with a small buffer would ask.
    let (mut list, mut offset) = (Vec::new(), 0);
    loop {
        let mut count = 0;
        yard.tree
            .list(number, offset, &mut |listed| {
                if count == 2 {
                    return false;
                }
                count += 1;
                offset = listed.next;
                list.push(String::from_utf8(listed.name.to_vec()).unwrap());
                true
            })
            .unwrap();
        if count == 0 {
            return list;
        }
    }
}

#[test]
fn owners_are_the_images_in_one_view_and_zero_in_the_other() {
    let yard = yard();
    yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
    let name = dir_name(&digest(1));
    let own = walk(&yard, &format!("by-image/{name}/etc/shadow")).unwrap();
    assert_eq!((own.uid, own.gid, own.mode, own.size), (0, 42, 0o640, 6));
    let squashed = walk(&yard, &format!("by-user/{name}/etc/shadow")).unwrap();
    assert_eq!((squashed.uid, squashed.gid, squashed.mode, squashed.size), (0, 0, 0o640, 6));
    assert_ne!(own.number, squashed.number);
    assert_eq!(walk(&yard, &format!("by-user/{name}/bin/su")).unwrap().mode, 0o4755);
    assert_eq!(walk(&yard, &format!("by-image/{name}/dev/sda1")).unwrap().rdev, 0x0010_0801);
}

#[test]
fn an_image_that_comes_later_appears_and_one_that_goes_keeps_its_nodes() {
    let yard = yard();
    let name = dir_name(&digest(1));
    let by_image = walk(&yard, "by-image").unwrap().number;
    assert_eq!(yard.tree.lookup(by_image, name.as_bytes()).unwrap_err(), Errno::ENOENT, "not one that may be kept");
    yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
    let Found::Entry(entry) = yard.tree.lookup(by_image, name.as_bytes()).unwrap() else { panic!("not found") };
    assert_eq!((entry.valid, entry.attr.valid), (BRIEF, FOR_EVER));
    yard.shelf.images.lock().unwrap().clear();
    assert_eq!(yard.tree.lookup(by_image, name.as_bytes()).unwrap_err(), Errno::ENOENT);
    assert!(yard.tree.lookup(entry.attr.number, b"etc").is_ok());
}

#[test]
fn a_new_server_understands_the_numbers_of_the_old_one() {
    let yard = yard();
    for (n, slot) in [(1, 3), (2, 4)] {
        yard.shelf.images.lock().unwrap().insert(digest(n), image(&yard.shelf, slot));
    }
    let old = walk(&yard, &format!("by-user/{}/etc/shadow", dir_name(&digest(2)))).unwrap();
    let next = Tree::new(Arc::clone(&yard.shelf));
    assert_eq!(next.attr(old.number).unwrap().size, 6);
    let mut content = Vec::new();
    next.read(old.number, 0, 4096, &mut content).unwrap();
    assert_eq!(content, b"secret");
    let gone = Place::Node { view: View::ByUser, slot: 9, node: 0 }.number().unwrap();
    assert_eq!(next.attr(gone).unwrap_err(), Errno::ESTALE);
}

#[test]
fn listings_continue_where_they_stopped_and_have_dots() {
    let yard = yard();
    yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
    assert_eq!(names(&yard, 1), [".", "..", "by-image", "by-user"]);
    let name = dir_name(&digest(1));
    assert_eq!(names(&yard, walk(&yard, "by-user").unwrap().number), [".", "..", &name]);
    let root = walk(&yard, &format!("by-user/{name}")).unwrap().number;
    assert_eq!(names(&yard, root), [".", "..", "bin", "dev", "etc", "lib"]);
    let Found::Entry(up) = yard.tree.lookup(root, b"..").unwrap() else { panic!("no parent") };
    assert_eq!(up.attr.number, walk(&yard, "by-user").unwrap().number);
    let shadow = walk(&yard, &format!("by-user/{name}/etc/shadow")).unwrap().number;
    assert_eq!(yard.tree.list(shadow, 2, &mut |_| true).unwrap_err(), Errno::ENOTDIR);
}

#[test]
fn reads_end_with_the_file_and_links_have_targets() {
    let yard = yard();
    yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
    let name = dir_name(&digest(1));
    let shadow = walk(&yard, &format!("by-user/{name}/etc/shadow")).unwrap().number;
    for (offset, size, content) in [(0, 3, &b"sec"[..]), (3, 100, b"ret"), (6, 10, b""), (u64::MAX, 10, b""), (0, 0, b"")] {
        let mut buffer = Vec::new();
        yard.tree.read(shadow, offset, size, &mut buffer).unwrap();
        assert_eq!(buffer, content);
    }
    let link = walk(&yard, &format!("by-user/{name}/lib")).unwrap().number;
    assert_eq!(yard.tree.target(link).unwrap(), b"usr/lib");
    assert_eq!(yard.tree.target(shadow).unwrap_err(), Errno::EINVAL);
    assert_eq!(yard.tree.read(1, 0, 1, &mut Vec::new()).unwrap_err(), Errno::EISDIR);
}

#[test]
fn a_missing_or_short_object_is_an_error_of_that_file_only_and_can_be_mended() {
    let yard = yard();
    yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
    let shadow = walk(&yard, &format!("by-user/{}/etc/shadow", dir_name(&digest(1)))).unwrap().number;
    let path = yard.shelf.objects.join(Digest::of(b"secret").hex());
    let read = |buffer: &mut Vec<u8>| yard.tree.read(shadow, 0, 10, buffer);
    let mut buffer = Vec::new();
    std::fs::write(&path, b"sec").unwrap();
    assert_eq!(read(&mut buffer).unwrap_err(), Errno::EIO);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read(&mut buffer).unwrap_err(), Errno::EIO);
    assert!(buffer.is_empty());
    std::fs::write(&path, b"secret").unwrap();
    read(&mut buffer).unwrap();
    assert_eq!(buffer, b"secret");
    assert_eq!(yard.tree.reported.lock().unwrap().len(), 1);
}

#[test]
fn the_path_in_a_message_is_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(&Shelf::new(dir.path()), 3);
    let etc = image.lookup(0, b"etc").unwrap();
    assert_eq!(path_of(&image, image.lookup(etc, b"shadow").unwrap()), b"/etc/shadow");
}

#[test]
fn attributes_of_the_host_and_of_overlays_are_hidden() {
    let yard = yard();
    yard.shelf.images.lock().unwrap().insert(digest(1), image(&yard.shelf, 3));
    let shadow = walk(&yard, &format!("by-user/{}/etc/shadow", dir_name(&digest(1)))).unwrap().number;
    assert_eq!(yard.tree.xattr_names(shadow).unwrap(), b"user.a\0security.capability\0");
    assert_eq!(yard.tree.xattr(shadow, b"user.a").unwrap(), b"value");
    for name in ["trusted.b", "user.overlay.opaque", "system.posix_acl_access", "user.none"] {
        assert_eq!(yard.tree.xattr(shadow, name.as_bytes()).unwrap_err(), Errno::ENODATA, "{name}");
    }
    assert!(yard.tree.xattr_names(1).unwrap().is_empty());
}

#[test]
fn times_before_the_epoch_and_beyond_reason_are_taken() {
    assert_eq!(time((-1, 500_000_000)), UNIX_EPOCH - Duration::from_millis(500));
    assert_eq!(time((i64::MAX, 999_999_999)).duration_since(UNIX_EPOCH).unwrap().as_secs(), i64::MAX as u64);
    time((i64::MIN, 0));
}
