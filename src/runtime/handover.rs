//! Handover: when the service binds a published container port, the kept host socket takes the place of its own.
//!
//! The service's `bind`, `listen` and `connect` are notified (seccomp_unotify(2)). A bind to a published port of the right transport
//! puts a copy of the host socket at the caller's descriptor number and returns 0. All else happens in the private network namespace:
//! stream sockets of IP are bound and connected here, on a copy of the caller's descriptor, where Landlock keeps the service from doing
//! so itself (Linux 6.7); other calls continue untouched. Arguments are read once, and a call that no longer waits afterwards is dropped.

use super::message::send_listener;
use super::sockets::Published;
use crate::error::{Context, Result};
use crate::resolve::Protocol;
use crate::sys::landlock;
use crate::sys::process::{copy_fd, fork, pidfd};
use crate::sys::seccomp::{self, Answer, Call};
use crate::sys::socket::{bind_raw, connect_raw, is_ip_stream, network};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open, openat};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket, sockopt};
use nix::sys::stat::{Mode, fstat};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// System calls that are notified.
pub(super) const NOTIFIED: [libc::c_long; 3] = [libc::SYS_bind, libc::SYS_listen, libc::SYS_connect];

/// Most ports that the service bound and nobody published which are remembered, for the error of a start that times out.
const MOST_OTHERS: usize = 16;

/// Most children that connect at the same time. A caller that is killed leaves its child behind until the connection is given up.
const MOST_HELPERS: usize = 256;

/// The published sockets of a running service and what it did with them.
#[derive(Debug)]
pub(super) struct Handover {
    published: Vec<Published>,
    listening: Vec<bool>,
    /// Which process got each socket last, and at which descriptor.
    holders: Vec<Option<(Pid, RawFd)>>,
    others: Vec<u16>,
    /// Who got a socket by the call in hand, and at which descriptor.
    replaced: Option<(Pid, RawFd)>,
    /// Who got one and did not hear of it: a signal came between, so the same call may come again.
    unheard: Option<(Pid, RawFd)>,
    /// Children that connect in our place, and the call that each answers.
    helpers: Vec<(Pid, u64)>,
    /// Whether the service itself can neither bind nor connect TCP sockets ([`guard`]).
    walled: bool,
    /// The host's network, whose sockets may lead nowhere.
    host: Option<u64>,
    /// /proc of the pid namespace in which callers are numbered.
    proc: OwnedFd,
}

/// What a process that enters a container takes along, to answer the calls of the program it starts there: the service may give that one
/// sockets of the host's network, and then they connect to nothing. Landlock does not stand behind it, since a program in a domain of
/// its own would see no other process of the container (`hidepid`, landlock(7)): two threads that race may still get such a call through.
#[derive(Debug)]
pub(super) struct Gate {
    handover: Handover,
    listener: OwnedFd,
}

/// Has the calls of the calling process told, and sends the listener to the one who answers them. The last step before exec.
///
/// # Errors
/// Those of seccomp(2) and the socket.
pub(super) fn notify(answerer: BorrowedFd<'_>) -> Result<()> {
    let listener = seccomp::notify_on(&NOTIFIED).context(|| "cannot install the notification filter")?;
    send_listener(answerer, listener.as_fd()).context(|| "cannot hand over the notification listener")
}

/// [`notify`], for the service itself, which is also kept from TCP where the kernel can: its honest calls are made by the supervisor.
///
/// # Errors
/// Those of Landlock too.
pub(super) fn guard(supervisor: BorrowedFd<'_>) -> Result<()> {
    if landlock::has_network() {
        landlock::forbid_tcp().context(|| "cannot keep the service from the host's ports")?;
    }
    notify(supervisor)
}

impl Handover {
    /// For the supervisor, in the service's kernel and before it confines itself.
    ///
    /// # Errors
    /// Those of opening /proc and of a socket.
    pub(super) fn new(published: Vec<Published>) -> io::Result<Self> {
        Self::answering(published, landlock::has_network())
    }

