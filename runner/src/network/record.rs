//! What is written down about networks, in the runtime directory.
//!
//! ```text
//! networks/NAME/lock           (NAME: "default", or the id of a user-defined network) held while the network changes
//! networks/NAME/network.json   a NetworkRecord
//! networks/NAME/leases/ADDRESS a LeaseRecord; locked by the process that has the container, as long as it lives
//! ```
//!
//! A lease whose file nobody has locked is a dead container's. The next one to change the network removes it and
//! what belongs to it, so a crash heals itself. Everything else that a container has, its interface above all, goes
//! with its namespace.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::fs::Durability;
use sys::lock::{FileLock, LockMode};

use super::address::{Subnet4, Subnet6};
use super::definition::Definition;
use super::error::NetworkError;
use super::firewall::GatewayModes;
use super::publish::Published;
use super::sublink::Driver;

/// No record is longer, in bytes.
const LONGEST: u64 = 4 << 20;

/// A network. One file for each, so that more of them than the default one, and more drivers than the bridge, only
/// need more files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its name.
    pub name: String,
    /// The interface that its containers are connected to.
    pub bridge: String,
    /// The addresses of its containers.
    pub subnet: Subnet4,
    /// The IPv6 addresses of its containers, if they have any.
    pub subnet6: Option<Subnet6>,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Which firewall has its rules.
    pub firewall: super::firewall::Backend,
    /// The address that was given last.
    pub last: Option<Ipv4Addr>,
    /// How it was asked for, if it is a user-defined one.
    #[serde(default)]
    pub definition: Option<Definition>,
}

impl NetworkRecord {
    /// The address that the bridge, and so the machine, has in the network.
    pub fn gateway(&self) -> Ipv4Addr {
        let chosen = self.definition.as_ref().and_then(|definition| definition.gateway);
        chosen.unwrap_or_else(|| self.subnet.gateway())
    }

    /// How its containers are connected.
    pub(super) fn driver(&self) -> Driver {
        self.definition.as_ref().map(|definition| definition.driver).unwrap_or_default()
    }

    /// What passes between it and elsewhere.
    pub(super) fn modes(&self) -> GatewayModes {
        self.definition.as_ref().map(|definition| definition.modes).unwrap_or_default()
    }

    /// Whether it has a bridge, and not an interface that its containers have cards on.
    pub(super) fn has_bridge(&self) -> bool {
        self.driver() == Driver::Bridge
    }

    /// What the names of cards in it begin with, if somebody chose that.
    pub(super) fn card_prefix(&self) -> Option<&str> {
        self.definition.as_ref()?.card_prefix.as_deref()
    }

    /// Whether there is no way out of it.
    pub fn is_internal(&self) -> bool {
        self.definition.as_ref().is_some_and(|definition| definition.internal)
    }
}

/// What a container has of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The container's id.
    pub container: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// The host's end of its cable.
    pub interface: String,
    /// Its ports that the host offers.
    pub published: Vec<Published>,
    /// The names by which the network's other containers find it, its own name first. The default network has none.
    #[serde(default)]
    pub names: Vec<String>,
}

/// The directory of one network.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

/// A network that nobody else changes.
#[derive(Debug)]
pub(super) struct Locked {
    directory: Directory,
    lock: FileLock,
}

/// An address that is ours until this is removed or we end.
#[derive(Debug)]
pub(super) struct Lease {
    lock: FileLock,
    pub(super) record: LeaseRecord,
}

/// The addresses of dead containers, and what is known of them.
pub(super) type DeadLeases = Vec<(Ipv4Addr, Option<LeaseRecord>)>;

/// Whether a lease's container lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Somebody holds the lease.
    Alive,
    /// Nobody does.
    Dead,
}

impl Directory {
    /// That of network `name` below a runtime directory.
    pub(super) fn new(runtime: &Path, name: &str) -> Self {
        Self(runtime.join("networks").join(name))
    }

