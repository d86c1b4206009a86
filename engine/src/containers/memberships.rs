//! The networks that a container is in, or will be in when it is started.

use runner::Network;
use runner::network::endpoint::{Endpoint, NetworkName};
use runner::network::{Connect, Link};

use super::Container;
use crate::Engine;
use crate::error::EngineError;
use crate::networks;

/// A container's part of a network.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The network's name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// What the container has of it; of one that does not run, what it asked for.
    pub endpoint: Endpoint,
    /// Containers that it knows there by names of its own: `CONTAINER:NAME`.
    pub links: Vec<String>,
}

impl Engine {
    /// The networks of a container, that by which packets leave first. One that shares another container's is in none.
    ///
    /// # Errors
    /// Its settings cannot be read.
    pub fn memberships(&self, container: &Container) -> Result<Vec<Membership>, EngineError> {
        let mode = container.document.network.as_str();
        if mode.starts_with("container:") {
            return Ok(Vec::new());
        }
        let network = self.settings_of(&container.id)?.request.network;
        let connection = match &network {
            Network::Connected(connection) => Some(connection),
            _ => None,
        };
        let state = &container.state;
        let mut endpoints: Vec<Endpoint> =
            state.network.iter().chain(&state.further_networks).cloned().collect();
        if endpoints.is_empty() {
            endpoints.extend(connection.iter().flat_map(|connection| connection.all()).map(wanted));
        }
        if endpoints.is_empty() || matches!(mode, "host" | "none") {
            let network = self.find_network(mode).ok();
            let id = network.map(|network| network.id).unwrap_or_default();
            let endpoint = endpoints.into_iter().next().unwrap_or_default();
            return Ok(vec![Membership { name: mode.to_owned(), id, endpoint, links: Vec::new() }]);
        }
        let mut links = match connection {
            Some(connection) if connection.serves_names() => connection.links.iter().map(link).collect(),
            _ => Vec::new(),
        };
        let membership = |endpoint: Endpoint| {
            let (name, id) = match &endpoint.network {
                Some(network) => (network.name.clone(), network.id.clone()),
                None => (networks::DRIVER.to_owned(), networks::default_id()),
            };
            let own = endpoint.asked.card.links.iter().map(|(alias, id)| {
                let name = self.container(id).map_or_else(|_| id.clone(), |other| other.name);
                format!("{name}:{alias}")
            });
            let links = std::mem::take(&mut links).into_iter().chain(own).collect();
            Membership { name, id, endpoint, links }
        };
        Ok(endpoints.into_iter().map(membership).collect())
    }
}

/// What a container that does not run will have of a network.
fn wanted(connect: &Connect) -> Endpoint {
    let named = |definition| NetworkName::of(definition, &connect.names);
    Endpoint {
        network: connect.definition.as_deref().map(named),
        asked: connect.asked(),
        ..Endpoint::default()
    }
}

fn link(link: &Link) -> String {
    format!("{}:{}", link.neighbour.name, link.alias)
}

/// The links of a container in the default network, as `/OTHER:/OWN/NAME`.
pub(super) fn legacy_links(network: &Network, own: &str) -> Vec<String> {
    let Network::Connected(connection) = network else { return Vec::new() };
    if connection.serves_names() {
        return Vec::new();
    }
    let shown = |link: &Link| format!("/{}:/{own}/{}", link.neighbour.name, link.alias);
    connection.links.iter().map(shown).collect()
}
