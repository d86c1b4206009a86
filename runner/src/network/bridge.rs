//! The bridge network: made when a container needs it, and left to the next one.
//!
//! Everything here happens under the network's lock, except for what concerns one container alone. Before anything
//! else, what dead containers left is swept (see [`super::record`]).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::Connect;
use super::address::{MacAddress, Subnet6};
use super::endpoint::{Asked, Endpoint, InetEndpoint, NetworkName};
use super::error::NetworkError;
use super::firewall::{Change, Firewall, Redirect, Rules};
use super::hub::Place;
use super::link::{Cable, Card, Links, Sublink, WayOut};
use super::making::ensure;
use super::namespace::Namespace;
use super::publish::Published;
use super::record::{Directory, Lease, LeaseRecord, Locked, NetworkRecord};

/// `EOPNOTSUPP`: the kernel's answer for a kind of interface that it does not have.
const UNSUPPORTED: i32 = rustix::io::Errno::OPNOTSUPP.raw_os_error();
/// What the names of a container's cards begin with.
const CARD_PREFIX: &str = "eth";
/// What the notes at our bridges begin with.
pub(super) const ALIAS_PREFIX: &str = "lapstrake ";

/// A container's part of the network.
#[derive(Debug)]
pub(super) struct Seat {
    /// Where the bridge is.
    place: Place,
    directory: Directory,
    network: NetworkRecord,
    lease: Lease,
    /// The address of its card.
    mac: MacAddress,
    /// Whether packets to elsewhere leave by its card.
    leads_out: bool,
    /// The name of its card, once it has one.
    card: String,
    /// What was asked for about it.
    asked: Asked,
    firewall: Firewall,
}

/// The addresses of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) inet: Ipv4Addr,
    pub(super) inet6: Option<Ipv6Addr>,
}

/// Gives a container a seat: an address, a lease and rules, but no interface yet. Answers the number of the bridge, too.
pub(super) fn take_seat(
    place: &Place,
    runtime: &Path,
    connect: &Connect,
    published: Vec<Published>,
) -> Result<(Seat, u32), NetworkError> {
    if connect.definition.as_ref().is_none_or(|definition| !definition.internal) {
        place.check_way_out()?;
    }
    place.run(|| take_seat_there(place.clone(), runtime, connect, published))
}

fn take_seat_there(
    place: Place,
    runtime: &Path,
    connect: &Connect,
    published: Vec<Published>,
) -> Result<(Seat, u32), NetworkError> {
    let directory = Directory::new(runtime, &connect.network);
    let locked = directory.lock()?;
    let mut taken = sweep(&locked, true)?;
    let (mut network, index, firewall) = ensure(runtime, &locked, connect)?;
    let inet = match connect.address {
        Some(address) => wanted_address(&locked, &network, address)?,
        None => free_address(&network, &mut taken)?,
    };
    let inet6 = address6(&locked, &network, connect, inet)?;
    network.last = Some(inet);
    locked.write(&network)?;
    let lease = locked.lease(LeaseRecord {
        container: connect.container.clone(),
        address: inet,
        address6: inet6,
        interface: format!("lv{}", sys::random::hex(5)?),
        published,
        names: connect.names.clone(),
    })?;
    let mac = connect.mac.unwrap_or(MacAddress::beside(inet));
    let leads_out = connect.leads_out && !network.is_internal();
    let (card, asked) = (String::new(), connect.asked());
    let mut seat = Seat { place, directory, network, lease, mac, leads_out, card, asked, firewall };
    seat.change_redirects(Change::Add)?;
    Ok((seat, index))
}

