//! The chains of a network, and the rules in them.

use std::net::Ipv4Addr;

use super::super::super::netlink::message::CREATE;
use super::super::super::netlink::{Attributes, Message};
use super::super::expression::{
    Connection, Expressions, Field, IPV4, IPV6, Property, REGISTER_1, REGISTER_2, Verdict, part,
};
use super::super::{GatewayMode, Rules, Transport};
use super::map::{MAPS, Map};
use super::{INET, header, kind};

/// `NFT_MSG_NEWCHAIN`
const NEW_CHAIN: u16 = 3;

/// A chain that packets come by: name, kind, hook (`enum nf_inet_hooks`), priority.
pub(super) type Chain = (&'static str, &'static str, u32, i32);

pub(super) const CHAINS: [Chain; 3] =
    [("prerouting", "nat", 0, -100), ("postrouting", "nat", 4, 100), ("forward", "filter", 2, 0)];

/// Where packets of a namespace's own programs come by.
pub(super) const OUTPUT: Chain = ("output", "nat", 3, -100);

/// Packets to a port of an address go to another port of it.
pub(super) fn lead_to(address: Ipv4Addr, port: u16, transport: Transport, to: u16) -> Expressions {
    Expressions::new()
        .match_property(Property::Family, true, &[IPV4])
        .match_field(Field::DESTINATION_4, &[0xff; 4], &address.octets())
        .match_property(Property::Transport, true, &[transport.number()])
        .match_field(Field::DESTINATION_PORT, &[0xff; 2], &port.to_be_bytes())
        .set(REGISTER_1, &address.octets())
        .set(REGISTER_2, &to.to_be_bytes())
        .redirect(IPV4, REGISTER_1, REGISTER_2)
}

/// The message that makes a chain.
pub(super) fn make(table: &str, (name, chain_type, hook, priority): &Chain) -> Message {
    let hook = Attributes::new().big_endian(1, *hook).attribute(2, &priority.to_be_bytes());
    Message::unacknowledged(kind(NEW_CHAIN), CREATE, &header(INET, 0))
        .text(1, table)
        .text(3, name)
        .nested(4, hook)
        .text(7, chain_type)
}

/// All rules of a network, each with its chain.
pub(super) fn rules(rules: &Rules) -> impl Iterator<Item = (&'static str, Expressions)> {
    let of = |chain: &'static str, rules: Vec<Expressions>| rules.into_iter().map(move |rule| (chain, rule));
    of("prerouting", prerouting(&rules.bridge))
        .chain(of("postrouting", postrouting(rules)))
        .chain(of("forward", forward(rules)))
}

/// Packets from elsewhere to a published port of an address of ours.
fn prerouting(bridge: &str) -> Vec<Expressions> {
    let rule = |map: &Map| {
        let (address, port) =
            if map.family == IPV4 { (REGISTER_1, part(1)) } else { (REGISTER_1, REGISTER_2) };
        let destination = if map.family == IPV4 { Field::DESTINATION_4 } else { Field::DESTINATION_6 };
        let mut rule = Expressions::new()
            .match_interface(Property::InputName, false, bridge)
            .match_property(Property::Family, true, &[map.family])
            .match_local_destination()
            .load(Property::Transport, REGISTER_1)
            .load_field(Field::DESTINATION_PORT, part(1));
        if map.has_address {
            rule = rule.load_field(destination, part(2));
        }
        rule.look_up(map.name).redirect(map.family, address, port)
    };
    MAPS.iter().map(rule).collect()
}

/// Packets of the network to elsewhere.
fn postrouting(rules: &Rules) -> Vec<Expressions> {
    if rules.internal || !rules.masquerade {
        return Vec::new();
    }
    let of = |family| Expressions::new().match_property(Property::Family, true, &[family]);
    let leave =
        |rule: Expressions| rule.match_interface(Property::OutputName, false, &rules.bridge).masquerade();
    let subnet = rules.subnet;
    let (mask, first) = (subnet.mask().octets(), subnet.first().octets());
    let mut all = Vec::new();
    if rules.modes.translates(true) {
        all.push(leave(of(IPV4).match_field(Field::SOURCE_4, &mask, &first)));
    }
    all.extend(rules.subnet6.filter(|_| rules.modes.translates(false)).map(|subnet| {
        let (mask, first) = ([0xff; 8], &subnet.first().octets()[..8]);
        leave(of(IPV6).match_field(Field::SOURCE_6_PREFIX, &mask, first))
    }));
    all
}

/// Packets to the network, and out of an internal one.
fn forward(rules: &Rules) -> Vec<Expressions> {
    let bridge = &rules.bridge;
    let to = || Expressions::new().match_interface(Property::OutputName, true, bridge);
    if rules.internal {
        let from = Expressions::new().match_interface(Property::InputName, true, bridge);
        return vec![
            to().match_interface(Property::InputName, true, bridge).verdict(Verdict::Accept),
            to().verdict(Verdict::Drop),
            from.verdict(Verdict::Drop),
        ];
    }
    let mut all = vec![
        to().match_connection(Connection::Known).verdict(Verdict::Accept),
        to().match_interface(Property::InputName, true, bridge).verdict(Verdict::Accept),
        to().match_connection(Connection::Redirected).verdict(Verdict::Accept),
    ];
    for map in MAPS.iter().filter(|map| map.has_address) {
        let to_family = to().match_property(Property::Family, true, &[map.family]);
        match rules.modes.of(map.family == IPV4) {
            GatewayMode::Nat | GatewayMode::Isolated => {}
            GatewayMode::NatUnprotected => all.push(to_family.verdict(Verdict::Accept)),
            GatewayMode::Routed => all.push(to_published(to_family, map).verdict(Verdict::Accept)),
        }
    }
    all.push(to().verdict(Verdict::Drop));
    all
}

/// Packets to an address and a port that are in a map themselves.
fn to_published(rule: Expressions, map: &Map) -> Expressions {
    let destination = if map.family == IPV4 { Field::DESTINATION_4 } else { Field::DESTINATION_6 };
    let rule = rule
        .load(Property::Transport, REGISTER_1)
        .load_field(Field::DESTINATION_PORT, part(1))
        .load_field(destination, part(2));
    rule.look_up(map.name)
}
