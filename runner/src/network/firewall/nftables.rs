//! Rules in nf_tables, through netlink: no program is run, and a change costs some hundred microseconds.
//!
//! Every network has one table, `lapstrake_BRIDGE`, of the family `inet`, which is for IPv4 and IPv6. Published ports
//! are in maps that rules look up, so their number costs nothing for a packet, and publishing one is adding an
//! element. A batch of messages is one transaction: it holds as a whole or not at all.
//!
//! As `nft list ruleset` shows it:
//!
//! ```text
//! map all4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
//! map one4 { type inet_proto . inet_service . ipv4_addr : ipv4_addr . inet_service; }
//! chain prerouting {
//!     type nat hook prerouting priority dstnat;
//!     iifname != "lap0" meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport . ip daddr map @one4
//!     iifname != "lap0" meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @all4
//! }
//! chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     meta nfproto ipv4 ip saddr 10.176.0.0/22 oifname != "lap0" masquerade
//! }
//! chain forward {
//!     type filter hook forward priority filter;
//!     oifname "lap0" ct state established,related accept
//!     oifname "lap0" iifname "lap0" accept
//!     oifname "lap0" ct status dnat accept
//!     oifname "lap0" drop
//! }
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use super::super::netlink::message::{APPEND, CREATE, EXCLUSIVE, find};
use super::super::netlink::{Attributes, Message, Protocol, Socket};
use super::expression::{
    Connection, DATA_VALUE, Expressions, Field, IPV4, IPV6, LIST_ELEMENT, Property, REGISTER_1, REGISTER_2,
    Verdict, interface_name, part,
};
use super::{Redirect, Rules};