    /// Whether it is that of this network.
    pub(super) fn is(&self, network: &str) -> bool {
        self.0.file_name().is_some_and(|name| name == network)
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// The names of all networks below a runtime directory.
    pub(super) fn names(runtime: &Path) -> Result<Vec<String>, NetworkError> {
        match sys::fs::list(&runtime.join("networks")) {
            Ok(names) => Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect()),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until nobody else changes the network. Makes its directory.
    pub(super) fn lock(&self) -> Result<Locked, NetworkError> {
        loop {
            sys::fs::create_dir_all(&self.0, 0o700)?;
            let lock = match FileLock::acquire(&self.0.join("lock"), LockMode::Exclusive) {
                // Whom we waited for has removed the network.
                Err(error) if error.is_not_found() => continue,
                lock => lock?,
            };
            sys::fs::create_dir_all(&self.leases(), 0o700)?;
            return Ok(Locked { directory: self.clone(), lock });
        }
    }

    /// The network's record, if it has been made.
    pub(super) fn record(&self) -> Result<Option<NetworkRecord>, NetworkError> {
        read(&self.record_path())
    }

    fn record_path(&self) -> PathBuf {
        self.0.join("network.json")
    }

    fn leases(&self) -> PathBuf {
        self.0.join("leases")
    }

    fn lease(&self, address: Ipv4Addr) -> PathBuf {
        self.leases().join(address.to_string())
    }

    /// Every address with a lease, and whether the container lives.
    pub(super) fn addresses(&self) -> Result<Vec<(Ipv4Addr, Life)>, NetworkError> {
        let names = match sys::fs::list(&self.leases()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        let addresses = names.iter().filter_map(|name| name.to_str()?.parse::<Ipv4Addr>().ok());
        let life = |address| {
            let held = FileLock::is_held(&self.lease(address))?;
            Ok((address, if held { Life::Alive } else { Life::Dead }))
        };
        addresses.map(life).collect()
    }

    /// The lease of an address. One that was not written to its end is `None`.
    pub(super) fn read_lease(&self, address: Ipv4Addr) -> Result<Option<LeaseRecord>, NetworkError> {
        match read(&self.lease(address)) {
            Err(NetworkError::Record { .. }) => Ok(None),
            result => result,
        }
    }

    /// The leases of the containers that fit and live.
    pub(super) fn living_that(
        &self,
        fits: impl Fn(&LeaseRecord) -> bool,
    ) -> Result<Vec<LeaseRecord>, NetworkError> {
        let mut found = Vec::new();
        for name in sys::fs::list(&self.leases())? {
            let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // Whether somebody lives is asked of few.
            if let Some(lease) = self.read_lease(address)?.filter(&fits)
                && FileLock::is_held(&self.lease(address))?
            {
                found.push(lease);
            }
        }
        Ok(found)
    }

    /// The leases of all containers that live.
    pub(super) fn living(&self) -> Result<Vec<LeaseRecord>, NetworkError> {
        let living = self.addresses()?.into_iter().filter(|(_, life)| *life == Life::Alive);
        let leases = living.map(|(address, _)| self.read_lease(address)).collect::<Result<Vec<_>, _>>()?;
        Ok(leases.into_iter().flatten().collect())
    }
}

impl Locked {
    /// The network's directory.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Replaces the network's record.
    pub(super) fn write(&self, record: &NetworkRecord) -> Result<(), NetworkError> {
        let path = self.directory.record_path();
        // Nothing of it survives a crash of the machine, nor does the file.
        Ok(sys::fs::write_atomic(&path, &json(record, &path)?, 0o600, Durability::Cached)?)
    }

    /// The addresses of containers that live, and the leases of those that do not, which may not have been written to
    /// their ends.
    pub(super) fn leases(&self) -> Result<(BTreeSet<Ipv4Addr>, DeadLeases), NetworkError> {
        let (mut taken, mut dead) = (BTreeSet::new(), Vec::new());
        for (address, life) in self.directory.addresses()? {
            match life {
                Life::Alive => drop(taken.insert(address)),
                Life::Dead => dead.push((address, self.directory.read_lease(address)?)),
            }
        }
        Ok((taken, dead))
    }

    /// Removes the lease of a dead container.
    pub(super) fn forget_lease(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        Ok(sys::fs::remove_file(&self.directory.lease(address)).map(drop)?)
    }

    /// Takes an address, which must be free.
    pub(super) fn lease(&self, record: LeaseRecord) -> Result<Lease, NetworkError> {
        let path = self.directory.lease(record.address);
        // Everybody who looks at it holds the network's lock, except for lists, which do not remove it.
        let lock = FileLock::acquire(&path, LockMode::Exclusive)?;
        lock.write_note(&String::from_utf8_lossy(&json(&record, &path)?))?;
        Ok(Lease { lock, record })
    }

    /// Removes every trace of the network from the runtime directory. Whoever waits for the lock meanwhile makes it
    /// anew.
    pub(super) fn forget(self) -> Result<(), NetworkError> {
        let Self { directory, lock } = self;
        sys::fs::remove_tree(&directory.leases())?;
        sys::fs::remove_file(&directory.record_path())?;
        lock.remove()?;
        // It is not empty if somebody has come.
        drop(std::fs::remove_dir(&directory.0));
        Ok(())
    }
}

impl Lease {
    /// Gives the address back.
    pub(super) fn remove(self) -> Result<(), NetworkError> {
        Ok(self.lock.remove()?)
    }
}

fn json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, NetworkError> {
    serde_json::to_vec(value).map_err(|source| NetworkError::Record { path: path.to_owned(), source })
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, NetworkError> {
    let bytes = match sys::fs::read_limited(path, LONGEST) {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes?.unwrap_or_default(),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| NetworkError::Record { path: path.to_owned(), source })
}
