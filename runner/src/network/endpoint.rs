//! What a container has of its network, as its supervisor writes it down for everybody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::address::MacAddress;
use super::definition::Definition;
use super::options::CardOptions;
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
    /// What was asked for about it.
    #[serde(default)]
    pub asked: Asked,
}

/// What somebody asked for about a container's part of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// What the card is to be like.
    pub card: CardOptions,
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
    /// Its driver, by Docker's name.
    #[serde(default)]
    pub driver: String,
}

impl NetworkName {
    /// That of a network in which a container has these names.
    pub fn of(definition: &Definition, names: &[String]) -> Self {
        Self {
            id: definition.id.clone(),
            name: definition.name.clone(),
            names: names.to_vec(),
            driver: definition.driver.name().to_owned(),
        }
    }
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
