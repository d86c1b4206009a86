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

mod chain;
mod foreign;
mod map;

use std::io;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use self::map::{DELETE_ELEMENTS, MAPS, NEW_ELEMENTS};
use super::super::netlink::message::{APPEND, CREATE, find};
use super::super::netlink::{Message, Protocol, Socket};
use super::expression::Expressions;
use super::{Change, Redirect, Rules, Transport};

/// `NFNL_SUBSYS_NFTABLES`
const SUBSYSTEM: u16 = 10;
/// Messages of the subsystem (`enum nf_tables_msg_types`).
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_RULE: u16 = 6;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFPROTO_INET`
const INET: u8 = 1;
/// `struct nfgenmsg`
const SERVICE_HEADER: usize = 4;

const TABLE_PREFIX: &str = "lapstrake_";

/// A connection to the kernel's nf_tables.
#[derive(Debug)]
pub(in crate::network) struct Tables {
    socket: Socket,
}

impl Tables {
    pub(in crate::network) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Whether the kernel has nf_tables, and lets us use it.
    pub(super) fn are_supported() -> bool {
        // A table that does not exist is "not found" only where there could be one.
        Self::open().is_ok_and(|mut tables| matches!(tables.get("lapstrake"), Ok(()) | Err(Errno::NOENT)))
    }

    /// Whether the network has its table.
    pub(super) fn is_installed(&mut self, bridge: &str) -> io::Result<bool> {
        match self.get(&table(bridge)) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn get(&mut self, name: &str) -> Result<(), Errno> {
        let message = Message::query(kind(GET_TABLE), &header(INET, 0)).text(1, name);
        let answer = self.socket.query(message);
        answer.map(drop).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Makes the table anew.
    pub(super) fn install(&mut self, rules: &Rules) -> io::Result<()> {
        let name = table(&rules.bridge);
        // Deleting needs it to exist.
        let mut messages = vec![table_message(NEW_TABLE, &name), table_message(DELETE_TABLE, &name)];
        messages.push(table_message(NEW_TABLE, &name));
        messages.extend(chain::CHAINS.iter().map(|chain| chain::make(&name, chain)));
        messages.extend(MAPS.iter().map(|map| map::make(&name, map)));
        let rules_of_chains = chain::rules(rules);
        messages.extend(rules_of_chains.map(|(chain, rule)| rule_message(INET, &name, chain, rule, APPEND)));
        messages.extend(map::elements(NEW_ELEMENTS, &name, &rules.redirects));
        self.batch(messages)
    }

    /// Adds redirects to the maps or removes them.
    pub(super) fn change(&mut self, bridge: &str, change: Change, redirects: &[Redirect]) -> io::Result<()> {
        let message = match change {
            Change::Add => NEW_ELEMENTS,
            Change::Remove => DELETE_ELEMENTS,
        };
        self.batch(map::elements(message, &table(bridge), redirects))
    }

    /// Leads packets of this namespace's own programs to a port of an address to other ports of it, by transport.
    pub(in crate::network) fn lead_to_names(
        &mut self,
        address: Ipv4Addr,
        port: u16,
        to: &[(Transport, u16)],
    ) -> io::Result<()> {
        const NAME: &str = "lapstrake_names";
        let mut messages = vec![table_message(NEW_TABLE, NAME), chain::make(NAME, &chain::OUTPUT)];
        let rule = |(transport, to): &(Transport, u16)| {
            let rule = chain::lead_to(address, port, *transport, *to);
            rule_message(INET, NAME, chain::OUTPUT.0, rule, APPEND)
        };
        messages.extend(to.iter().map(rule));
        self.batch(messages)
    }

    /// Lets packets pass where `iptables` drops those that it does not know.
    pub(super) fn admit(&mut self, bridge: &str) -> io::Result<()> {
        foreign::admit(self, bridge)
    }

    /// Removes the table, if there is one, and what [`admit`](Self::admit) added.
    pub(super) fn remove(&mut self, bridge: &str) -> io::Result<()> {
        foreign::withdraw(self, bridge)?;
        match self.batch(vec![table_message(DELETE_TABLE, &table(bridge))]) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Sends messages as one transaction.
    fn batch(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mark = |kind| Message::unacknowledged(kind, 0, &header(0, SUBSYSTEM));
        let mut all = vec![mark(BATCH_BEGIN)];
        let count = messages.len();
        let acknowledge_last = |(index, message): (usize, Message)| {
            if index + 1 == count { message.acknowledged() } else { message }
        };
        all.extend(messages.into_iter().enumerate().map(acknowledge_last));
        all.push(mark(BATCH_END));
        self.socket.transaction(all)
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

fn table_message(message: u16, name: &str) -> Message {
    let flags = if message == NEW_TABLE { CREATE } else { 0 };
    Message::unacknowledged(kind(message), flags, &header(INET, 0)).text(1, name)
}

fn rule_message(family: u8, table: &str, chain: &str, rule: Expressions, flags: u16) -> Message {
    Message::unacknowledged(kind(NEW_RULE), CREATE | flags, &header(family, 0))
        .text(1, table)
        .text(2, chain)
        .nested(4, rule.list())
}
