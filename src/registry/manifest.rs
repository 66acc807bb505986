//! Manifests: Docker's v2 schema 2 and OCI's, image and list. Parsing and choosing; no I/O.

use super::http::clean;
use crate::image::{Digest, ImageConfig, Platform};
use crate::resolve::PlanLayer;
use serde::Deserialize;

/// Largest manifest or list (distribution-spec: registries take at least 4 MiB).
pub(super) const MANIFEST_MOST: usize = 4 << 20;
/// Largest config.
pub(super) const CONFIG_MOST: u64 = 8 << 20;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for.
pub(super) const ACCEPT: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

const CONFIGS: [&str; 2] = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// `None` when it is fine, else why a layer of this media type cannot be used.
fn unusable(media_type: &str) -> Option<&'static str> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => None,
        other if other.contains("nondistributable") || other.contains("foreign") => {
            Some("it is kept elsewhere and registries may not hand it out (a layer of Windows, as a rule)")
        }
        other if other.contains("+encrypted") => Some("it is encrypted"),
        _ => Some("it is of an unknown kind"),
    }
}

/// A manifest, as far as it matters.
#[derive(Debug)]
pub(super) enum Document {
    /// A list or index.
    Index(Vec<Entry>),
    /// The manifest of one image.
    Image(Image),
}

/// One manifest that an index offers.
#[derive(Debug)]
pub(super) struct Entry {
    digest: String,
    platform: Option<Platform>,
}

/// The manifest of one image.
#[derive(Debug)]
pub(super) struct Image {
    pub config: Digest,
    pub config_size: u64,
    layers: Vec<(Digest, u64, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, String> {
        self.digest.parse().map_err(|_| format!("it names content by `{}`, which is no sha256 digest", clean(&self.digest)))
    }
}

/// Reads a manifest. `content_type` is what the server says of it. The error tells why it cannot be used.
pub(super) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document, String> {
    let raw: Raw =
        serde_json::from_slice(bytes).map_err(|error| format!("its manifest is not valid: {}", clean(&error.to_string())))?;
    if raw.schema_version == Some(1) {
        return Err("its manifest is of Docker's old schema 1, which names no content by digest".into());
    }
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    // One document that is an index to one reader and an image to another could smuggle content past a check
    // (CVE-2021-41190): what it says, what the server says and its shape must agree.
    let served = content_type.filter(|text| ACCEPT.contains(text));
    if let (Some(says), Some(served)) = (&raw.media_type, served)
        && says != served
    {
        return Err(format!("its manifest says it is `{}`, but is served as `{served}`", clean(says)));
    }
    let kind = raw.media_type.as_deref().or(served);
    if let Some(kind) = kind.filter(|kind| !ACCEPT.contains(kind)) {
        return Err(format!("its manifest is of an unknown kind, `{}`", clean(kind)));
    }
    let index_wanted = kind.map(|kind| kind == OCI_INDEX || kind == DOCKER_LIST);
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if index_wanted != Some(false) => {
            Ok(Document::Index(manifests.into_iter().map(entry).collect()))
        }
        (None, Some(config), Some(layers)) if index_wanted != Some(true) => image(&config, &layers).map(Document::Image),
        _ => Err("its manifest is neither an image's nor an index".into()),
    }
}

fn entry(descriptor: Descriptor) -> Entry {
    let platform = descriptor.platform.map(|raw| Platform {
        os: raw.os,
        architecture: raw.architecture,
        variant: (!raw.variant.is_empty()).then_some(raw.variant),
    });
    Entry { digest: descriptor.digest, platform }
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Result<Image, String> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(match config.media_type.as_str() {
            "application/vnd.cncf.helm.config.v1+json" => "it is a Helm chart, not an image".into(),
            other => format!("it is not an image but an artifact: its config is `{}`", clean(other)),
        });
    }
    if config.size > CONFIG_MOST {
        return Err(format!("its config has {} bytes, more than {CONFIG_MOST}", config.size));
    }
    let mut list = Vec::with_capacity(layers.len());
    for (number, layer) in layers.iter().enumerate() {
        if let Some(why) = unusable(&layer.media_type) {
            return Err(format!(
                "its layer {} of {} cannot be used: {why} (`{}`)",
                number + 1,
                layers.len(),
                clean(&layer.media_type)
            ));
        }
        list.push((layer.digest()?, layer.size, layer.media_type.clone()));
    }
    Ok(Image { config: config.digest()?, config_size: config.size, layers: list })
}

