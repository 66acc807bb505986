//! The ids a process runs as (credentials(7)).

use nix::unistd::{Gid, Uid, getgid, getgroups, getuid, setgroups, setresgid, setresuid};
use std::io;

/// Becomes user `uid` with group `gid` and `groups`, keeping all capabilities over the own user namespace, which the caller gives up
/// afterwards. Where the namespace forbids setgroups(2) (one-line maps), the groups stay as they are.
///
/// # Errors
/// Those of prctl(2), setresuid(2), ...; EINVAL when the namespace has no such id.
pub fn switch(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    /// `SECBIT_NO_SETUID_FIXUP` of linux/securebits.h: a change of ids changes no capabilities.
    const NO_SETUID_FIXUP: libc::c_ulong = 0b100;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    if getuid() == uid && getgid() == gid && groups.is_empty() && getgroups()?.is_empty() {
        return Ok(());
    }
    // SAFETY: PR_SET_SECUREBITS takes integers only.
    if unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong)
    } < 0
    {
        return Err(io::Error::last_os_error());
    }
    match setgroups(&groups) {
        Err(nix::errno::Errno::EPERM) => {}
        other => other?,
    }
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}
