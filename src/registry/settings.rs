//! Settings of registries, and the endpoints that follow from them.

use crate::error::{Error, Result};
use reqwest::Url;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// One `[registry."HOST"]` of config.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// Asked in order before the registry itself: `http://HOST:PORT`, `https://HOST`, or `HOST` alone for https; a path is put
    /// before the repository.
    pub mirrors: Vec<String>,
    /// Plain http for this registry; loopback needs no flag.
    pub insecure: bool,
}

/// Where a registry's content can be asked for.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    base: Url,
    /// Put before every repository; empty, or ends with `/`.
    prefix: String,
    /// Not the registry itself.
    pub mirror: bool,
    /// Key into the credential files.
    pub account: String,
}

impl Endpoint {
    /// `/v2/`, which says whether a registry is there.
    pub fn root(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path("/v2/");
        url
    }

    /// The URL of `tail` (`manifests/14`, `blobs/sha256:...`) in `repository`.
    pub fn url(&self, repository: &str, tail: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{tail}", self.name(repository)));
        url
    }

    /// What the repository is called there.
    pub fn name(&self, repository: &str) -> String {
        format!("{}{repository}", self.prefix)
    }

    /// Whether `url` is of the same origin, so that credentials may go there.
    pub fn owns(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Whether everything said to it can be read on the way.
    pub fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.origin();
        f.write_str(origin.strip_prefix("https://").unwrap_or(&origin))
    }
}

/// Whether the host of `url` is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// The endpoints of every registry that has settings; others are made when asked for.
#[derive(Debug)]
pub(super) struct Endpoints {
    known: BTreeMap<String, Vec<Endpoint>>,
}

impl Endpoints {
    pub fn new(settings: BTreeMap<String, RegistrySettings>) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (host, one) in settings {
            let host = canonical(&host);
            let endpoints = list(host, &one)?;
            known.insert(host.to_owned(), endpoints);
        }
        Ok(Endpoints { known })
    }

    /// Mirrors in order, then the registry itself.
    pub fn of(&self, registry: &str) -> Result<Vec<Endpoint>> {
        match self.known.get(registry) {
            Some(list) => Ok(list.clone()),
            None => list(registry, &RegistrySettings::default()),
        }
    }
}

/// The name under which references, settings and credentials know a registry.
pub(super) fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

fn list(registry: &str, settings: &RegistrySettings) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for mirror in &settings.mirrors {
        endpoints.push(endpoint(mirror, false, true).map_err(|why| {
            Error::usage(format!("`{}` is no mirror of `{registry}`: {why}", mirror.escape_debug()))
                .hint(format!("in config.toml: [registry.\"{registry}\"] mirrors = [\"http://HOST:PORT\"]"))
        })?);
    }
    // Docker Hub's name for people is not where it answers.
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let mut own = endpoint(host, settings.insecure, false)
        .map_err(|why| Error::usage(format!("`{}` is no registry: {why}", registry.escape_debug())))?;
    own.account = registry.to_owned();
    endpoints.push(own);
    Ok(endpoints)
}

fn endpoint(text: &str, insecure: bool, mirror: bool) -> std::result::Result<Endpoint, String> {
    let parse = |text: &str| Url::parse(text).map_err(|error| error.to_string());
    let base = if text.contains("://") {
        parse(text)?
    } else {
        let url = parse(&format!("https://{text}"))?;
        if insecure || is_loopback(&url) { parse(&format!("http://{text}"))? } else { url }
    };
    if !matches!(base.scheme(), "http" | "https") {
        return Err(format!("`{}` is neither http nor https", base.scheme()));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err("a password does not belong into a URL".into());
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err("it has a `?` or `#`".into());
    }
    let path = base.path().trim_matches('/');
    // `http://HOST/v2/` is the same place said with more words.
    let path = path.strip_prefix("v2").filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
    let path = path.trim_matches('/');
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let host = base.host_str().unwrap_or_default();
    let account = base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Ok(Endpoint { prefix, mirror, account: canonical(&account).to_owned(), base })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(registry: &str, mirrors: &[&str], insecure: bool) -> Result<Vec<String>> {
        let settings = RegistrySettings { mirrors: mirrors.iter().map(|&text| text.into()).collect(), insecure };
        let endpoints = Endpoints::new(BTreeMap::from([(registry.to_owned(), settings)]))?.of(canonical(registry))?;
        Ok(endpoints.iter().map(|endpoint| endpoint.url("a/b", "manifests/1").to_string()).collect())
    }

    #[test]
    fn mirrors_come_first_and_docker_hub_is_where_it_answers() {
        assert_eq!(
            urls("docker.io", &["http://127.0.0.1:5000", "https://m.example/proxy/", "localhost:1", "m.example"], false).unwrap(),
            [
                "http://127.0.0.1:5000/v2/a/b/manifests/1",
                "https://m.example/v2/proxy/a/b/manifests/1",
                "http://localhost:1/v2/a/b/manifests/1",
                "https://m.example/v2/a/b/manifests/1",
                "https://registry-1.docker.io/v2/a/b/manifests/1"
            ]
        );
        assert_eq!(urls("index.docker.io", &[], false).unwrap(), ["https://registry-1.docker.io/v2/a/b/manifests/1"]);
    }

    #[test]
    fn plain_http_only_where_it_is_asked_for_or_local() {
        for (registry, insecure, url) in [
            ("r.example:5000", true, "http://r.example:5000/v2/a/b/manifests/1"),
            ("r.example:5000", false, "https://r.example:5000/v2/a/b/manifests/1"),
            ("127.8.0.1:5000", false, "http://127.8.0.1:5000/v2/a/b/manifests/1"),
            ("[::1]:5000", false, "http://[::1]:5000/v2/a/b/manifests/1"),
            ("localhost.example", false, "https://localhost.example/v2/a/b/manifests/1"),
            ("128.0.0.1", false, "https://128.0.0.1/v2/a/b/manifests/1"),
        ] {
            assert_eq!(urls(registry, &[], insecure).unwrap(), [url]);
        }
    }

    #[test]
    fn bad_mirrors_are_refused_by_name() {
        for mirror in ["", "ftp://x", "http://user:secret@x", "http://", "http://x?y", "http://x:99999"] {
            let error = urls("docker.io", &[mirror], false).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Usage, "{mirror}");
            assert!(error.to_string().contains("docker.io"), "{error}");
        }
    }

    #[test]
    fn config_toml_reads_as_designed_and_refuses_unknown_keys() {
        #[derive(Deserialize)]
        struct File {
            registry: BTreeMap<String, RegistrySettings>,
        }
        let text = "[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000\"]\ninsecure = false\n[registry.\"r.example\"]\ninsecure = true";
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(file.registry["docker.io"].mirrors, ["http://127.0.0.1:5000"]);
        assert!(file.registry["r.example"].insecure);
        assert!(toml::from_str::<File>("[registry.\"docker.io\"]\nmirror = []").is_err());
    }
}
