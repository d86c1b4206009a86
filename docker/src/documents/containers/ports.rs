//! Ports of containers. The forms are Docker's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use engine::containers::Container;
use engine::network::{ContainerPort, Published};
use serde_json::{Value, json};

/// The ports that a running container is said to listen on, each with where the host offers it.
pub fn by_port(container: &Container) -> BTreeMap<ContainerPort, Vec<SocketAddr>> {
    let Some(endpoint) = &container.state.network else { return BTreeMap::new() };
    let mut all: BTreeMap<ContainerPort, Vec<SocketAddr>> =
        container.document.exposed.iter().map(|port| (*port, Vec::new())).collect();
    for Published { host, container_port, transport } in &endpoint.published {
        let port = ContainerPort { number: *container_port, transport: *transport };
        all.entry(port).or_default().push(*host);
    }
    all
}

/// `NetworkSettings.Ports` of `lap inspect`; `null` is a port that the host does not offer.
pub fn document(container: &Container) -> Value {
    let binding =
        |host: &SocketAddr| json!({ "HostIp": host.ip().to_string(), "HostPort": host.port().to_string() });
    let ports = by_port(container).into_iter().map(|(port, hosts)| {
        let hosts: Vec<Value> = hosts.iter().map(binding).collect();
        (port.to_string(), if hosts.is_empty() { Value::Null } else { hosts.into() })
    });
    ports.collect::<serde_json::Map<_, _>>().into()
}

/// The column of `lap ps`.
pub fn column(container: &Container) -> String {
    summary(&by_port(container))
}

/// Ports with the same number on both sides are shown as ranges, first; then the others one by one.
fn summary(all: &BTreeMap<ContainerPort, Vec<SocketAddr>>) -> String {
    let (mut ranges, mut others) = (Ranges::default(), Vec::new());
    for (port, hosts) in all {
        if hosts.is_empty() {
            ranges.add(String::new(), *port);
        }
        for host in hosts {
            match host.port() == port.number {
                true => ranges.add(SocketAddr::new(host.ip(), 0).to_string(), *port),
                false => others.push(format!("{host}->{port}")),
            }
        }
    }
    ranges.shown().chain(others).collect::<Vec<_>>().join(", ")
}

/// Ranges of ports, by an address of the host with a port of 0 behind it, and nothing for ports that are not
/// offered.
#[derive(Default)]
struct Ranges(Vec<Range>);

struct Range {
    address: String,
    first: ContainerPort,
    last: u16,
}

impl Ranges {
    /// Adds a port; they come in order.
    fn add(&mut self, address: String, port: ContainerPort) {
        let is_next = |range: &&mut Range| {
            range.address == address
                && range.first.transport == port.transport
                && range.last.checked_add(1) == Some(port.number)
        };
        match self.0.iter_mut().find(is_next) {
            Some(range) => range.last = port.number,
            None => self.0.push(Range { address, first: port, last: port.number }),
        }
    }

    fn shown(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|Range { address, first, last }| {
            let ports = match first.number == last {
                true => last.to_string(),
                false => format!("{}-{last}", first.number),
            };
            let transport = first.transport;
            match address.strip_suffix(":0") {
                Some(host) => format!("{host}:{ports}->{ports}/{transport}"),
                None => format!("{ports}/{transport}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ports: &[(&str, &[&str])]) -> String {
        let port = |(port, hosts): &(&str, &[&str])| {
            (port.parse().unwrap(), hosts.iter().map(|host| host.parse().unwrap()).collect())
        };
        summary(&ports.iter().map(port).collect())
    }

    #[test]
    fn ports_are_shown_as_in_docker() {
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[("80", &[])]), "80/tcp");
        let both: &[&str] = &["0.0.0.0:8080", "[::]:8080"];
        assert_eq!(shown(&[("80", both)]), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        let (first, second): (&[&str], &[&str]) = (&["0.0.0.0:90", "[::]:90"], &["0.0.0.0:91", "[::]:91"]);
        assert_eq!(
            shown(&[("90", first), ("91", second), ("53/udp", &[]), ("93", &["127.0.0.1:1"])]),
            "53/udp, 0.0.0.0:90-91->90-91/tcp, [::]:90-91->90-91/tcp, 127.0.0.1:1->93/tcp"
        );
        assert_eq!(shown(&[("80", &[]), ("81", &[]), ("81/udp", &[])]), "80-81/tcp, 81/udp");
    }
}
