//! Where ports are published.

use super::request::PortOverride;
use super::{PlanPort, Protocol};
use crate::error::{Error, Result};
use crate::recipe::{Name, Port, did_you_mean};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What the caller knows of this machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where ports are published without another wish.
    pub default_address: IpAddr,
    /// Ports that are in use or promised to another service.
    pub taken: Vec<TakenPort>,
    /// Least port that a user may bind (`net.ipv4.ip_unprivileged_port_start`).
    pub lowest_port: u16,
}

impl Host {
    /// A machine with nothing taken and the kernel's usual lowest port.
    #[must_use]
    pub fn new(default_address: IpAddr) -> Host {
        Host { default_address, taken: Vec::new(), lowest_port: 1024 }
    }

    fn taken_by(&self, place: SocketAddr, protocol: Protocol) -> Option<&TakenPort> {
        self.taken.iter().find(|taken| taken.protocol == protocol && clash(taken.place, place))
    }
}

/// A port that cannot be had.
#[derive(Clone, Debug)]
pub struct TakenPort {
    /// Address and number.
    pub place: SocketAddr,
    /// Transport.
    pub protocol: Protocol,
    /// By whom, e.g. ``service `postgres@15` ``, `nginx (process 812)`.
    pub by: String,
}

/// Whether both cannot be listened on at one time.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    // `::` takes IPv4 too unless told otherwise, so it is taken to meet every address.
    let meets = |a: IpAddr, b: IpAddr| a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || meets(a.ip(), b.ip()) || meets(b.ip(), a.ip()))
}

/// The recipe's ports at the places the user or the recipe says.
pub(super) fn publish(ports: &BTreeMap<Name, Port>, wishes: &[PortOverride], host: &Host) -> Result<Vec<PlanPort>> {
    let mut chosen: BTreeMap<&Name, &PortOverride> = BTreeMap::new();
    for wish in wishes {
        chosen.insert(wanted(ports, wish)?, wish);
    }
    let mut plan: Vec<PlanPort> = Vec::with_capacity(ports.len());
    for (name, port) in ports {
        let wish = chosen.get(name);
        let number = wish.and_then(|wish| wish.number).unwrap_or(port.default.unwrap_or(port.container).get());
        let address = wish.and_then(|wish| wish.address).unwrap_or(host.default_address);
        let place = SocketAddr::new(address, number);
        let taken_here =
            |place: SocketAddr| plan.iter().find(|other| other.protocol == port.protocol && clash(other.host, place));
        let free = || {
            let next = number.checked_add(1).unwrap_or(host.lowest_port).max(host.lowest_port);
            let mut numbers = (next..=u16::MAX).chain(host.lowest_port..next).map(|number| SocketAddr::new(address, number));
            numbers.find(|place| host.taken_by(*place, port.protocol).is_none() && taken_here(*place).is_none())
        };
        let hint = |error: Error| match free() {
            // The address only where the user gave one: the shortest command that works.
            Some(place) if wish.is_some_and(|wish| wish.address.is_some()) => {
                error.hint(format!("{place} is free: `--port {name}={place}`"))
            }
            Some(place) => error.hint(format!("{} is free: `--port {name}={}`", place.port(), place.port())),
            None => error,
        };
        if number < host.lowest_port {
            let what = format!("port {place} (`{name}`) cannot be listened on: a user gets ports from {} on", host.lowest_port);
            return Err(hint(Error::host(what)));
        }
        if let Some(taken) = host.taken_by(place, port.protocol) {
            return Err(hint(Error::failed(format!("port {place} (`{name}`) is taken by {}", taken.by))));
        }
        if let Some(other) = taken_here(place) {
            return Err(hint(Error::usage(format!("port {place} is wanted for both `{}` and `{name}`", other.name))));
        }
        plan.push(PlanPort { name: name.to_string(), container: port.container.get(), protocol: port.protocol, host: place });
    }
    Ok(plan)
}

/// Which port a wish is for.
fn wanted<'a>(ports: &'a BTreeMap<Name, Port>, wish: &PortOverride) -> Result<&'a Name> {
    let names = || ports.keys().map(Name::as_str);
    let Some(text) = &wish.port else {
        let mut all = ports.keys();
        return match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Error::usage("which port is not said").hint(known(ports))),
        };
    };
    let by_number = |number: u16| ports.iter().find(|(_, port)| port.container.get() == number).map(|(name, _)| name);
    let by_name = ports.keys().find(|name| name.as_str() == text);
    by_name.or_else(|| text.parse().ok().and_then(by_number)).ok_or_else(|| {
        let near = did_you_mean(text, names()).map(|near| format!("{near} ")).unwrap_or_default();
        Error::usage(format!("there is no port `{}`", text.escape_debug())).hint(format!("{near}{}", known(ports)))
    })
}

