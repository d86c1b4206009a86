//! The bridge network: made when a container needs it, and left to the next one.
//!
//! Everything here happens under the network's lock, except for what concerns one container alone. Before anything
//! else, what dead containers left is swept (see [`super::record`]).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use base::Digest;

use super::address::{MacAddress, Subnet4, Subnet6};
use super::endpoint::{Endpoint, InetEndpoint};
use super::error::NetworkError;
use super::firewall::{Backend, Change, Firewall, Redirect, Rules};
use super::link::{Cable, Card, Links};
use super::namespace::Namespace;
use super::publish::Published;
use super::record::{Directory, Lease, LeaseRecord, Locked, NetworkRecord};
use super::{Connect, setting};

/// The name of a container's card.
pub(super) const CARD: &str = "eth0";
/// The largest packet where the way out allows it, in bytes: that of Ethernet.
const ETHERNET: u32 = 1500;
/// The runtime directory of the system's root, whose default network has a name that people can remember.
const SYSTEM_DIRECTORY: &str = "/run/lapstrake";
/// What the names of our bridges begin with.
pub(super) const BRIDGE_PREFIX: &str = "lap";
/// What the notes at our bridges begin with.
pub(super) const ALIAS_PREFIX: &str = "lapstrake ";

/// A container's part of the network.
#[derive(Debug)]
pub(super) struct Seat {
    directory: Directory,
    network: NetworkRecord,
    lease: Lease,
    /// The address of its card.
    mac: MacAddress,
    firewall: Firewall,
}

/// The addresses of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) inet: Ipv4Addr,
    pub(super) inet6: Option<Ipv6Addr>,
}

/// Gives a container a seat: an address, a lease and rules, but no interface yet.
pub(super) fn take_seat(
    runtime: &Path,
    connect: &Connect,
    published: Vec<Published>,
) -> Result<(Seat, u32), NetworkError> {
    let directory = Directory::new(runtime, &connect.network);
    let locked = directory.lock()?;
    let taken = sweep(&locked)?;
    let (mut network, index, firewall) = ensure(runtime, &locked, connect)?;
    let inet = match connect.address {
        Some(address) => wanted_address(&locked, &network, address)?,
        None => network.subnet.next_free(&taken, network.last).ok_or_else(|| NetworkError::NoAddress {
            network: network.name.clone(),
            subnet: network.subnet,
        })?,
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
    })?;
    let mac = connect.mac.unwrap_or(MacAddress::beside(inet));
    let mut seat = Seat { directory, network, lease, mac, firewall };
    seat.change_redirects(Change::Add)?;
    Ok((seat, index))
}