/// The next address that nobody has.
fn free_address(network: &NetworkRecord, taken: &mut BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, NetworkError> {
    let NetworkRecord { name, subnet, last, definition, .. } = network;
    taken.insert(network.gateway());
    let mut range = *subnet;
    if let Some(definition) = definition {
        taken.extend(&definition.reserved);
        range = definition.range.unwrap_or(range);
    }
    let none = || NetworkError::NoAddress { network: name.clone(), subnet: range };
    subnet.next_free_in(range, taken, *last).ok_or_else(none)
}

/// Removes what dead containers left: first the rules, which nobody would know of without the leases. Returns the
/// addresses of those that live. Where the bridge is gone the rules are, too.
pub(super) fn sweep(locked: &Locked, has_bridge: bool) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
    let (taken, dead) = locked.leases()?;
    let had_ports = has_bridge
        && dead.iter().any(|(_, lease)| lease.as_ref().is_none_or(|lease| !lease.published.is_empty()));
    if had_ports && let Some(record) = locked.directory().record()?.filter(NetworkRecord::has_bridge) {
        let mut firewall = record.firewall.open(&record.name)?;
        // Without its rules there is nothing to remove; who needs them makes them.
        if firewall.is_installed(&record.bridge)? {
            firewall.install(&rules(&record, &locked.directory().living()?))?;
        }
    }
    dead.iter().try_for_each(|(address, _)| locked.forget_lease(*address))?;
    Ok(taken)
}

/// The address that was asked for, if it can be had.
fn wanted_address(
    locked: &Locked,
    network: &NetworkRecord,
    address: Ipv4Addr,
) -> Result<Ipv4Addr, NetworkError> {
    if !network.subnet.is_for_containers(address) || address == network.gateway() {
        return Err(outside(network, address.into(), &network.subnet.to_string()));
    }
    let holder = locked.directory().living()?.into_iter().find(|lease| lease.address == address);
    holder.map_or(Ok(address), |lease| Err(taken(address.into(), &lease)))
}

/// The IPv6 address that was asked for, or the one that goes with the IPv4 address.
fn address6(
    locked: &Locked,
    network: &NetworkRecord,
    connect: &Connect,
    inet: Ipv4Addr,
) -> Result<Option<Ipv6Addr>, NetworkError> {
    let Some(wanted) = connect.address6 else {
        return Ok(network.subnet6.map(|subnet| subnet.beside(inet)));
    };
    let subnet = network.subnet6.map_or("no subnet of IPv6".to_owned(), |subnet| subnet.to_string());
    if !network.subnet6.is_some_and(|subnet| subnet.is_for_containers(wanted)) {
        return Err(outside(network, wanted.into(), &subnet));
    }
    let holder = locked.directory().living()?.into_iter().find(|lease| lease.address6 == Some(wanted));
    holder.map_or(Ok(Some(wanted)), |lease| Err(taken(wanted.into(), &lease)))
}

fn outside(network: &NetworkRecord, address: IpAddr, subnet: &str) -> NetworkError {
    NetworkError::AddressOutside { address, network: network.name.clone(), subnet: subnet.to_owned() }
}

fn taken(address: IpAddr, lease: &LeaseRecord) -> NetworkError {
    NetworkError::AddressTaken { address, container: super::short(&lease.container) }
}

impl Seat {
    /// The container's addresses.
    pub(super) fn addresses(&self) -> Addresses {
        Addresses { inet: self.lease.record.address, inet6: self.lease.record.address6 }
    }

