//! Challenges, tokens, and where credentials may go.

use super::server::{Content, Reply, Request, Server};
use super::*;
use crate::error::Kind;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server of tokens `t0`, `t1`, ... for those who come with `login`.
fn tokens(login: Option<&'static str>, life: u64) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |request| {
        if request.header("authorization") != login {
            return Reply::new(401, "");
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":{life}}}"#))
    })
}

fn challenge(realm: &str) -> Reply {
    let scope = format!("repository:{REPOSITORY}:pull");
    Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
        .header("WWW-Authenticate", format!("Bearer realm=\"{realm}/token\",service=\"here\",scope=\"{scope}\""))
}

/// A registry with one layer for those whom `allowed` lets in.
fn guarded(bytes: &[u8], realm: String, allowed: impl Fn(&str) -> bool + Send + Sync + 'static) -> Server {
    let mut held = Content::default();
    held.blob(bytes);
    Server::start(move |request: &Request| match request.header("authorization") {
        Some(value) if allowed(value) => held.reply(request),
        _ => challenge(&realm),
    })
}

async fn fetch(client: &Client, server: &Server, bytes: &[u8]) -> crate::error::Result<()> {
    let dir = tempfile::tempdir().unwrap();
    client.download(&reference(server, ""), &layer_of(bytes), dir.path(), &Notes::default()).await.map(drop)
}

#[tokio::test]
async fn an_anonymous_token_is_asked_for_once_and_shared() {
    let realm = tokens(None, 300);
    let server = guarded(b"abc", realm.url(), |value| value == "Bearer t0");
    let client = client();
    let (a, b) = tokio::join!(fetch(&client, &server, b"abc"), fetch(&client, &server, b"abc"));
    assert!(a.is_ok() && b.is_ok());
    fetch(&client, &server, b"abc").await.unwrap();
    let asked = realm.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/token?service=here&scope=repository%3Alibrary%2Fthing%3Apull");
}

#[tokio::test]
async fn a_password_goes_to_the_token_server_and_the_token_to_the_registry() {
    let realm = tokens(Some("Basic dTpw"), 300);
    let server = guarded(b"abc", realm.url(), |value| value == "Bearer t0");
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, server.host()));
    fetch(&client, &server, b"abc").await.unwrap();
    assert!(server.seen().iter().all(|request| request.header("authorization") != Some("Basic dTpw")));
}

#[tokio::test]
async fn another_registry_s_password_is_not_sent() {
    let realm = tokens(None, 300);
    let server = guarded(b"abc", realm.url(), |value| value == "Bearer t0");
    // The token server's own name in the file does not make it the registry's account.
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}},"docker.io":{{"auth":"dTpw"}}"#, realm.host()));
    fetch(&client, &server, b"abc").await.unwrap();
    assert!(realm.seen().iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    // Good for no time at all: asked for before each request.
    let realm = tokens(None, 0);
    let server = guarded(b"abc", realm.url(), |value| value.starts_with("Bearer t"));
    let client = client();
    fetch(&client, &server, b"abc").await.unwrap();
    fetch(&client, &server, b"abc").await.unwrap();
    assert_eq!(realm.seen().len(), 2);
    // Said to be good, but no longer accepted.
    let realm = tokens(None, 300);
    let server = guarded(b"abc", realm.url(), {
        let uses = AtomicUsize::new(0);
        move |value| value != "Bearer t0" || uses.fetch_add(1, Ordering::SeqCst) == 0
    });
    let client = super::client();
    fetch(&client, &server, b"abc").await.unwrap();
    fetch(&client, &server, b"abc").await.unwrap();
    assert_eq!(realm.seen().len(), 2);
}

