//! The firewall rules of a network, as data, and the two ways to put them into force.
//!
//! [`Rules`] says what holds: the subnets whose packets leave under the host's address, and which ports of the host
//! lead to which container. Each backend can make that so as a whole, in one transaction, whatever was there before.
//! That is for a new network, after a crash, and whenever something is not as it should be. In between a container
//! adds its own redirects and removes them, which costs the same beside one container and beside a thousand.
//!
//! What the rules do:
//! * packets from the network to elsewhere get the host's address (masquerade);
//! * packets from elsewhere to a published port of the host get the container's address, also the ones that come
//!   from another network of ours;
//! * nothing else from elsewhere reaches a container, except answers;
//! * an internal network has neither: nothing passes between it and elsewhere.
//!
//! Published ports on loopback addresses, and connections from the host itself or from a container of the same
//! network, have no rule: [`super::forward`] carries them.

pub(super) mod expression;
pub(super) mod iptables;
pub(super) mod nftables;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::nftables::Tables;
use super::address::{Subnet4, Subnet6};
use super::error::NetworkError;
use super::publish::{Published, Transport};
use super::record::LeaseRecord;

/// Which firewall of the kernel has the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// nf_tables, which we speak to ourselves.
    Nftables,
    /// The older xtables, through the programs `iptables-restore` and `ip6tables-restore`.
    Iptables,
}

/// What passes between a network and elsewhere, besides answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// Packets to elsewhere get the host's address, and ports of the host lead to published ones.
    #[default]
    Nat,
    /// The same, and all ports of containers can be reached by who has a route to them.
    NatUnprotected,
    /// No address is changed, and published ports of containers can be reached by who has a route to them.
    Routed,
    /// Nothing, and the bridge has no address; for internal networks.
    Isolated,
}

/// That of both families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayModes {
    /// Of IPv4.
    pub inet: GatewayMode,
    /// Of IPv6.
    pub inet6: GatewayMode,
}

impl GatewayModes {
    /// Whether published ports are let through at containers' own addresses.
    pub(super) fn routes(self) -> bool {
        self.inet == GatewayMode::Routed || self.inet6 == GatewayMode::Routed
    }

    /// Whether addresses of a family are changed.
    fn translates(self, is_version_4: bool) -> bool {
        matches!(self.of(is_version_4), GatewayMode::Nat | GatewayMode::NatUnprotected)
    }

    fn of(self, is_version_4: bool) -> GatewayMode {
        if is_version_4 { self.inet } else { self.inet6 }
    }
}

/// What is to hold for one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// The network's bridge.
    pub(super) bridge: String,
    /// Its addresses.
    pub(super) subnet: Subnet4,
    /// Its IPv6 addresses.
    pub(super) subnet6: Option<Subnet6>,
    /// Whether packets to elsewhere get the host's address.
    pub(super) masquerade: bool,
    /// What else passes, by family.
    pub(super) modes: GatewayModes,
    /// Whether nothing passes between the network and elsewhere.
    pub(super) internal: bool,
    /// Where packets to ports of the host go.
    pub(super) redirects: Vec<Redirect>,
}

/// Packets to `from` go to `to`. Both are of the same family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Redirect {
    /// An address of the host, or the unspecified one for all of them.
    pub(super) from: SocketAddr,
    /// A container's.
    pub(super) to: SocketAddr,
    /// How data is carried.
    pub(super) transport: Transport,
}

impl Redirect {
    /// The rules for the published ports of a container. Loopback addresses have none, nor has IPv6 where the
    /// container has no address of it.
    pub(super) fn of_lease(lease: &LeaseRecord, modes: GatewayModes) -> Vec<Self> {
        let redirect = |published: &Published| {
            let to = match published.host.ip() {
                ip if ip.is_loopback() => return None,
                IpAddr::V4(_) => IpAddr::V4(lease.address),
                IpAddr::V6(_) => IpAddr::V6(lease.address6?),
            };
            let to = SocketAddr::new(to, published.container_port);
            // Where addresses are not changed it is the container's own that is let through.
            let from = if modes.translates(to.is_ipv4()) { published.host } else { to };
            Some(Self { from, to, transport: published.transport })
        };
        let mut all: Vec<Self> = lease.published.iter().filter_map(redirect).collect();
        // Two ports of the host may lead to one of the container.
        let mut seen = HashSet::new();
        all.retain(|redirect| seen.insert((redirect.from, redirect.transport)));
        all
    }

    /// The rules for the published ports of containers. Where two have the same port, one of them is about to end,
    /// and the first of the list has it.
    pub(super) fn of_leases<'l>(
        leases: impl IntoIterator<Item = &'l LeaseRecord>,
        modes: GatewayModes,
    ) -> Vec<Self> {
        let mut taken = HashSet::new();
        let all = leases.into_iter().flat_map(|lease| Self::of_lease(lease, modes));
        all.filter(|redirect| taken.insert((redirect.from, redirect.transport))).collect()
    }
}

/// What happens to redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// They come into force; none of them was.
    Add,
    /// They end; all of them were in force.
    Remove,
}

impl Backend {
    /// The better one that this machine has.
    pub(super) fn detect() -> Self {
        if Tables::are_supported() { Self::Nftables } else { Self::Iptables }
    }

    /// Opens it for one network.
    pub(super) fn open(self, network: &str) -> Result<Firewall, NetworkError> {
        let tables = match self {
            Self::Nftables => Some(Tables::open().map_err(|source| NetworkError::Firewall {
                network: network.to_owned(),
                tool: NFTABLES,
                source,
            })?),
            Self::Iptables => None,
        };
        Ok(Firewall { network: network.to_owned(), tables })
    }
}

