//! [`Client`]: from a reference to a resolved image.

use super::blame::Blame;
use super::credentials::Credentials;
use super::http::{Http, clean};
use super::manifest::{self, ACCEPT, CONFIG_MOST, Document, Image, MANIFEST_MOST};
use super::retry::{Attempts, Class, Fault, Tuning};
use super::settings::{Endpoint, Endpoints, RegistrySettings, canonical};
use crate::error::{Error, Result};
use crate::image::{Digest, ImageConfig, Platform, Reference};
use crate::report::Reporter;
use crate::resolve::PlanLayer;
use reqwest::header::{ACCEPT as ACCEPT_HEADER, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Blobs that one client downloads at a time; more do not fill a line better, and registries count connections.
const PARALLEL: usize = 4;
/// Indexes within indexes.
const DEPTH: usize = 3;

/// A client for all registries. Make one and share it: it keeps connections, tokens, and what it learnt of dead mirrors.
#[derive(Debug)]
pub struct Client {
    pub(super) http: Http,
    endpoints: Endpoints,
    /// Origins that did not answer; they are asked last.
    down: Mutex<BTreeSet<String>>,
    pub(super) slots: Semaphore,
}

/// An image whose every part is named by digest.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// What was asked for.
    pub reference: Reference,
    /// Digest of the list or index the manifest was chosen from.
    pub index_digest: Option<Digest>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Digest of the config.
    pub config_digest: Digest,
    /// The config.
    pub config: Vec<u8>,
    /// The platform it is for.
    pub platform: Platform,
    /// The layers, lowest first.
    pub layers: Vec<PlanLayer>,
}

/// A manifest that matches its digest.
struct Fetched {
    digest: Digest,
    bytes: Vec<u8>,
    document: Document,
}

impl Client {
    /// A client for `settings` (`[registry."HOST"]` of config.toml), with the credentials of docker's and podman's files.
    ///
    /// # Errors
    /// When a mirror is no URL.
    pub fn new(settings: BTreeMap<String, RegistrySettings>) -> Result<Client> {
        Self::with(settings, Credentials::from_env(), Tuning::default())
    }

    pub(super) fn with(settings: BTreeMap<String, RegistrySettings>, credentials: Credentials, tuning: Tuning) -> Result<Client> {
        Ok(Client {
            http: Http::new(tuning, credentials),
            endpoints: Endpoints::new(settings)?,
            down: Mutex::default(),
            slots: Semaphore::new(PARALLEL),
        })
    }

    /// Finds what `reference` means for `platform`: manifest, config and layers, all verified. Downloads no layer.
    ///
    /// # Errors
    /// Not found when no such image or platform exists; failed, with the host, when the registry cannot be used.
    pub async fn resolve(&self, reference: &Reference, platform: &Platform, reporter: &dyn Reporter) -> Result<ResolvedImage> {
        for problem in &self.http.credentials.problems {
            reporter.warn(&format!("{problem}, ignoring"));
        }
        let unusable = |why: String| Error::failed(format!("cannot use `{reference}`")).because(why);
        let mut fetched = self.manifest(reference, &reference.selector(), reporter).await?;
        let mut index_digest = None;
        let mut chosen = None;
        let mut depth = 0;
        let image = loop {
            let entries = match fetched.document {
                Document::Image(image) => break image,
                Document::Index(entries) => entries,
            };
            depth += 1;
            if depth > DEPTH {
                return Err(unusable(format!("its index holds indexes more than {DEPTH} deep")));
            }
            index_digest = index_digest.or(Some(fetched.digest));
            let Some((digest, platform)) = manifest::choose(&entries, platform).map_err(unusable)? else {
                return Err(not_made_for(reference, platform, &manifest::offered(&entries)));
            };
            chosen = platform.or(chosen);
            fetched = self.manifest(reference, &digest.to_string(), reporter).await?;
        };
        let bytes = self.config(reference, &image, reporter).await?;
        let config = ImageConfig::parse(&bytes)?;
        let layers = image.layers(&config).map_err(unusable)?;
        let stated = Platform { os: config.os, architecture: config.architecture, variant: None };
        let states = !stated.os.is_empty() && !stated.architecture.is_empty();
        if states && !platform.accepts(&stated) {
            let stated = clean(&stated.to_string());
            if chosen.is_none() {
                return Err(not_made_for(reference, platform, &stated));
            }
            reporter.warn(&format!("the index of `{reference}` offers it for {platform}, its config says {stated}, ignoring"));
        }
        Ok(ResolvedImage {
            reference: reference.clone(),
            index_digest,
            digest: fetched.digest,
            manifest: fetched.bytes,
            config_digest: image.config,
            config: bytes,
            platform: chosen.unwrap_or(if states { stated } else { platform.clone() }),
            layers,
        })
    }

    /// Brings the blob of `layer` to `dir/sha256-HEX` and returns that path. A finished blob is verified and kept; a part of it is
    /// resumed. Dropping the future keeps the part. Two processes, or two calls, do not download the same blob twice.
    ///
    /// # Errors
    /// Failed, with the host and what to do, when no endpoint serves it or the disk does not take it.
    pub async fn download(
        &self,
        reference: &Reference,
        layer: &PlanLayer,
        dir: &Path,
        reporter: &dyn Reporter,
    ) -> Result<PathBuf> {
        super::blob::download(self, reference, layer, dir, reporter).await
    }

