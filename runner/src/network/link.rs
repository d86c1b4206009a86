//! Interfaces, addresses and routes through rtnetlink (`rtnetlink(7)`): the few operations that networks need.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::address::{MacAddress, Subnet4, Subnet6};
use super::netlink::message::{APPEND, CREATE, EXCLUSIVE, attributes, find, number};
use super::netlink::{Attributes, Message, Protocol, Socket};
use super::sublink::Driver;

/// Kinds of messages (`linux/rtnetlink.h`).
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

/// Attributes of interfaces (`linux/if_link.h`).
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_PARENT: u16 = 5;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
const LINK_FAMILIES: u16 = 26;
const LINK_NAMESPACE: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
/// `IFLA_BRPORT_ISOLATED`: a port of a bridge that reaches no other such port.
const PORT_ISOLATED: u16 = 33;
const VETH_PEER: u16 = 1;
/// `IFLA_MACVLAN_MODE` and `IFLA_IPVLAN_MODE`; `IFLA_IPVLAN_FLAGS`.
const SUBLINK_MODE: u16 = 1;
const SUBLINK_FLAGS: u16 = 2;
/// How many bits of an IPv4 address of a link are those of all of them (RFC 3927).
const LINK_LOCAL_LENGTH: u8 = 16;
/// How an interface gets an IPv6 address of its own, and the value for "not at all".
const INET6_ADDRESS_MODE: u16 = 8;
const NO_ADDRESS: u8 = 1;
/// `IFF_UP`
const UP: u32 = 1;

/// Attributes of addresses and routes (`linux/if_addr.h`, `linux/rtnetlink.h`).
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const ADDRESS_FLAGS: u16 = 8;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
/// `IFA_F_NODAD`: use an IPv6 address at once; nobody else can have it.
const NO_DUPLICATE_DETECTION: u32 = 0x02;
/// `IFA_F_NOPREFIXROUTE`: we make the subnet's route ourselves.
const NO_PREFIX_ROUTE: u32 = 0x200;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// An interface as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// What its maker noted.
    pub(super) alias: Option<String>,
    /// The number of the bridge that it is a port of.
    pub(super) master: Option<u32>,
    /// Whether it is a bridge.
    pub(super) is_bridge: bool,
    /// Whether it is up.
    pub(super) is_up: bool,
    /// The largest packet it carries, in bytes.
    pub(super) mtu: u32,
}

/// The interfaces of one network namespace.
#[derive(Debug)]
pub(super) struct Links(Socket);

/// A pair of interfaces that are connected like the ends of a cable.
pub(super) struct Cable<'a> {
    /// The name of our end.
    pub(super) name: &'a str,
    /// The number of the bridge that our end is a port of.
    pub(super) bridge: u32,
    /// The namespace of the other end.
    pub(super) namespace: BorrowedFd<'a>,
    /// The name of the other end.
    pub(super) peer: &'a str,
    /// The card address of the other end.
    pub(super) address: MacAddress,
    /// The largest packet, in bytes.
    pub(super) mtu: u32,
    /// Whether the host has IPv6.
    pub(super) ipv6: bool,
    /// Whether the bridge keeps it from its other cables.
    pub(super) separate: bool,
}

