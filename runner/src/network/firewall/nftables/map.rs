//! The maps from published ports to containers: what they are like, and messages about what is in them.

use std::net::{IpAddr, SocketAddr};

use super::super::super::netlink::message::{CREATE, EXCLUSIVE};
use super::super::super::netlink::{Attributes, Message};
use super::super::Redirect;
use super::super::expression::{DATA_VALUE, IPV4, IPV6, LIST_ELEMENT};
use super::{INET, header, kind};

/// `NFT_MSG_NEWSET`, which makes maps too
const NEW_MAP: u16 = 9;
/// `NFT_MSG_NEWSETELEM`, `NFT_MSG_DELSETELEM`
pub(super) const NEW_ELEMENTS: u16 = 12;
pub(super) const DELETE_ELEMENTS: u16 = 14;

/// How many elements one message has at most: the length of an attribute is a number of 16 bits.
const MOST_ELEMENTS: usize = 1000;

/// Numbers of types as `nft` knows them, to show values by; six bits each where several are put together.
const TYPE_ADDRESS_4: u32 = 7;
const TYPE_ADDRESS_6: u32 = 8;
const TYPE_TRANSPORT: u32 = 12;
const TYPE_PORT: u32 = 13;

/// A map from published ports to containers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) name: &'static str,
    number: u32,
    pub(super) family: u8,
    /// Whether its keys have an address of the host, or are for all of them.
    pub(super) has_address: bool,
}

pub(super) const MAPS: [Map; 4] = [
    Map { name: "one4", number: 1, family: IPV4, has_address: true },
    Map { name: "all4", number: 2, family: IPV4, has_address: false },
    Map { name: "one6", number: 3, family: IPV6, has_address: true },
    Map { name: "all6", number: 4, family: IPV6, has_address: false },
];

/// The message that makes a map.
pub(super) fn make(table: &str, map: &Map) -> Message {
    const IS_MAP: u32 = 8;
    let big = |value: u32| value.to_be_bytes();
    let (address_type, address_length) =
        if map.family == IPV4 { (TYPE_ADDRESS_4, 4) } else { (TYPE_ADDRESS_6, 16) };
    let (mut key_type, mut key_length) = ((TYPE_TRANSPORT << 6) | TYPE_PORT, 8);
    if map.has_address {
        key_type = (key_type << 6) | address_type;
        key_length += address_length;
    }
    Message::unacknowledged(kind(NEW_MAP), CREATE | EXCLUSIVE, &header(INET, 0))
        .text(1, table)
        .text(2, map.name)
        .attribute(3, &big(IS_MAP))
        .attribute(4, &big(key_type))
        .attribute(5, &big(key_length))
        .attribute(6, &big((address_type << 6) | TYPE_PORT))
        .attribute(7, &big(address_length + 4))
        .attribute(10, &big(map.number))
}

/// The messages that add redirects to the maps ([`NEW_ELEMENTS`]) or remove them ([`DELETE_ELEMENTS`]).
pub(super) fn elements(message: u16, table: &str, redirects: &[Redirect]) -> Vec<Message> {
    let mut messages = Vec::new();
    for map in &MAPS {
        let of_map: Vec<&Redirect> = redirects.iter().filter(|redirect| map.takes(redirect)).collect();
        messages.extend(of_map.chunks(MOST_ELEMENTS).map(|redirects| {
            let elements = redirects
                .iter()
                .fold(Attributes::new(), |list, redirect| list.nested(LIST_ELEMENT, map.element(redirect)));
            // Without "must not exist" the kernel takes one that is there with the same value for a success.
            let flags = if message == NEW_ELEMENTS { CREATE | EXCLUSIVE } else { 0 };
            Message::unacknowledged(kind(message), flags, &header(INET, 0))
                .text(1, table)
                .text(2, map.name)
                .nested(3, elements)
        }));
    }
    messages
}

impl Map {
    fn takes(self, redirect: &Redirect) -> bool {
        let family = if redirect.from.is_ipv4() { IPV4 } else { IPV6 };
        family == self.family && redirect.from.ip().is_unspecified() != self.has_address
    }

    fn element(self, redirect: &Redirect) -> Attributes {
        let value = |bytes: &[u8]| Attributes::new().attribute(DATA_VALUE, bytes);
        let to = [address_bytes(redirect.to), port_bytes(redirect.to)].concat();
        Attributes::new().nested(1, value(&self.key(redirect))).nested(2, value(&to))
    }

    fn key(self, redirect: &Redirect) -> Vec<u8> {
        let mut key = vec![redirect.transport.number(), 0, 0, 0];
        key.extend(port_bytes(redirect.from));
        if self.has_address {
            key.extend(address_bytes(redirect.from));
        }
        key
    }
}

fn address_bytes(address: SocketAddr) -> Vec<u8> {
    match address.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A port fills a register of 4 bytes.
fn port_bytes(address: SocketAddr) -> Vec<u8> {
    let [high, low] = address.port().to_be_bytes();
    vec![high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::super::super::super::publish::Transport;
    use super::*;

    #[test]
    fn no_message_has_more_elements_than_fit() {
        let redirect = |port: u16| Redirect {
            from: SocketAddr::new(IpAddr::V4([0; 4].into()), port),
            to: SocketAddr::new(IpAddr::V4([10, 176, 0, 2].into()), port),
            transport: Transport::Tcp,
        };
        let redirects: Vec<Redirect> = (1..=2500).map(redirect).collect();
        assert_eq!(elements(NEW_ELEMENTS, "t", &redirects).len(), 3);
        assert_eq!(elements(DELETE_ELEMENTS, "t", &redirects[..1]).len(), 1);
        assert!(elements(NEW_ELEMENTS, "t", &[]).is_empty());
    }
}
