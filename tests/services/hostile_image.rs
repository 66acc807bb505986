//! An image that means harm: its links lead out of the root as far as links can. Made here, served by a real registry.

use crate::registry::Registry;
use crate::support;
use std::path::{Path, PathBuf};

/// A layer in which `/etc` and a volume's parent are links that climb over the root to `trap`, a directory that it has too.
fn climbing_layer(trap: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o755);
    tar.append_data(&mut header, trap.strip_prefix("/").unwrap(), std::io::empty()).unwrap();
    for name in ["etc", "climb"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        let target = Path::new("../../../../../..").join(trap.strip_prefix("/").unwrap());
        tar.append_link(&mut header, name, target).unwrap();
    }
    tar.into_inner().unwrap()
}

const RECIPE: &str = r#"
[recipe]
schema = 1
name = "climber"
title = "Climber"
summary = "Tries to climb out"
default-version = "1"

[image]
reference = "127.0.0.1:5056/climber"

[run]
uid = 4321
gid = 4321
init = true
args = ["sleep", "1000"]

[data.data]
path = "/climb/volume"

[ready]
probe = "started"

[versions."1"]
tag = "1"
"#;

#[test]
fn links_of_an_image_stay_inside_and_its_nameless_user_gets_a_name() {
    let Some(machine) = support::machine() else { return };
    let user = machine.user(false);
    let trap = PathBuf::from(format!("/home/{}/trap", user.name));
    user.sh("mkdir ~/trap").ok();

    let registry = Registry::serve(&user, 5056, "climber", &climbing_layer(&trap));

    let recipe =
        format!("mkdir -p ~/.config/steading/catalog; cat > ~/.config/steading/catalog/climber.toml <<'END'\n{RECIPE}\nEND");
    user.sh(&recipe).ok();
    let installed = user.steading(&["install", "climber"]);
    drop(registry);
    installed.ok();
    assert_eq!(user.sh("ls -A ~/trap").ok(), "", "the image's links led out of its root");
    // Inside they lead where they say.
    assert!(user.steading(&["exec", "climber@1", "--", "ls", trap.to_str().unwrap()]).ok().contains("volume"));
    user.steading(&["exec", "climber@1", "--", "touch", "/climb/volume/mark"]).ok();
    user.sh("test -e ~/.local/share/steading/services/climber@1/data/data/mark").ok();
    // The image knows no user 4321.
    assert_eq!(user.steading(&["exec", "climber@1", "--", "whoami"]).ok(), "steading");
    // sleep(1) does not catch SIGTERM; below the reaper it ends all the same, and at once.
    let begin = std::time::Instant::now();
    user.steading(&["stop", "climber@1"]).ok();
    assert!(begin.elapsed().as_secs() < 10);
    user.steading(&["remove", "--purge", "climber@1"]).ok();
    assert_eq!(user.sh("ls -A ~/trap").ok(), "");
}
