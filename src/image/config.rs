//! What an image's config says of how it wants to run (OCI image-spec `config.md`; Docker's has the same shape).

use crate::error::{Context, Result};
use crate::image::Digest;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The part of an image's config that matters for running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `USER`, as written: `name`, `uid`, `name:group`, ...
    pub user: String,
    /// `KEY=VALUE`, in order.
    pub env: Vec<(String, String)>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `WORKDIR`; empty means `/`.
    pub workdir: String,
    /// `VOLUME`s, absolute paths.
    pub volumes: Vec<String>,
    /// `EXPOSE`d ports as written: `5432/tcp`.
    pub exposed: Vec<String>,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// `linux`.
    pub os: String,
    /// `amd64`, ...
    pub architecture: String,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    config: Option<RawRun>,
    rootfs: RawRootfs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads the config blob of an image.
    ///
    /// # Errors
    /// When it is not JSON of that shape.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(bytes).context(|| "the config of the image is not valid")?;
        let run = raw.config.unwrap_or_default();
        let env = run.env.unwrap_or_default();
        let pair = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        Ok(ImageConfig {
            user: run.user.unwrap_or_default(),
            env: env.into_iter().map(pair).collect(),
            entrypoint: run.entrypoint.unwrap_or_default(),
            cmd: run.cmd.unwrap_or_default(),
            workdir: run.working_dir.unwrap_or_default(),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
            exposed: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            stop_signal: run.stop_signal,
            diff_ids: raw.rootfs.diff_ids,
            os: raw.os,
            architecture: raw.architecture,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absent_fields_are_empty() {
        let config =
            ImageConfig::parse(br#"{"config":{"Env":null,"Cmd":["a"],"Volumes":{"/data":{}}},"rootfs":{"diff_ids":[]}}"#)
                .unwrap();
        assert_eq!((config.cmd, config.volumes), (vec!["a".to_owned()], vec!["/data".to_owned()]));
        assert!(ImageConfig::parse(b"[]").is_err());
    }
}