/// After so long, what was removed from nf_tables has been freed: its readers have a grace period of the kernel's, some
/// 10 ms.
const GRACE: Duration = Duration::from_millis(100);

/// What messages call the newer firewall.
const NFTABLES: &str = "nf_tables";

/// An open firewall, for the rules of one network.
///
/// The kernel closes a connection to nf_tables only when nothing waits any more to be freed, some milliseconds after
/// something was removed. So one connection does everything for a container, and lives as long as it.
#[derive(Debug)]
pub(super) struct Firewall {
    network: String,
    /// Without them it is the older one, whose programs do everything.
    tables: Option<Tables>,
}

impl Firewall {
    /// Makes the rules hold, and nothing else of the network.
    pub(super) fn install(&mut self, rules: &Rules) -> Result<(), NetworkError> {
        match &mut self.tables {
            Some(tables) => tables.install(rules).map_err(failed(&self.network)),
            None => iptables::install(&self.network, rules),
        }
    }

    /// Adds or removes redirects, and leaves those of other containers alone. It fails as a whole, and changes
    /// nothing, where the rules are not as they should be.
    pub(super) fn change(
        &mut self,
        bridge: &str,
        change: Change,
        redirects: &[Redirect],
    ) -> Result<(), NetworkError> {
        match &mut self.tables {
            _ if redirects.is_empty() => Ok(()),
            Some(tables) => tables.change(bridge, change, redirects).map_err(failed(&self.network)),
            None => iptables::change(&self.network, bridge, change, redirects),
        }
    }

    /// Whether the rules are in force, as far as that can be asked without a program: somebody may have emptied
    /// the firewall.
    pub(super) fn is_installed(&mut self, bridge: &str) -> Result<bool, NetworkError> {
        match &mut self.tables {
            Some(tables) => tables.is_installed(bridge).map_err(failed(&self.network)),
            None => Ok(true),
        }
    }

    /// Lets the network's packets pass where another program, usually Docker, refuses to forward packets that it
    /// does not know. Does nothing elsewhere.
    pub(super) fn admit(&mut self, bridge: &str) -> Result<(), NetworkError> {
        match &mut self.tables {
            Some(tables) => tables.admit(bridge).map_err(failed(&self.network)),
            // Its rules are in the very chains that would refuse them.
            None => Ok(()),
        }
    }

    /// One of a network that has no rules.
    pub(super) fn none(network: &str) -> Self {
        Self { network: network.to_owned(), tables: None }
    }

    /// Closes the connection later, when the kernel has nothing to wait for: until then it would let nobody else
    /// change rules either. Nobody waits for this; if we end before, the kernel closes it.
    pub(super) fn close(self) {
        let thread = std::thread::Builder::new().name("lap-firewall".to_owned());
        let close = move || {
            // The kernel tells nobody when it has freed something, and nobody wakes this thread.
            std::thread::park_timeout(GRACE);
            drop(self);
        };
        // Without a thread it is closed here and now.
        drop(thread.spawn(close));
    }

    /// Removes all rules of the network.
    pub(super) fn remove(&mut self, bridge: &str) -> Result<(), NetworkError> {
        match &mut self.tables {
            Some(tables) => tables.remove(bridge).map_err(failed(&self.network)),
            None => iptables::remove(&self.network, bridge),
        }
    }
}

fn failed(network: &str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Firewall { network: network.to_owned(), tool: NFTABLES, source }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn lease(address6: Option<&str>, hosts: &[&str]) -> LeaseRecord {
        let published = |host: &&str| Published {
            host: host.parse().unwrap(),
            container_port: 80,
            transport: Transport::Tcp,
        };
        LeaseRecord {
            container: "c".to_owned(),
            address: Ipv4Addr::new(10, 176, 0, 2),
            address6: address6.map(|text| text.parse().unwrap()),
            interface: "lv0".to_owned(),
            published: hosts.iter().map(published).collect(),
            names: Vec::new(),
        }
    }

    #[test]
    fn only_what_the_kernel_can_redirect_has_rules() {
        let shown = |lease: LeaseRecord| {
            let show = |one: &Redirect| format!("{} {}", one.from, one.to);
            Redirect::of_leases([&lease], GatewayModes::default()).iter().map(show).collect::<Vec<_>>()
        };
        let hosts = ["0.0.0.0:8080", "[::]:8080", "127.0.0.1:1", "[::1]:1", "192.0.2.2:9"];
        let (first, last) = ("0.0.0.0:8080 10.176.0.2:80", "192.0.2.2:9 10.176.0.2:80");
        assert_eq!(shown(lease(None, &hosts)), [first, last]);
        assert_eq!(shown(lease(Some("fd00::2"), &hosts)), [first, "[::]:8080 [fd00::2]:80", last]);
    }

    #[test]
    fn a_port_leads_to_one_container() {
        let (ours, other) =
            (lease(None, &["0.0.0.0:1", "0.0.0.0:2"]), lease(None, &["0.0.0.0:2", "0.0.0.0:3"]));
        let other = LeaseRecord { address: Ipv4Addr::new(10, 176, 0, 3), ..other };
        let all = Redirect::of_leases([&ours, &other], GatewayModes::default());
        let show = |one: &Redirect| format!("{} {}", one.from.port(), one.to.ip());
        let shown: Vec<String> = all.iter().map(show).collect();
        assert_eq!(shown, ["1 10.176.0.2", "2 10.176.0.2", "3 10.176.0.3"]);
    }
}
