//! What images are called and what they say of themselves: references, digests, platforms, config. No I/O.

mod config;
mod digest;
mod platform;
mod reference;
mod user;

pub use config::ImageConfig;
pub use digest::{Digest, Hasher};
pub use platform::Platform;
pub use reference::Reference;
pub use user::{Identity, UserText};
