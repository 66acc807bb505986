//! Published ports against the host: free or taken, and by whom.

use super::Context;
use crate::error::{Error, Result};
use crate::resolve::{Host, Plan, PlanPort, Protocol, ServiceName, TakenPort};
use crate::state::Services;
use nix::unistd::{Uid, User};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What [`crate::resolve::plan`] has to know of this machine's ports, for a service called `name`.
pub(super) fn host(context: &Context, name: &ServiceName) -> Result<Host> {
    let default = context.settings.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let mut host = Host::new(default);
    let lowest = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    host.lowest_port = lowest.and_then(|text| text.trim().parse().ok()).unwrap_or(host.lowest_port);
    // Services first: of a port that a running one listens on, its name tells more than its process.
    for used in Services::new(&context.paths).ports(Some(name))? {
        host.taken.push(TakenPort { place: used.host, protocol: used.protocol, by: format!("the service `{}`", used.service) });
    }
    host.taken.extend(listening(Path::new("/proc")));
    Ok(host)
}

/// Asks the host itself for each port of `plan`, right before the service is written down.
pub(super) fn check(plan: &Plan, services: &Services<'_>) -> Result<()> {
    let others = services.ports(Some(&plan.name))?;
    for port in &plan.ports {
        let other = others.iter().find(|other| other.clashes(port.protocol, port.host));
        if let Some(other) = other {
            return Err(Error::failed(format!(
                "port {} (`{}`) was just taken by the service `{}`",
                port.host, port.name, other.service
            ))
            .hint(format!("try again; or choose another with --port {}=PORT", port.name)));
        }
        try_bind(port.protocol, port.host).map_err(|error| unbindable(port, error))?;
    }
    Ok(())
}

fn unbindable(port: &PlanPort, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; `ip address` lists those it has".to_owned(),
        io::ErrorKind::PermissionDenied => format!("low ports are for root; choose another with --port {}=PORT", port.name),
        _ => format!("choose another with --port {}=PORT", port.name),
    };
    Error::failed(format!("port {} (`{}`) cannot be listened on", port.host, port.name)).because(error).hint(hint)
}

fn try_bind(protocol: Protocol, address: SocketAddr) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    }
}

/// Everything that listens on this host, and who it is as far as an unprivileged user can know.
fn listening(proc: &Path) -> Vec<TakenPort> {
    let tables = [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];
    let own = Uid::current().as_raw();
    let mut processes = None;
    let mut list = Vec::new();
    for (table, protocol) in tables {
        let text = fs::read_to_string(proc.join("net").join(table)).unwrap_or_default();
        for socket in parse(&text, protocol) {
            let by = if socket.uid == own {
                let processes = processes.get_or_insert_with(|| own_sockets(proc));
                processes.get(&socket.inode).cloned().unwrap_or_else(|| "one of your processes".to_owned())
            } else {
                let name = User::from_uid(Uid::from_raw(socket.uid)).ok().flatten().map(|user| user.name);
                let user = name.map_or(format!("uid {}", socket.uid), |name| format!("`{name}`"));
                format!("a process of another user, {user}")
            };
            list.push(TakenPort { place: socket.local, protocol, by });
        }
    }
    list
}

/// A line of /proc/net/{tcp,udp}{,6}.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    uid: u32,
    inode: u64,
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

/// The sockets of our own processes, by inode, with the process.
fn own_sockets(proc: &Path) -> HashMap<u64, String> {
    let own = Uid::current().as_raw();
    let mut sockets = HashMap::new();
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|_| process.metadata().is_ok_and(|meta| meta.uid() == own)) else { continue };
        let name = fs::read(process.path().join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name);
        // A process of another user namespace keeps its descriptors to itself.
        for fd in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                sockets.entry(inode).or_insert_with(|| format!("process {pid} (`{}`)", name.trim_end()));
            }
        }
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let taken = listening(Path::new("/proc"));
        let taken = taken.iter().find(|taken| taken.place == address && taken.protocol == Protocol::Tcp).unwrap();
        assert_eq!(taken.by, format!("process {} (`{}`)", std::process::id(), name.trim_end()));
        assert_eq!(try_bind(Protocol::Tcp, address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
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
    }

    #[test]
    fn a_foreign_address_says_so() {
        let port = PlanPort { name: "db".into(), container: 1, protocol: Protocol::Tcp, host: "192.0.2.1:1".parse().unwrap() };
        let failure = try_bind(Protocol::Tcp, "192.0.2.1:4000".parse().unwrap()).unwrap_err();
        assert!(unbindable(&port, failure).find_hint().unwrap().contains("no such address"));
    }
}
