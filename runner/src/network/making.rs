//! Making a bridge network: the interface, its subnets, and its rules. Everything here happens under the network's lock.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use base::Digest;

use super::address::{MacAddress, Subnet4, Subnet6};
use super::bridge::{ALIAS_PREFIX, failed, rules};
use super::definition::Definition;
use super::error::NetworkError;
use super::firewall::{Backend, Firewall};
use super::link::Links;
use super::record::{Directory, Locked, NetworkRecord};
use super::sublink::Driver;
use super::{Connect, setting, sublink};

/// The largest packet where the way out allows it, in bytes: that of Ethernet.
const ETHERNET: u32 = 1500;
/// The runtime directory of the system's root, whose default network has a name that people can remember.
const SYSTEM_DIRECTORY: &str = "/run/lapstrake";
/// What the names of our bridges begin with.
const BRIDGE_PREFIX: &str = "lap";

/// Makes a network without connecting anybody to it.
pub(super) fn establish(runtime: &Path, connect: &Connect) -> Result<NetworkRecord, NetworkError> {
    let locked = Directory::new(runtime, &connect.network).lock()?;
    Ok(ensure(runtime, &locked, connect)?.0)
}

/// The network, made if it is not there, the number of its bridge, and the firewall with its rules.
pub(super) fn ensure(
    runtime: &Path,
    locked: &Locked,
    connect: &Connect,
) -> Result<(NetworkRecord, u32, Firewall), NetworkError> {
    if let Some(definition) = connect.definition.as_ref().filter(|asked| asked.driver != Driver::Bridge) {
        return sublink::ensure(runtime, locked, definition);
    }
    let chosen = connect.definition.as_ref().and_then(|definition| definition.bridge.clone());
    let is_chosen = chosen.is_some();
    let bridge = chosen.unwrap_or_else(|| bridge_name(runtime, &connect.network));
    let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
    let link = links.find(&bridge).map_err(failed("find", &bridge))?;
    let before = locked.directory().record()?;
    let (record, index, is_new) = match (before, link) {
        (Some(record), Some(link)) if link.is_up => (record, link.index, false),
        (before, link) => {
            if let Some(stale) = link {
                if is_chosen && stale.alias != Some(alias(runtime)) {
                    let network = connect.network_name().to_owned();
                    return Err(NetworkError::BridgeExists { bridge, network });
                }
                links.remove(stale.index).map_err(failed("remove", &bridge))?;
            }
            let made = make(runtime, &mut links, connect, before, bridge.clone());
            if made.is_err()
                && let Ok(Some(unfinished)) = links.find(&bridge)
            {
                // The first error is the one that is worth telling.
                let _ = links.remove(unfinished.index);
            }
            let (record, index) = made?;
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
    let definition = connect.definition.as_deref();
    let mtu = connect.mtu.or(definition.and_then(|definition| definition.mtu));
    let mtu = mtu.unwrap_or_else(|| outer.map_or(ETHERNET, |mtu| mtu.min(ETHERNET)));
    let subnet6 = match old.as_ref().and_then(|old| old.subnet6) {
        Some(subnet) => Some(subnet).filter(|_| ipv6),
        None if definition.is_some() => definition.and_then(|asked| asked.subnet6).filter(|_| ipv6),
        None if ipv6 => Some(Subnet6::unique_local(random_bytes()?)),
        None => None,
    };
    let [a, b, c, d, ..] = random_bytes()?;
    let alias = alias(runtime);
    let address = MacAddress::beside(Ipv4Addr::new(a, b, c, d));
    links.add_bridge(&bridge, &alias, address, mtu).map_err(failed("make the bridge", &bridge))?;
    if ipv6 {
        // Its own address is usable at once. Else the kernel could not ask for those of containers at first, and what
        // comes for them from outside would be lost.
        setting::write(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
    }
    let index = links.find(&bridge).map_err(failed("find", &bridge))?;
    let index = index.ok_or_else(|| failed("find", &bridge)(io::ErrorKind::NotFound.into()))?.index;
    let before = old.as_ref().map(|old| old.subnet);
    let subnet = match definition.and_then(|definition| definition.subnet) {
        Some(subnet) => claim_exactly(links, index, subnet, &bridge)?,
        None => claim_subnet(links, index, &connect.network, &bridge, before)?,
    };
    let firewall = connect.firewall.unwrap_or_else(Backend::detect);
    let name = connect.network_name().to_owned();
    let addresses = definition.map_or((true, true), Definition::bridge_addresses);
    let definition = connect.definition.as_deref().cloned();
    let record = NetworkRecord { name, bridge, subnet, subnet6, mtu, firewall, last: None, definition };
    let bridge = &record.bridge;
    if addresses.0 {
        let given = links.add_address4(index, record.gateway(), subnet.length());
        given.map_err(failed("give an address to", bridge))?;
    }
    if let Some(subnet) = subnet6.filter(|_| addresses.1) {
        let given = links.add_address6(index, subnet.gateway());
        given.map_err(failed("give an address to", bridge))?;
    }
    Ok((record, index))
}

/// The note at bridges of this runtime directory.
pub(super) fn alias(runtime: &Path) -> String {
    format!("{ALIAS_PREFIX}{}", runtime.display())
}

/// Takes the subnet that a definition names.
fn claim_exactly(
    links: &mut Links,
    index: u32,
    subnet: Subnet4,
    bridge: &str,
) -> Result<Subnet4, NetworkError> {
    let routed = links.routed().map_err(failed("ask for", "the routes"))?;
    let is_free = !routed.iter().any(|other| subnet.overlaps(*other));
    match is_free && links.claim(index, subnet).map_err(failed("claim a subnet for", bridge))? {
        true => Ok(subnet),
        false => Err(NetworkError::SubnetTaken { subnet }),
    }
}

/// A subnet for a network that is made later: the one that is asked for, or one that is none of `taken`. No route of the host
/// leads to it.
pub(super) fn choose(
    runtime: &Path,
    definition: &Definition,
    taken: &[Subnet4],
) -> Result<Subnet4, NetworkError> {
    let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
    let mut avoided = links.routed().map_err(failed("ask for", "the routes"))?;
    if let Some(subnet) = definition.subnet {
        let is_free = !avoided.iter().any(|other| subnet.overlaps(*other));
        return is_free.then_some(subnet).ok_or(NetworkError::SubnetTaken { subnet });
    }
    avoided.extend(taken);
    let chosen = Subnet4::choices(start_of(&bridge_name(runtime, &definition.id)), &avoided).next();
    chosen.ok_or_else(|| NetworkError::NoSubnet { network: definition.name.clone() })
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
    for subnet in before.into_iter().chain(Subnet4::choices(start_of(bridge), &routed)) {
        if links.claim(index, subnet).map_err(failed("claim a subnet for", bridge))? {
            return Ok(subnet);
        }
    }
    Err(NetworkError::NoSubnet { network: network.to_owned() })
}

/// Where the subnets begin that a bridge may have. Different directories begin at different places, so that they seldom
/// want the same.
fn start_of(bridge: &str) -> u32 {
    let digits = bridge.strip_prefix(BRIDGE_PREFIX).unwrap_or("").get(..7).unwrap_or("0");
    u32::from_str_radix(digits, 16).unwrap_or(0)
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