impl Image {
    /// Joins the layers with what the config says of their content.
    pub fn layers(&self, config: &ImageConfig) -> Result<Vec<PlanLayer>, String> {
        if self.layers.len() != config.diff_ids.len() {
            return Err(format!("its manifest has {} layers, its config {}", self.layers.len(), config.diff_ids.len()));
        }
        let join = |((digest, size, media_type), diff_id): (&(Digest, u64, String), &Digest)| PlanLayer {
            digest: *digest,
            size: *size,
            media_type: media_type.clone(),
            diff_id: *diff_id,
        };
        Ok(self.layers.iter().zip(&config.diff_ids).map(join).collect())
    }
}

/// The entry of an index that fits `wanted` best. `Ok(None)`: nothing fits.
pub(super) fn choose(entries: &[Entry], wanted: &Platform) -> Result<Option<(Digest, Option<Platform>)>, String> {
    let rank = |entry: &Entry| match &entry.platform {
        Some(platform) if !wanted.accepts(platform) => None,
        Some(platform) if platform.variant == wanted.variant => Some(0),
        Some(platform) if platform.variant.is_none() => Some(1),
        // `amd64/v3` for a host that does not say what it has: better than nothing.
        Some(_) => Some(2),
        // The platform is optional; a lone manifest without one says it in its config.
        None => (entries.len() == 1).then_some(3),
    };
    // The first of the best, as the specification wants.
    let best = entries.iter().filter_map(|entry| Some((rank(entry)?, entry))).min_by_key(|(rank, _)| *rank);
    let Some((_, entry)) = best else { return Ok(None) };
    let digest =
        entry.digest.parse().map_err(|_| format!("it names content by `{}`, which is no sha256 digest", clean(&entry.digest)))?;
    Ok(Some((digest, entry.platform.clone())))
}

