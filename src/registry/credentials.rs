//! Credentials that other tools stored: `auths` of docker's config.json and podman's auth.json (containers-auth.json(5)).
//! Credential helpers are not called.

use super::settings::canonical;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs, io};

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// `base64(user:password)`.
    Basic(String),
    /// A refresh token for the token server.
    Identity(String),
}

impl Credential {
    /// The `Authorization` header of a password.
    pub fn basic(&self) -> Option<HeaderValue> {
        let Credential::Basic(encoded) = self else { return None };
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// All credentials that were found.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// In the order of the files; the first file that has a key wins.
    found: Vec<BTreeMap<String, Credential>>,
    /// Files that could not be used, with the reason.
    pub problems: Vec<String>,
    /// A file names a credential helper.
    pub helper: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity: String,
}

impl Credentials {
    /// From the places where podman, skopeo and docker look, in podman's order.
    pub fn from_env() -> Self {
        let var = |key: &str| env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = var("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let places = [
            var("REGISTRY_AUTH_FILE"),
            var("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            var("XDG_CONFIG_HOME").or_else(|| below_home(".config")).map(|dir| dir.join("containers/auth.json")),
            var("DOCKER_CONFIG").or_else(|| below_home(".docker")).map(|dir| dir.join("config.json")),
        ];
        let mut credentials = Credentials::default();
        for path in places.into_iter().flatten() {
            credentials.load(&path);
        }
        credentials
    }

    fn load(&mut self, path: &Path) {
        let read = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            other => other.map_err(|error| error.to_string()),
        };
        if let Err(why) = read.and_then(|bytes| self.parse(&bytes)) {
            self.problems.push(format!("cannot read the credentials in `{}`: {why}", path.display()));
        }
    }

    /// Takes in the content of one file.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<(), String> {
        // serde's message could quote a secret: only the place is told.
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| format!("not valid at line {} column {}", error.line(), error.column()))?;
        self.helper |= file.store.is_some_and(|name| !name.is_empty()) || !file.helpers.is_empty();
        let usable = |(key, entry): (String, Entry)| Some((normal(&key), entry.credential()?));
        self.found.push(file.auths.into_iter().filter_map(usable).collect());
        Ok(())
    }

    /// The credential for `repository` at `account` (a registry's name); the most specific key of a file wins.
    pub fn find(&self, account: &str, repository: &str) -> Option<&Credential> {
        self.found.iter().find_map(|file| {
            let mut key = format!("{account}/{repository}");
            loop {
                if let Some(credential) = file.get(&key) {
                    return Some(credential);
                }
                let cut = key.rfind('/')?;
                key.truncate(cut);
            }
        })
    }
}

impl Entry {
    fn credential(self) -> Option<Credential> {
        if !self.identity.is_empty() {
            return Some(Credential::Identity(self.identity));
        }
        if !self.auth.is_empty() {
            return Some(Credential::Basic(self.auth));
        }
        let given = !self.username.is_empty();
        given.then(|| Credential::Basic(base64(format!("{}:{}", self.username, self.password).as_bytes())))
    }
}

/// `https://index.docker.io/v1/` and `docker.io` are one account.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_matches('/');
    if path.is_empty() || path == "v1" || path == "v2" { canonical(host).into() } else { format!("{}/{path}", canonical(host)) }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= three.len() { char::from(value) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"), ("\u{ff}?>", "w78/Pg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn the_most_specific_key_of_the_first_file_wins() {
        let mut credentials = Credentials::default();
        credentials
            .parse(br#"{"auths":{"r.example":{"auth":"QQ=="},"r.example/team":{"auth":"Qg=="},"r.example/empty":{}}}"#)
            .unwrap();
        credentials
            .parse(br#"{"auths":{"https://index.docker.io/v1/":{"username":"f","password":"o"},"r.example":{"auth":"WA=="},"acr.example":{"auth":"eA==","identitytoken":"T"}},"credsStore":""}"#)
            .unwrap();
        let find = |account, repository| credentials.find(account, repository).cloned();
        let basic = |text: &str| Some(Credential::Basic(text.into()));
        assert_eq!(find("r.example", "app"), basic("QQ=="));
        assert_eq!(find("r.example", "team/app"), basic("Qg=="));
        assert_eq!(find("r.example", "teams/app"), basic("QQ=="));
        assert_eq!(find("r.example", "empty"), basic("QQ=="));
        assert_eq!(find("docker.io", "library/x"), basic("Zjpv"));
        assert_eq!(find("acr.example", "x"), Some(Credential::Identity("T".into())));
        assert_eq!(find("other.example", "x"), None);
        assert!(!credentials.helper);
    }

    #[test]
    fn a_broken_file_is_a_problem_that_tells_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, br#"{"auths":{"r.example":{"auth":["c2VjcmV0"]}}}"#).unwrap();
        let mut credentials = Credentials::default();
        credentials.load(&path);
        credentials.load(&dir.path().join("absent"));
        assert_eq!(credentials.problems.len(), 1);
        assert!(credentials.problems[0].contains("config.json") && !credentials.problems[0].contains("c2VjcmV0"));
        let shown = format!("{:?}", Credential::Basic("c2VjcmV0".into()));
        assert!(!shown.contains("c2VjcmV0"));
    }
}
