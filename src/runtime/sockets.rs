//! The published sockets: opened once, kept by systemd in the unit's descriptor store, taken back at a restart.

use crate::error::{Context, Error, Result};
use crate::resolve::{PlanPort, Protocol};
use crate::sys::notify::Notify;
use crate::sys::socket::lock_to_server;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname, listen, setsockopt, socket,
    sockopt,
};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Prefix of the names in the descriptor store.
const PREFIX: &str = "port-";

/// A published socket.
#[derive(Debug)]
pub(super) struct Published {
    /// Its port in the plan.
    pub port: PlanPort,
    /// The socket, bound on the host and, for TCP, listening.
    pub socket: OwnedFd,
}

fn store_name(port: &PlanPort) -> String {
    format!("{PREFIX}{}", port.name)
}

/// Address a socket is bound to, if it is one of IP.
pub(super) fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    let storage: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*v4)));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6)))
}

fn kind(protocol: Protocol) -> SockType {
    match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    }
}

fn open(port: &PlanPort) -> Result<OwnedFd> {
    let (family, protocol) = match port.host {
        SocketAddr::V4(_) => (AddressFamily::Inet, "IPv4"),
        SocketAddr::V6(_) => (AddressFamily::Inet6, "IPv6"),
    };
    let transport = match port.protocol {
        Protocol::Tcp => SockProtocol::Tcp,
        Protocol::Udp => SockProtocol::Udp,
    };
    let what = || format!("cannot open port `{}` at {}", port.name, port.host);
    let fd = socket(family, kind(port.protocol), SockFlag::SOCK_CLOEXEC, transport)
        .map_err(|errno| Error::failed(what()).because(errno).hint(format!("does this host have {protocol}?")))?;
    setsockopt(&fd, sockopt::ReuseAddr, &true).context(what)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(port.host)).map_err(|errno| {
        let hint = match errno {
            nix::errno::Errno::EADDRINUSE => format!("another program listens there: `ss -lntp 'sport = :{}'`", port.host.port()),
            nix::errno::Errno::EACCES => {
                "ports below net.ipv4.ip_unprivileged_port_start are for root; choose a higher one".to_owned()
            }
            nix::errno::Errno::EADDRNOTAVAIL => format!("this host has no address {}", port.host.ip()),
            _ => "choose another with `--port`".to_owned(),
        };
        Error::failed(what()).because(errno).hint(hint)
    })?;
    if port.protocol == Protocol::Tcp {
        // Where the kernel lets us: the first line is in `handover`, which this one makes safe from races.
        let _ = lock_to_server(fd.as_fd(), port.host.port());
        // From now on clients wait in the backlog instead of being refused, while the service starts or restarts.
        start_listening(&fd).context(what)?;
    }
    Ok(fd)
}

fn start_listening(fd: &OwnedFd) -> nix::Result<()> {
    listen(fd, Backlog::new(4096).unwrap_or(Backlog::MAXCONN))
}

/// Whether a kept socket is still what `port` needs. The service has had it: one that was shut down, as some servers do when they
/// end, listens again; one that was made into something else is of no use any more.
fn is_usable(fd: &OwnedFd, port: &PlanPort) -> bool {
    local_address(fd) == Some(port.host)
        && nix::sys::socket::getsockopt(fd, sockopt::SockType).ok() == Some(kind(port.protocol))
        && (port.protocol == Protocol::Udp || start_listening(fd).is_ok())
}

/// A socket for each port: the kept one where it is still what the plan says, else a new one that is given to systemd to keep.
/// Kept ones that the plan does not know are taken out of the store.
pub(super) fn published(ports: &[PlanPort], stored: Vec<(String, OwnedFd)>, notify: &Notify) -> Result<Vec<Published>> {
    let mut stored: Vec<_> = stored.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let mut list = Vec::with_capacity(ports.len());
    for port in ports {
        let name = store_name(port);
        let fits = |(stored, fd): &(String, OwnedFd)| *stored == name && is_usable(fd, port);
        let kept = stored.iter().position(fits).map(|at| stored.swap_remove(at).1);
        let socket = match kept {
            Some(socket) => socket,
            None => {
                let wrong = stored.iter().any(|(stored, _)| *stored == name);
                if wrong {
                    stored.retain(|(stored, _)| *stored != name);
                    notify.remove_fd(&name).context(|| "cannot give a socket back to systemd")?;
                }
                let socket = open(port)?;
                notify.store_fd(&name, socket.as_fd()).context(|| "cannot give a socket to systemd to keep")?;
                socket
            }
        };
        list.push(Published { port: port.clone(), socket });
    }
    for (name, _) in stored {
        if !ports.iter().any(|port| store_name(port) == name) {
            notify.remove_fd(&name).context(|| "cannot give a socket back to systemd")?;
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: &str) -> PlanPort {
        PlanPort { name: "db".into(), container: 5432, protocol: Protocol::Tcp, host: host.parse().unwrap() }
    }

    #[test]
    fn a_kept_socket_is_used_again_and_a_wrong_one_is_not() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let first = published(&[port(&free.to_string())], Vec::new(), &Notify::none()).unwrap();
        std::net::TcpStream::connect(free).unwrap();
        let raw = first[0].socket.as_raw_fd();
        let stored = vec![("port-db".to_owned(), first.into_iter().next().unwrap().socket)];
        let second = published(&[port(&free.to_string())], stored, &Notify::none()).unwrap();
        assert_eq!(second[0].socket.as_raw_fd(), raw);
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stored = vec![("port-db".to_owned(), OwnedFd::from(other))];
        drop(second);
        let third = published(&[port(&free.to_string())], stored, &Notify::none()).unwrap();
        assert_eq!(local_address(&third[0].socket), Some(free));
    }

    #[test]
    fn a_taken_port_says_which_and_how_to_find_who() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = published(&[port(&address.to_string())], Vec::new(), &Notify::none()).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()));
        assert!(error.find_hint().unwrap().contains("ss -lntp"));
    }
}
