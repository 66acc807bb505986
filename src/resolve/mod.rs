//! Recipe + settings + host -> [`Plan`]: everything of one install, pinned. Pure: nothing is read or written here.

mod build;
mod connect;
mod isolation;
mod name;
mod oneoff;
mod path;
mod plan;
mod ports;
mod request;
mod volumes;

#[cfg(test)]
mod tests;

pub use build::{ImageFacts, plan};
pub use isolation::{Departure, IdKind, Isolation, Rlimit};
pub use name::ServiceName;
pub use oneoff::{OneOff, OneOffImage, one_off};
pub use path::HostPath;
pub use plan::*;
pub use ports::{Host, TakenPort};
pub use request::{PortOverride, Request, VolumeOverride, key_value};
