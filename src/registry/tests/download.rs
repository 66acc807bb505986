//! Downloads: resume, verification, retries, disk.

use super::server::{Content, Reply, Server};
use super::*;
use crate::error::Kind;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Larger than every buffer on the way.
const LEN: usize = 3_000_000;

fn partial_of(dir: &Path, layer: &PlanLayer) -> PathBuf {
    dir.join(format!("sha256-{}.partial", layer.digest.hex()))
}

/// A server that holds `bytes`, and answers request number `n` by `fault(n, good answer)`.
fn faulty(bytes: &[u8], fault: impl Fn(usize, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let mut held = Content::default();
    held.blob(bytes);
    let count = AtomicUsize::new(0);
    Server::start(move |request| fault(count.fetch_add(1, Ordering::SeqCst), held.reply(request)))
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

struct Try {
    dir: tempfile::TempDir,
    layer: PlanLayer,
    notes: Notes,
}

impl Try {
    fn new(bytes: &[u8]) -> Try {
        Try { dir: tempfile::tempdir().unwrap(), layer: layer_of(bytes), notes: Notes::default() }
    }

    async fn run(&self, client: &Client, server: &Server) -> crate::error::Result<PathBuf> {
        client.download(&reference(server, ""), &self.layer, self.dir.path(), &self.notes).await
    }

    /// Downloads and checks that the result is `bytes` and the only file.
    async fn good(&self, server: &Server, bytes: &[u8]) {
        let path = self.run(&client(), server).await.unwrap();
        assert_eq!(path, self.dir.path().join(format!("sha256-{}", self.layer.digest.hex())));
        assert!(fs::read(path).unwrap() == bytes);
        assert_eq!(names(self.dir.path()).len(), 1);
        let transfers = self.notes.transfers.lock().unwrap();
        assert!(transfers.iter().all(|&(total, _, ended)| ended && total == bytes.len() as u64));
        if let Some(&(total, arrived, _)) = transfers.last() {
            assert_eq!(arrived, total);
        }
    }
}

#[tokio::test]
async fn a_blob_arrives_and_a_second_call_asks_nobody() {
    let bytes = content(LEN);
    let server = faulty(&bytes, |_, reply| reply);
    let one = Try::new(&bytes);
    one.good(&server, &bytes).await;
    one.good(&server, &bytes).await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_empty_blob_and_one_without_announced_length() {
    let server = faulty(b"", |_, reply| reply);
    Try::new(b"").good(&server, b"").await;
    let bytes = content(LEN);
    let server = faulty(&bytes, |_, reply| reply.chunked());
    Try::new(&bytes).good(&server, &bytes).await;
}

#[tokio::test]
async fn a_damaged_finished_blob_is_downloaded_again() {
    let bytes = content(LEN);
    let server = faulty(&bytes, |_, reply| reply);
    let one = Try::new(&bytes);
    one.good(&server, &bytes).await;
    let path = one.dir.path().join(format!("sha256-{}", one.layer.digest.hex()));
    let mut damaged = bytes.clone();
    damaged[77] ^= 1;
    fs::write(path, damaged).unwrap();
    one.good(&server, &bytes).await;
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn cut_bodies_are_resumed_where_they_ended() {
    let bytes = content(LEN);
    // Each answer carries 700000 bytes: five requests, the tries renewed by progress.
    let server = faulty(&bytes, |_, reply| reply.cut(700_000));
    Try::new(&bytes).good(&server, &bytes).await;
    let from: Vec<_> = server.seen().iter().map(|request| request.from().unwrap_or(0)).collect();
    assert_eq!(from, [0, 700_000, 1_400_000, 2_100_000, 2_800_000]);
}

#[tokio::test]
async fn endless_cuts_without_progress_end_in_one_error_and_keep_the_part() {
    let bytes = content(LEN);
    let server = faulty(&bytes, |_, reply| reply.cut(10));
    let one = Try::new(&bytes);
    let error = one.run(&client(), &server).await.unwrap_err();
    assert_eq!(server.seen().len(), 5);
    let causes = error.causes().join(" ");
    assert!(
        error.to_string().contains("cannot download layer") && causes.contains("cut") && causes.contains("5 tries"),
        "{causes}"
    );
    assert!(causes.contains(&server.host()) && error.find_hint().is_some());
    assert!(fs::read(partial_of(one.dir.path(), &one.layer)).unwrap() == bytes[..50]);
}

#[tokio::test]
async fn a_part_of_an_earlier_run_is_resumed_if_right_and_replaced_if_wrong() {
    let bytes = content(LEN);
    let mut long = bytes.clone();
    long.push(0);
    let mut whole_but_wrong = bytes.clone();
    whole_but_wrong[5] ^= 1;
    for (left, asked) in [
        (&bytes[..1_000_000], vec![Some(1_000_000)]),
        (&whole_but_wrong[..1_000_000], vec![Some(1_000_000), None]),
        (&whole_but_wrong[..], vec![None]),
        (&long[..], vec![None]),
        (&bytes[..], vec![]),
        (b"", vec![None]),
    ] {
        let server = faulty(&bytes, |_, reply| reply);
        let one = Try::new(&bytes);
        fs::write(partial_of(one.dir.path(), &one.layer), left).unwrap();
        one.good(&server, &bytes).await;
        assert_eq!(server.seen().iter().map(server::Request::from).collect::<Vec<_>>(), asked);
    }
}

#[tokio::test]
async fn a_wrong_or_missing_range_begins_anew() {
    let bytes = content(LEN);
    let all = bytes.clone();
    let wrong_start = Reply::new(206, &bytes[999..]).header("Content-Range", format!("bytes 999-{}/{LEN}", LEN - 1));
    let wrong_total = Reply::new(206, &bytes[1000..]).header("Content-Range", format!("bytes 1000-{}/{}", LEN - 1, LEN + 1));
    let silent = Reply::new(206, &bytes[1000..]);
    let ignored = Reply::new(200, bytes.as_slice());
    for (answer, requests) in [(wrong_start, 2), (wrong_total, 2), (silent, 2), (Reply::new(416, ""), 2), (ignored, 1)] {
        let server = faulty(&bytes, move |number, reply| if number == 0 { answer.clone() } else { reply });
        let one = Try::new(&bytes);
        fs::write(partial_of(one.dir.path(), &one.layer), &all[..1000]).unwrap();
        one.good(&server, &bytes).await;
        assert_eq!(server.seen().len(), requests);
    }
}

#[tokio::test]
async fn a_wrong_digest_is_refused_at_once_and_nothing_is_kept() {
    let bytes = content(LEN);
    let mut wrong = bytes.clone();
    wrong[LEN - 1] ^= 1;
    let server = faulty(&bytes, move |_, _| Reply::new(200, wrong.as_slice()));
    let one = Try::new(&bytes);
    let error = one.run(&client(), &server).await.unwrap_err();
    assert!(error.causes()[0].contains("has digest") && error.causes()[0].contains(&one.layer.digest.to_string()), "{error:?}");
    assert_eq!((server.seen().len(), names(one.dir.path()).len()), (1, 0));
}

#[tokio::test]
async fn more_or_less_than_the_manifest_says_is_refused() {
    let bytes = content(LEN);
    let mut more = bytes.clone();
    more.extend_from_slice(b"more");
    for reply in [Reply::new(200, more.as_slice()), Reply::new(200, more.as_slice()).chunked(), Reply::new(200, &bytes[..9])] {
        let server = faulty(&bytes, move |_, _| reply.clone());
        let one = Try::new(&bytes);
        assert!(one.run(&client(), &server).await.is_err());
        assert_eq!((server.seen().len(), names(one.dir.path()).len()), (1, 0));
    }
}

#[tokio::test]
async fn busy_servers_are_asked_again_when_they_say() {
    let bytes = content(1000);
    let server = faulty(&bytes, |number, reply| match number {
        0 => Reply::new(429, "").header("Retry-After", "1"),
        1 => Reply::new(500, "oh"),
        2 => Reply::new(503, ""),
        _ => reply,
    });
    let begin = Instant::now();
    Try::new(&bytes).good(&server, &bytes).await;
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_server_that_stays_broken_is_given_up_and_named() {
    let bytes = content(1000);
    for (status, text) in [(500, "500"), (429, "429")] {
        let server = faulty(&bytes, move |_, _| Reply::new(status, r#"{"errors":[{"code":"X","message":"too much"}]}"#));
        let error = Try::new(&bytes).run(&client(), &server).await.unwrap_err();
        assert_eq!(server.seen().len(), 5);
        let cause = &error.causes()[0];
        assert!(cause.contains(text) && cause.contains("too much") && cause.contains(&server.host()), "{cause}");
    }
}

#[tokio::test]
async fn silence_is_noticed() {
    let bytes = content(LEN);
    let server = faulty(&bytes, |number, reply| match number {
        0 => reply.stall(Duration::from_secs(60)),
        1 => reply.cut(1_000_000).stall(Duration::from_secs(60)),
        _ => reply,
    });
    let impatient = Tuning { idle: Duration::from_millis(700), ..hasty() };
    let client = Client::with(BTreeMap::new(), Credentials::default(), impatient).unwrap();
    let begin = Instant::now();
    Try::new(&bytes).run(&client, &server).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(50));
    assert_eq!(server.seen()[2].from(), Some(1_000_000));
}

#[tokio::test]
async fn dropping_the_future_keeps_a_part_that_is_resumed() {
    let bytes = content(LEN);
    let server =
        faulty(&bytes, |number, reply| if number == 0 { reply.cut(2_000_000).stall(Duration::from_secs(30)) } else { reply });
    let one = Try::new(&bytes);
    let patient = Client::with(BTreeMap::new(), Credentials::default(), Tuning::default()).unwrap();
    {
        let download = one.run(&patient, &server);
        let arrived = async {
            while one.notes.transfers.lock().unwrap().first().is_none_or(|&(_, arrived, _)| arrived < 2_000_000) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { result = download => panic!("{result:?}"), () = arrived => {} }
    }
    assert!(one.notes.transfers.lock().unwrap()[0].2, "the progress has ended");
    one.good(&server, &bytes).await;
    assert_eq!(server.seen()[1].from(), Some(2_000_000));
}

#[tokio::test]
async fn calls_at_the_same_time_download_once() {
    let bytes = content(LEN);
    let server = faulty(&bytes, |_, reply| reply.cut(LEN).stall(Duration::from_millis(300)));
    let one = Try::new(&bytes);
    let (first, second) = (client(), client());
    let (a, b, c) = tokio::join!(one.run(&first, &server), one.run(&first, &server), one.run(&second, &server));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(server.seen().len(), 1);
    one.good(&server, &bytes).await;
}

#[tokio::test]
async fn what_cannot_fit_is_refused_before_it_is_asked_for() {
    let bytes = content(LEN);
    let server = faulty(&bytes, |_, reply| reply);
    let one = Try::new(&bytes);
    let huge = PlanLayer { size: 1 << 60, ..one.layer.clone() };
    let error = client().download(&reference(&server, ""), &huge, one.dir.path(), &one.notes).await.unwrap_err();
    assert!(error.to_string().contains("no space"), "{error}");
    assert!(error.find_hint().unwrap().contains("XDG_CACHE_HOME"));
    assert_eq!((server.seen().len(), names(one.dir.path()).len()), (0, 0));
}

#[tokio::test]
async fn mirrors_come_first_and_what_they_do_wrong_is_told() {
    let bytes = content(LEN);
    let good = faulty(&bytes, |_, reply| reply);
    let wrong = faulty(&bytes, |_, _| Reply::new(200, content(LEN - 1).into_iter().chain([0]).collect::<Vec<_>>()));
    let lacking = Server::start(|_| Reply::new(404, ""));
    let nobody = format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let registry = "registry.invalid";
    let client = client_mirrored(registry, &[wrong.url(), lacking.url(), nobody.clone(), good.url()]);
    let one = Try::new(&bytes);
    let image: Reference = format!("{registry}/{REPOSITORY}").parse().unwrap();
    client.download(&image, &one.layer, one.dir.path(), &one.notes).await.unwrap();
    let warnings = one.notes.warnings.lock().unwrap().clone();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains(&wrong.url()) && warnings[0].contains("digest"));
    assert!(warnings[1].contains(&nobody) && warnings[1].contains("Connection refused"));
    assert_eq!((lacking.seen().len(), good.seen().len()), (1, 1));
}

#[tokio::test]
async fn an_unreachable_registry_is_named_with_the_way_out() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image: Reference = format!("{closed}/{REPOSITORY}").parse().unwrap();
    let error = client().download(&image, &layer_of(b"x"), dir.path(), &Notes::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.causes()[0].contains(&closed.to_string()) && error.causes()[0].contains("Connection refused"), "{error:?}");
    assert!(error.find_hint().unwrap().contains("mirrors = "));
    assert!(names(dir.path()).is_empty());
}

#[tokio::test]
async fn redirects_to_storage_lose_the_credentials_and_keep_the_range() {
    let bytes = content(LEN);
    let mut held = Content::default();
    let digest = held.blob(&bytes);
    let first = Arc::new(AtomicUsize::new(0));
    let target = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let storage = Server::start(move |request| {
        assert_eq!(request.target, "/signed?key=1");
        let reply = held.reply(&server::Request { target: target.clone(), ..request.clone() });
        match first.fetch_add(1, Ordering::SeqCst) {
            0 => reply.cut(1_000_000),
            1 => Reply::new(403, "the signature has expired"),
            _ => reply,
        }
    });
    let place = format!("{}/signed?key=1", storage.url());
    let server = Server::start(move |request| match request.header("authorization") {
        Some("Basic dTpw") => Reply::new(307, "").header("Location", place.clone()),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, server.host()));
    let one = Try::new(&bytes);
    let path = one.run(&client, &server).await.unwrap();
    assert!(fs::read(path).unwrap() == bytes);
    let seen = storage.seen();
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(seen.iter().map(server::Request::from).collect::<Vec<_>>(), [None, Some(1_000_000), Some(1_000_000)]);
    // Asked without first, then the login is remembered.
    let sent: Vec<_> = server.seen().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true, true]);
}
