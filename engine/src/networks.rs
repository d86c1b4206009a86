//! User-defined networks: made, listed, looked at, removed. And the three that every machine has.
//!
//! A network is a row of the store; what there is of it on the machine (its bridge, addresses, rules) is made by
//! [`runner::network`] when it is created, and after a restart of the machine by the first container in it.

mod creation;
mod joining;
mod options;

pub(crate) use self::joining::{ids_of, name_container};

use std::collections::BTreeMap;

use base::{Digest, Fault, Faulty, Timestamp};
pub use runner::network::definition::Live;
use runner::network::definition::{self, Definition};
pub use runner::network::record::LeaseRecord;
use serde::{Deserialize, Serialize};
use snapshotter::{NetworkRecord, StoreError};

use crate::Engine;
use crate::error::EngineError;

/// The usual driver of networks that somebody makes.
pub const DRIVER: &str = "bridge";

/// The networks that nobody makes or removes, and their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", DRIVER), ("host", "host"), ("none", "null")];

/// What is wrong with a network that was asked for. The words are Docker's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRefusal {
    /// A name that no network may have.
    #[error("invalid network name \"{0}\": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    /// One of the three is to be made.
    #[error("operation is not permitted on predefined {0} network")]
    PredefinedName(String),
    /// One of the three is to be removed.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// Several networks have ids that begin so.
    #[error("network {0} is ambiguous: several ids begin so")]
    Ambiguous(String),
    /// Containers that run are in it.
    #[error("error while removing network: network {name} id {id} has active endpoints ({})", users.join(", "))]
    ActiveEndpoints {
        /// The network.
        name: String,
        /// Its id.
        id: String,
        /// The containers.
        users: Vec<String>,
    },
    /// A subnet, gateway, range or address that makes no sense.
    #[error("invalid network config: {0}")]
    Config(String),
    /// A subnet of another network has the same addresses.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    /// An option that the driver does not know, or a value that makes no sense.
    #[error("invalid option of the driver: {name}={value}")]
    Option {
        /// The option.
        name: String,
        /// Its value.
        value: String,
    },
    /// An address that a container cannot have in a network.
    #[error("invalid config for network {network}: no configured subnet contains IP address {address}")]
    AddressOutside {
        /// The network.
        network: String,
        /// The address.
        address: String,
    },
    /// An option of a container's part of a network, or an address of its link, that makes no sense.
    #[error("invalid endpoint settings: {0}")]
    Endpoint(String),
    /// Names for others in the default network, of a container that exists already.
    #[error(
        "links of network connect are only supported for user-defined networks; use --link of run for others"
    )]
    LinkOnDefault,
    /// A link is to be removed, and a container was named. The words are Docker's.
    #[error("conflict: cannot remove the default link name of the container {0}")]
    OwnName(String),
    /// A driver that there is not.
    #[error("plugin \"{0}\" not found: the drivers of networks are bridge, macvlan and ipvlan{why}", why = unless_overlay(.0))]
    Driver(String),
    /// Further names in the default network.
    #[error("network-scoped aliases are only supported for user-defined networks")]
    AliasOnDefault,
    /// The host's network, none or another container's, together with others.
    #[error("conflicting options: cannot attach both user-defined and non-user-defined network-modes")]
    MixedModes,
    /// A container that has no network of its own.
    #[error(
        "container sharing network namespace with another container or host cannot be connected to any other network"
    )]
    Sharing,
    /// A container without any network.
    #[error(
        "container cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    Private,
}

fn unless_overlay(driver: &str) -> &'static str {
    if driver == "overlay" { "; overlay connects the machines of a cluster, and there is none" } else { "" }
}

impl Faulty for NetworkRefusal {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver, by Docker's name.
    pub driver: &'static str,
    /// When it was made; the three that are always there have no time.
    pub created_at: Option<Timestamp>,
    /// How it was asked for; `None` for the three that are always there.
    pub defined: Option<Defined>,
}

/// How a network was asked for, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defined {
    /// What making it takes.
    pub definition: Definition,
    /// Addresses that no container gets, by name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, String>,
    /// Whether it was asked to be one that containers may be added to by hand.
    #[serde(default)]
    pub attachable: bool,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its driver's options, as given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// Whether it is there without anybody having made it.
    pub fn is_predefined(&self) -> bool {
        self.defined.is_none()
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.defined.as_ref().map(|defined| defined.labels.clone()).unwrap_or_default()
    }

    fn predefined(name: &str, driver: &'static str) -> Self {
        let id = Digest::of(format!("network {name}").as_bytes()).hex().to_owned();
        Self { id, name: name.to_owned(), driver, created_at: None, defined: None }
    }

    fn of(record: NetworkRecord) -> Option<Self> {
        let NetworkRecord { id, name, document, created_at } = record;
        let defined: Defined = serde_json::from_str(&document).ok()?;
        let driver = defined.definition.driver.name();
        Some(Self { id, name, driver, created_at: Some(created_at), defined: Some(defined) })
    }
}

