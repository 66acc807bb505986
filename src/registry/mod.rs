//! OCI distribution client (distribution-spec 1.1, pull side). The only user of `reqwest`; knows nothing of the store.
//!
//! * [`Client::resolve`] turns a reference into a [`ResolvedImage`]: index -> manifest of the platform -> config; every byte is
//!   checked against the digest that named it, and each layer gets the `diff_id` of the config.
//! * [`Client::download`] brings one layer blob to `DIR/sha256-HEX`. Until size and digest are verified the bytes are in
//!   `DIR/sha256-HEX.partial`; that file is also the lock (flock), and whatever lies in it is hashed again before it is resumed.
//!
//! A registry is a list of endpoints: its mirrors in the order of `config.toml`, then the registry itself. Each endpoint gets
//! [`retry::Tuning::tries`] tries; what cannot be served by one is asked of the next. Content is trusted for its digest only; a
//! tag is looked up at the first endpoint that has it.
//!
//! Redirects are followed here and not by `reqwest`: credentials go to the origin they are meant for and to no other, and
//! https is never left for http. There is no total timeout, only one for connecting and one for silence.
//!
//! | file | owns |
//! |---|---|
//! | `settings` | `[registry."HOST"]` of config.toml, endpoints and their URLs |
//! | `credentials` | `auths` of docker's and podman's files |
//! | `auth` | `WWW-Authenticate`, tokens |
//! | `http` | one request: client, redirects, authorization, what a status means |
//! | `retry` | faults, backoff |
//! | `blame` | faults of all endpoints -> the one error the user sees |
//! | `manifest` | parsing and checking of manifests; pure |
//! | `client` | [`Client`], resolve |
//! | `blob` | download of a layer; `partial`: the file it is written to |

mod auth;
mod blame;
mod blob;
mod client;
mod credentials;
mod http;
mod manifest;
mod partial;
mod retry;
mod settings;
#[cfg(test)]
mod tests;

pub use client::{Client, ResolvedImage};
pub use settings::RegistrySettings;
