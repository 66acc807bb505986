//! The client against a real HTTP server that misbehaves on purpose.

mod download;
mod login;
mod resolve;
mod server;

use super::client::Client;
use super::credentials::Credentials;
use super::retry::Tuning;
use super::settings::RegistrySettings;
use crate::image::{Digest, Reference};
use crate::report::{Reporter, TransferId};
use crate::resolve::PlanLayer;
use server::Server;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// The name of the image that the servers of these tests hold.
const REPOSITORY: &str = "library/thing";

/// Patience for tests: as many tries, less waiting.
fn hasty() -> Tuning {
    Tuning {
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(10),
        // Not short: a loaded machine is no silent server.
        idle: Duration::from_secs(10),
        longest_wait: Duration::from_secs(2),
        ..Tuning::default()
    }
}

fn client() -> Client {
    Client::with(BTreeMap::new(), Credentials::default(), hasty()).unwrap()
}

/// A client that knows `auths` of a docker config.json.
fn client_with(auths: &str) -> Client {
    let mut credentials = Credentials::default();
    credentials.parse(format!("{{\"auths\":{{{auths}}}}}").as_bytes()).unwrap();
    Client::with(BTreeMap::new(), credentials, hasty()).unwrap()
}

/// A client for which `registry` has mirrors.
fn client_mirrored(registry: &str, mirrors: &[String]) -> Client {
    let settings = RegistrySettings { mirrors: mirrors.to_vec(), insecure: false };
    Client::with(BTreeMap::from([(registry.to_owned(), settings)]), Credentials::default(), hasty()).unwrap()
}

fn reference(server: &Server, selector: &str) -> Reference {
    format!("{}/{REPOSITORY}{selector}", server.host()).parse().unwrap()
}

fn layer_of(content: &[u8]) -> PlanLayer {
    PlanLayer {
        digest: Digest::of(content),
        size: content.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        diff_id: Digest::of(content),
    }
}

/// Bytes that do not repeat soon.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Notes warnings, and for each transfer its total, what arrived, and whether it ended.
#[derive(Debug, Default)]
struct Notes {
    warnings: Mutex<Vec<String>>,
    transfers: Mutex<Vec<(u64, u64, bool)>>,
}

impl Reporter for Notes {
    fn step(&self, _: &str) {}
    fn transfer(&self, _: &str, total: u64) -> TransferId {
        let mut transfers = self.transfers.lock().unwrap();
        transfers.push((total, 0, false));
        transfers.len() as u64 - 1
    }
    fn advance(&self, id: TransferId, bytes: u64) {
        self.transfers.lock().unwrap()[usize::try_from(id).unwrap()].1 += bytes;
    }
    fn finish(&self, id: TransferId) {
        self.transfers.lock().unwrap()[usize::try_from(id).unwrap()].2 = true;
    }
    fn warn(&self, text: &str) {
        self.warnings.lock().unwrap().push(text.to_owned());
    }
}