fn known(ports: &BTreeMap<Name, Port>) -> String {
    let list: Vec<String> = ports.iter().map(|(name, port)| format!("{name} ({})", port.container)).collect();
    if list.is_empty() { "this service has no ports".into() } else { format!("ports: {}", list.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn ports(text: &str) -> BTreeMap<Name, Port> {
        #[derive(serde::Deserialize)]
        struct Table {
            ports: BTreeMap<Name, Port>,
        }
        toml::from_str::<Table>(text).unwrap().ports
    }

    fn two() -> BTreeMap<Name, Port> {
        ports("[ports.db]\ncontainer = 5432\n[ports.web]\ncontainer = 80\ndefault = 8080")
    }

    fn host(taken: &[(&str, Protocol)]) -> Host {
        let taken = taken.iter().map(|(place, protocol)| TakenPort {
            place: place.parse().unwrap(),
            protocol: *protocol,
            by: "nginx (process 8)".into(),
        });
        Host { taken: taken.collect(), ..Host::new([127, 0, 0, 1].into()) }
    }

    fn places(wishes: &[&str], host: &Host) -> Result<Vec<String>> {
        let wishes: Vec<PortOverride> = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        Ok(publish(&two(), &wishes, host)?.iter().map(|port| format!("{} {} {}", port.name, port.container, port.host)).collect())
    }

    #[test]
    fn wishes_replace_what_they_name() {
        let free = host(&[]);
        assert_eq!(places(&[], &free).unwrap(), ["db 5432 127.0.0.1:5432", "web 80 127.0.0.1:8080"]);
        let wishes = ["db=5433", "80=[::]", "db=10.0.0.1:5434"];
        assert_eq!(places(&wishes, &free).unwrap(), ["db 5432 10.0.0.1:5434", "web 80 [::]:8080"]);
    }

    #[test]
    fn a_taken_port_says_by_whom_and_a_free_one() {
        let busy = host(&[("0.0.0.0:5432", Protocol::Tcp), ("127.0.0.1:5433", Protocol::Tcp), ("[::]:5434", Protocol::Tcp)]);
        let error = places(&[], &busy).unwrap_err();
        assert_eq!(error.kind(), Kind::Failed);
        assert_eq!(error.to_string(), "port 127.0.0.1:5432 (`db`) is taken by nginx (process 8)");
        assert_eq!(error.find_hint(), Some("5435 is free: `--port db=5435`"));
        let error = places(&["db=127.0.0.2:5432"], &busy).unwrap_err();
        assert_eq!(error.find_hint(), Some("127.0.0.2:5433 is free: `--port db=127.0.0.2:5433`"));
        assert!(places(&["db=127.0.0.2:5433"], &busy).is_ok());
        assert!(places(&[], &host(&[("127.0.0.1:5432", Protocol::Udp)])).is_ok());
        let last = host(&[("127.0.0.1:65535", Protocol::Tcp)]);
        assert_eq!(places(&["db=65535"], &last).unwrap_err().find_hint(), Some("1024 is free: `--port db=1024`"));
    }

    #[test]
    fn low_ports_and_clashing_wishes_are_refused() {
        let error = places(&["web=80"], &host(&[])).unwrap_err();
        assert_eq!((error.kind(), error.find_hint()), (Kind::HostCannot, Some("1024 is free: `--port web=1024`")));
        let error = places(&["db=8080"], &host(&[])).unwrap_err();
        assert_eq!(error.to_string(), "port 127.0.0.1:8080 is wanted for both `db` and `web`");
    }

    #[test]
    fn unknown_ports_are_answered_with_those_there_are() {
        let error = places(&["we=8081"], &host(&[])).unwrap_err();
        assert_eq!(error.find_hint(), Some("did you mean `web`? ports: db (5432), web (80)"));
        assert_eq!(places(&["8081"], &host(&[])).unwrap_err().to_string(), "which port is not said");
        let one = ports("[ports.db]\ncontainer = 5432");
        assert_eq!(publish(&one, &["5433".parse().unwrap()], &host(&[])).unwrap()[0].host.port(), 5433);
    }
}
