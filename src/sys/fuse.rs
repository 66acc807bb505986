//! What a FUSE connection needs beyond `fuser`: taking over one that has been served before (`linux/fuse.h`).

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const FUSE_INIT: u32 = 26;
const FUSE_NOTIFY_RESEND: i32 = 7;
/// Minor version that the handshake of [`handshake_socket`] speaks: the one `fuser` 0.18 knows.
const MINOR: u32 = 40;
const INIT_EXT: u32 = 1 << 30;

/// A socket from which a FUSE handshake (`FUSE_INIT`, with every capability offered) can be read, as if it were the device:
/// `(ours, theirs)`. Ours takes the reply in and must live until the handshake is done.
///
/// # Errors
/// Those of socketpair(2) and write(2).
pub fn handshake_socket() -> io::Result<(OwnedFd, OwnedFd)> {
    // One packet is one request, as with the device.
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let mut request = Vec::with_capacity(104);
    let mut word = |value: u32| request.extend_from_slice(&value.to_ne_bytes());
    // struct fuse_in_header: len, opcode, unique (64 bit), nodeid (64 bit), uid, gid, pid, extension length and padding
    for value in [104, FUSE_INIT, 0, 0, 0, 0, 0, 0, 0, 0] {
        word(value);
    }
    // struct fuse_init_in: major, minor, max_readahead, flags, flags2, unused[11]
    for value in [7, MINOR, 128 << 10, u32::MAX | INIT_EXT, u32::MAX] {
        word(value);
    }
    for _ in 0..11 {
        word(0);
    }
    nix::unistd::write(&ours, &request)?;
    Ok((ours, theirs))
}

/// Makes the descriptor number of `place` refer to what `device` refers to; what it referred to is closed.
///
/// # Errors
/// Those of dup3(2).
pub fn replace(device: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both numbers are open descriptors (they are borrowed). The owner of `place` keeps owning the number; only
    // what stands behind it changes, and dup3 swaps it atomically.
    match unsafe { libc::dup3(device.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Asks the kernel to send every request again that was taken from the connection and not answered. `false` when the
/// kernel cannot (before 6.9): whoever waits for such a request waits for ever.
///
/// # Errors
/// Those of write(2), other than EINVAL.
pub fn resend(device: BorrowedFd<'_>) -> io::Result<bool> {
    // struct fuse_out_header: len, error (a notification's code), unique (0: a notification)
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&FUSE_NOTIFY_RESEND.to_ne_bytes());
    match nix::unistd::write(device, &message) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL | Errno::ENOSYS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the connection behind `device` is up: mounted, and not aborted.
#[must_use]
pub fn is_connected(device: BorrowedFd<'_>) -> bool {
    let mut list = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    match poll(&mut list, PollTimeout::ZERO) {
        Ok(_) => !list[0]
            .revents()
            .is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_one_packet_of_the_announced_length() {
        let (_ours, theirs) = handshake_socket().unwrap();
        let mut buffer = [0; 256];
        let length = nix::unistd::read(&theirs, &mut buffer).unwrap();
        assert_eq!(length, 104);
        assert_eq!(buffer[..4], 104_u32.to_ne_bytes());
        assert_eq!(buffer[4..8], FUSE_INIT.to_ne_bytes());
    }

    #[test]
    fn a_replaced_descriptor_reads_from_the_new_place() {
        let (a, b) = nix::unistd::pipe().unwrap();
        let (_ours, theirs) = handshake_socket().unwrap();
        replace(a.as_fd(), theirs.as_fd()).unwrap();
        nix::unistd::write(&b, b"pipe").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(nix::unistd::read(&theirs, &mut buffer).unwrap(), 4);
        assert!(is_connected(theirs.as_fd()));
        drop(b);
        assert!(!is_connected(theirs.as_fd()), "the other end is gone");
    }
}
