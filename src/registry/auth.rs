//! Proving who we are: `WWW-Authenticate` (RFC 9110), and the token servers of the distribution project.

use super::credentials::Credential;
use super::http::Http;
use super::retry::{Class, Fault};
use super::settings::{Endpoint, is_loopback};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Most bytes of a token server's answer.
const TOKEN_ANSWER: usize = 1 << 20;
/// What a token lives when the server does not say (distribution's token specification).
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// One way to get in that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Authorizations by origin and scope, for the life of the client.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<(String, String), Token>>);

#[derive(Clone, Debug)]
struct Token {
    header: HeaderValue,
    until: Option<Instant>,
}

impl Token {
    fn is_fresh(&self) -> bool {
        // A token that ends while the request is on its way is as good as none.
        self.until.is_none_or(|until| until > Instant::now() + Duration::from_secs(5))
    }
}

fn scope(endpoint: &Endpoint, repository: &str) -> String {
    format!("repository:{}:pull", endpoint.name(repository))
}

impl Tokens {
    /// What was good for this repository before.
    pub async fn cached(&self, endpoint: &Endpoint, repository: &str) -> Option<HeaderValue> {
        let tokens = self.0.lock().await;
        let token = tokens.get(&(endpoint.origin(), scope(endpoint, repository)))?;
        token.is_fresh().then(|| token.header.clone())
    }

    /// Gets in by one of `challenges`; `refused` is what was sent already and did not do.
    pub async fn obtain(
        &self,
        http: &Http,
        endpoint: &Endpoint,
        repository: &str,
        challenges: &[Challenge],
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Fault> {
        let own_scope = scope(endpoint, repository);
        let key = (endpoint.origin(), own_scope.clone());
        // Held while asking, so that parallel downloads ask once.
        let mut tokens = self.0.lock().await;
        if let Some(token) = tokens.get(&key).filter(|token| token.is_fresh() && Some(&token.header) != refused) {
            return Ok(token.header.clone());
        }
        let credential = http.credentials.find(&endpoint.account, repository);
        let mut bearers = challenges.iter().filter_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        let token = if let Some((realm, service, scope)) = bearers.next() {
            let scope = scope.as_ref().filter(|scope| !scope.is_empty()).unwrap_or(&own_scope);
            fetch(http, endpoint, realm, service.as_deref(), scope, credential).await?
        } else if challenges.contains(&Challenge::Basic) {
            let header = credential.and_then(Credential::basic);
            let header = header.filter(|header| Some(header) != refused).ok_or_else(|| {
                let why = if credential.is_some() { "the stored credentials are not accepted" } else { "it asks for a login" };
                Fault::new(Class::Denied, why)
            })?;
            Token { header, until: None }
        } else {
            return Err(Fault::new(Class::Denied, "it asks for a login of a kind that is not known here"));
        };
        tokens.insert(key, token.clone());
        Ok(token.header)
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Asks the token server; without a credential for an anonymous token.
async fn fetch(
    http: &Http,
    endpoint: &Endpoint,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credential: Option<&Credential>,
) -> Result<Token, Fault> {
    let shown = realm.escape_debug();
    let mut url = Url::parse(realm)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| Fault::wrong(format!("it names `{shown}` as its token server, which is no URL")))?;
    // The registry chooses the token server, so it must not be able to choose one that shows the password on the wire.
    if url.scheme() == "http" && !endpoint.is_plain() && !is_loopback(&url) {
        return Err(Fault::wrong(format!("its token server `{shown}` has no https")));
    }
    let response = match credential {
        Some(Credential::Identity(refresh)) => {
            let mut form = url.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "steading")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("scope", scope)
                .append_pair("refresh_token", refresh);
            http.post_form(&url, form.query().unwrap_or_default()).await?
        }
        basic => {
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", scope);
            }
            http.follow(&url, &HeaderMap::new(), basic.and_then(Credential::basic)).await?
        }
    };
    let status = response.status();
    if matches!(status.as_u16(), 400 | 401 | 403) {
        let why = if credential.is_some() { "the stored credentials are not accepted" } else { "it gives no anonymous access" };
        return Err(Fault::new(Class::Denied, why));
    }
    let response = http.accept(response, false).await?;
    let body = http.body(response, TOKEN_ANSWER).await?;
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| Fault::wrong(format!("its token server `{shown}` answers without a token")))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token).unwrap_or_default();
    let header = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| !token.is_empty());
    let mut header = header.ok_or_else(|| Fault::wrong(format!("its token server `{shown}` answers without a token")))?;
    header.set_sensitive(true);
    let life = answer.expires_in.map_or(TOKEN_LIFE, Duration::from_secs);
    Ok(Token { header, until: Instant::now().checked_add(life) })
}

/// All challenges of an answer, in order.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(parse).collect()
}

/// Reads `Scheme key="value",key=value, Scheme ...`.
fn parse(text: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match (after.trim_start_matches([' ', '\t']).strip_prefix('='), schemes.last_mut()) {
            (Some(after), Some((_, params))) => {
                let (value, after) = value(after.trim_start_matches([' ', '\t']));
                params.insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            _ => {
                schemes.push((word.to_ascii_lowercase(), HashMap::new()));
                rest = after;
            }
        }
    }
    let known = |(scheme, mut params): (String, HashMap<String, String>)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: params.remove("realm")?,
            service: params.remove("service"),
            scope: params.remove("scope"),
        }),
        _ => None,
    };
    schemes.into_iter().filter_map(known).collect()
}

/// A token or quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, &quoted[at + 1..]),
            _ => {
                escaped = false;
                value.push(c);
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    #[test]
    fn challenges_as_registries_write_them() {
        for (text, list) in [
            (
                r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#,
                vec![bearer("https://auth.example/token", Some("r.example"), Some("repository:a/b:pull,push"))],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            (r#"basic realm=x, BEARER Realm = "y\"z" "#, vec![Challenge::Basic, bearer("y\"z", None, None)]),
            ("Negotiate YWJj==, Basic", vec![Challenge::Basic]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="unclosed"#, vec![bearer("unclosed", None, None)]),
            ("", vec![]),
            ("=,=", vec![]),
        ] {
            assert_eq!(parse(text), list, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_realms_round_trip(realm in "[ -~]{0,40}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("Bearer realm=\"{quoted}\"")), vec![bearer(&realm, None, None)]);
        }
    }
}
