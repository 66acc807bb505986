//! From a reference to a resolved image.

use super::server::{Content, Reply, Server};
use super::*;
use crate::error::{Error, Kind, Result};
use crate::image::Platform;
use crate::registry::ResolvedImage;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

/// Adds an image of one layer; gives the digests of its manifest and config.
fn image(held: &mut Content, tag: &str, architecture: &str, diff_ids: usize) -> (Digest, Digest) {
    let blob = format!("layer for {architecture}");
    let layer = held.blob(blob.as_bytes());
    let ids: Vec<String> = (0..diff_ids).map(|number| format!("\"{}\"", Digest::of(&[u8::try_from(number).unwrap()]))).collect();
    let text = format!(
        r#"{{"os":"linux","architecture":"{architecture}","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = held.blob(text.as_bytes());
    let manifest = held.manifest(
        tag,
        MANIFEST,
        &format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{config}","size":{}}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"{layer}","size":{}}}]}}"#,
            text.len(),
            blob.len()
        ),
    );
    (manifest, config)
}

fn index(held: &mut Content, tag: &str, entries: &[(&str, Digest)]) -> Digest {
    let one = |&(architecture, digest): &(&str, Digest)| {
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#)
    };
    let entries: Vec<String> = entries.iter().map(one).collect();
    held.manifest(tag, INDEX, &format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(",")))
}

async fn resolve(server: &Server, selector: &str) -> Result<ResolvedImage> {
    client().resolve(&reference(server, selector), &amd64(), &Notes::default()).await
}

fn tells(error: &Error) -> String {
    format!("{error}: {}; hint: {}", error.causes().join(": "), error.find_hint().unwrap_or_default())
}

#[tokio::test]
async fn an_index_leads_to_the_platform_s_manifest_config_and_layers() {
    let mut held = Content::default();
    let (arm, _) = image(&mut held, "arm", "arm64", 1);
    let (amd, config) = image(&mut held, "amd", "amd64", 1);
    let list = index(&mut held, "1", &[("arm64", arm), ("amd64", amd)]);
    let outer = index(&mut held, "outer", &[("amd64", list)]);
    let server = Server::start(move |request| held.reply(request));
    for (selector, index_digest) in
        [(":1".to_owned(), list), (format!("@{list}"), list), (format!(":none@{list}"), list), (":outer".into(), outer)]
    {
        let found = resolve(&server, &selector).await.unwrap();
        assert_eq!((found.index_digest, found.digest, found.config_digest), (Some(index_digest), amd, config), "{selector}");
        assert_eq!((Digest::of(&found.manifest), Digest::of(&found.config)), (amd, config));
        assert_eq!(found.platform, amd64());
        let layer = &found.layers[0];
        assert_eq!((layer.digest, layer.diff_id), (Digest::of(b"layer for amd64"), Digest::of(&[0])));
        assert_eq!(layer.media_type, "application/vnd.docker.image.rootfs.diff.tar.gzip");
    }
    let found = resolve(&server, ":amd").await.unwrap();
    assert_eq!((found.index_digest, found.digest), (None, amd));
    let accepted = server.seen()[0].header("accept").unwrap().to_owned();
    for kind in [
        INDEX,
        MANIFEST,
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ] {
        assert!(accepted.contains(kind), "{accepted}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let mut held = Content::default();
    let (arm, _) = image(&mut held, "arm", "arm64", 1);
    index(&mut held, "1", &[("arm64", arm), ("s390x", arm)]);
    let server = Server::start(move |request| held.reply(request));
    let error = resolve(&server, ":99").await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::NotFound, format!("no image `{}/{REPOSITORY}:99`", server.host())));
    assert!(tells(&error).contains("manifest unknown"));
    let error = resolve(&server, ":1").await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && tells(&error).contains("linux/arm64, linux/s390x"), "{error:?}");
    let error = resolve(&server, ":arm").await.unwrap_err();
    assert!(error.kind() == Kind::NotFound && tells(&error).contains("linux/arm64"), "{error:?}");
}

