//! One request: which client, which redirects, which authorization, and what the answer means.

use super::auth::{self, Tokens};
use super::credentials::Credentials;
use super::retry::{Class, Fault, Tuning};
use super::settings::{Endpoint, is_loopback};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use std::error::Error as StdError;
use std::sync::OnceLock;
use std::time::Duration;

/// Redirects that are followed for one request.
const REDIRECTS: usize = 8;
/// Most bytes read of an answer that only explains an error.
const EXPLANATION: usize = 16 << 10;

/// The clients, who we are, and the tokens we were given.
#[derive(Debug)]
pub(super) struct Http {
    pub tuning: Tuning,
    pub credentials: Credentials,
    tokens: Tokens,
    loopback: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
    tls: OnceLock<reqwest::Client>,
}

impl Http {
    pub fn new(tuning: Tuning, credentials: Credentials) -> Self {
        let (loopback, plain, tls) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Http { tuning, credentials, tokens: Tokens::default(), loopback, plain, tls }
    }

    /// GET of `tail` in `repository`; logs in when asked to. A good answer only, or 416 when `ranged`.
    ///
    /// # Errors
    /// What the status means, or why there is none.
    pub async fn get(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        tail: &str,
        headers: &HeaderMap,
        ranged: bool,
    ) -> Result<Response, Fault> {
        let url = endpoint.url(repository, tail);
        let mut authorization = self.tokens.cached(endpoint, repository).await;
        let mut response = self.follow(&url, headers, authorization.clone()).await?;
        // The first 401 may mean "no token" and the second "that one has expired".
        for _ in 0..2 {
            if response.status() != StatusCode::UNAUTHORIZED || !endpoint.owns(response.url()) {
                break;
            }
            let challenges = auth::challenges(response.headers());
            let fresh = self.tokens.obtain(self, endpoint, repository, &challenges, authorization.as_ref()).await?;
            if authorization.as_ref() == Some(&fresh) {
                break;
            }
            response = self.follow(&url, headers, Some(fresh.clone())).await?;
            authorization = Some(fresh);
        }
        if !endpoint.owns(response.url()) && matches!(response.status().as_u16(), 401 | 403) {
            // A signed address of a blob that has run out; the registry makes a new one at the next try.
            return Err(Fault::passing(format!("the storage it points to says {}", response.status())));
        }
        self.accept(response, ranged).await
    }