/// Removes what dead containers left: first the rules, which nobody would know of without the leases. Returns the
/// addresses of those that live.
pub(super) fn sweep(locked: &Locked) -> Result<BTreeSet<Ipv4Addr>, NetworkError> {
    let (taken, dead) = locked.leases()?;
    let had_ports =
        dead.iter().any(|(_, lease)| lease.as_ref().is_none_or(|lease| !lease.published.is_empty()));
    if had_ports && let Some(record) = locked.directory().record()? {
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
    if !network.subnet.is_for_containers(address) {
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
        self.network.subnet.gateway()
    }

    /// What the container has, but for its ports.
    pub(super) fn endpoint(&self) -> Endpoint {
        let Addresses { inet, inet6 } = self.addresses();
        let NetworkRecord { subnet, subnet6, .. } = self.network;
        Endpoint {
            inet: Some(InetEndpoint {
                address: inet.into(),
                length: Some(subnet.length()),
                gateway: Some(subnet.gateway().into()),
            }),
            inet6: subnet6.zip(inet6).map(|(subnet, address)| InetEndpoint {
                address: address.into(),
                length: Some(Subnet6::LENGTH),
                gateway: Some(subnet.gateway().into()),
            }),
            mac: Some(self.mac),
            published: Vec::new(),
        }
    }

    /// Lays the cable from the bridge into the container's namespace and configures its card.
    pub(super) fn plug_in(&self, bridge: u32, namespace: &mut Namespace) -> Result<(), NetworkError> {
        let Addresses { inet, inet6 } = self.addresses();
        let name = &self.lease.record.interface;
        let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
        links
            .add_cable(&Cable {
                name,
                bridge,
                namespace: std::os::fd::AsFd::as_fd(&namespace),
                peer: CARD,
                address: self.mac,
                mtu: self.network.mtu,
                ipv6: self.network.subnet6.is_some(),
            })
            .map_err(failed("make the virtual cable", name))?;
        let card = namespace.links.find(CARD).map_err(failed("find", CARD))?;
        let card = card.ok_or_else(|| failed("find", CARD)(io::ErrorKind::NotFound.into()))?;
        let inet6 = self.network.subnet6.zip(inet6);
        let settings = Card { subnet: self.network.subnet, address: inet, inet6 };
        namespace.links.configure(card.index, &settings).map_err(failed("configure", CARD))
    }

    /// Adds or removes our own redirects. Where the rules are not as they should be, all are made anew. The network
    /// must be locked.
    fn change_redirects(&mut self, change: Change) -> Result<(), NetworkError> {
        let Self { directory, network, lease, firewall, .. } = self;
        let own = Redirect::of_lease(&lease.record);
        if firewall.change(&network.bridge, change, &own).is_ok() {
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
    pub(super) fn leave(mut self) -> Result<(), NetworkError> {
        let _locked = self.directory.lock()?;
        // In this order: what is in the lease is known to whoever comes if we do not come to the end.
        self.change_redirects(Change::Remove)?;
        let Self { lease, firewall, .. } = self;
        firewall.close();
        lease.remove()
    }
}

pub(super) fn rules(network: &NetworkRecord, leases: &[LeaseRecord]) -> Rules {
    Rules {
        bridge: network.bridge.clone(),
        subnet: network.subnet,
        subnet6: network.subnet6,
        redirects: Redirect::of_leases(leases),
    }
}

/// The network, made if it is not there, the number of its bridge, and the firewall with its rules.
fn ensure(
    runtime: &Path,
    locked: &Locked,
    connect: &Connect,
) -> Result<(NetworkRecord, u32, Firewall), NetworkError> {
    let bridge = bridge_name(runtime, &connect.network);
    let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
    let link = links.find(&bridge).map_err(failed("find", &bridge))?;
    let before = locked.directory().record()?;
    let (record, index, is_new) = match (before, link) {
        (Some(record), Some(link)) if link.is_up => (record, link.index, false),
        (before, link) => {
            if let Some(stale) = link {
                links.remove(stale.index).map_err(failed("remove", &bridge))?;
            }
            let (record, index) = make(runtime, &mut links, connect, before, bridge)?;
            locked.write(&record)?;
            (record, index, true)
        }
    };
    let mut firewall = record.firewall.open(&record.name)?;
    if is_new || !firewall.is_installed(&record.bridge)? {
        firewall.install(&rules(&record, &locked.directory().living()?))?;
    }
    firewall.admit(&record.bridge)?;
    Ok((record, index, firewall))
}

/// Makes the bridge, with the addresses that an old record says if they can be had.
fn make(
    runtime: &Path,
    links: &mut Links,
    connect: &Connect,
    old: Option<NetworkRecord>,
    bridge: String,
) -> Result<(NetworkRecord, u32), NetworkError> {
    setting::forward_packets()?;
    let ipv6 = setting::has_ipv6()? && setting::forward_packets6()?;
    let outer = links.outer_mtu().map_err(failed("ask for", "the routes"))?;
    let mtu = connect.mtu.unwrap_or_else(|| outer.map_or(ETHERNET, |mtu| mtu.min(ETHERNET)));
    let subnet6 = match old.as_ref().and_then(|old| old.subnet6) {
        Some(subnet) => Some(subnet).filter(|_| ipv6),
        None if ipv6 => Some(Subnet6::unique_local(random_bytes()?)),
        None => None,
    };
    let [a, b, c, d, ..] = random_bytes()?;
    let alias = format!("{ALIAS_PREFIX}{}", runtime.display());
    let address = MacAddress::beside(Ipv4Addr::new(a, b, c, d));
    links.add_bridge(&bridge, &alias, address, mtu).map_err(failed("make the bridge", &bridge))?;
    if ipv6 {
        // Its own address is usable at once. Else the kernel could not ask for those of containers at first, and what
        // comes for them from outside would be lost.
        setting::write(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
    }
    let index = links.find(&bridge).map_err(failed("find", &bridge))?;
    let index = index.ok_or_else(|| failed("find", &bridge)(io::ErrorKind::NotFound.into()))?.index;
    let subnet = claim_subnet(links, index, &connect.network, &bridge, old.as_ref().map(|old| old.subnet))?;
    let given = links.add_address4(index, subnet.gateway(), subnet.length());
    given.map_err(failed("give an address to", &bridge))?;
    if let Some(subnet) = subnet6 {
        let given = links.add_address6(index, subnet.gateway());
        given.map_err(failed("give an address to", &bridge))?;
    }
    let firewall = connect.firewall.unwrap_or_else(Backend::detect);
    let name = connect.network.clone();
    Ok((NetworkRecord { name, bridge, subnet, subnet6, mtu, firewall, last: None }, index))
}

/// Takes a subnet that no route of the host leads to, the one that it had before if that is free.
fn claim_subnet(
    links: &mut Links,
    index: u32,
    network: &str,
    bridge: &str,
    before: Option<Subnet4>,
) -> Result<Subnet4, NetworkError> {
    let routed = links.routed().map_err(failed("ask for", "the routes"))?;
    let before = before.filter(|subnet| !routed.iter().any(|other| subnet.overlaps(*other)));
    // Different directories begin at different places, so that they seldom want the same.
    let start =
        u32::from_str_radix(bridge.strip_prefix(BRIDGE_PREFIX).unwrap_or("").get(..7).unwrap_or("0"), 16);
    for subnet in before.into_iter().chain(Subnet4::choices(start.unwrap_or(0), &routed)) {
        if links.claim(index, subnet).map_err(failed("claim a subnet for", bridge))? {
            return Ok(subnet);
        }
    }
    Err(NetworkError::NoSubnet { network: network.to_owned() })
}

/// `lap0` for the system's default network; others have a name that is theirs alone, because the kernel has one
/// list of interfaces for all runtime directories.
pub(super) fn bridge_name(runtime: &Path, network: &str) -> String {
    if runtime == Path::new(SYSTEM_DIRECTORY) && network == super::DEFAULT_NETWORK {
        return format!("{BRIDGE_PREFIX}0");
    }
    let identity = format!("{}\0{network}", runtime.display());
    let digest = Digest::of(identity.as_bytes());
    format!("{BRIDGE_PREFIX}{}", &digest.hex()[..10])
}

fn random_bytes() -> Result<[u8; 7], NetworkError> {
    let digits = sys::random::hex(7)?;
    let mut bytes = [0; 7];
    for (index, byte) in bytes.iter_mut().enumerate() {
        // Two hex digits are always a byte.
        *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).unwrap_or(0);
    }
    Ok(bytes)
}

/// Why something about an interface failed.
pub(super) fn failed(operation: &'static str, interface: &str) -> impl Fn(io::Error) -> NetworkError {
    let interface = interface.to_owned();
    move |source| NetworkError::Interface { operation, interface: interface.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_have_names_of_their_own_that_the_kernel_takes() {
        assert_eq!(bridge_name(Path::new("/run/lapstrake"), "default"), "lap0");
        let names = [("/run/lapstrake", "other"), ("/tmp/a", "default"), ("/tmp/b", "default")]
            .map(|(runtime, network)| bridge_name(Path::new(runtime), network));
        assert!(names.iter().all(|name| name.len() <= 15), "{names:?}");
        assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
    }
}
