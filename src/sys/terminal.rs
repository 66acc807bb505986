//! Pseudoterminals and window sizes (pty(7), ioctl_tty(2)).

use crate::sys::process::fd_result;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: i64 = 0x1cd1;
/// Device number of a ptmx node (Documentation/admin-guide/devices.txt).
const PTMX: (u64, u64) = (5, 2);

/// A new pseudoterminal in the devpts that is mounted at /dev/pts: the side that plays the terminal (not blocking), and the side
/// for programs. The names in /dev may be another's work: the node is looked at, and no second name is trusted.
///
/// # Errors
/// Those of open(2) and ioctl(2); `Other` when something else is at /dev/pts/ptmx.
pub fn open_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let terminal = open("/dev/pts/ptmx", flags, Mode::empty())?;
    let node = fstat(&terminal)?;
    let is_device = SFlag::from_bits_truncate(node.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    if !is_device
        || (major(node.st_rdev), minor(node.st_rdev)) != PTMX
        || fstatfs(&terminal)?.filesystem_type().0 as i64 != DEVPTS
    {
        return Err(io::Error::other("/dev/pts/ptmx is no pseudoterminal multiplexer"));
    }
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which lives over the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags as an integer and returns a new descriptor.
    let program = fd_result(unsafe { libc::c_long::from(libc::ioctl(terminal.as_raw_fd(), libc::TIOCGPTPEER, flags)) })?;
    Ok((terminal, program))
}

/// Makes a terminal the controlling one of the calling process, which must lead a session without one.
///
/// # Errors
/// Those of ioctl(2).
pub fn make_controlling(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })
}

/// Gives `to` the window size of `from`; the programs inside get a SIGWINCH if that changes it.
///
/// # Errors
/// Those of ioctl(2).
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a struct winsize, which lives over the call.
    check(unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    // SAFETY: TIOCSWINSZ reads a struct winsize, which lives over the call.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_typed_comes_out_and_sizes_are_passed_on() {
        let (terminal, program) = open_pair().unwrap();
        nix::unistd::write(&terminal, b"x\n").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(nix::unistd::read(&program, &mut buffer).unwrap(), 2);
        let (other, _) = open_pair().unwrap();
        copy_size(terminal.as_fd(), other.as_fd()).unwrap();
        assert!(copy_size(std::fs::File::open("/dev/null").unwrap().as_fd(), other.as_fd()).is_err());
    }
}