#[tokio::test]
async fn a_refresh_token_is_posted() {
    let realm = Server::start(|request| match request.body.as_str() {
        "grant_type=refresh_token&client_id=steading&service=here&scope=repository%3Alibrary%2Fthing%3Apull&refresh_token=R%2F1" => {
            Reply::new(200, r#"{"access_token":"fine"}"#)
        }
        _ => Reply::new(400, ""),
    });
    let server = guarded(b"abc", realm.url(), |value| value == "Bearer fine");
    let client = client_with(&format!(r#""{}":{{"auth":"eA==","identitytoken":"R/1"}}"#, server.host()));
    fetch(&client, &server, b"abc").await.unwrap();
    assert_eq!((realm.seen()[0].method.as_str(), realm.seen()[0].target.as_str()), ("POST", "/token"));
}

#[tokio::test]
async fn a_refused_login_says_how_to_log_in_and_is_not_repeated() {
    let realm = tokens(Some("Basic other"), 300);
    let server = guarded(b"abc", realm.url(), |_| false);
    for (client, why) in [
        (client(), "no anonymous access"),
        (client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, server.host())), "stored credentials are not accepted"),
    ] {
        let error = fetch(&client, &server, b"abc").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert!(error.causes()[0].contains(why), "{error:?}");
        assert!(error.find_hint().unwrap().contains(&format!("docker login {}", server.host())));
        assert!(!format!("{error:?}").contains("dTpw"));
    }
    assert_eq!(realm.seen().len(), 2);
}

#[tokio::test]
async fn a_registry_that_takes_no_token_does_not_turn_us_in_circles() {
    let realm = tokens(None, 300);
    let server = guarded(b"abc", realm.url(), |_| false);
    let error = fetch(&client(), &server, b"abc").await.unwrap_err();
    assert!(error.causes()[0].contains("authentication required"), "{error:?}");
    assert_eq!(server.seen().len(), 3);
    let basic = Server::start(|_| Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""));
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, basic.host()));
    assert!(fetch(&client, &basic, b"abc").await.unwrap_err().causes()[0].contains("not accepted"));
    assert_eq!(basic.seen().len(), 2);
}

#[tokio::test]
async fn redirects_that_are_no_good_are_refused() {
    for location in ["ftp://127.0.0.1/x", "", "http://"] {
        let server = Server::start(move |_| Reply::new(302, "").header("Location", location));
        let error = fetch(&client(), &server, b"abc").await.unwrap_err();
        assert!(error.causes()[0].contains("redirects"), "{location}: {error:?}");
    }
    let circle = Server::start(|_| Reply::new(302, "").header("Location", "/again"));
    assert!(fetch(&client(), &circle, b"abc").await.unwrap_err().causes()[0].contains("more than 8 times"));
    assert_eq!(circle.seen().len(), 9);
}

#[tokio::test]
async fn a_redirect_away_and_back_does_not_get_the_login_again() {
    let away = Server::start(|request| {
        let home = request.header("user-agent").map(|_| request.target.trim_start_matches("/to/").to_owned()).unwrap();
        Reply::new(302, "").header("Location", format!("http://{home}/stolen"))
    });
    let there = away.url();
    let server = Server::start(move |request| match (request.target.as_str(), request.header("authorization")) {
        ("/stolen", Some(_)) => Reply::new(200, "abc"),
        ("/stolen", None) => Reply::new(403, ""),
        (_, Some(_)) => Reply::new(302, "").header("Location", format!("{there}/to/{}", request.header("host").unwrap())),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic"),
    });
    let client = client_with(&format!(r#""{}":{{"auth":"dTpw"}}"#, server.host()));
    assert!(fetch(&client, &server, b"abc").await.is_err());
    assert!(away.seen().iter().all(|request| request.header("authorization").is_none()));
    let stolen: Vec<_> = server.seen().into_iter().filter(|request| request.target == "/stolen").collect();
    assert!(!stolen.is_empty() && stolen.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn https_to_a_plain_port_is_not_tried_again_and_says_so() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test process; what it greets with is what servers of http say to a TLS greeting.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // All of the greeting: closing with bytes unread would be a reset, which is another failure.
            let _ = stream.read(&mut [0; 8192]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let registry = format!("localhost:{}", address.port());
    let client = client_mirrored(&registry, &[format!("https://{address}")]);
    let dir = tempfile::tempdir().unwrap();
    let image: Reference = format!("{registry}/{REPOSITORY}").parse().unwrap();
    let error = client.download(&image, &layer_of(b"abc"), dir.path(), &Notes::default()).await.unwrap_err();
    let causes = &error.causes()[0];
    let mirror = causes.split(';').next().unwrap();
    assert!(mirror.contains("InvalidContentType") && !mirror.contains("tries"), "{causes}");
}