impl Links {
    /// Those of the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        Socket::open(Protocol::Route).map(Self)
    }

    /// Whether we have the right to change them: asks for no change of the first one, the loopback interface.
    pub(super) fn may_change(&mut self) -> io::Result<bool> {
        const LOOPBACK: u32 = 1;
        match self.0.change(Message::change(NEW_LINK, 0, &link_header(LOOPBACK, 0, 0))) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// The interface of this name, if there is one.
    pub(super) fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        match self.0.query(Message::query(GET_LINK, &link_header(0, 0, 0)).text(LINK_NAME, name)) {
            Ok(body) => Ok(link(&body)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All interfaces.
    pub(super) fn all(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.0.dump(Message::dump(GET_LINK, &link_header(0, 0, 0)), |body| links.extend(link(body)))?;
        Ok(links)
    }

    /// Makes a bridge that is up. Its card address stays the same whatever ports it gets.
    pub(super) fn add_bridge(
        &mut self,
        name: &str,
        alias: &str,
        address: MacAddress,
        mtu: u32,
    ) -> io::Result<()> {
        let info = Attributes::new().text(INFO_KIND, "bridge");
        let make = Message::change(NEW_LINK, CREATE | EXCLUSIVE, &link_header(0, UP, UP))
            .text(LINK_NAME, name)
            .attribute(LINK_ADDRESS, &address.octets())
            .number(LINK_MTU, mtu)
            .nested(LINK_INFO, info);
        // A note is only taken for an interface that exists.
        let note = Message::change(NEW_LINK, 0, &link_header(0, 0, 0)).text(LINK_NAME, name);
        self.0.changes(vec![make, note.text(LINK_ALIAS, alias)])
    }

    /// Makes a cable from a bridge into another namespace. Our end is up, the other end is not yet.
    pub(super) fn add_cable(&mut self, cable: &Cable<'_>) -> io::Result<()> {
        let peer = Attributes::after(&link_header(0, 0, 0))
            .text(LINK_NAME, cable.peer)
            .number(LINK_MTU, cable.mtu)
            .attribute(LINK_ADDRESS, &cable.address.octets())
            .number(LINK_NAMESPACE, cable.namespace.as_raw_fd() as u32);
        let info = Attributes::new()
            .text(INFO_KIND, "veth")
            .nested(INFO_DATA, Attributes::new().nested(VETH_PEER, peer));
        let make = Message::change(NEW_LINK, CREATE | EXCLUSIVE, &link_header(0, 0, 0))
            .text(LINK_NAME, cable.name)
            .number(LINK_MTU, cable.mtu)
            .number(LINK_MASTER, cable.bridge)
            .nested(LINK_INFO, info);
        // A port of a bridge has no address. That must be said before it is up, and after it is made.
        let inet6 = Attributes::new().attribute(INET6_ADDRESS_MODE, &[NO_ADDRESS]);
        let families = Attributes::new().nested(u16::from(AF_INET6), inet6);
        let of_port =
            |flags| Message::change(NEW_LINK, 0, &link_header(0, flags, flags)).text(LINK_NAME, cable.name);
        let mut messages = vec![make];
        messages.extend(cable.ipv6.then(|| of_port(0).nested(LINK_FAMILIES, families)));
        if cable.separate {
            let isolated = Attributes::new().attribute(PORT_ISOLATED, &[1]);
            let info = Attributes::new().text(INFO_SLAVE_KIND, "bridge").nested(INFO_SLAVE_DATA, isolated);
            messages.push(of_port(0).nested(LINK_INFO, info));
        }
        messages.push(of_port(UP));
        self.0.changes(messages)
    }

    /// Makes a cable that leads nowhere: both ends are here and up.
    pub(super) fn add_loose_cable(&mut self, name: &str, peer: &str, alias: &str) -> io::Result<()> {
        let end = Attributes::after(&link_header(0, 0, 0)).text(LINK_NAME, peer);
        let info = Attributes::new()
            .text(INFO_KIND, "veth")
            .nested(INFO_DATA, Attributes::new().nested(VETH_PEER, end));
        let make = Message::change(NEW_LINK, CREATE | EXCLUSIVE, &link_header(0, 0, 0))
            .text(LINK_NAME, name)
            .nested(LINK_INFO, info);
        let up = |name| Message::change(NEW_LINK, 0, &link_header(0, UP, UP)).text(LINK_NAME, name);
        self.0.changes(vec![make, up(name).text(LINK_ALIAS, alias), up(peer)])
    }

    /// Makes a card on an interface, in another namespace. It is not up yet.
    pub(super) fn add_sublink(&mut self, wanted: &Sublink<'_>) -> io::Result<()> {
        let mut make = Message::change(NEW_LINK, CREATE | EXCLUSIVE, &link_header(0, 0, 0))
            .text(LINK_NAME, wanted.name)
            .number(LINK_PARENT, wanted.parent)
            .number(LINK_MTU, wanted.mtu)
            .number(LINK_NAMESPACE, wanted.namespace.as_raw_fd() as u32);
        let data = match wanted.driver {
            Driver::Macvlan { mode } => {
                make = make.attribute(LINK_ADDRESS, &wanted.address.octets());
                Attributes::new().number(SUBLINK_MODE, mode)
            }
            Driver::Ipvlan { mode, flag } => Attributes::new()
                .attribute(SUBLINK_MODE, &mode.to_ne_bytes())
                .attribute(SUBLINK_FLAGS, &flag.to_ne_bytes()),
            Driver::Bridge => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let info = Attributes::new().text(INFO_KIND, wanted.driver.name()).nested(INFO_DATA, data);
        self.0.change(make.nested(LINK_INFO, info))
    }

    /// Gives an interface an address of its link only. One that it has is fine.
    pub(super) fn add_link_local(&mut self, index: u32, address: IpAddr) -> io::Result<()> {
        match address {
            IpAddr::V6(address) => self.add_address6(index, address),
            IpAddr::V4(address) => {
                self.add_address4(index, address, LINK_LOCAL_LENGTH)?;
                // Of several cards the first one has the route.
                self.claim(index, Subnet4::new(address, LINK_LOCAL_LENGTH)).map(drop)
            }
        }
    }

    /// Removes an interface. One that is not there is fine.
    pub(super) fn remove(&mut self, index: u32) -> io::Result<()> {
        match self.0.change(Message::change(DELETE_LINK, 0, &link_header(index, 0, 0))) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    /// Brings an interface up.
    pub(super) fn bring_up(&mut self, index: u32) -> io::Result<()> {
        self.0.change(up(index))
    }

    /// Gives an interface an IPv4 address, without any route. An address that it has is fine.
    pub(super) fn add_address4(&mut self, index: u32, address: Ipv4Addr, length: u8) -> io::Result<()> {
        unless_there(self.0.change(address4(index, address, length)))
    }

    /// The IPv4 addresses of an interface.
    pub(super) fn addresses4(&mut self, index: u32) -> io::Result<Vec<Ipv4Addr>> {
        let mut addresses = Vec::new();
        self.0.dump(Message::dump(GET_ADDRESS, &address_header(AF_INET, 0, 0)), |body| {
            let Some((header, rest)) = body.split_at_checked(ADDRESS_HEADER) else { return };
            let local = find(rest, LOCAL).and_then(|value| value.first_chunk::<4>());
            if number(&header[4..]) == Some(index) {
                addresses.extend(local.map(|bytes| Ipv4Addr::from(*bytes)));
            }
        })?;
        Ok(addresses)
    }

    /// Gives an interface an IPv6 address, and its subnet a route. An address that it has is fine.
    pub(super) fn add_address6(&mut self, index: u32, address: Ipv6Addr) -> io::Result<()> {
        unless_there(self.0.change(address6(index, address)))
    }

    /// Claims a subnet for an interface: makes its route, which only one interface can have. `false` if it is
    /// somebody else's. The kernel decides, so two processes cannot both get it.
    pub(super) fn claim(&mut self, index: u32, subnet: Subnet4) -> io::Result<bool> {
        match self.0.change(subnet_route(index, subnet)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Configures a card of a container: addresses, up, routes.
    pub(super) fn configure(&mut self, index: u32, card: &Card) -> io::Result<()> {
        let Card { subnet, address, inet6, .. } = card;
        let mut messages = vec![address4(index, *address, subnet.length()), up(index)];
        messages.push(subnet_route(index, *subnet));
        if let Some((_, address)) = inet6 {
            messages.push(address6(index, *address));
        }
        messages.extend(default_routes(index, card));
        self.0.changes(messages)
    }

    /// Makes a card that is configured the way out.
    pub(super) fn lead_out(&mut self, index: u32, card: &Card) -> io::Result<()> {
        let messages = default_routes(index, card);
        if messages.is_empty() { Ok(()) } else { self.0.changes(messages) }
    }

    /// The IPv4 subnets that some route leads to, default routes aside.
    pub(super) fn routed(&mut self) -> io::Result<Vec<Subnet4>> {
        let mut subnets = Vec::new();
        self.0.dump(Message::dump(GET_ROUTE, &route_header(AF_INET, 0)), |body| {
            let Some((header, rest)) = body.split_at_checked(ROUTE_HEADER) else { return };
            let destination = find(rest, ROUTE_DESTINATION).and_then(|value| value.first_chunk::<4>());
            if let (Some(bytes), true) = (destination, header[1] > 0) {
                subnets.push(Subnet4::new(Ipv4Addr::from(*bytes), header[1]));
            }
        })?;
        Ok(subnets)
    }

    /// The largest packet of the interface that a default route leaves by.
    pub(super) fn outer_mtu(&mut self) -> io::Result<Option<u32>> {
        let mut outer = None;
        self.0.dump(Message::dump(GET_ROUTE, &route_header(AF_INET, 0)), |body| {
            let Some((header, rest)) = body.split_at_checked(ROUTE_HEADER) else { return };
            if header[1] == 0 && outer.is_none() {
                outer = find(rest, ROUTE_INTERFACE).and_then(number);
            }
        })?;
        let Some(index) = outer else { return Ok(None) };
        let answer = self.0.query(Message::query(GET_LINK, &link_header(index, 0, 0)))?;
        Ok(link(&answer).map(|link| link.mtu))
    }
}

/// A card on an interface.
pub(super) struct Sublink<'a> {
    /// Of which kind.
    pub(super) driver: Driver,
    /// The number of the interface.
    pub(super) parent: u32,
    /// The namespace that the card is in.
    pub(super) namespace: BorrowedFd<'a>,
    /// The card's name.
    pub(super) name: &'a str,
    /// Its address, if it has one of its own.
    pub(super) address: MacAddress,
    /// The largest packet, in bytes.
    pub(super) mtu: u32,
}

/// How packets to elsewhere leave by a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WayOut {
    /// Not at all.
    None,
    /// By a router with this address, and over IPv6 by that of the subnet.
    By(Ipv4Addr),
    /// The card itself takes all of them.
    Card,
}

/// What a container's card is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Card {
    /// Its IPv4 subnet.
    pub(super) subnet: Subnet4,
    /// Its IPv4 address.
    pub(super) address: Ipv4Addr,
    /// Its IPv6 subnet and address.
    pub(super) inet6: Option<(Subnet6, Ipv6Addr)>,
    /// How packets to elsewhere leave by it.
    pub(super) way_out: WayOut,
}

fn default_routes(index: u32, card: &Card) -> Vec<Message> {
    let subnet6 = card.inet6.map(|(subnet, _)| subnet);
    match card.way_out {
        WayOut::None => Vec::new(),
        WayOut::By(gateway) => {
            let gateway6 = subnet6.map(|subnet| IpAddr::V6(subnet.gateway()));
            let gateways = std::iter::once(IpAddr::V4(gateway)).chain(gateway6);
            gateways.map(|gateway| default_route(index, gateway)).collect()
        }
        WayOut::Card => {
            let families = std::iter::once(AF_INET).chain(subnet6.map(|_| AF_INET6));
            let all = |family| {
                let mut header = route_header(family, 0);
                header[6] = SCOPE_LINK;
                Message::change(NEW_ROUTE, CREATE | APPEND, &header).number(ROUTE_INTERFACE, index)
            };
            families.map(all).collect()
        }
    }
}

fn unless_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn up(index: u32) -> Message {
    Message::change(NEW_LINK, 0, &link_header(index, UP, UP))
}

fn address4(index: u32, address: Ipv4Addr, length: u8) -> Message {
    Message::change(NEW_ADDRESS, CREATE | EXCLUSIVE, &address_header(AF_INET, length, index))
        .attribute(LOCAL, &address.octets())
        .attribute(ADDRESS, &address.octets())
        .number(ADDRESS_FLAGS, NO_PREFIX_ROUTE)
}

fn address6(index: u32, address: Ipv6Addr) -> Message {
    Message::change(NEW_ADDRESS, CREATE | EXCLUSIVE, &address_header(AF_INET6, Subnet6::LENGTH, index))
        .attribute(LOCAL, &address.octets())
        .attribute(ADDRESS, &address.octets())
        .number(ADDRESS_FLAGS, NO_DUPLICATE_DETECTION)
}

fn subnet_route(index: u32, subnet: Subnet4) -> Message {
    let mut header = route_header(AF_INET, subnet.length());
    header[6] = SCOPE_LINK;
    Message::change(NEW_ROUTE, CREATE | EXCLUSIVE, &header)
        .attribute(ROUTE_DESTINATION, &subnet.first().octets())
        .number(ROUTE_INTERFACE, index)
}

fn default_route(index: u32, gateway: IpAddr) -> Message {
    let (family, bytes) = match gateway {
        IpAddr::V4(gateway) => (AF_INET, gateway.octets().to_vec()),
        IpAddr::V6(gateway) => (AF_INET6, gateway.octets().to_vec()),
    };
    Message::change(NEW_ROUTE, CREATE | APPEND, &route_header(family, 0))
        .attribute(ROUTE_GATEWAY, &bytes)
        .number(ROUTE_INTERFACE, index)
}

/// `struct ifinfomsg`
fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

const LINK_HEADER: usize = 16;

/// `struct ifaddrmsg`
fn address_header(family: u8, length: u8, index: u32) -> [u8; ADDRESS_HEADER] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, length, 0, 0, a, b, c, d]
}

const ADDRESS_HEADER: usize = 8;

/// `struct rtmsg`: a unicast route of the main table that an administrator made.
fn route_header(family: u8, length: u8) -> [u8; ROUTE_HEADER] {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    [family, length, 0, 0, MAIN_TABLE, STATIC, 0, UNICAST, 0, 0, 0, 0]
}

const ROUTE_HEADER: usize = 12;
/// `RT_SCOPE_LINK`: reached without a gateway.
const SCOPE_LINK: u8 = 253;

fn link(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_at_checked(LINK_HEADER)?;
    let mut link = Link {
        index: number(&header[4..])?,
        name: String::new(),
        alias: None,
        master: None,
        is_bridge: false,
        is_up: number(&header[8..])? & UP != 0,
        mtu: 0,
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned();
    for (kind, value) in attributes(rest) {
        match kind {
            LINK_NAME => link.name = text(value),
            LINK_ALIAS => link.alias = Some(text(value)),
            LINK_MASTER => link.master = number(value),
            LINK_INFO => link.is_bridge = find(value, INFO_KIND).is_some_and(|kind| text(kind) == "bridge"),
            LINK_MTU => link.mtu = number(value).unwrap_or(0),
            _ => {}
        }
    }
    Some(link)
}
