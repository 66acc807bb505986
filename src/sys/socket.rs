//! Descriptors over Unix sockets (unix(7), `SCM_RIGHTS`), and a filter that keeps a socket what it is (socket(7)).

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors one message carries here (the kernel's SCM_MAX_FD is 253).
pub const MAX_FDS: usize = 16;

/// Sends `bytes` with `fds` on a connected Unix socket. Returns the bytes sent.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives up to `buffer.len()` bytes and [`MAX_FDS`] descriptors (close-on-exec). Zero bytes mean end of file.
///
/// # Errors
/// Those of recvmsg(2); `InvalidData` when the message or its descriptors were cut short.
pub fn recv_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = control {
            // SAFETY: the kernel has just installed these descriptors for us in this message; nobody else owns them.
            fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_CTRUNC | MsgFlags::MSG_TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message on a Unix socket was cut short"));
    }
    Ok((message.bytes, fds))
}

fn set_option<T>(socket: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: setsockopt(2) reads `size` bytes of `value`, which is alive and that big; what a program points to is, too.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const *value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps a TCP socket, and every connection that is accepted from it, a server on `port` for good: they receive no segment for another
/// port, and none that answers a connection of their own (SYN with ACK). For whoever holds such a socket can undo it by
/// `connect(AF_UNSPEC)` or `shutdown`, and connect it to anything in the network namespace it was made in.
///
/// # Errors
/// Those of setsockopt(2); EPERM where the kernel keeps filters of TCP sockets for CAP_NET_ADMIN (6.18.44 does).
pub fn lock_to_server(socket: BorrowedFd<'_>, port: u16) -> io::Result<()> {
    // The kernel runs it on each segment from the TCP header on (tcp_filter() of net/ipv4/tcp_ipv4.c).
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let program = [
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 2),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 4, port.into()),
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, 0x12),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set_option(socket, libc::SO_ATTACH_FILTER, &program)?;
    // Neither detached nor replaced, by nobody.
    set_option(socket, libc::SO_LOCK_FILTER, &1_i32)
}

/// A number that stands for the network namespace of a socket, whoever holds it (`SO_NETNS_COOKIE`, Linux 5.14); `None` for what is no
/// socket.
#[must_use]
pub fn network(socket: BorrowedFd<'_>) -> Option<u64> {
    get_option(socket, libc::SO_NETNS_COOKIE)
}

fn get_option<T: Default>(socket: BorrowedFd<'_>, option: i32) -> Option<T> {
    let mut value = T::default();
    let mut size = libc::socklen_t::try_from(size_of::<T>()).ok()?;
    let place = (&raw mut value).cast();
    // SAFETY: getsockopt(2) writes at most `size` bytes to `value`, which is that big; T is an integer, so any bytes will do.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, place, &raw mut size) };
    (result == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_crosses_and_works() {
        let (a, b) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"hello").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        send_fds(a.as_fd(), b"x", &[file.as_fd()]).unwrap();
        let mut buffer = [0; 8];
        let (count, mut fds) = recv_fds(b.as_fd(), &mut buffer).unwrap();
        assert_eq!((count, fds.len()), (1, 1));
        let mut text = String::new();
        std::fs::File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
    fn is_locked(socket: BorrowedFd<'_>) -> bool {
        get_option(socket, libc::SO_LOCK_FILTER) == Some(1_i32)
    }

    #[test]
    fn a_server_stays_a_server() {
        use nix::sys::socket::{Shutdown, SockaddrIn, connect, shutdown};
        use std::net::{TcpListener, TcpStream};
        use std::time::Duration;
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let target: std::net::SocketAddrV4 = elsewhere.local_addr().unwrap().to_string().parse().unwrap();
        let connects = |fd: BorrowedFd<'_>| {
            nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::SendTimeout, &nix::sys::time::TimeVal::new(0, 300_000))
                .unwrap();
            connect(fd.as_raw_fd(), &SockaddrIn::from(target)).is_ok()
        };
        for locked in [false, true] {
            let server = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = server.local_addr().unwrap();
            if locked && let Err(error) = lock_to_server(server.as_fd(), address.port()) {
                assert!(error.raw_os_error() == Some(libc::EPERM) && !nix::unistd::geteuid().is_root(), "{error}");
                return;
            }
            assert_eq!(is_locked(server.as_fd()), locked);
            // It serves.
            let mut client = TcpStream::connect(address).unwrap();
            let (mut accepted, _) = server.accept().unwrap();
            io::Write::write_all(&mut client, b"question").unwrap();
            let mut text = [0; 8];
            accepted.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            accepted.read_exact(&mut text).unwrap();
            io::Write::write_all(&mut accepted, b"answer").unwrap();
            client.read_exact(&mut text[..6]).unwrap();
            // Turned into a client it gets through only without the lock.
            shutdown(server.as_raw_fd(), Shutdown::Both).unwrap();
            assert_eq!(connects(server.as_fd()), !locked);
            assert_eq!(is_locked(accepted.as_fd()), locked);
            if locked {
                assert!(set_option(accepted.as_fd(), libc::SO_DETACH_FILTER, &0_i32).is_err());
            }
        }
    }
}
