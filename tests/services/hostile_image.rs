//! An image that means harm: its links lead out of the root as far as links can. Made here, served by a real registry.

use crate::support;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use steading::image::Digest;

/// The directory tree of docker-registry (its `filesystem` storage driver).
struct Registry(PathBuf);

impl Registry {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.0.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    fn read(&self, digest: &Digest) -> Vec<u8> {
        fs::read(self.blob_path(digest)).unwrap()
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        digest
    }

    fn link(&self, path: &str, digest: &Digest) {
        let path = self.0.join("docker/registry/v2/repositories").join(path).join("link");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, digest.to_string()).unwrap();
    }

    /// Digest of the manifest that `repository:tag` names.
    fn tag(&self, repository: &str, tag: &str) -> Digest {
        let path = self.0.join(format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"));
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// Publishes an image of these layers, lowest first, as `repository:1`.
    fn publish(&self, repository: &str, config: &Value, layers: &[Value]) {
        let config = config.to_string().into_bytes();
        let config_digest = self.put(&config);
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind, "layers": layers,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": config_digest},
        });
        let digest = self.put(manifest.to_string().as_bytes());
        let of = |layer: &Value| layer["digest"].as_str().unwrap().parse::<Digest>().unwrap();
        for blob in layers.iter().map(of).chain([config_digest]) {
            self.link(&format!("{repository}/_layers/sha256/{}", blob.hex()), &blob);
        }
        self.link(&format!("{repository}/_manifests/revisions/sha256/{}", digest.hex()), &digest);
        self.link(&format!("{repository}/_manifests/tags/1/current"), &digest);
        self.link(&format!("{repository}/_manifests/tags/1/index/sha256/{}", digest.hex()), &digest);
    }
}

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

    // busybox, and the hostile layer above it.
    let root = machine.path();
    let served = Registry(root.join("srv/registry"));
    let place = format!("/var/tmp/climber-{}", user.name);
    let own = Registry(root.join(place.strip_prefix('/').unwrap()));
    let manifest: Value = serde_json::from_slice(&served.read(&served.tag("library/busybox", "latest"))).unwrap();
    let parse = |value: &Value| value.as_str().unwrap().parse::<Digest>().unwrap();
    let mut config: Value = serde_json::from_slice(&served.read(&parse(&manifest["config"]["digest"]))).unwrap();
    let mut layers = manifest["layers"].as_array().unwrap().clone();
    for layer in &layers {
        own.put(&served.read(&parse(&layer["digest"])));
    }
    let layer = climbing_layer(&trap);
    let digest = own.put(&layer);
    layers.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.len(), "digest": digest}));
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(digest));
    own.publish("climber", &config, &layers);
    machine
        .root(&format!(
            "printf 'version: 0.1\\nstorage: {{filesystem: {{rootdirectory: {place}}}}}\\nhttp: {{addr: 127.0.0.1:5056}}\\n' > {place}.yml; \
             systemd-run --quiet --unit=climber-registry docker-registry serve {place}.yml"
        ))
        .ok();
    user.sh("for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/5056) 2>/dev/null && exit 0; sleep 0.1; done; exit 1").ok();

    let recipe =
        format!("mkdir -p ~/.config/steading/catalog; cat > ~/.config/steading/catalog/climber.toml <<'END'\n{RECIPE}\nEND");
    user.sh(&recipe).ok();
    let installed = user.steading(&["install", "climber"]);
    machine.root(&format!("systemctl stop climber-registry; rm -rf {place} {place}.yml")).ok();
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
