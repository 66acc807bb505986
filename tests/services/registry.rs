//! Images made by tests, served by a real registry.

use crate::support::{Machine, User};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use steading::image::Digest;

/// The directory tree of docker-registry (its `filesystem` storage driver).
struct Tree(PathBuf);

impl Tree {
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

/// A registry of one image: busybox with a layer above it, `127.0.0.1:PORT/NAME:1`. It ends with this value.
pub struct Registry {
    machine: Machine,
    unit: String,
    place: String,
}

impl Registry {
    /// The busybox program of the image.
    pub fn busybox(machine: &Machine) -> Vec<u8> {
        let served = Tree(machine.path().join("srv/registry"));
        let manifest: Value = serde_json::from_slice(&served.read(&served.tag("library/busybox", "latest"))).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            let blob = served.read(&layer["digest"].as_str().unwrap().parse().unwrap());
            let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob.as_slice()));
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                // All its programs are one; whichever comes first has the content.
                if entry.header().entry_type().is_file() && entry.size() > 500_000 {
                    entry.read_to_end(&mut bytes).unwrap();
                    return bytes;
                }
            }
        }
        panic!("the busybox image has no busybox");
    }

    /// Publishes and serves `layer`, a tar, above busybox.
    pub fn serve(user: &User, port: u16, name: &str, layer: &[u8]) -> Registry {
        let machine = &user.machine;
        let root = machine.path();
        let served = Tree(root.join("srv/registry"));
        let place = format!("/var/tmp/{name}-{}", user.name);
        let own = Tree(root.join(place.strip_prefix('/').unwrap()));
        let manifest: Value = serde_json::from_slice(&served.read(&served.tag("library/busybox", "latest"))).unwrap();
        let parse = |value: &Value| value.as_str().unwrap().parse::<Digest>().unwrap();
        let mut config: Value = serde_json::from_slice(&served.read(&parse(&manifest["config"]["digest"]))).unwrap();
        let mut layers = manifest["layers"].as_array().unwrap().clone();
        for layer in &layers {
            own.put(&served.read(&parse(&layer["digest"])));
        }
        let digest = own.put(layer);
        layers.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": layer.len(), "digest": digest}));
        config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(digest));
        own.publish(name, &config, &layers);
        let unit = format!("{name}-registry");
        machine
            .root(&format!(
                "printf 'version: 0.1\\nstorage: {{filesystem: {{rootdirectory: {place}}}}}\\nhttp: {{addr: 127.0.0.1:{port}}}\\n' > {place}.yml; \
                 systemd-run --quiet --unit={unit} docker-registry serve {place}.yml"
            ))
            .ok();
        user.sh(&format!(
            "for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 0; sleep 0.1; done; exit 1"
        ))
        .ok();
        Registry { machine: machine.clone(), unit, place }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let (unit, place) = (&self.unit, &self.place);
        drop(self.machine.root(&format!("systemctl stop {unit}; rm -rf {place} {place}.yml")));
    }
}
