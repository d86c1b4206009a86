//! Networks whose containers have cards on an interface of the machine, with addresses of the network that it is in: the
//! drivers `macvlan` (each card with an address of its own) and `ipvlan` (all with the interface's).
//!
//! There is no bridge, no rule and no way between the machine itself and the containers; the way out is a router in the
//! interface's network. Without an interface there is a cable of ours in its place, which leads nowhere.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bridge::failed;
use super::definition::Definition;
use super::error::NetworkError;
use super::firewall::{Backend, Firewall};
use super::link::Links;
use super::making::{alias, bridge_name};
use super::record::{Locked, NetworkRecord};

/// How containers are connected with each other and with elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// By a bridge of their own.
    #[default]
    Bridge,
    /// By cards with addresses of their own on an interface.
    Macvlan {
        /// The kernel's number of the mode (`enum macvlan_mode`).
        mode: u32,
    },
    /// By cards that share the address of an interface.
    Ipvlan {
        /// The kernel's number of the mode (`enum ipvlan_mode`).
        mode: u16,
        /// What passes between the cards (`IPVLAN_F_PRIVATE`, `IPVLAN_F_VEPA`).
        flag: u16,
    },
}

impl Driver {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
        }
    }

    /// The mode of `macvlan` with this name.
    pub fn macvlan(mode: &str) -> Option<Self> {
        let mode = match mode {
            "private" => 1,
            "vepa" => 2,
            "" | "bridge" => 4,
            "passthru" => 8,
            _ => return None,
        };
        Some(Self::Macvlan { mode })
    }

    /// The mode and flag of `ipvlan` with these names.
    pub fn ipvlan(mode: &str, flag: &str) -> Option<Self> {
        let place = |names: &[&str], name: &str| names.iter().position(|one| *one == name);
        let mode = place(&["l2", "l3", "l3s"], if mode.is_empty() { "l2" } else { mode })?;
        let flag = place(&["bridge", "private", "vepa"], if flag.is_empty() { "bridge" } else { flag })?;
        Some(Self::Ipvlan { mode: mode as u16, flag: flag as u16 })
    }

    /// Whether packets to elsewhere need no router in the interface's network: the machine's own routes lead them.
    pub(super) fn routes_itself(self) -> bool {
        matches!(self, Self::Ipvlan { mode: 1 | 2, .. })
    }
}

/// The network, written down if it was not, the number of its interface, and a firewall without rules.
pub(super) fn ensure(
    runtime: &Path,
    locked: &Locked,
    definition: &Definition,
) -> Result<(NetworkRecord, u32, Firewall), NetworkError> {
    let network = definition.name.clone();
    let parent = definition.parent.clone().unwrap_or_else(|| bridge_name(runtime, &definition.id));
    let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
    let found = links.find(&parent).map_err(failed("find", &parent))?;
    let link = match found {
        Some(link) => link,
        None if definition.parent.is_some() => return Err(NetworkError::NoParent { parent, network }),
        None => {
            // An interface without anything at its other end would be taken for one without a cable.
            let made = links.add_loose_cable(&parent, &format!("{parent}p"), &alias(runtime));
            made.map_err(failed("make the interface", &parent))?;
            let link = links.find(&parent).map_err(failed("find", &parent))?;
            link.ok_or_else(|| failed("find", &parent)(io::ErrorKind::NotFound.into()))?
        }
    };
    let subnet = definition.subnet.ok_or_else(|| NetworkError::NoSubnet { network: network.clone() })?;
    let record = match locked.directory().record()? {
        Some(record) => record,
        None => NetworkRecord {
            name: network.clone(),
            bridge: parent,
            subnet,
            subnet6: definition.subnet6,
            mtu: definition.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu)),
            firewall: Backend::Nftables,
            last: None,
            definition: Some(definition.clone()),
        },
    };
    locked.write(&record)?;
    Ok((record, link.index, Firewall::none(&network)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        assert_eq!(Driver::macvlan(""), Some(Driver::Macvlan { mode: 4 }));
        assert_eq!(Driver::macvlan("passthru"), Some(Driver::Macvlan { mode: 8 }));
        assert_eq!(Driver::ipvlan("l3s", "vepa"), Some(Driver::Ipvlan { mode: 2, flag: 2 }));
        assert_eq!(Driver::ipvlan("", ""), Some(Driver::Ipvlan { mode: 0, flag: 0 }));
        assert!(Driver::macvlan("l2").is_none() && Driver::ipvlan("l4", "").is_none());
        assert!(Driver::ipvlan("l3", "").is_some_and(Driver::routes_itself));
    }
}
