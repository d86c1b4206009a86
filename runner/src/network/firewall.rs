//! The firewall rules of a network, as data, and the two ways to put them into force.
//!
//! [`Rules`] says what holds: the subnets whose packets leave under the host's address, and which ports of the host
//! lead to which container. Each backend makes that so as a whole, in one transaction, whatever was there before.
//! So rules that a killed process left behind vanish with the next change, and nothing depends on who made which.
//!
//! What the rules do:
//! * packets from the network to elsewhere get the host's address (masquerade);
//! * packets from elsewhere to a published port of the host get the container's address, also the ones that come
//!   from another network of ours;
//! * nothing else from elsewhere reaches a container, except answers.
//!
//! Published ports on loopback addresses, and connections from the host itself or from a container of the same
//! network, have no rule: [`super::forward`] carries them.

pub(super) mod expression;
pub(super) mod iptables;
pub(super) mod nftables;

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::address::{Subnet4, Subnet6};
use super::error::NetworkError;
use super::publish::Transport;
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

/// What is to hold for one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// The network's bridge.
    pub(super) bridge: String,
    /// Its addresses.
    pub(super) subnet: Subnet4,
    /// Its IPv6 addresses.
    pub(super) subnet6: Option<Subnet6>,
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
    /// The rules for the published ports of containers. Loopback addresses have none, nor has IPv6 where the
    /// container has no address of it.
    pub(super) fn of_leases(leases: &[LeaseRecord]) -> Vec<Self> {
        let of_lease = |lease: &LeaseRecord| {
            let (address, address6) = (lease.address, lease.address6);
            let redirect = move |published: &super::publish::Published| {
                let to = match published.host.ip() {
                    ip if ip.is_loopback() => return None,
                    IpAddr::V4(_) => IpAddr::V4(address),
                    IpAddr::V6(_) => IpAddr::V6(address6?),
                };
                let to = SocketAddr::new(to, published.container_port);
                Some(Self { from: published.host, to, transport: published.transport })
            };
            lease.published.iter().filter_map(redirect).collect::<Vec<_>>()
        };
        leases.iter().flat_map(of_lease).collect()
    }
}

impl Backend {
    /// The better one that this machine has.
    pub(super) fn detect() -> Self {
        if nftables::is_supported() { Self::Nftables } else { Self::Iptables }
    }

    /// Makes the rules hold, and nothing else of the network.
    pub(super) fn install(self, network: &str, rules: &Rules) -> Result<(), NetworkError> {
        match self {
            Self::Nftables => nftables::install(rules).map_err(self.failed(network)),
            Self::Iptables => iptables::install(network, rules),
        }
    }

    /// Makes the redirects hold, where the other rules do already.
    pub(super) fn redirect(self, network: &str, rules: &Rules) -> Result<(), NetworkError> {
        match self {
            Self::Nftables => nftables::redirect(rules).map_err(self.failed(network)),
            Self::Iptables => iptables::redirect(network, rules),
        }
    }

    /// Whether the rules are in force, as far as that can be asked without a program: somebody may have emptied
    /// the firewall.
    pub(super) fn is_installed(self, network: &str, bridge: &str) -> Result<bool, NetworkError> {
        match self {
            Self::Nftables => nftables::is_installed(bridge).map_err(self.failed(network)),
            Self::Iptables => Ok(true),
        }
    }

    /// Lets the network's packets pass where another program, usually Docker, refuses to forward packets that it
    /// does not know. Does nothing elsewhere.
    pub(super) fn admit(self, network: &str, bridge: &str) -> Result<(), NetworkError> {
        match self {
            Self::Nftables => nftables::admit(bridge).map_err(self.failed(network)),
            // Its rules are in the very chains that would refuse them.
            Self::Iptables => Ok(()),
        }
    }

    /// Removes all rules of the network.
    pub(super) fn remove(self, network: &str, bridge: &str) -> Result<(), NetworkError> {
        match self {
            Self::Nftables => nftables::remove(bridge).map_err(self.failed(network)),
            Self::Iptables => iptables::remove(network, bridge),
        }
    }

    fn failed(self, network: &str) -> impl Fn(io::Error) -> NetworkError {
        let tool = match self {
            Self::Nftables => "nf_tables",
            Self::Iptables => "iptables",
        };
        move |source| NetworkError::Firewall { network: network.to_owned(), tool, source }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::publish::Published;
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
        }
    }

    #[test]
    fn only_what_the_kernel_can_redirect_has_rules() {
        let shown = |lease: LeaseRecord| {
            let show = |one: &Redirect| format!("{} {}", one.from, one.to);
            Redirect::of_leases(&[lease]).iter().map(show).collect::<Vec<_>>()
        };
        let hosts = ["0.0.0.0:8080", "[::]:8080", "127.0.0.1:1", "[::1]:1", "192.0.2.2:9"];
        let (first, last) = ("0.0.0.0:8080 10.176.0.2:80", "192.0.2.2:9 10.176.0.2:80");
        assert_eq!(shown(lease(None, &hosts)), [first, last]);
        assert_eq!(shown(lease(Some("fd00::2"), &hosts)), [first, "[::]:8080 [fd00::2]:80", last]);
    }
}
