//! Which service has which port of the host.

use crate::resolve::{Plan, Protocol, ServiceName};
use std::net::{IpAddr, SocketAddr};

/// A published port and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUse {
    /// Who publishes it.
    pub service: ServiceName,
    /// Transport.
    pub protocol: Protocol,
    /// Where.
    pub host: SocketAddr,
}

impl PortUse {
    /// The ports of a plan.
    pub fn of(plan: &Plan) -> impl Iterator<Item = PortUse> + '_ {
        plan.ports.iter().map(|port| PortUse { service: plan.name.clone(), protocol: port.protocol, host: port.host })
    }

    /// Whether both cannot listen at once.
    #[must_use]
    pub fn clashes(&self, protocol: Protocol, host: SocketAddr) -> bool {
        self.protocol == protocol && self.host.port() == host.port() && overlap(self.host.ip(), host.ip())
    }
}

/// The same address, or one of them is the wildcard that covers the other (`::` covers IPv4 too, `0.0.0.0` only IPv4).
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(address) => address.is_unspecified() && (narrow.is_ipv4() || narrow.is_unspecified()),
        IpAddr::V6(address) => address.is_unspecified(),
    };
    a == b || covers(a, b) || covers(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_addresses() {
        let clash = |a: &str, b: &str| {
            let one = PortUse { service: "a".parse().unwrap(), protocol: Protocol::Tcp, host: a.parse().unwrap() };
            one.clashes(Protocol::Tcp, b.parse().unwrap())
        };
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
        ] {
            assert_eq!((clash(a, b), clash(b, a)), (expected, expected), "{a} {b}");
        }
        let udp = PortUse { service: "a".parse().unwrap(), protocol: Protocol::Udp, host: "127.0.0.1:1".parse().unwrap() };
        assert!(!udp.clashes(Protocol::Tcp, "127.0.0.1:1".parse().unwrap()));
    }
}
