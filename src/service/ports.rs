//! Published ports against the host: free or taken, by whom, and which one is free instead.

use crate::error::{Error, Result};
use crate::resolve::{Plan, PlanPort, Protocol};
use crate::state::{PortUse, Services};
use nix::unistd::{Uid, User};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Fails when a port of `plan` cannot be had, naming who has it and a free one.
pub(super) fn check(plan: &Plan, services: &Services<'_>) -> Result<()> {
    let others = services.ports(Some(&plan.name))?;
    for (at, port) in plan.ports.iter().enumerate() {
        let own = &plan.ports[..at];
        if let Some(twin) = own.iter().find(|twin| twin.protocol == port.protocol && twin.host == port.host) {
            return Err(Error::usage(format!("the ports `{}` and `{}` are both on {}", twin.name, port.name, port.host)));
        }
        let taken = |by: &str| {
            let error = Error::failed(format!("port {} (`{}`) is taken by {by}", port.host, port.name));
            match free_instead(port, &others, own) {
                Some(free) => error.hint(format!("choose another, for instance: --port {}={free}", port.name)),
                None => error.hint(format!("choose another with --port {}=ADDRESS:PORT", port.name)),
            }
        };
        if let Some(other) = others.iter().find(|other| other.clashes(port.protocol, port.host)) {
            return Err(taken(&format!("the service `{}`", other.service)));
        }
        match try_bind(port.protocol, port.host) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(taken(&owner(port.protocol, port.host))),
            Err(error) => return Err(unbindable(port, error)),
        }
    }
    Ok(())
}

fn unbindable(port: &PlanPort, error: io::Error) -> Error {
    let kind = error.kind();
    let failure = Error::failed(format!("port {} (`{}`) cannot be listened on", port.host, port.name)).because(error);
    match kind {
        io::ErrorKind::PermissionDenied => {
            let free = SocketAddr::new(port.host.ip(), 8000 + port.host.port() % 1000);
            failure.hint(format!(
                "ports below `net.ipv4.ip_unprivileged_port_start` are for root; choose another: --port {}={free}",
                port.name
            ))
        }
        io::ErrorKind::AddrNotAvailable => failure.hint("this machine has no such address; `ip address` lists those it has"),
        _ => failure,
    }
}

fn try_bind(protocol: Protocol, address: SocketAddr) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    }
}

/// The next port that nobody listens on and no service was given.
fn free_instead(port: &PlanPort, others: &[PortUse], own: &[PlanPort]) -> Option<SocketAddr> {
    let numbers = (1..=200).filter_map(|step| port.host.port().checked_add(step));
    let free = |address: &SocketAddr| {
        !others.iter().any(|other| other.clashes(port.protocol, *address))
            && !own.iter().any(|own| own.protocol == port.protocol && own.host.port() == address.port())
            && try_bind(port.protocol, *address).is_ok()
    };
    numbers.map(|number| SocketAddr::new(port.host.ip(), number)).find(free)
}

/// Says who listens on `address`, as far as an unprivileged user can know.
fn owner(protocol: Protocol, address: SocketAddr) -> String {
    let tables = match protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let sockets = tables.iter().flat_map(|table| parse(&fs::read_to_string(table).unwrap_or_default(), protocol));
    let mut matching = sockets.filter(|socket| socket.clashes(address));
    let Some(socket) = matching.next() else { return "another process".to_owned() };
    if socket.uid != Uid::current().as_raw() {
        let name = User::from_uid(Uid::from_raw(socket.uid)).ok().flatten().map(|user| user.name);
        return format!("a process of another user, {}", name.map_or(format!("uid {}", socket.uid), |name| format!("`{name}`")));
    }
    match process_with_socket(Path::new("/proc"), socket.inode) {
        Some((pid, name)) => format!("process {pid} (`{name}`)"),
        None => "one of your processes".to_owned(),
    }
}

/// A line of /proc/net/{tcp,udp}{,6}.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Socket {
    fn clashes(&self, address: SocketAddr) -> bool {
        let (own, other) = (self.local.ip().to_canonical(), address.ip().to_canonical());
        self.local.port() == address.port() && (own == other || own.is_unspecified() || other.is_unspecified())
    }
}

/// The sockets that receive: listening ones for TCP, all for UDP (proc(5)).
fn parse(table: &str, protocol: Protocol) -> Vec<Socket> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let listening = protocol == Protocol::Udp || fields.get(3).copied() == Some("0A");
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let local = SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
        let socket = Socket { local, uid: fields.get(7)?.parse().ok()?, inode: fields.get(9)?.parse().ok()? };
        listening.then_some(socket)
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Addresses are written as 32-bit words in the byte order of the host.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..hex.len() / 8)
        .map(|at| hex.get(at * 8..at * 8 + 8).and_then(|word| u32::from_str_radix(word, 16).ok()).map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let bytes = words.concat();
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

/// Looks through the descriptors of our own processes.
fn process_with_socket(proc: &Path, inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir(proc).ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok().map(|pid| (pid, entry.path())))
        .filter(|(_, path)| fs::metadata(path).is_ok_and(|meta| meta.uid() == Uid::current().as_raw()))
        .find(|(_, path)| {
            let descriptors = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
            descriptors.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str()))
        })
        .map(|(pid, path)| {
            let name = fs::read(path.join("comm")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&name).trim_end().to_owned())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: SocketAddr) -> PlanPort {
        PlanPort { name: "db".into(), container: 5432, protocol: Protocol::Tcp, host }
    }

    #[test]
    fn the_process_that_listens_is_found_and_a_free_port_proposed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(owner(Protocol::Tcp, address), format!("process {} (`{}`)", std::process::id(), name.trim_end()));
        assert_eq!(try_bind(Protocol::Tcp, address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let other = PortUse {
            service: "orders".parse().unwrap(),
            protocol: Protocol::Tcp,
            host: SocketAddr::new(address.ip(), address.port() + 1),
        };
        let free = free_instead(&port(address), &[other], &[]).unwrap();
        assert!(free.port() > address.port() + 1);
        assert!(TcpListener::bind(free).is_ok());
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 26137 1 0 100 0 0 10 0\n   \
            1: 0100007F:1539 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 26138 1 0 100 0 0 10 0\n   \
            2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7 1\nnonsense\n";
        let sockets = parse(table, Protocol::Tcp);
        if cfg!(target_endian = "little") {
            assert_eq!(sockets[0], Socket { local: "127.0.0.1:5432".parse().unwrap(), uid: 1000, inode: 26137 });
        }
        assert_eq!(sockets[1], Socket { local: "[::]:80".parse().unwrap(), uid: 0, inode: 7 });
        assert_eq!(sockets.len(), 2);
        assert!(sockets[1].clashes("127.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_port_for_root_or_a_foreign_address_says_so() {
        let error = unbindable(&port("127.0.0.1:80".parse().unwrap()), io::ErrorKind::PermissionDenied.into());
        assert!(error.find_hint().unwrap().contains("--port db=127.0.0.1:8080"));
        let failure = try_bind(Protocol::Tcp, "192.0.2.1:1".parse().unwrap()).unwrap_err();
        assert!(unbindable(&port("192.0.2.1:1".parse().unwrap()), failure).find_hint().unwrap().contains("no such address"));
    }
}
