//! Capabilities and privileges of the calling thread (capabilities(7), prctl(2)).

use std::io;

/// Highest capability number tried; the kernel answers EINVAL for those it does not know.
const MOST: u8 = 63;

/// Bits of linux/securebits.h, each with its lock one higher.
const NOROOT: libc::c_ulong = 0b11;
const NO_SETUID_FIXUP: libc::c_ulong = 0b11 << 2;
const KEEP_CAPS_NEVER: libc::c_ulong = 0b10 << 4;
const NO_AMBIENT_RAISE: libc::c_ulong = 0b11 << 6;

/// A set of capabilities, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(u64);

impl Set {
    /// No capability.
    pub const EMPTY: Set = Set(0);

    /// With capability `number`.
    #[must_use]
    pub fn with(self, number: u8) -> Set {
        Set(self.0 | 1_u64.checked_shl(u32::from(number)).unwrap_or(0))
    }

    /// Whether capability `number` is in.
    #[must_use]
    pub fn has(self, number: u8) -> bool {
        self.0 & 1_u64.checked_shl(u32::from(number)).unwrap_or(0) != 0
    }

    /// The low (`0`) or the high half, as capset(2) takes it.
    fn word(self, half: u32) -> u32 {
        (self.0 >> (32 * half)) as u32
    }
}

fn prctl(option: libc::c_int, a: libc::c_ulong, b: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the options used in this file take integers only.
    match unsafe { libc::prctl(option, a, b, 0 as libc::c_ulong, 0 as libc::c_ulong) } {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Gives up every capability for good: [`keep`] with the empty set.
///
/// # Errors
/// Those of prctl(2) and capset(2).
pub fn drop_all() -> io::Result<()> {
    keep(Set::EMPTY)
}

/// Keeps the capabilities `kept` in all five sets (ambient too, so that exec keeps them whatever the user's id is) and gives up
/// all others for good, out of the bounding set too. Root is made an ordinary id: exec gives it nothing.
/// With all capabilities over the thread's user namespace at the start; with `kept` at the end.
///
/// # Errors
/// Those of prctl(2) and capset(2); EINVAL when the kernel does not know one of `kept`.
pub fn keep(kept: Set) -> io::Result<()> {
    for number in (0..=MOST).filter(|number| !kept.has(*number)) {
        match prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    // A service that holds some may become another user as servers do: by setuid(2), which then clears them, or by
    // PR_SET_KEEPCAPS before it. Where there are none, nothing of that kind is left open.
    let bits = if kept == Set::EMPTY { NOROOT | NO_SETUID_FIXUP | KEEP_CAPS_NEVER | NO_AMBIENT_RAISE } else { NOROOT };
    prctl(libc::PR_SET_SECUREBITS, bits, 0)?;
    set(kept)?;
    for number in (0..=MOST).filter(|number| kept.has(*number)) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, libc::c_ulong::from(number))?;
    }
    Ok(())
}

/// Capabilities that mean nothing but to the host's own user namespace: CAP_WAKE_ALARM, CAP_BLOCK_SUSPEND, CAP_AUDIT_READ.
const POWERLESS: [u8; 3] = [35, 36, 37];

/// For a process that lives beside others of its own user which hold `theirs` at most: gives up everything but `kept` and the possession
/// of one powerless capability that they lack. Nobody may look into a process that has what he has not (cap_ptrace_access_check() of
/// security/commoncap.c), nor, by `hidepid=ptraceable`, see it; the owner of the user namespace's parent still may, and can enter
/// its namespaces.
///
/// # Errors
/// Those of prctl(2) and capset(2).
pub fn stand_apart(theirs: Set, kept: Set) -> io::Result<()> {
    keep(kept.with(POWERLESS.into_iter().find(|number| !theirs.has(*number)).unwrap_or(POWERLESS[0])))?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    prctl(libc::PR_SET_DUMPABLE, 1, 0).map(drop)
}

/// Makes `kept` the permitted, effective and inheritable set.
fn set(kept: Set) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // _LINUX_CAPABILITY_VERSION_3 of linux/capability.h: effective, permitted, inheritable; their low words, then the high ones.
    let header = Header { version: 0x2008_0522, pid: 0 };
    let (low, high) = (kept.word(0), kept.word(1));
    let data = [low, low, low, high, high, high];
    // SAFETY: header and data have the layout of version 3 (8 and 24 bytes) and live over the call, which reads them.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
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

/// Until the next exec nobody without privileges on the host can look into this process: its memory, descriptors and program
/// (`PR_SET_DUMPABLE`, proc(5)). Its files in /proc belong to root from here on, for itself too.
///
/// # Errors
/// Those of prctl(2).
pub fn hide_from_others() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_two_words_of_bits() {
        let set = Set::EMPTY.with(0).with(10).with(40).with(64);
        assert_eq!((set.word(0), set.word(1)), (1 | 1 << 10, 1 << 8));
        assert!(set.has(40) && !set.has(39) && !set.has(64));
    }
}