    /// The address that the bridge, and so the machine, has in the network.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.network.gateway()
    }

    /// The network's id, or the default one's name.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The user-defined network, and what the container is called there.
    pub(super) fn network_name(&self) -> Option<NetworkName> {
        let definition = self.network.definition.as_ref()?;
        Some(NetworkName::of(definition, &self.lease.record.names))
    }

    /// Whether packets to elsewhere leave by its card.
    pub(super) fn leads_out(&self) -> bool {
        self.leads_out
    }

    /// Whether there is a way out of its network.
    pub(super) fn may_lead_out(&self) -> bool {
        !self.network.is_internal()
    }

    /// Whether the network has a bridge, and not an interface that was there.
    pub(super) fn has_bridge(&self) -> bool {
        self.network.has_bridge()
    }

    /// Names that only this container has for others in the network, with their ids.
    pub(super) fn links(&self) -> Vec<(String, String)> {
        self.asked.card.links.clone()
    }

    /// What the container has, but for its ports.
    pub(super) fn endpoint(&self) -> Endpoint {
        let Addresses { inet, inet6 } = self.addresses();
        let NetworkRecord { subnet, subnet6, .. } = self.network;
        Endpoint {
            inet: Some(InetEndpoint {
                address: inet.into(),
                length: Some(subnet.length()),
                gateway: Some(self.gateway().into()),
            }),
            inet6: subnet6.zip(inet6).map(|(subnet, address)| InetEndpoint {
                address: address.into(),
                length: Some(Subnet6::LENGTH),
                gateway: Some(subnet.gateway().into()),
            }),
            mac: Some(self.mac),
            published: Vec::new(),
            network: self.network_name(),
            asked: self.asked.clone(),
        }
    }

    /// Where its bridge is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Lays the cable from the bridge into the container's namespace and configures its card.
    pub(super) fn plug_in(&mut self, bridge: u32, namespace: &mut Namespace) -> Result<(), NetworkError> {
        self.card = match &self.asked.card.name {
            Some(name) => name.clone(),
            None => free_card(namespace, self.network.card_prefix().unwrap_or(CARD_PREFIX))?,
        };
        let namespace_there = std::os::fd::AsFd::as_fd(&*namespace);
        self.place.run(|| self.lay_cable(bridge, namespace_there))?;
        let index = find_card(namespace, &self.card)?;
        let configured = namespace.links.configure(index, &self.card_settings());
        configured.map_err(failed("configure", &self.card))?;
        for address in &self.asked.card.link_local {
            let added = namespace.links.add_link_local(index, *address);
            added.map_err(failed("give a link-local address to", &self.card))?;
        }
        self.asked.card.apply(namespace.as_owned(), &self.card)
    }

    fn lay_cable(&self, bridge: u32, namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
        if !self.has_bridge() {
            return self.add_sublink(bridge, namespace);
        }
        let name = &self.lease.record.interface;
        let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
        links
            .add_cable(&Cable {
                name,
                bridge,
                namespace,
                peer: &self.card,
                address: self.mac,
                mtu: self.network.mtu,
                ipv6: self.network.subnet6.is_some(),
                separate: self.network.definition.as_ref().is_some_and(|definition| definition.separate),
            })
            .map_err(failed("make the virtual cable", name))
    }

    /// Whether the bridge of the network still has this number.
    pub(super) fn bridge_is(&self, index: u32) -> Result<bool, NetworkError> {
        let bridge = &self.network.bridge;
        self.place.run(|| {
            let found = Links::open().and_then(|mut links| links.find(bridge));
            Ok(found.map_err(failed("find", bridge))?.is_some_and(|link| link.index == index))
        })
    }

    /// Makes a card on the network's interface, in the container's namespace.
    fn add_sublink(&self, parent: u32, namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
        let driver = self.network.driver();
        let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
        let made = links.add_sublink(&Sublink {
            driver,
            parent,
            namespace,
            name: &self.card,
            address: self.mac,
            mtu: self.network.mtu,
        });
        made.map_err(|source| match source.raw_os_error() {
            Some(UNSUPPORTED) => NetworkError::NoDriver { driver: driver.name() },
            _ => failed("make a card on", &self.network.bridge)(source),
        })
    }

    fn card_settings(&self) -> Card {
        let Addresses { inet, inet6 } = self.addresses();
        let routes_itself = self.network.driver().routes_itself();
        Card {
            subnet: self.network.subnet,
            address: inet,
            inet6: self.network.subnet6.zip(inet6),
            way_out: match self.leads_out {
                false => WayOut::None,
                true if routes_itself => WayOut::Card,
                true => WayOut::By(self.gateway()),
            },
        }
    }

    /// Lets packets to elsewhere leave by its card from now on.
    pub(super) fn lead_out(&mut self, namespace: &mut Namespace) -> Result<(), NetworkError> {
        self.leads_out = true;
        let index = find_card(namespace, &self.card)?;
        let led = namespace.links.lead_out(index, &self.card_settings());
        led.map_err(failed("make the default route of", &self.card))
    }

    /// Removes the cable while the container goes on.
    pub(super) fn unplug(&self, namespace: &mut Namespace) -> Result<(), NetworkError> {
        if !self.has_bridge() {
            let index = find_card(namespace, &self.card)?;
            return namespace.links.remove(index).map_err(failed("remove", &self.card));
        }
        self.place.run(|| self.remove_cable())
    }

    fn remove_cable(&self) -> Result<(), NetworkError> {
        let name = &self.lease.record.interface;
        let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
        match links.find(name).map_err(failed("find", name))? {
            Some(link) => links.remove(link.index).map_err(failed("remove", name)),
            None => Ok(()),
        }
    }

    /// Adds or removes our own redirects. Where the rules are not as they should be, all are made anew. The network
    /// must be locked.
    fn change_redirects(&mut self, change: Change) -> Result<(), NetworkError> {
        if !self.has_bridge() {
            return Ok(());
        }
        let Self { directory, network, lease, firewall, .. } = self;
        let own = Redirect::of_lease(&lease.record, network.modes());
        // What is let through is not only in maps everywhere.
        let is_small = !network.modes().routes();
        if is_small && firewall.change(&network.bridge, change, &own).is_ok() {
            return Ok(());
        }
        let mut living = directory.living()?;
        living.retain(|other| other.address != lease.record.address);
        if change == Change::Add {
            living.insert(0, lease.record.clone());
        }
        firewall.install(&rules(network, &living))
    }

    /// Gives everything back; the interface goes with the namespace.
    pub(super) fn leave(self) -> Result<(), NetworkError> {
        let place = self.place.clone();
        place.run(|| self.leave_there())
    }

    fn leave_there(mut self) -> Result<(), NetworkError> {
        let _locked = self.directory.lock()?;
        // In this order: what is in the lease is known to whoever comes if we do not come to the end.
        self.change_redirects(Change::Remove)?;
        let Self { lease, firewall, .. } = self;
        firewall.close();
        lease.remove()
    }
}