/// The platforms an index offers, for people.
pub(super) fn offered(entries: &[Entry]) -> String {
    let mut names: Vec<String> = Vec::new();
    for platform in entries.iter().filter_map(|entry| entry.platform.as_ref()) {
        let name = clean(&platform.to_string());
        // Attestations are listed as `unknown/unknown`.
        if platform.os != "unknown" && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn manifest(config: &str, layer: &str) -> String {
        let digest = Digest::of(b"");
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{digest}","size":2}},"layers":[{{"mediaType":"{layer}","digest":"{digest}","size":1}}]}}"#
        )
    }

    fn why(bytes: &str, content_type: Option<&str>) -> String {
        parse(bytes.as_bytes(), content_type).unwrap_err()
    }

    #[test]
    fn all_four_kinds_are_read() {
        let image = manifest(CONFIG, LAYER);
        assert!(matches!(parse(image.as_bytes(), Some(OCI_MANIFEST)), Ok(Document::Image(_))));
        assert!(matches!(parse(image.as_bytes(), Some("application/json; charset=utf-8")), Ok(Document::Image(_))));
        let docker =
            manifest("application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip");
        assert!(matches!(parse(docker.as_bytes(), Some(DOCKER_MANIFEST)), Ok(Document::Image(_))));
        for list in [OCI_INDEX, DOCKER_LIST] {
            let index = format!(r#"{{"schemaVersion":2,"mediaType":"{list}","manifests":[]}}"#);
            assert!(matches!(parse(index.as_bytes(), Some(list)), Ok(Document::Index(_))));
        }
    }

    #[test]
    fn what_is_no_image_is_refused_with_the_reason() {
        assert!(why(&manifest("application/vnd.cncf.helm.config.v1+json", "x"), None).contains("Helm chart"));
        assert!(why(&manifest("application/vnd.oci.empty.v1+json", LAYER), None).contains("artifact"));
        let foreign = why(&manifest(CONFIG, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), None);
        assert!(foreign.contains("kept elsewhere") && foreign.contains("layer 1 of 1"), "{foreign}");
        assert!(
            why(&manifest(CONFIG, "application/vnd.oci.image.layer.nondistributable.v1.tar"), None).contains("kept elsewhere")
        );
        assert!(why(&manifest(CONFIG, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), None).contains("encrypted"));
        assert!(why(r#"{"schemaVersion":1,"fsLayers":[]}"#, None).contains("schema 1"));
        assert!(why("{}", None).contains("neither"));
        assert!(why("[", None).contains("not valid"));
        assert!(why(&manifest(CONFIG, LAYER).replace("sha256:", "sha512:"), None).contains("no sha256 digest"));
        assert!(why(&manifest(CONFIG, LAYER).replace("\"size\":1", "\"size\":-1"), None).contains("not valid"));
    }

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let both = manifest(CONFIG, LAYER).replacen('{', r#"{"manifests":[],"#, 1);
        assert!(why(&both, None).contains("neither"));
        assert!(why(&manifest(CONFIG, LAYER), Some(OCI_INDEX)).contains("neither"));
        let says = manifest(CONFIG, LAYER).replacen('{', &format!(r#"{{"mediaType":"{OCI_MANIFEST}","#), 1);
        assert!(why(&says, Some(DOCKER_LIST)).contains("served as"));
    }

    fn entries(list: &[(&str, &str, &str)]) -> Vec<Entry> {
        let one = |(number, &(os, architecture, variant)): (usize, &(&str, &str, &str))| Entry {
            digest: Digest::of(&[u8::try_from(number).unwrap()]).to_string(),
            platform: (!os.is_empty()).then(|| Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: (!variant.is_empty()).then(|| variant.into()),
            }),
        };
        list.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let arm64 = Platform { os: "linux".into(), architecture: "arm64".into(), variant: Some("v8".into()) };
        let list = entries(&[
            ("windows", "amd64", ""),
            ("linux", "amd64", "v3"),
            ("linux", "amd64", ""),
            ("linux", "amd64", ""),
            ("linux", "arm64", ""),
            ("unknown", "unknown", ""),
        ]);
        let number = |list: &[Entry], wanted: &Platform| {
            let (digest, _) = choose(list, wanted).unwrap()?;
            list.iter().position(|entry| entry.digest == digest.to_string())
        };
        assert_eq!(number(&list, &amd64), Some(2));
        assert_eq!(number(&list, &arm64), Some(4));
        assert_eq!(number(&entries(&[("linux", "arm64", "v9"), ("linux", "arm64", "v8")]), &arm64), Some(1));
        assert_eq!(number(&entries(&[("", "", "")]), &amd64), Some(0));
        assert_eq!(number(&entries(&[("", "", ""), ("", "", "")]), &amd64), None);
        assert_eq!(number(&[], &amd64), None);
        assert_eq!(offered(&list), "windows/amd64, linux/amd64/v3, linux/amd64, linux/arm64");
        let broken = [Entry { digest: "sha512:0".into(), platform: None }];
        assert!(choose(&broken, &amd64).is_err());
    }

    #[test]
    fn layers_and_diff_ids_must_be_as_many() {
        let Document::Image(image) = parse(manifest(CONFIG, LAYER).as_bytes(), None).unwrap() else { panic!("an image") };
        let mut config = ImageConfig::default();
        assert!(image.layers(&config).unwrap_err().contains("1 layers, its config 0"));
        config.diff_ids = vec![Digest::of(b"x")];
        let layers = image.layers(&config).unwrap();
        assert_eq!((layers[0].digest, layers[0].diff_id, layers[0].size), (Digest::of(b""), Digest::of(b"x"), 1));
    }

    proptest! {
        #[test]
        fn hostile_bytes_give_an_error_and_no_panic(at in 0usize..400, byte: u8) {
            let mut bytes = manifest(CONFIG, LAYER).into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = parse(&bytes, Some(OCI_MANIFEST));
        }
    }
}
