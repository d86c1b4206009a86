//! Which networks a container is in, and what a network is to be like.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use runner::network::address::MacAddress;

/// A network that a container is to be in, and what it has there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkUse {
    /// The network's name or id.
    pub network: String,
    /// Further names by which the network's other containers find it.
    pub aliases: Vec<String>,
    /// Its address; `None` is a free one.
    pub address: Option<Ipv4Addr>,
    /// Its IPv6 address; `None` is one that goes with the other.
    pub address6: Option<Ipv6Addr>,
    /// The address of its card; `None` is one that goes with the IPv4 address.
    pub mac: Option<MacAddress>,
    /// Packets to elsewhere leave by the network whose number is the highest.
    pub gateway_priority: i64,
    /// Options of the driver for this container, by their names.
    pub options: BTreeMap<String, String>,
    /// Addresses of its link that its card has besides.
    pub link_local: Vec<IpAddr>,
    /// Other containers in the network, and names that only this one has for them.
    pub links: Vec<(String, String)>,
}

/// `lap network create`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkCreation {
    /// Its name.
    pub name: String,
    /// Subnets, as `10.1.2.0/24`; without one of IPv4 a free one is chosen.
    pub subnets: Vec<String>,
    /// The bridge's addresses.
    pub gateways: Vec<IpAddr>,
    /// Parts of the subnets that addresses are chosen from.
    pub ranges: Vec<String>,
    /// Addresses that no container gets, with the names of who has them.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether it has IPv6 also without a subnet of it.
    pub ipv6: bool,
    /// Whether there is no way out.
    pub internal: bool,
    /// Whether containers may be added by hand, which they may here in any case; it is shown.
    pub attachable: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What makes it: `bridge`, `macvlan` or `ipvlan`; nothing is `bridge`.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}