/// The first name of a card that the container does not have.
fn free_card(namespace: &mut Namespace, prefix: &str) -> Result<String, NetworkError> {
    let links = namespace.links.all().map_err(failed("list", "the container's interfaces"))?;
    let is_free = |name: &String| links.iter().all(|link| link.name != *name);
    let names = (0..=links.len()).map(|number| format!("{prefix}{number}"));
    // One more name than there are cards is tried.
    Ok(names.into_iter().find(is_free).unwrap_or_default())
}

fn find_card(namespace: &mut Namespace, card: &str) -> Result<u32, NetworkError> {
    let found = namespace.links.find(card).map_err(failed("find", card))?;
    Ok(found.ok_or_else(|| failed("find", card)(io::ErrorKind::NotFound.into()))?.index)
}

pub(super) fn rules(network: &NetworkRecord, leases: &[LeaseRecord]) -> Rules {
    let modes = network.modes();
    Rules {
        bridge: network.bridge.clone(),
        subnet: network.subnet,
        subnet6: network.subnet6,
        masquerade: network.definition.as_ref().is_none_or(|definition| definition.masquerade),
        modes,
        internal: network.is_internal(),
        redirects: Redirect::of_leases(leases, modes),
    }
}

/// Why something about an interface failed.
pub(super) fn failed(operation: &'static str, interface: &str) -> impl Fn(io::Error) -> NetworkError {
    let interface = interface.to_owned();
    move |source| NetworkError::Interface { operation, interface: interface.clone(), source }
}