    /// Whether any endpoint of `registry` (`docker.io`, `127.0.0.1:5000`) answers as a registry; a demand to log in is an answer.
    ///
    /// # Errors
    /// Failed, with the reason of each endpoint.
    pub async fn ping(&self, registry: &str) -> Result<()> {
        let mut reasons = Vec::new();
        for endpoint in self.endpoints(canonical(registry))? {
            match self.http.follow(&endpoint.root(), &HeaderMap::new(), None).await {
                Ok(response) if response.status().is_success() || response.status().as_u16() == 401 => return Ok(()),
                Ok(response) => reasons.push(format!("{endpoint}: it says {}", response.status())),
                Err(Fault { class: Class::Local(error), .. }) => return Err(error),
                Err(fault) => reasons.push(format!("{endpoint}: {}", fault.why)),
            }
        }
        Err(Error::failed(format!("the registry `{registry}` does not answer")).because(reasons.join("; ")).hint(format!(
            "name a mirror that is reachable from here in config.toml: [registry.\"{registry}\"] mirrors = [\"http://HOST:PORT\"]"
        )))
    }

    /// The endpoints of a registry in the order they are to be asked.
    pub(super) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let mut list = self.endpoints.of(registry)?;
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        list.sort_by_key(|endpoint| down.contains(&endpoint.origin()));
        Ok(list)
    }

    /// Remembers an endpoint that did not answer.
    pub(super) fn note(&self, endpoint: &Endpoint, fault: &Fault) {
        if matches!(fault.class, Class::Unreachable { .. }) {
            self.down.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.origin());
        }
    }

    async fn manifest(&self, reference: &Reference, selector: &str, reporter: &dyn Reporter) -> Result<Fetched> {
        let mut headers = HeaderMap::new();
        for kind in ACCEPT {
            headers.append(ACCEPT_HEADER, HeaderValue::from_static(kind));
        }
        let tail = format!("manifests/{selector}");
        let asked = selector.parse::<Digest>().ok();
        let mut blame = Blame::new(reference, "cannot get the manifest of".into(), self.http.credentials.helper);
        for endpoint in self.endpoints(&reference.registry)? {
            let mut attempts = Attempts::new(&self.http.tuning);
            let fault = loop {
                let fault = match self.manifest_once(&endpoint, &reference.repository, &tail, &headers, asked).await {
                    Ok(fetched) => {
                        blame.forgive(reporter);
                        return Ok(fetched);
                    }
                    Err(fault) => fault,
                };
                if let Err(fault) = attempts.again(fault).await {
                    break fault;
                }
            };
            self.note(&endpoint, &fault);
            blame.add(&endpoint, fault)?;
        }
        Err(blame.into_error())
    }

    async fn manifest_once(
        &self,
        endpoint: &Endpoint,
        repository: &str,
        tail: &str,
        headers: &HeaderMap,
        asked: Option<Digest>,
    ) -> Result<Fetched, Fault> {
        let response = self.http.get(endpoint, repository, tail, headers, false).await?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let said = header("docker-content-digest");
        let content_type = header(CONTENT_TYPE.as_str());
        let bytes = self.http.body(response, MANIFEST_MOST).await?;
        let digest = Digest::of(&bytes);
        if let Some(asked) = asked.filter(|&asked| asked != digest) {
            return Err(mismatch("manifest", asked, digest));
        }
        // Another algorithm cannot be compared; a sha256 digest that is wrong or broken is a server that is.
        if let Some(said) = said.filter(|said| said.starts_with("sha256:"))
            && said != digest.to_string()
        {
            return Err(Fault::wrong(format!("it says its manifest has digest {}, but it has {digest}", clean(&said))));
        }
        let document = manifest::parse(&bytes, content_type.as_deref()).map_err(|why| Fault::wrong(why).hint(OTHER_IMAGE))?;
        Ok(Fetched { digest, bytes, document })
    }

    async fn config(&self, reference: &Reference, image: &Image, reporter: &dyn Reporter) -> Result<Vec<u8>> {
        let tail = format!("blobs/{}", image.config);
        let most = usize::try_from(image.config_size.min(CONFIG_MOST)).unwrap_or(usize::MAX);
        let mut blame = Blame::new(reference, "cannot get the config of".into(), self.http.credentials.helper);
        for endpoint in self.endpoints(&reference.registry)? {
            let mut attempts = Attempts::new(&self.http.tuning);
            let fault = loop {
                let answer = match self.http.get(&endpoint, &reference.repository, &tail, &HeaderMap::new(), false).await {
                    Ok(response) => self.http.body(response, most).await,
                    Err(fault) => Err(fault),
                };
                let fault = match answer {
                    Ok(bytes) if Digest::of(&bytes) == image.config => {
                        blame.forgive(reporter);
                        return Ok(bytes);
                    }
                    Ok(bytes) => mismatch("config", image.config, Digest::of(&bytes)),
                    Err(fault) => fault,
                };
                if let Err(fault) = attempts.again(fault).await {
                    break fault;
                }
            };
            self.note(&endpoint, &fault);
            blame.add(&endpoint, fault)?;
        }
        Err(blame.into_error())
    }
}

const OTHER_IMAGE: &str = "this is not what steading can run; check the name, or ask for another tag";

fn not_made_for(reference: &Reference, platform: &Platform, offered: &str) -> Error {
    Error::not_found(format!("no image `{reference}` for {platform}"))
        .because(format!("it is made for {offered}"))
        .hint("ask for another tag, or another image of the same program")
}

/// Content that is not what its name says.
pub(super) fn mismatch(what: &str, asked: Digest, got: Digest) -> Fault {
    Fault::wrong(format!("the {what} it serves has digest {got}, not {asked}"))
}