/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10;
/// Messages of the subsystem (`enum nf_tables_msg_types`).
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_MAP: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFPROTO_INET`
const INET: u8 = 1;
/// `struct nfgenmsg`
const SERVICE_HEADER: usize = 4;

/// Numbers of types as `nft` knows them, to show values by; six bits each where several are put together.
const TYPE_ADDRESS_4: u32 = 7;
const TYPE_ADDRESS_6: u32 = 8;
const TYPE_TRANSPORT: u32 = 12;
const TYPE_PORT: u32 = 13;

/// A map from published ports to containers.
#[derive(Debug, Clone, Copy)]
struct Map {
    name: &'static str,
    number: u32,
    family: u8,
    /// Whether its keys have an address of the host, or are for all of them.
    has_address: bool,
}

const MAPS: [Map; 4] = [
    Map { name: "one4", number: 1, family: IPV4, has_address: true },
    Map { name: "all4", number: 2, family: IPV4, has_address: false },
    Map { name: "one6", number: 3, family: IPV6, has_address: true },
    Map { name: "all6", number: 4, family: IPV6, has_address: false },
];

/// Whether the kernel has nf_tables, and lets us use it.
pub(super) fn is_supported() -> bool {
    // A table that does not exist is "not found" only where there could be one.
    matches!(get_table("lapstrake"), Ok(()) | Err(Errno::NOENT))
}

/// Whether the network has its table.
pub(super) fn is_installed(bridge: &str) -> io::Result<bool> {
    match get_table(&table(bridge)) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn get_table(name: &str) -> Result<(), Errno> {
    let message = Message::query(kind(GET_TABLE), &header(INET, 0)).text(1, name);
    let answer = Socket::open(Protocol::Netfilter).and_then(|mut socket| socket.query(message));
    answer.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Makes the table anew.
pub(super) fn install(rules: &Rules) -> io::Result<()> {
    let name = table(&rules.bridge);
    // Deleting needs it to exist.
    let mut messages = vec![table_message(NEW_TABLE, &name), table_message(DELETE_TABLE, &name)];
    messages.push(table_message(NEW_TABLE, &name));
    messages.extend(CHAINS.iter().map(|chain| chain_message(&name, chain)));
    messages.extend(MAPS.iter().map(|map| map_message(&name, map)));
    let rules_of_chains = prerouting(&rules.bridge)
        .into_iter()
        .map(|rule| ("prerouting", rule))
        .chain(postrouting(rules).into_iter().map(|rule| ("postrouting", rule)))
        .chain(forward(&rules.bridge).into_iter().map(|rule| ("forward", rule)));
    messages.extend(rules_of_chains.map(|(chain, rule)| rule_message(INET, &name, chain, rule, APPEND)));
    messages.extend(elements(&name, &rules.redirects));
    batch(messages)
}

/// Replaces what is in the maps.
pub(super) fn redirect(rules: &Rules) -> io::Result<()> {
    let name = table(&rules.bridge);
    let empty = |map: &Map| {
        let message = Message::unacknowledged(kind(DELETE_ELEMENTS), 0, &header(INET, 0));
        message.text(1, &name).text(2, map.name)
    };
    let mut messages: Vec<Message> = MAPS.iter().map(empty).collect();
    messages.extend(elements(&name, &rules.redirects));
    batch(messages)
}

/// Removes the table, if there is one, and what [`admit`] added.
pub(super) fn remove(bridge: &str) -> io::Result<()> {
    for (family, _) in FAMILIES {
        for handle in admitted(family, bridge)? {
            let message = Message::unacknowledged(kind(DELETE_RULE), 0, &header(family, 0));
            let message = message.text(1, "filter").text(2, "FORWARD").attribute(3, &handle);
            batch(vec![message])?;
        }
    }
    match batch(vec![table_message(DELETE_TABLE, &table(bridge))]) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The families that `iptables` and `ip6tables` keep their rules in, where those are front ends of nf_tables.
const FAMILIES: [(u8, &str); 2] = [(IPV4, "ip"), (IPV6, "ip6")];

/// Adds rules that let the network's packets pass to the chain `FORWARD` of `iptables` where its policy is to
/// drop, and where they are missing. Docker sets that policy.
pub(super) fn admit(bridge: &str) -> io::Result<()> {
    for (family, _) in FAMILIES {
        if !drops_forwarded(family)? || !admitted(family, bridge)?.is_empty() {
            continue;
        }
        let pass = |property| {
            let rule = Expressions::new().match_interface(property, true, bridge).count();
            rule_message(family, "filter", "FORWARD", rule.verdict(Verdict::Accept), 0)
        };
        batch(vec![pass(Property::InputName), pass(Property::OutputName)])?;
    }
    Ok(())
}

/// Whether the chain `FORWARD` of `iptables` drops what no rule of it accepts.
fn drops_forwarded(family: u8) -> io::Result<bool> {
    const POLICY: u16 = 5;
    let message = Message::query(kind(GET_CHAIN), &header(family, 0)).text(1, "filter").text(3, "FORWARD");
    match Socket::open(Protocol::Netfilter)?.query(message) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        answer => {
            let answer = answer?;
            let policy = answer.get(SERVICE_HEADER..).and_then(|body| find(body, POLICY));
            Ok(policy == Some(&(Verdict::Drop as u32).to_be_bytes()))
        }
    }
}

/// The handles of the rules in the chain `FORWARD` of `iptables` that name the bridge.
fn admitted(family: u8, bridge: &str) -> io::Result<Vec<Vec<u8>>> {
    const HANDLE: u16 = 3;
    const EXPRESSIONS: u16 = 4;
    let name = interface_name(bridge);
    let mut handles = Vec::new();
    let message = Message::dump(kind(GET_RULE), &header(family, 0)).text(1, "filter").text(2, "FORWARD");
    let dumped = Socket::open(Protocol::Netfilter)?.dump(message, |body| {
        let Some(body) = body.get(SERVICE_HEADER..) else { return };
        let expressions = find(body, EXPRESSIONS).unwrap_or_default();
        let is_ours = expressions.windows(name.len()).any(|window| window == name);
        handles.extend(find(body, HANDLE).filter(|_| is_ours).map(<[u8]>::to_vec));
    });
    match dumped {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map(|()| handles),
    }
}

/// The tables of networks that exist, by their bridges.
pub(in crate::network) fn bridges() -> io::Result<Vec<String>> {
    const NAME: u16 = 1;
    let mut names = Vec::new();
    Socket::open(Protocol::Netfilter)?.dump(Message::dump(kind(GET_TABLE), &header(INET, 0)), |body| {
        let name = body.get(SERVICE_HEADER..).and_then(|body| find(body, NAME)).unwrap_or_default();
        let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
        names.extend(name.strip_prefix(TABLE_PREFIX).map(str::to_owned));
    })?;
    Ok(names)
}

const TABLE_PREFIX: &str = "lapstrake_";

fn table(bridge: &str) -> String {
    format!("{TABLE_PREFIX}{bridge}")
}

fn kind(message: u16) -> u16 {
    (SUBSYSTEM << 8) | message
}

/// `struct nfgenmsg`: family, version, and a number in the byte order of the network.
fn header(family: u8, number: u16) -> [u8; SERVICE_HEADER] {
    let [high, low] = number.to_be_bytes();
    [family, 0, high, low]
}

/// Sends messages as one transaction.
fn batch(messages: Vec<Message>) -> io::Result<()> {
    let mark = |kind| Message::unacknowledged(kind, 0, &header(0, SUBSYSTEM));
    let mut all = vec![mark(BATCH_BEGIN)];
    let count = messages.len();
    let acknowledge_last = |(index, message): (usize, Message)| {
        if index + 1 == count { message.acknowledged() } else { message }
    };
    all.extend(messages.into_iter().enumerate().map(acknowledge_last));
    all.push(mark(BATCH_END));
    Socket::open(Protocol::Netfilter)?.transaction(all)
}

fn table_message(message: u16, name: &str) -> Message {
    let flags = if message == NEW_TABLE { CREATE } else { 0 };
    Message::unacknowledged(kind(message), flags, &header(INET, 0)).text(1, name)
}

/// A chain that packets come by: name, kind, hook (`enum nf_inet_hooks`), priority.
type Chain = (&'static str, &'static str, u32, i32);

const CHAINS: [Chain; 3] =
    [("prerouting", "nat", 0, -100), ("postrouting", "nat", 4, 100), ("forward", "filter", 2, 0)];

fn chain_message(table: &str, (name, chain_type, hook, priority): &Chain) -> Message {
    let hook = Attributes::new().big_endian(1, *hook).attribute(2, &priority.to_be_bytes());
    Message::unacknowledged(kind(NEW_CHAIN), CREATE, &header(INET, 0))
        .text(1, table)
        .text(3, name)
        .nested(4, hook)
        .text(7, chain_type)
}

fn rule_message(family: u8, table: &str, chain: &str, rule: Expressions, flags: u16) -> Message {
    Message::unacknowledged(kind(NEW_RULE), CREATE | flags, &header(family, 0))
        .text(1, table)
        .text(2, chain)
        .nested(4, rule.list())
}

fn map_message(table: &str, map: &Map) -> Message {
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

/// The messages that fill the maps; none for a map that stays empty.
fn elements(table: &str, redirects: &[Redirect]) -> Vec<Message> {
    let of_map = |map: &Map| {
        let mut list = Attributes::new();
        let mut is_empty = true;
        for redirect in redirects.iter().filter(|redirect| map.takes(redirect)) {
            let value = |bytes: &[u8]| Attributes::new().attribute(DATA_VALUE, bytes);
            let element = Attributes::new()
                .nested(1, value(&map.key(redirect)))
                .nested(2, value(&[address_bytes(redirect.to), port_bytes(redirect.to)].concat()));
            list = list.nested(LIST_ELEMENT, element);
            is_empty = false;
        }
        let message = Message::unacknowledged(kind(NEW_ELEMENTS), CREATE, &header(INET, 0));
        (!is_empty).then(|| message.text(1, table).text(2, map.name).nested(3, list))
    };
    MAPS.iter().filter_map(of_map).collect()
}

impl Map {
    fn takes(self, redirect: &Redirect) -> bool {
        let family = if redirect.from.is_ipv4() { IPV4 } else { IPV6 };
        family == self.family && redirect.from.ip().is_unspecified() != self.has_address
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
    let of = |family| Expressions::new().match_property(Property::Family, true, &[family]);
    let leave =
        |rule: Expressions| rule.match_interface(Property::OutputName, false, &rules.bridge).masquerade();
    let subnet = rules.subnet;
    let (mask, first) = (subnet.mask().octets(), subnet.first().octets());
    let mut all = vec![leave(of(IPV4).match_field(Field::SOURCE_4, &mask, &first))];
    all.extend(rules.subnet6.map(|subnet| {
        let (mask, first) = ([0xff; 8], &subnet.first().octets()[..8]);
        leave(of(IPV6).match_field(Field::SOURCE_6_PREFIX, &mask, first))
    }));
    all
}

/// Packets to the network.
fn forward(bridge: &str) -> Vec<Expressions> {
    let to = || Expressions::new().match_interface(Property::OutputName, true, bridge);
    vec![
        to().match_connection(Connection::Known).verdict(Verdict::Accept),
        to().match_interface(Property::InputName, true, bridge).verdict(Verdict::Accept),
        to().match_connection(Connection::Redirected).verdict(Verdict::Accept),
        to().verdict(Verdict::Drop),
    ]
}
