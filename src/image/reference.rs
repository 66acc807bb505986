//! Image references as people type them (distribution's `reference` grammar, with Docker's defaults).

use super::Digest;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, with Docker's defaults filled in: `postgres:14` is `docker.io/library/postgres:14`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and port, e.g. `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// Repository, e.g. `library/postgres`.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest of a manifest or index.
    pub digest: Option<Digest>,
}

impl Reference {
    /// What is asked of the registry: the digest if there is one, else the tag.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

fn bad(text: &str, why: &str) -> Error {
    Error::usage(format!("`{}` is not an image reference: {why}", text.escape_debug()))
        .hint("a reference is [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST], e.g. `postgres:14` or `quay.io/coreos/etcd:v3.5`")
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| bad(text, "the part after `@` is no sha256 digest"))?))
            }
            None => (text, None),
        };
        let (registry, rest) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => ("docker.io", name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let host = |c: u8| c.is_ascii_alphanumeric() || b".-:[]".contains(&c);
        let first = registry.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'[');
        if !first || !registry.bytes().all(host) {
            return Err(bad(text, "the registry is no host name"));
        }
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let component = |part: &str| {
            let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            edge(part.bytes().next())
                && edge(part.bytes().last())
                && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c))
        };
        if path.len() > 255 || !path.split('/').all(component) {
            return Err(bad(text, "a repository has lower-case letters, digits and single `.` `_` `-` `/` between them"));
        }
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        if let Some(tag) = tag
            && !(tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|c| word(c) || b".-".contains(&c)))
        {
            return Err(bad(text, "a tag has letters, digits, `_` `.` `-`, and at most 128 of them"));
        }
        let repository = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".into()),
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_means_what_docker_means() {
        let digest = Digest::of(b"").to_string();
        for (typed, full) in [
            ("postgres", "docker.io/library/postgres:latest".to_owned()),
            ("postgres:14", "docker.io/library/postgres:14".to_owned()),
            ("valkey/valkey:8", "docker.io/valkey/valkey:8".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c".to_owned()),
            ("[::1]:5000/a:c", "[::1]:5000/a:c".to_owned()),
            (&format!("quay.io/coreos/etcd@{digest}"), format!("quay.io/coreos/etcd@{digest}")),
            (&format!("redis:7@{digest}"), format!("docker.io/library/redis:7@{digest}")),
        ] {
            let reference: Reference = typed.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn hostile_references_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "/a",
            "a//b",
            "../a",
            "a/../b",
            "A",
            "a b",
            "x@sha256:1",
            "a:b/c@",
            "host.io/",
            "a\n",
            "ex.com/a?x=1:t",
            "-a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