    /// For one who is about to enter a container, while the host's /proc and network are there.
    ///
    /// # Errors
    /// As [`Handover::new`].
    pub(super) fn beside() -> io::Result<Self> {
        Self::answering(Vec::new(), false)
    }

    fn answering(published: Vec<Published>, walled: bool) -> io::Result<Self> {
        let (listening, holders) = (vec![false; published.len()], vec![None; published.len()]);
        let any = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Handover {
            published,
            listening,
            holders,
            others: Vec::new(),
            replaced: None,
            unheard: None,
            helpers: Vec::new(),
            walled,
            host: network(any.as_fd()),
            proc: open("/proc", flags, Mode::empty())?,
        })
    }

    /// The published sockets.
    pub(super) fn published(&self) -> &[Published] {
        &self.published
    }

    /// Whether the service listens on every published TCP port (and bound every UDP one).
    pub(super) fn all_listening(&self) -> bool {
        self.listening.iter().all(|listening| *listening)
    }

    /// Text for a start that timed out: which ports are missing and which others were bound.
    pub(super) fn missing(&self) -> Option<String> {
        let missing: Vec<_> = self
            .published
            .iter()
            .zip(&self.listening)
            .filter(|(_, listening)| !**listening)
            .map(|(published, _)| format!("{} ({})", published.port.container, published.port.name))
            .collect();
        if missing.is_empty() {
            return None;
        }
        let others: Vec<_> = self.others.iter().map(u16::to_string).collect();
        let instead =
            if others.is_empty() { "it bound no other port".into() } else { format!("it bound {} instead", others.join(", ")) };
        Some(format!("it does not listen on port {}; {instead}", missing.join(", ")))
    }

    /// Takes one notification and answers it.
    ///
    /// # Errors
    /// Those of the listener itself; a caller that died or sent nonsense is no error.
    pub(super) fn handle(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let Some(call) = seccomp::receive(listener)? else { return Ok(()) };
        let answer = match call.number {
            number if number == libc::SYS_bind => match self.on_bind(listener, &call) {
                Answer::Continue => self.bind_for(listener, &call),
                answer => answer,
            },
            number if number == libc::SYS_listen => self.on_listen(listener, &call),
            number if number == libc::SYS_connect => self.on_connect(listener, &call),
            _ => Answer::Continue,
        };
        let heard = seccomp::answer(listener, call.id, answer)?;
        if let Some(replaced) = self.replaced.take().filter(|_| !heard) {
            self.unheard = Some(replaced);
        }
        Ok(())
    }

    /// A child ended: one that connected in our place. If it was killed before it answered, nobody else would; one that has answered
    /// is not contradicted, since its call waits no more.
    pub(super) fn on_helper(&mut self, listener: Option<BorrowedFd<'_>>, pid: Pid) -> bool {
        let Some(at) = self.helpers.iter().position(|(helper, _)| *helper == pid) else { return false };
        let (_, id) = self.helpers.swap_remove(at);
        if let Some(listener) = listener {
            let _ = seccomp::answer(listener, id, Answer::Errno(libc::EINTR));
        }
        true
    }

    /// A bind that is not of our concern, made here where the service itself may make none; see `on_connect`.
    fn bind_for(&self, listener: BorrowedFd<'_>, call: &Call) -> Answer {
        let Some(theirs) = self.socket_of(call).filter(|theirs| self.walled && is_ip_stream(theirs.as_fd())) else {
            return Answer::Continue;
        };
        let Some(address) = read_bytes(call) else { return Answer::Errno(libc::EFAULT) };
        if self.is_of_host(&theirs) || !seccomp::is_waiting(listener, call.id) {
            return Answer::Errno(libc::EINVAL);
        }
        match bind_raw(theirs.as_fd(), &address) {
            Ok(()) => Answer::Value(0),
            Err(error) => Answer::Errno(error.raw_os_error().unwrap_or(libc::EINVAL)),
        }
    }

    fn on_bind(&mut self, listener: BorrowedFd<'_>, call: &Call) -> Answer {
        let Ok(fd) = RawFd::try_from(call.args[0]) else { return Answer::Continue };
        let Some(caller) = self.leader(call.pid) else { return Answer::Continue };
        let Some(theirs) = process_fd(caller, fd) else { return Answer::Continue };
        if self.is_of_host(&theirs) {
            // The kernel makes a call that a signal interrupted again (SA_RESTART of sigaction(2)): this one has succeeded already.
            self.replaced = self.unheard.take_if(|unheard| *unheard == (caller, fd));
            // Else as the kernel answers for one that is bound.
            return if self.replaced.is_some() { Answer::Value(0) } else { Answer::Errno(libc::EINVAL) };
        }
        // What cannot be read or is no IP address is the kernel's to judge.
        let Some(address) = read_address(call.pid, call.args[1], call.args[2]) else { return Answer::Continue };
        let port = address.port();
        // What is bound to loopback is not meant for others: a temporary server while a database is made, for example.
        if address.ip().is_loopback() {
            return Answer::Continue;
        }
        if !seccomp::is_waiting(listener, call.id) {
            return Answer::Continue;
        }
        let protocol = match getsockopt(&theirs, sockopt::SockType) {
            Ok(SockType::Stream) => Protocol::Tcp,
            Ok(SockType::Datagram) => Protocol::Udp,
            _ => return Answer::Continue,
        };
        let wanted = |published: &Published| published.port.container == port && published.port.protocol == protocol;
        let Some(index) = self.published.iter().position(wanted) else {
            if port != 0 && self.others.len() < MOST_OTHERS && !self.others.contains(&port) {
                self.others.push(port);
            }
            return Answer::Continue;
        };
        if !suits(self.published[index].port.host, address, &theirs) || self.holds_already(index, caller, fd) {
            return Answer::Continue;
        }
        let socket = &self.published[index].socket;
        // O_NONBLOCK belongs to the open file, which replaces theirs; FD_CLOEXEC to the descriptor.
        if let Err(errno) = copy_status_flags(&theirs, socket) {
            return Answer::Errno(errno as i32);
        }
        match seccomp::replace_fd(listener, call.id, socket.as_fd(), fd, self.is_close_on_exec(call.pid, fd)) {
            Ok(()) => {
                self.holders[index] = Some((caller, fd));
                self.replaced = Some((caller, fd));
                if protocol == Protocol::Udp {
                    self.listening[index] = true;
                }
                Answer::Value(0)
            }
            Err(error) => Answer::Errno(error.raw_os_error().unwrap_or(libc::EINVAL)),
        }
    }

    /// The service got sockets of the host's network: the published ones, and those accepted from them. `connect(AF_UNSPEC)`, or
    /// `shutdown` of a listener, undoes them, and they could then lead to any port of the host. So such a socket connects to nothing.
    ///
    /// Another thread could swap descriptors after our look at them, so a call that continues proves nothing. Where Landlock keeps
    /// the service from TCP, none of its own calls gets anywhere; the honest ones are made here, on the very socket that was looked at.
    fn on_connect(&mut self, listener: BorrowedFd<'_>, call: &Call) -> Answer {
        let Some(theirs) = self.socket_of(call) else { return Answer::Continue };
        if self.is_of_host(&theirs) {
            return Answer::Errno(libc::EACCES);
        }
        if !self.walled || !is_ip_stream(theirs.as_fd()) {
            return Answer::Continue;
        }
        let Some(address) = read_bytes(call) else { return Answer::Errno(libc::EFAULT) };
        if !seccomp::is_waiting(listener, call.id) {
            return Answer::Continue;
        }
        let connect = || match connect_raw(theirs.as_fd(), &address) {
            Ok(()) => Answer::Value(0),
            Err(error) => Answer::Errno(error.raw_os_error().unwrap_or(libc::EINVAL)),
        };
        let flags = fcntl(&theirs, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_truncate);
        if flags.contains(OFlag::O_NONBLOCK) {
            return connect();
        }
        // One that may block is waited for by a child, which answers in our place.
        if self.helpers.len() >= MOST_HELPERS {
            return Answer::Errno(libc::EAGAIN);
        }
        let waiting = fork(|| {
            let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
            i32::from(seccomp::answer(listener, call.id, connect()).is_err())
        });
        let Ok(helper) = waiting else { return Answer::Errno(libc::EAGAIN) };
        self.helpers.push((helper, call.id));
        Answer::Given
    }

    fn on_listen(&mut self, listener: BorrowedFd<'_>, call: &Call) -> Answer {
        if self.all_listening() {
            return Answer::Continue;
        }
        let fd = RawFd::try_from(call.args[0]).ok();
        if let Some(theirs) = fd.and_then(|fd| process_fd(self.leader(call.pid)?, fd))
            && seccomp::is_waiting(listener, call.id)
            && let Some(index) = self.published.iter().position(|published| is_same(&published.socket, &theirs))
        {
            self.listening[index] = true;
        }
        Answer::Continue
    }

    fn is_of_host(&self, socket: &OwnedFd) -> bool {
        self.host.is_some() && self.host == network(socket.as_fd())
    }

    fn read_proc(&self, path: &str) -> Option<String> {
        let file = openat(&self.proc, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The process that thread `tid` belongs to. pidfd_open(2) takes thread group leaders only (before Linux 6.9).
    fn leader(&self, tid: i32) -> Option<Pid> {
        let status = self.read_proc(&format!("{tid}/status"))?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok().map(Pid::from_raw)
    }

    /// A copy of the descriptor that a call names first.
    fn socket_of(&self, call: &Call) -> Option<OwnedFd> {
        process_fd(self.leader(call.pid)?, RawFd::try_from(call.args[0]).ok()?)
    }

    fn is_close_on_exec(&self, tid: i32, fd: RawFd) -> bool {
        // `flags:` of /proc/PID/fdinfo/FD is octal and has O_CLOEXEC for the descriptor flag (proc_pid_fdinfo(5)).
        let info = self.read_proc(&format!("{tid}/fdinfo/{fd}")).unwrap_or_default();
        let flags =
            info.lines().find_map(|line| line.strip_prefix("flags:")).and_then(|text| i32::from_str_radix(text.trim(), 8).ok());
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
    }

    /// Whether the process has the socket at another descriptor already. A server that listens on 0.0.0.0 and on :: gets it
    /// once: after one connection it would see both ready, and wait for ever in the second accept(2).
    fn holds_already(&self, index: usize, caller: Pid, fd: RawFd) -> bool {
        self.holders[index].is_some_and(|(pid, held)| {
            pid == caller
                && held != fd
                && process_fd(pid, held).is_some_and(|theirs| is_same(&self.published[index].socket, &theirs))
        })
    }
}

impl Gate {
    /// For a program whose calls `listener` tells.
    pub(super) fn new(handover: Handover, listener: OwnedFd) -> Self {
        Gate { handover, listener }
    }

    /// Answers one call, if one waits.
    pub(super) fn handle(&mut self) {
        // A listener that fails has nobody who waits any more.
        let _ = self.handover.handle(self.listener.as_fd());
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Whether a socket that is bound to `address` may become the one on `host`. A dual-stack IPv6 socket expects IPv4 clients too; one of
/// IPv6 only has an IPv4 sibling, which is the one to replace.
fn suits(host: SocketAddr, address: SocketAddr, theirs: &OwnedFd) -> bool {
    match host {
        SocketAddr::V4(_) => address.is_ipv4() || !getsockopt(theirs, sockopt::Ipv6V6Only).unwrap_or(true),
        SocketAddr::V6(_) => true,
    }
}

/// Two descriptors of one socket have one inode on sockfs.
fn is_same(a: &OwnedFd, b: &OwnedFd) -> bool {
    matches!((fstat(a), fstat(b)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// The address of a bind or connect, as long as it says, up to the longest there is.
fn read_bytes(call: &Call) -> Option<Vec<u8>> {
    // The kernel takes the length for an int and refuses more than a sockaddr_storage.
    let length = usize::try_from(call.args[2] & 0xffff_ffff).ok()?.min(size_of::<libc::sockaddr_storage>());
    let mut bytes = vec![0; length];
    let remote = [RemoteIoVec { base: usize::try_from(call.args[1]).ok()?, len: length }];
    let read = process_vm_readv(Pid::from_raw(call.pid), &mut [IoSliceMut::new(&mut bytes)], &remote).ok()?;
    (read == length).then_some(bytes)
}

/// The socket address at `address` of process `pid`, if it is one of IPv4 or IPv6.
fn read_address(pid: i32, address: u64, length: u64) -> Option<SocketAddr> {
    let (address, length) = (usize::try_from(address).ok()?, usize::try_from(length).ok()?);
    let mut bytes = [0_u8; size_of::<libc::sockaddr_in6>()];
    let bytes = bytes.get_mut(..length.min(size_of::<libc::sockaddr_in6>()))?;
    let remote = [RemoteIoVec { base: address, len: bytes.len() }];
    let read = process_vm_readv(Pid::from_raw(pid), &mut [IoSliceMut::new(bytes)], &remote).ok()?;
    parse_address(bytes.get(..read)?)
}

/// A sockaddr_in (ip(7): family, port, address) or sockaddr_in6 (ipv6(7): family, port, flow, address, scope).
fn parse_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET if bytes.len() >= size_of::<libc::sockaddr_in>() => {
            Some((Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?), port).into())
        }
        // The kernel takes one without the scope, too (SIN6_LEN_RFC2133).
        libc::AF_INET6 => Some((Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?), port).into()),
        _ => None,
    }
}

/// A copy of descriptor `fd` of `process`.
fn process_fd(process: Pid, fd: RawFd) -> Option<OwnedFd> {
    copy_fd(pidfd(process).ok()?.as_fd(), fd).ok()
}

fn copy_status_flags(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    let wanted = OFlag::from_bits_truncate(fcntl(from, FcntlArg::F_GETFL)?) & OFlag::O_NONBLOCK;
    let current = OFlag::from_bits_truncate(fcntl(to, FcntlArg::F_GETFL)?);
    fcntl(to, FcntlArg::F_SETFL((current - OFlag::O_NONBLOCK) | wanted)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(family: i32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(family).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let four = bytes(libc::AF_INET, &[0x15, 0x38, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse_address(&four), Some("127.0.0.1:5432".parse().unwrap()));
        assert_eq!(parse_address(&four[..15]), None);
        let mut rest = [0; 26];
        (rest[0], rest[1], rest[21]) = (0x15, 0x38, 1);
        let six = bytes(libc::AF_INET6, &rest);
        assert_eq!(parse_address(&six), Some("[::1]:5432".parse().unwrap()));
        assert_eq!(parse_address(&six[..24]), Some("[::1]:5432".parse().unwrap()));
        assert_eq!(parse_address(&six[..23]), None);
        for other in [&bytes(libc::AF_UNIX, b"/tmp/x")[..], &[], &[2], &[2, 0]] {
            assert_eq!(parse_address(other), None);
        }
    }

    #[test]
    fn a_v6_only_socket_does_not_take_a_v4_port() {
        let any: SocketAddr = "[::]:80".parse().unwrap();
        let host: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let socket = |only: bool| {
            use nix::sys::socket::{AddressFamily, SockFlag, setsockopt, socket};
            let fd = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&fd, sockopt::Ipv6V6Only, &only).unwrap();
            fd
        };
        assert!(suits(host, any, &socket(false)));
        assert!(!suits(host, any, &socket(true)));
        assert!(suits("[::1]:8080".parse().unwrap(), any, &socket(true)));
    }
}
