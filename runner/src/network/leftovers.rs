//! What networks leave on the machine, to be listed and removed.
//!
//! A network's bridge and its rules stay when its last container ends, because making them takes longer than keeping
//! them. A killed process leaves its lease, and the redirects of its ports; the next container of the network removes
//! them. A runtime directory that was removed under a network leaves bridge and rules that nobody knows of; the note at
//! the bridge says whose it was.
//!
//! That a directory is not there for us does not mean that it is gone: it may be on a mount that only others see, while
//! the interfaces are those of all. So a bridge with a cable is in use, whatever its note says, and what has no bridge, where
//! nobody can see who uses it, is left alone. Looking and removing are two calls: a container whose cable is laid between
//! them loses its bridge. One whose cable is laid after them finds none, and makes it anew.

use std::fmt;
use std::path::{Path, PathBuf};

use super::bridge::{self, ALIAS_PREFIX, failed};
use super::error::NetworkError;
use super::firewall::{Backend, nftables};
use super::hub::Place;
use super::link::{Link, Links};
use super::making::bridge_name;
use super::record::{Directory, Life, Locked};

/// Something that no container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A network without containers.
    IdleNetwork {
        /// Its name.
        network: String,
        /// Its bridge.
        bridge: String,
    },
    /// Leases of containers that were killed.
    DeadLeases {
        /// The network.
        network: String,
        /// How many.
        count: usize,
    },
    /// A bridge without containers whose runtime directory does not exist any more.
    OrphanBridge {
        /// The bridge.
        bridge: String,
        /// The directory.
        directory: PathBuf,
    },
    /// Rules of the firewall for a bridge that does not exist any more.
    OrphanRules {
        /// The bridge.
        bridge: String,
    },
}

impl Leftover {
    /// Whether it is there by design: it costs nothing, and the next container uses it.
    pub fn is_expected(&self) -> bool {
        matches!(self, Self::IdleNetwork { .. })
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdleNetwork { network, bridge } => {
                write!(formatter, "network \"{network}\" (bridge {bridge}) has no container")
            }
            Self::DeadLeases { network, count } => {
                write!(formatter, "network \"{network}\" has addresses of killed containers: {count}")
            }
            Self::OrphanBridge { bridge, directory } => {
                write!(formatter, "bridge {bridge} belongs to {}, which does not exist", directory.display())
            }
            Self::OrphanRules { bridge } => {
                write!(formatter, "firewall rules are for bridge {bridge}, which does not exist")
            }
        }
    }
}

/// What there is now. Lists nothing where we may not ask.
///
/// # Errors
/// The runtime directory or the interfaces cannot be read.
pub fn list(runtime: &Path) -> Result<Vec<Leftover>, NetworkError> {
    let mut found = Vec::new();
    for network in Directory::names(runtime)? {
        let directory = Directory::new(runtime, &network);
        let addresses = directory.addresses()?;
        let count = addresses.iter().filter(|(_, life)| *life == Life::Dead).count();
        if count > 0 {
            found.push(Leftover::DeadLeases { network: network.clone(), count });
        }
        if count == addresses.len() {
            let bridge = bridge_of(&directory, runtime, &network)?;
            found.push(Leftover::IdleNetwork { network, bridge });
        }
    }
    // Whoever may not see the firewall has left nothing there. Asked first: who makes a bridge makes its rules after it.
    let tables = nftables::bridges().unwrap_or_default();
    let links = Links::open().and_then(|mut links| links.all()).map_err(failed("list", "the interfaces"))?;
    let orphans = links.iter().filter_map(|link| Some((link, orphan_directory(link, &links)?)));
    found.extend(orphans.map(|(link, directory)| {
        let bridge = link.name.clone();
        Leftover::OrphanBridge { bridge, directory }
    }));
    let exists = |bridge: &String| links.iter().any(|link| link.name == *bridge);
    let orphans = tables.into_iter().filter(|bridge| !exists(bridge));
    found.extend(orphans.map(|bridge| Leftover::OrphanRules { bridge }));
    Ok(found)
}

/// The runtime directory of a bridge of ours which is not there, if no container has a cable to the bridge.
fn orphan_directory(bridge: &Link, links: &[Link]) -> Option<PathBuf> {
    let note = bridge.alias.as_ref().filter(|_| bridge.is_bridge)?;
    let directory = PathBuf::from(note.strip_prefix(ALIAS_PREFIX)?);
    // A directory that cannot be asked for may exist.
    let exists = sys::fs::exists(&directory.join("networks")).unwrap_or(true);
    let is_used = || links.iter().any(|link| link.master == Some(bridge.index));
    (!exists && !is_used()).then_some(directory)
}