/// The id of the network that containers are in when nobody says otherwise.
pub(crate) fn default_id() -> String {
    Network::predefined(DRIVER, DRIVER).id
}

impl Engine {
    /// Every network, by name. One that a newer version wrote in another form is left out.
    pub fn networks(&self) -> Result<Vec<Network>, EngineError> {
        let mut all: Vec<Network> =
            PREDEFINED.iter().map(|(name, driver)| Network::predefined(name, driver)).collect();
        all.extend(self.store.networks()?.into_iter().filter_map(Network::of));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// The network with this name, this id, or whose id begins so.
    ///
    /// # Errors
    /// There is none, or several ids begin so.
    pub fn find_network(&self, text: &str) -> Result<Network, EngineError> {
        let mut all = self.networks()?;
        let exact = all.iter().position(|one| one.name == text).or(all.iter().position(|one| one.id == text));
        if let Some(place) = exact {
            return Ok(all.swap_remove(place));
        }
        all.retain(|one| !text.is_empty() && one.id.starts_with(text));
        match all.len() {
            0 => Err(StoreError::NoSuchNetwork { network: text.to_owned() }.into()),
            1 => Ok(all.swap_remove(0)),
            _ => Err(NetworkRefusal::Ambiguous(text.to_owned()).into()),
        }
    }

    /// What there is of a network at the moment, and which containers have what in it; `None` if there is nothing.
    pub fn live_network(&self, network: &Network) -> Result<Option<Live>, EngineError> {
        let key = match &network.defined {
            Some(_) => network.id.as_str(),
            None if network.name == DRIVER => runner::network::DEFAULT_NETWORK,
            None => return Ok(None),
        };
        Ok(definition::live(&self.runtime_directory, key).map_err(runner::RunError::from)?)
    }

    /// The ids of the containers that are in a user-defined network, running or not.
    pub fn network_users(&self, network: &Network) -> Result<Vec<String>, EngineError> {
        Ok(self.store.network_users(&network.id)?)
    }

    /// Removes a network that no running container is in.
    ///
    /// # Errors
    /// There is none, it is one of the three, or containers are in it.
    pub fn remove_network(&self, text: &str) -> Result<(), EngineError> {
        let network = self.find_network(text)?;
        if network.is_predefined() {
            return Err(NetworkRefusal::Predefined(network.name).into());
        }
        let users = self.active_users(&network)?;
        if !users.is_empty() {
            let Network { name, id, .. } = network;
            return Err(NetworkRefusal::ActiveEndpoints { name, id, users }.into());
        }
        self.store.remove_network(&network.id)?;
        self.tell_of_network("destroy", &network.id, &network.name, network.driver);
        let removed = definition::remove(&self.runtime_directory, &network.id);
        // One that somebody has joined at this very moment goes with `lap system doctor --fix` afterwards.
        removed.map(drop).map_err(|error| runner::RunError::from(error).into())
    }

    /// The containers in a network that run or are about to be started again, as Docker writes them.
    fn active_users(&self, network: &Network) -> Result<Vec<String>, EngineError> {
        let ids = self.network_users(network)?;
        let mut active = Vec::new();
        for container in self.containers()?.into_iter().filter(|container| ids.contains(&container.id)) {
            if container.state.status.is_live() {
                active.push(format!("name:\"{}\" id:\"{}\"", container.name, container.short_id()));
            }
        }
        Ok(active)
    }

    /// Removes the networks that no container is in, running or not, and that `wanted` chooses. Answers their names.
    pub fn prune_networks(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<String>, EngineError> {
        // Looking at containers removes those whose command was killed before it could.
        self.containers()?;
        let mut removed = Vec::new();
        for network in
            self.networks()?.into_iter().filter(|network| !network.is_predefined() && wanted(network))
        {
            if !self.network_users(&network)?.is_empty() {
                continue;
            }
            match self.remove_network(&network.id) {
                Ok(()) => removed.push(network.name),
                // Somebody has just joined or removed it.
                Err(EngineError::Network(_) | EngineError::Store(StoreError::NoSuchNetwork { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        self.event_log().add_prune("network", 0);
        Ok(removed)
    }
}
