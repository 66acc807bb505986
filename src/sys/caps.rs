//! Capabilities and privileges of the calling thread (capabilities(7), prctl(2)).

use std::io;

/// Highest capability number tried; the kernel answers EINVAL for those it does not know.
const MOST: libc::c_ulong = 63;
/// `SECBIT_NOROOT`, `SECBIT_NO_SETUID_FIXUP`, `SECBIT_NO_CAP_AMBIENT_RAISE`, each with its lock (linux/securebits.h);
/// `SECBIT_KEEP_CAPS` stays off and is locked too.
const SECUREBITS: libc::c_ulong = 0b1110_1111;

fn prctl(option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the options used in this file take integers only.
    match unsafe { libc::prctl(option, a, b, 0 as libc::c_ulong, 0 as libc::c_ulong) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Gives up every capability for good: bounding and ambient sets emptied, root made ordinary, then all three sets cleared.
/// With capabilities over the thread's user namespace at the start; without any at the end.
///
/// # Errors
/// Those of prctl(2) and capset(2).
pub fn drop_all() -> io::Result<()> {
    for number in 0..=MOST {
        match prctl(libc::PR_CAPBSET_DROP, number, 0) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0)?;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // _LINUX_CAPABILITY_VERSION_3 of linux/capability.h: two 32-bit words per set.
    let header = Header { version: 0x2008_0522, pid: 0 };
    let empty = [0_u32; 6];
    // SAFETY: header and data have the layout of version 3 (8 and 24 bytes) and live over the call, which reads them.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, empty.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// No exec of this thread or its descendants can gain privileges any more (`PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// Those of prctl(2).
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}
