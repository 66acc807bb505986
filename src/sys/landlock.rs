//! Landlock (landlock(7)), of which only the network part is used.

use crate::sys::process::fd_result;
use std::io;
use std::os::fd::AsRawFd;

/// `LANDLOCK_CREATE_RULESET_VERSION`: asks for the version instead of making a ruleset.
const VERSION: u32 = 1;
/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `LANDLOCK_ACCESS_NET_CONNECT_TCP` (linux/landlock.h).
const BIND_AND_CONNECT: u64 = 3;
/// The version that knows them, of Linux 6.7.
const NETWORK: libc::c_long = 4;

/// The part of struct landlock_ruleset_attr that version 4 knows.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
}

/// Whether this kernel can keep a process from TCP.
#[must_use]
pub fn has_network() -> bool {
    // SAFETY: no pointer and no size: the call only returns its version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<Ruleset>(), 0, VERSION) };
    version >= NETWORK
}

/// Neither this thread nor what it makes can bind or connect a TCP socket any more, whichever network namespace that is of.
/// `no_new_privs` must be set, or CAP_SYS_ADMIN held.
///
/// # Errors
/// Those of landlock_create_ruleset(2) and landlock_restrict_self(2).
pub fn forbid_tcp() -> io::Result<()> {
    let ruleset = Ruleset { handled_access_fs: 0, handled_access_net: BIND_AND_CONNECT };
    // SAFETY: the kernel reads as many bytes of `ruleset` as it has, during the call.
    let made = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const ruleset, size_of::<Ruleset>(), 0) };
    let made = fd_result(made)?;
    // SAFETY: the descriptor is one of a ruleset; no memory is passed.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, made.as_raw_fd(), 0) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