#[tokio::test]
async fn layers_and_diff_ids_that_do_not_match_are_refused() {
    let mut held = Content::default();
    image(&mut held, "two", "amd64", 2);
    let server = Server::start(move |request| held.reply(request));
    assert!(tells(&resolve(&server, ":two").await.unwrap_err()).contains("1 layers, its config 2"));
}

#[tokio::test]
async fn manifests_that_are_not_what_they_are_called_are_refused() {
    let mut held = Content::default();
    let (good, config) = image(&mut held, "1", "amd64", 1);
    let body = r#"{"schemaVersion":2,"manifests":[]}"#;
    let by_digest = Server::start(move |_| Reply::new(200, body).header("Content-Type", INDEX));
    let told = tells(&resolve(&by_digest, &format!("@{good}")).await.unwrap_err());
    assert!(told.contains(&good.to_string()) && told.contains(&Digest::of(body.as_bytes()).to_string()), "{told}");
    let lying = Server::start(move |_| Reply::new(200, body).header("Docker-Content-Digest", good.to_string()));
    assert!(tells(&resolve(&lying, ":1").await.unwrap_err()).contains("it says its manifest has digest"));
    let other = held.clone();
    let bad_config = Server::start(move |request| match request.target.ends_with(&config.to_string()) {
        true => Reply::new(200, "{}"),
        false => other.reply(request),
    });
    assert!(tells(&resolve(&bad_config, ":1").await.unwrap_err()).contains("the config it serves has digest"));
    let long_config = Server::start(move |request| match request.target.ends_with(&config.to_string()) {
        true => Reply::new(200, vec![b' '; 5000]).chunked(),
        false => held.reply(request),
    });
    assert!(tells(&resolve(&long_config, ":1").await.unwrap_err()).contains("larger than"));
    for huge in [Reply::new(200, vec![b' '; (4 << 20) + 1]), Reply::new(200, vec![b' '; (4 << 20) + 1]).chunked()] {
        let server = Server::start(move |_| huge.clone());
        assert!(tells(&resolve(&server, ":1").await.unwrap_err()).contains("larger than 4194304 bytes"));
    }
}

#[tokio::test]
async fn a_chain_of_indexes_ends() {
    // An index cannot hold its own digest, but a server can make them up to any depth.
    let mut held = Content::default();
    let mut inner = index(&mut held, "0", &[]);
    for level in 1..6 {
        inner = index(&mut held, &level.to_string(), &[("amd64", inner)]);
    }
    let server = Server::start(move |request| held.reply(request));
    assert!(tells(&resolve(&server, ":5").await.unwrap_err()).contains("deep"));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn cut_and_busy_answers_are_asked_for_again() {
    let mut held = Content::default();
    image(&mut held, "1", "amd64", 1);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |request| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => held.reply(request).cut(7),
        1 | 3 => Reply::new(502, "<html>"),
        _ => held.reply(request),
    });
    resolve(&server, ":1").await.unwrap();
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_mirror_serves_the_registry_s_name_and_a_dead_one_is_asked_last_from_then_on() {
    let mut held = Content::default();
    let (manifest, _) = image(&mut held, "1", "amd64", 1);
    let server = Server::start(move |request| held.reply(request));
    let dead = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let client = client_mirrored("docker.io", &[dead, server.url()]);
    let notes = Notes::default();
    let found = client.resolve(&"thing:1".parse().unwrap(), &amd64(), &notes).await.unwrap();
    assert_eq!((found.digest, found.reference.to_string()), (manifest, "docker.io/library/thing:1".to_owned()));
    assert_eq!(notes.warnings.lock().unwrap().len(), 1);
    client.ping("docker.io").await.unwrap();
}

#[tokio::test]
async fn ping_tells_a_registry_from_others() {
    let guarded = Server::start(|_| Reply::new(401, ""));
    client().ping(&guarded.host()).await.unwrap();
    assert_eq!(guarded.seen()[0].target, "/v2/");
    let other = Server::start(|_| Reply::new(404, ""));
    assert!(tells(&client().ping(&other.host()).await.unwrap_err()).contains("404"));
}
