//! Descriptors and senders over Unix sockets (unix(7), `SCM_RIGHTS`, `SCM_CREDENTIALS`); connections that are not waited for; a filter
//! that keeps a socket what it is (socket(7)).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr,
    UnixCredentials, connect, recvmsg, sendmsg, socket,
};
use nix::unistd::Pid;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
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
    recv_fds_from(socket, buffer).map(|(count, fds, _)| (count, fds))
}

/// [`recv_fds`] with the sender, as the kernel saw it, if the socket asked for that before (`SO_PASSCRED`).
///
/// # Errors
/// As [`recv_fds`].
pub fn recv_fds_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>, Option<Pid>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS], UnixCredentials);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let (mut fds, mut sender) = (Vec::new(), None);
    for control in message.cmsgs()? {
        match control {
            // SAFETY: the kernel has just installed these descriptors for us in this message; nobody else owns them.
            ControlMessageOwned::ScmRights(list) => fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })),
            ControlMessageOwned::ScmCredentials(from) => sender = Some(Pid::from_raw(from.pid())),
            _ => {}
        }
    }
    if message.flags.intersects(MsgFlags::MSG_CTRUNC | MsgFlags::MSG_TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message on a Unix socket was cut short"));
    }
    Ok((message.bytes, fds, sender.filter(|pid| pid.as_raw() > 0)))
}

/// A datagram that was received or looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes of it in the buffer.
    pub length: usize,
    /// It is longer than the buffer.
    pub cut: bool,
    /// Who sent it, in our pid namespace, as the kernel saw it (the socket has `SO_PASSCRED`); `None` for a process that we cannot see.
    pub sender: Option<Pid>,
}

/// Takes the next datagram, or only looks at it (`peek`), without waiting. Descriptors that came with it are closed by the
/// kernel: there is no room for them, so none ever appears in this process.
///
/// # Errors
/// Those of recvmsg(2); EAGAIN when there is none.
pub fn recv_datagram(socket: BorrowedFd<'_>, buffer: &mut [u8], peek: bool) -> io::Result<Datagram> {
    /// Room for one `struct cmsghdr` with a `struct ucred`, aligned as cmsg(3) asks.
    #[repr(C, align(8))]
    struct Control([u8; 32]);
    let mut control = Control([0; 32]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain old data for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = std::mem::size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | if peek { libc::MSG_PEEK } else { 0 };
    // SAFETY: the header points to one buffer and one control buffer with their true lengths; all live over the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    let mut sender = None;
    // SAFETY: the kernel has filled the header; CMSG_FIRSTHDR gives null or a whole cmsghdr inside the control buffer.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header).as_ref() };
    // The kernel puts credentials before descriptors (scm_recv() of include/net/scm.h).
    if let Some(first) = first
        && (first.cmsg_level, first.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
    {
        // SAFETY: a control message of this type holds one struct ucred; it may lie unaligned.
        let from = unsafe { libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned() };
        sender = Some(Pid::from_raw(from.pid)).filter(|pid| pid.as_raw() > 0);
    }
    Ok(Datagram { length, cut: header.msg_flags & libc::MSG_TRUNC != 0, sender })
}

/// Begins a TCP connection without waiting for it; the socket stays non-blocking.
///
/// # Errors
/// Those of socket(2) and connect(2) but EINPROGRESS.
pub fn connect_now(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno.into()),
    }
}

/// Connections to a listening TCP socket that nobody has accepted yet. For such a socket `tcpi_unacked` is that number
/// (tcp_get_info() of net/ipv4/tcp.c, as `ss -l` shows it).
///
/// # Errors
/// Those of getsockopt(2).
pub fn accept_queue(listener: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: tcp_info is plain old data for which all zeroes is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = std::mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has `size` bytes and lives over the call; the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info.tcpi_unacked) }
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

/// Whether it is a stream socket of IPv4 or IPv6: TCP, or what Landlock took for it before Linux 6.14, such as MPTCP.
#[must_use]
pub fn is_ip_stream(socket: BorrowedFd<'_>) -> bool {
    matches!(get_option(socket, libc::SO_DOMAIN), Some(libc::AF_INET | libc::AF_INET6))
        && get_option(socket, libc::SO_TYPE) == Some(libc::SOCK_STREAM)
}

/// connect(2) with an address as somebody else gave it.
///
/// # Errors
/// Those of connect(2).
pub fn connect_raw(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    let size = libc::socklen_t::try_from(address.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `size` bytes of `address` and judges them itself.
    match unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// bind(2) with an address as somebody else gave it.
///
/// # Errors
/// Those of bind(2).
pub fn bind_raw(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    let size = libc::socklen_t::try_from(address.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `size` bytes of `address` and judges them itself.
    match unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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
