//! What a container has of its network, as its supervisor writes it down for everybody.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address::MacAddress;
use super::publish::Published;

/// A container's part of a network, while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its IPv4 address.
    pub inet: Option<InetEndpoint>,
    /// Its IPv6 address.
    pub inet6: Option<InetEndpoint>,
    /// The address of its network card, if we gave it one.
    pub mac: Option<MacAddress>,
    /// The ports that the host offers.
    pub published: Vec<Published>,
    /// The user-defined network, if it is one.
    #[serde(default)]
    pub network: Option<NetworkName>,
}

/// A user-defined network, and what a container is called there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkName {
    /// The network's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The names by which others find the container.
    pub names: Vec<String>,
}

/// An address, and what is around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InetEndpoint {
    /// The address.
    pub address: IpAddr,
    /// How many bits of it are those of the network, if it is a network of ours.
    pub length: Option<u8>,
    /// The way out, if it is a network of ours.
    pub gateway: Option<IpAddr>,
}
