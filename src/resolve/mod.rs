//! Recipe + settings + host -> [`Plan`]: everything of one install, pinned. Pure: nothing is read or written here.

mod name;
mod path;
mod plan;

pub use name::ServiceName;
pub use path::HostPath;
pub use plan::*;
