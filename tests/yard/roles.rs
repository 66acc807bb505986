//! What this program does when it starts itself: server, supervisor, load, service. One thread each.

use crate::ground::{FILE_SIZE, FILES, ask, content};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use steading::image::Digest;
use steading::resolve::PlanLayer;
use steading::state::Paths;
use steading::store::{ImageRecord, Store};
use steading::yard::{View, image_path, join, serve};

type Outcome = Result<(), Box<dyn Error>>;

pub const LOOKOUT_READY: &str = "looking";

pub fn run(role: &str, words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match (role, words.as_slice()) {
        ("serve", [root]) => serve_images(root),
        ("store", [root, name]) => store(root, name),
        ("look", [root, script]) => look(root, script),
        ("load", [root, image, seconds]) => load(root, image, seconds),
        ("overlay", [root, image]) => overlay(root, image),
        ("say", [root, line]) => say(root, line),
        _ => Err(format!("no role {role} {words:?}").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{role}: {error}");
            let mut next = error.source();
            while let Some(cause) = next {
                eprintln!("  because {cause}");
                next = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn paths(root: &str) -> Paths {
    Paths::below(Path::new(root))
}

fn serve_images(root: &str) -> Outcome {
    Ok(serve(&paths(root))?)
}

fn say(root: &str, line: &str) -> Outcome {
    let bytes: Result<Vec<u8>, _> = (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16)).collect();
    print!("{}", ask(&paths(root).yard_socket(), &bytes?)?);
    Ok(())
}

/// Enters U0 and becomes a shell.
fn look(root: &str, script: &str) -> Outcome {
    let paths = paths(root);
    join(&paths)?.enter()?;
    Err(Command::new("sh").args(["-e", "-c", script]).current_dir(paths.yard_mount()).exec().into())
}

/// Reads all files for some seconds, each time from the server, and says how often it read everything.
fn load(root: &str, image: &str, seconds: &str) -> Outcome {
    let paths = paths(root);
    join(&paths)?.enter()?;
    let dir = paths.yard_mount().join("by-user").join(image).join("data");
    let wanted: Vec<Vec<u8>> = (0..FILES).map(content).collect();
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut rounds = 0;
    let mut found = Vec::with_capacity(FILE_SIZE);
    while Instant::now() < end {
        for (number, wanted) in wanted.iter().enumerate() {
            let mut file = File::open(dir.join(number.to_string()))?;
            found.clear();
            file.read_to_end(&mut found)?;
            if found != *wanted {
                return Err(format!("file {number} is wrong in round {rounds}").into());
            }
            // So that the next round asks the server again.
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        rounds += 1;
    }
    println!("{rounds}");
    Ok(())
}

/// A service: a user namespace nested in U0 in which the user is 999, and an overlay on the image.
fn overlay(root: &str, image: &str) -> Outcome {
    let paths = paths(root);
    let digest: Digest = image.replace("sha256-", "sha256:").parse()?;
    let root = PathBuf::from(root);
    let (upper, work, merged) = (root.join("upper"), root.join("work"), root.join("merged"));
    for dir in [&upper, &work, &merged] {
        fs::create_dir(dir)?;
    }
    join(&paths)?.enter()?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/uid_map", "999 0 1")?;
    fs::write("/proc/self/gid_map", "999 0 1")?;
    let lower = image_path(&paths, View::ByUser, &digest);
    let options =
        format!("lowerdir={},upperdir={},workdir={},userxattr,xino=on", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;

    let conf = merged.join("etc/service.conf");
    let before = fs::metadata(&conf)?;
    assert_eq!((before.uid(), before.gid(), before.mode() & 0o7777), (999, 999, 0o640));
    assert_eq!(fs::metadata(merged.join("bin/su"))?.mode() & 0o7777, 0o4755);
    assert_eq!(fs::read_to_string(&conf)?, "content\n");
    // The image itself, below the overlay, shows the same owner here.
    assert_eq!(fs::metadata(lower.join("etc/service.conf"))?.uid(), 999);

    fs::OpenOptions::new().append(true).open(&conf)?.write_all(b"more\n")?;
    assert_eq!(fs::read_to_string(&conf)?, "content\nmore\n");
    assert_eq!(fs::metadata(&conf)?.uid(), 999);
    // Overlayfs keeps the number of a file over its copy-up by asking the image for it (hard links excepted).
    let alone = merged.join("data/3");
    let before = fs::metadata(&alone)?;
    fs::OpenOptions::new().append(true).open(&alone)?.write_all(b"more\n")?;
    let after = fs::metadata(&alone)?;
    assert_eq!((after.ino(), after.dev(), after.len()), (before.ino(), before.dev(), before.len() + 5));

    for number in (0..FILES).filter(|number| *number != 3) {
        assert!(fs::read(merged.join("data").join(number.to_string()))? == content(number), "file {number}");
    }
    fs::remove_file(merged.join("data/0"))?;
    assert_eq!(fs::read_dir(merged.join("data"))?.count(), FILES as usize - 1);
    fs::create_dir(merged.join("data/new"))?;
    fs::rename(merged.join("data/1"), merged.join("data/new/one"))?;
    assert!(fs::read(merged.join("data/new/one"))? == content(1));
    fs::set_permissions(merged.join("data/2"), fs::Permissions::from_mode(0o600))?;
    assert!(fs::read(merged.join("data/2"))? == content(2));
    fs::write(merged.join("new"), "new")?;
    assert_eq!(fs::metadata(merged.join("new"))?.uid(), 999);
    assert!(fs::symlink_metadata(merged.join("run/pipe"))?.file_type().is_fifo());
    println!("all right");
    Ok(())
}

/// Puts an image with one layer into the store.
fn store(root: &str, name: &str) -> Outcome {
    let paths = paths(root);
    let layer = layer()?;
    let blob = Path::new(root).join(format!("layer-{name}.tar"));
    fs::write(&blob, &layer)?;
    let digest = Digest::of(&layer);
    let plan = PlanLayer {
        digest,
        size: layer.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        diff_id: digest,
    };
    let store = Store::open(&paths.store())?;
    store.import(&plan, &blob, &steading::layer::Limits::default(), &steading::report::Silent)?;
    store.commit_image(&ImageRecord {
        digest: image_digest(name),
        manifest: &manifest(name),
        config: format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#)
            .as_bytes(),
        diff_ids: &[digest],
        reference: None,
    })?;
    Ok(())
}

fn manifest(name: &str) -> Vec<u8> {
    format!("{{\"name\":\"{name}\"}}").into_bytes()
}

pub fn image_digest(name: &str) -> Digest {
    Digest::of(&manifest(name))
}

fn layer() -> Result<Vec<u8>, Box<dyn Error>> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, owner: u64, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header
    };
    for dir in ["bin/", "data/", "etc/", "run/"] {
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0, 0), dir, std::io::empty())?;
    }
    let file = b"content\n";
    tar.append_pax_extensions([("SCHILY.xattr.user.colour", &b"green"[..]), ("SCHILY.xattr.trusted.secret", b"x")])?;
    tar.append_data(&mut header(tar::EntryType::Regular, 0o640, 101, file.len() as u64), "etc/service.conf", &file[..])?;
    tar.append_link(&mut header(tar::EntryType::Link, 0o640, 101, 0), "etc/hard", "etc/service.conf")?;
    tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0, 0), "etc/link", "../bin/su")?;
    tar.append_data(&mut header(tar::EntryType::Regular, 0o4755, 0, 2), "bin/su", &b"su"[..])?;
    tar.append_data(&mut header(tar::EntryType::Fifo, 0o600, 0, 0), "run/pipe", std::io::empty())?;
    for number in 0..FILES {
        let content = content(number);
        let mut header = header(tar::EntryType::Regular, 0o644, 0, content.len() as u64);
        tar.append_data(&mut header, format!("data/{number}"), &content[..])?;
    }
    Ok(tar.into_inner()?)
}
