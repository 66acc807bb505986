//! The yard: one namespace per user (U0) in which all images are mounted once, and the server that shows them.
//!
//! ```text
//! systemd's descriptor store: fuse, u0-user, u0-mnt        (outlive the server)
//!        |
//! steading yard ---- /dev/fuse ---- U0: $XDG_RUNTIME_DIR/steading/yard/
//!        |                               by-image/sha256-HEX/...   the image, with its own owners
//!        | yard.sock                     by-user/sha256-HEX/...    the same, everything owned by U0's 0
//!        v                                      ^
//! steading supervise NAME -- setns(U0), then its own nested namespaces, overlay on an image
//! ```
//!
//! **U0** is a user namespace (the user's id at 0, the subordinate ids after it where there are any) and a mount namespace that follows the host's mounts. It has no process: the
//! descriptors keep it alive. The FUSE file system is reachable only from it and from user namespaces nested in it.
//!
//! **The server** runs outside U0 without privileges. It has no state: node numbers say which node of which image they are (`node.rs`),
//! there is no open and no handle, and images never change. So it can be killed at any time: the next one gets
//! the three descriptors from systemd, asks the kernel to send again what was not answered, and goes on. A reader waits, and sees no error.
//!
//! **Never remove or replace the mount point** (`yard/` in the run-time directory) from outside while U0 lives: the kernel detaches mounts from a
//! directory that is removed, in all namespaces.
//!
//! **The socket** (`yard.sock`) speaks one line each way: the client says `steading-yard 1`, the server answers `ok 1` with
//! U0's user and mount namespace attached (`SCM_RIGHTS`), or `error TEXT`. Both ends must belong to the same user.

mod client;
mod fuse;
mod images;
pub(crate) mod journal;
mod node;
mod objects;
mod server;
mod source;
#[cfg(test)]
mod testing;
mod tree;
mod u0;

pub use client::{Joined, join};

use crate::error::Result;
use crate::image::Digest;
use crate::state::Paths;
use crate::store::Store;
use std::path::PathBuf;

/// Runs the yard's server until SIGTERM (`steading yard`). The process must have one thread.
///
/// # Errors
/// When this host allows no yard, one runs already, there is no store, or the kernel ends the mount.
pub fn serve(paths: &Paths) -> Result<()> {
    server::run(paths, || Store::open_read_only(&paths.store()))
}

/// First line of the protocol between supervisors and the server.
const HELLO: &str = "steading-yard 1\n";
/// The server's answer, with the descriptors.
const WELCOME: &str = "ok 1\n";

/// With whose owners an image is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// The image's own owners: for maps that have them.
    ByImage,
    /// Everything owned by U0's 0, which is the user: for maps of one line.
    ByUser,
}

impl View {
    /// All views, in the order of their listing.
    const ALL: [View; 2] = [View::ByImage, View::ByUser];

    /// Name of the view's directory.
    #[must_use]
    pub fn dir(self) -> &'static str {
        match self {
            View::ByImage => "by-image",
            View::ByUser => "by-user",
        }
    }

    fn of_dir(name: &[u8]) -> Option<View> {
        View::ALL.into_iter().find(|view| view.dir().as_bytes() == name)
    }
}

/// Where an image is inside U0.
#[must_use]
pub fn image_path(paths: &Paths, view: View, image: &Digest) -> PathBuf {
    paths.yard_mount().join(view.dir()).join(tree::dir_name(image))
}
