//! A user-defined network: what somebody asked for, as far as making it goes.
//!
//! It is kept in the store, and comes along with whoever connects a container. So the first of them after a restart of
//! the machine makes the network as it was, with nobody's help.

use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Connect;
use super::address::{Subnet4, Subnet6};
use super::error::NetworkError;
pub use super::firewall::{GatewayMode, GatewayModes};
use super::record::{Directory, LeaseRecord};
pub use super::sublink::Driver;
use super::{leftovers, making, may_administer_networks};

/// A network that somebody named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The addresses of its containers; `None` until [`create`] has chosen some.
    pub subnet: Option<Subnet4>,
    /// The bridge's address; `None` is the first one of a host.
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are chosen from, if not from the whole subnet (`--ip-range`).
    pub range: Option<Subnet4>,
    /// Addresses that no container gets (`--aux-address`).
    pub reserved: Vec<Ipv4Addr>,
    /// Its IPv6 addresses, if it has any.
    pub subnet6: Option<Subnet6>,
    /// Whether there is no way out of it, and none in.
    pub internal: bool,
    /// Whether packets to elsewhere get the host's address.
    pub masquerade: bool,
    /// Whether its containers cannot reach each other (`enable_icc=false`).
    pub separate: bool,
    /// Another name of the bridge than the one that is chosen.
    pub bridge: Option<String>,
    /// The largest packet in bytes; `None` is what the way out allows.
    pub mtu: Option<u32>,
    /// How its containers are connected.
    #[serde(default)]
    pub driver: Driver,
    /// The interface that its containers have cards on, if somebody named one.
    #[serde(default)]
    pub parent: Option<String>,
    /// What the names of cards begin with, if not as usual.
    #[serde(default)]
    pub card_prefix: Option<String>,
    /// The address of the host that offers ports for which nobody names one.
    #[serde(default)]
    pub bind_to: Option<Ipv4Addr>,
    /// Whether the bridge gets no IPv4 address (`inhibit_ipv4`).
    #[serde(default)]
    pub without_address: bool,
    /// What passes between the network and elsewhere.
    #[serde(default)]
    pub modes: GatewayModes,
}

impl Definition {
    /// Whether its bridge has an address of IPv4, and one of IPv6 where the network has it.
    pub(super) fn bridge_addresses(&self) -> (bool, bool) {
        let isolated = |mode: GatewayMode| mode == GatewayMode::Isolated;
        (!self.without_address && !isolated(self.modes.inet), !isolated(self.modes.inet6))
    }
}

/// What there is of a network at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Its bridge.
    pub bridge: String,
    /// The addresses of its containers.
    pub subnet: Subnet4,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Its IPv6 addresses, if it has any.
    pub subnet6: Option<Subnet6>,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// What its containers have.
    pub leases: Vec<LeaseRecord>,
}

/// Makes a network, and answers it with the subnet that it got, which is none of `taken`. The kernel decides whether a subnet
/// is free. An ordinary user's network is only made when a container comes, and a subnet is free that no route of the
/// machine leads to.
///
/// # Errors
/// [`NetworkError::SubnetTaken`], [`NetworkError::BridgeExists`].
pub fn create(runtime: &Path, wanted: &Definition, taken: &[Subnet4]) -> Result<Definition, NetworkError> {
    if wanted.driver != Driver::Bridge {
        return create_on_interface(runtime, wanted, taken);
    }
    if !may_administer_networks()? {
        let subnet = making::choose(runtime, wanted, taken)?;
        return Ok(Definition { subnet: Some(subnet), ..wanted.clone() });
    }
    sys::fs::create_dir_all(runtime, 0o700)?;
    let connect = Connect::to(wanted.clone(), "");
    let made = making::establish(runtime, &connect);
    if made.is_err() {
        // What is left of it otherwise is what a killed command leaves, too.
        let _ = leftovers::remove_network(runtime, &wanted.id);
    }
    let record = made?;
    Ok(Definition { subnet: Some(record.subnet), ..wanted.clone() })
}

/// The same for cards on an interface of the machine. A subnet that is asked for is that of the network which the interface is
/// in, so routes lead to it.
fn create_on_interface(
    runtime: &Path,
    wanted: &Definition,
    taken: &[Subnet4],
) -> Result<Definition, NetworkError> {
    if !may_administer_networks()? {
        return Err(NetworkError::NeedsInterface { driver: wanted.driver.name() });
    }
    sys::fs::create_dir_all(runtime, 0o700)?;
    let subnet = match wanted.subnet {
        Some(subnet) => subnet,
        None => making::choose(runtime, wanted, taken)?,
    };
    let wanted = Definition { subnet: Some(subnet), ..wanted.clone() };
    let made = making::establish(runtime, &Connect::to(wanted.clone(), ""));
    if made.is_err() {
        let _ = leftovers::remove_network(runtime, &wanted.id);
    }
    made.map(|_| wanted)
}

/// What there is of a network, the default one or one with this id; `None` if it has not been made on this machine.
///
/// # Errors
/// The runtime directory cannot be read.
pub fn live(runtime: &Path, network: &str) -> Result<Option<Live>, NetworkError> {
    let directory = Directory::new(runtime, network);
    let Some(record) = directory.record()? else { return Ok(None) };
    let leases = directory.living()?;
    let gateway = record.gateway();
    let super::record::NetworkRecord { bridge, subnet, subnet6, mtu, .. } = record;
    Ok(Some(Live { bridge, subnet, gateway, subnet6, mtu, leases }))
}

/// Removes what there is of a network: bridge, rules and records. Does nothing while it has containers, which is
/// answered with `false`.
///
/// # Errors
/// It cannot be removed.
pub fn remove(runtime: &Path, network: &str) -> Result<bool, NetworkError> {
    match sys::fs::exists(&Directory::new(runtime, network).path())? {
        true => leftovers::remove_network(runtime, network),
        false => Ok(true),
    }
}