    /// GET, following redirects; `authorization` is sent to the origin of `url` only.
    pub async fn follow(&self, url: &Url, headers: &HeaderMap, authorization: Option<HeaderValue>) -> Result<Response, Fault> {
        let mut here = url.clone();
        let mut authorization = authorization;
        for _ in 0..=REDIRECTS {
            let mut request = self.client(&here)?.get(here.clone()).headers(headers.clone());
            if let Some(value) = &authorization {
                request = request.header(AUTHORIZATION, value.clone());
            }
            let response = request.send().await.map_err(|error| self.explain(&error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = target.and_then(|target| here.join(target).ok());
            let next = next.ok_or_else(|| Fault::wrong("it redirects to nowhere"))?;
            if !matches!(next.scheme(), "http" | "https") || (here.scheme() == "https" && next.scheme() == "http") {
                return Err(Fault::wrong(format!("it redirects from {} to {}", here.scheme(), next.scheme())));
            }
            if next.origin() != url.origin() {
                // Dropped for good: not even a way back gets it again.
                authorization = None;
            }
            here = next;
        }
        Err(Fault::wrong(format!("it redirects more than {REDIRECTS} times")))
    }

    /// POST of a form; redirects are not followed, as the body is a secret.
    pub async fn post_form(&self, url: &Url, form: &str) -> Result<Response, Fault> {
        let request = self.client(url)?.post(url.clone()).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.body(form.to_owned()).send().await.map_err(|error| self.explain(&error))
    }

    /// Passes a good answer on, and 416 when a range was asked for; of the others says what they mean.
    pub async fn accept(&self, response: Response, ranged: bool) -> Result<Response, Fault> {
        let status = response.status();
        if status.is_success() || (ranged && status == StatusCode::RANGE_NOT_SATISFIABLE) {
            return Ok(response);
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = after.map(Duration::from_secs);
        let class = match status.as_u16() {
            404 => Class::Missing,
            401 | 403 => Class::Denied,
            429 => Class::Limited { after },
            408 | 425 | 500.. => Class::Passing { after },
            _ => Class::Wrong,
        };
        let body = self.body(response, EXPLANATION).await.unwrap_or_default();
        let why = match reason(&body) {
            Some(text) => format!("it says {}: {text}", status.as_u16()),
            None => format!("it says {}", clean(&status.to_string())),
        };
        Err(Fault::new(class, why))
    }

    /// The body, if it has at most `most` bytes.
    pub async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, Fault> {
        let too_big = || Fault::wrong(format!("its answer is larger than {most} bytes"));
        if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |length| length > most)) {
            return Err(too_big());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.explain(&error))? {
            if body.len() + chunk.len() > most {
                return Err(too_big());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What a failed exchange means. Never shows the URL, which may be signed.
    pub fn explain(&self, error: &reqwest::Error) -> Fault {
        let (root, tls) = root_cause(error);
        if let Some(text) = tls {
            // Asking again does not change a certificate.
            let hint = if text.contains("InvalidContentType") {
                "the registry seems to speak plain http: set `insecure = true` for it in config.toml"
            } else {
                "if it has a certificate authority of its own, add that to the system's (update-ca-certificates) or name it in SSL_CERT_FILE"
            };
            return Fault::wrong(format!("no secure connection: {text}")).hint(hint);
        }
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => {
                let why = format!("no connection within {} s", self.tuning.connect.as_secs());
                Fault::new(Class::Unreachable { silent: true }, why)
            }
            (true, false) => Fault::passing(format!("silent for {} s", self.tuning.idle.as_secs())),
            (false, true) => Fault::new(Class::Unreachable { silent: false }, format!("no connection: {root}")),
            (false, false) => Fault::passing(format!("the connection was cut: {root}")),
        }
    }

    /// Loopback goes past every proxy; what is plain http needs no certificates on this host.
    fn client(&self, url: &Url) -> Result<&reqwest::Client, Fault> {
        let local = is_loopback(url);
        let secure = url.scheme() == "https";
        let slot = match (secure, local) {
            (true, _) => &self.tls,
            (false, true) => &self.loopback,
            (false, false) => &self.plain,
        };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("steading/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.tuning.connect)
            .read_timeout(self.tuning.idle);
        if !secure {
            builder = builder.tls_certs_only([]);
            if local {
                builder = builder.no_proxy();
            }
        }
        let client = builder.build().map_err(|error| {
            Fault::new(Class::Host, format!("no secure connection from this host: {}", root_cause(&error).0))
                .hint("install the certificates of the public authorities (Debian: package `ca-certificates`)")
        })?;
        Ok(slot.get_or_init(|| client))
    }
}

/// The innermost cause as text, and the text of the TLS failure if it is one.
fn root_cause(error: &reqwest::Error) -> (String, Option<String>) {
    let mut tls = None;
    let mut root: &(dyn StdError + 'static) = error;
    loop {
        if let Some(text) = tls_failure(root) {
            tls = Some(text);
        }
        match root.source() {
            Some(next) => root = next,
            None => break,
        }
    }
    // reqwest's own Display shows the URL.
    let text = if std::ptr::addr_eq(root, error) { "the request failed".to_owned() } else { root.to_string() };
    (clean(&text), tls.map(|text| clean(&text)))
}

fn tls_failure(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls.to_string());
    }
    // io::Error gives as its source not the error it carries but that one's source; and they are nested.
    tls_failure(error.downcast_ref::<std::io::Error>()?.get_ref()?)
}

#[derive(Deserialize)]
struct Reasons {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first reason in a registry's error answer (distribution-spec, "Error Codes").
fn reason(body: &[u8]) -> Option<String> {
    let reasons: Reasons = serde_json::from_slice(body).ok()?;
    let first = reasons.errors.into_iter().next()?;
    let text = if first.message.is_empty() { first.code } else { first.message };
    (!text.is_empty()).then(|| clean(&text))
}

/// A server's text made safe for a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_registries_are_told_without_control_characters() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u001b[31m unknown","detail":{}}]}"#;
        assert_eq!(reason(body).unwrap(), "manifest [31m unknown");
        assert_eq!(reason(br#"{"errors":[{"code":"DENIED"}]}"#).unwrap(), "DENIED");
        assert_eq!(reason(b"<html>"), None);
        assert_eq!(reason(br#"{"errors":[]}"#), None);
    }
}