/// Removes a bridge without a directory, and its rules unless somebody has made it anew.
fn remove_orphan(bridge: &str) -> Result<(), NetworkError> {
    let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
    let all = links.all().map_err(failed("list", "the interfaces"))?;
    let Some(found) = all.iter().find(|link| link.name == bridge) else { return Ok(()) };
    if orphan_directory(found, &all).is_none() {
        return Ok(());
    }
    links.remove(found.index).map_err(failed("remove the bridge", bridge))?;
    remove_orphan_rules(bridge)
}

/// Removes the rules of a bridge that is not there.
fn remove_orphan_rules(bridge: &str) -> Result<(), NetworkError> {
    let mut firewall = Backend::detect().open(bridge)?;
    let found = Links::open().and_then(|mut links| links.find(bridge)).map_err(failed("find", bridge))?;
    if found.is_none() { firewall.remove(bridge) } else { Ok(()) }
}

/// Removes what killed processes left of their containers in all networks.
///
/// # Errors
/// The runtime directory cannot be read, or something cannot be removed.
pub fn sweep(runtime: &Path) -> Result<(), NetworkError> {
    let has_dead = |network: &String| {
        let addresses = Directory::new(runtime, network).addresses()?;
        Ok::<_, NetworkError>(addresses.iter().any(|(_, life)| *life == Life::Dead))
    };
    for network in Directory::names(runtime)? {
        if has_dead(&network)? {
            sweep_one(runtime, &network)?;
        }
    }
    Ok(())
}

fn sweep_one(runtime: &Path, network: &str) -> Result<(), NetworkError> {
    at_bridges(runtime, |has_bridges| {
        bridge::sweep(&Directory::new(runtime, network).lock()?, has_bridges).map(drop)
    })
}

/// Does something where bridges are, and says whether there can be any.
fn at_bridges<T: Send>(
    runtime: &Path,
    work: impl FnOnce(bool) -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    match Place::find(runtime)? {
        Some(place) => place.run(|| work(true)),
        None => work(false),
    }
}

/// Removes one of them, unless it has come into use meanwhile.
///
/// # Errors
/// It cannot be removed.
pub fn remove(runtime: &Path, leftover: &Leftover) -> Result<(), NetworkError> {
    match leftover {
        Leftover::IdleNetwork { network, .. } => remove_network(runtime, network).map(drop),
        Leftover::DeadLeases { network, .. } => sweep_one(runtime, network),
        Leftover::OrphanBridge { bridge, .. } => remove_orphan(bridge),
        Leftover::OrphanRules { bridge } => remove_orphan_rules(bridge),
    }
}

/// The bridge that a network has or would have.
fn bridge_of(directory: &Directory, runtime: &Path, network: &str) -> Result<String, NetworkError> {
    let record = directory.record()?;
    Ok(record.map_or_else(|| bridge_name(runtime, network), |record| record.bridge))
}

/// Removes a network without containers, with its bridge and its rules. `false` if it has some.
pub(super) fn remove_network(runtime: &Path, network: &str) -> Result<bool, NetworkError> {
    at_bridges(runtime, |has_bridges| {
        let locked = Directory::new(runtime, network).lock()?;
        if !bridge::sweep(&locked, has_bridges)?.is_empty() {
            return Ok(false);
        }
        if has_bridges {
            remove_bridge_and_rules(&locked, runtime, network)?;
        }
        locked.forget()?;
        Ok(true)
    })
}

fn remove_bridge_and_rules(locked: &Locked, runtime: &Path, network: &str) -> Result<(), NetworkError> {
    if let Some(record) = locked.directory().record()?.filter(|record| !record.has_bridge()) {
        let is_ours = record.definition.is_some_and(|definition| definition.parent.is_none());
        return if is_ours { remove_bridge(&record.bridge) } else { Ok(()) };
    }
    let bridge = bridge_of(locked.directory(), runtime, network)?;
    match locked.directory().record()? {
        Some(record) => record.firewall.open(network)?.remove(&bridge)?,
        None => remove_rules(&bridge)?,
    }
    remove_bridge(&bridge)
}

fn remove_rules(bridge: &str) -> Result<(), NetworkError> {
    Backend::detect().open(bridge)?.remove(bridge)
}

fn remove_bridge(bridge: &str) -> Result<(), NetworkError> {
    let mut links = Links::open().map_err(failed("ask for", "the interfaces"))?;
    match links.find(bridge).map_err(failed("find", bridge))? {
        Some(link) => links.remove(link.index).map_err(failed("remove the bridge", bridge)),
        None => Ok(()),
    }
}
