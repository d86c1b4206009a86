//! Containers in networks: what they want when they are made, and networks that they join and leave later.

use std::net::IpAddr;

use runner::network::address::MacAddress;
use runner::network::definition::Definition;
use runner::network::options::CardOptions;
use runner::network::{Connect, Connection, DEFAULT_NETWORK, Link};
use runner::shim::{Config, Request};
use snapshotter::StoreError;

use super::{Network, NetworkRefusal};
use crate::Engine;
use crate::containers::Container;
use crate::error::EngineError;
use crate::request::{NetworkSettings, NetworkUse};

impl Engine {
    /// What a new container wants of its networks: first of the one that packets to elsewhere leave by.
    pub(crate) fn connects(&self, uses: &[NetworkUse], id: &str) -> Result<Vec<Connect>, EngineError> {
        let mut all = Vec::new();
        for wanted in uses {
            let connect = self.connect_of(wanted, id)?;
            if all.iter().any(|(_, other): &(i64, Connect)| other.network == connect.network) {
                let network = connect.network_name().to_owned();
                let error = runner::network::error::NetworkError::AlreadyConnected {
                    container: id[..12].to_owned(),
                    network,
                };
                return Err(runner::RunError::from(error).into());
            }
            all.push((wanted.gateway_priority, connect));
        }
        // The sort is stable: of equals the first one leads out.
        all.sort_by_key(|(priority, connect)| (is_internal(connect), std::cmp::Reverse(*priority)));
        let mut connects: Vec<Connect> = all.into_iter().map(|(_, connect)| connect).collect();
        connects.iter_mut().skip(1).for_each(|connect| connect.leads_out = false);
        Ok(connects)
    }

    /// What a container wants of one network.
    fn connect_of(&self, wanted: &NetworkUse, id: &str) -> Result<Connect, EngineError> {
        let network = self.find_network(&wanted.network)?;
        let connect = match network.defined {
            Some(defined) => {
                check_address(&defined.definition, wanted)?;
                let names = std::iter::once(id[..12].to_owned()).chain(wanted.aliases.iter().cloned());
                Connect { names: names.collect(), ..Connect::to(defined.definition, id) }
            }
            None if network.name != super::DRIVER => return Err(NetworkRefusal::MixedModes.into()),
            None if !wanted.aliases.is_empty() => return Err(NetworkRefusal::AliasOnDefault.into()),
            None => Connect::new(id),
        };
        let NetworkUse { address, address6, mac, .. } = *wanted;
        let (card, named_mac) = self.card_options(wanted, connect.definition.is_some())?;
        Ok(Connect { address, address6, mac: mac.or(named_mac), card, ..connect })
    }

    /// What the card of a container in a network is to be like.
    fn card_options(
        &self,
        wanted: &NetworkUse,
        is_user_defined: bool,
    ) -> Result<(CardOptions, Option<MacAddress>), EngineError> {
        let (mut card, mut mac) = (CardOptions::default(), None);
        for (name, value) in &wanted.options {
            let set = card.set(name, value).map_err(|error| NetworkRefusal::Endpoint(error.to_string()))?;
            mac = set.or(mac);
        }
        for address in &wanted.link_local {
            let is_fine = match address {
                IpAddr::V4(address) => address.is_link_local(),
                IpAddr::V6(address) => address.is_unicast_link_local(),
            };
            if !is_fine {
                return Err(
                    NetworkRefusal::Endpoint(format!("invalid link-local IP address: {address}")).into()
                );
            }
            card.link_local.push(*address);
        }
        if !is_user_defined && !wanted.links.is_empty() {
            return Err(NetworkRefusal::LinkOnDefault.into());
        }
        for (name, alias) in &wanted.links {
            let other = self.container(name)?;
            let alias = if alias.is_empty() { other.name } else { alias.clone() };
            card.links.push((alias, other.id));
        }
        Ok((card, mac))
    }

    /// The containers that a new one knows by further names.
    pub(crate) fn links(&self, settings: &NetworkSettings) -> Result<Vec<Link>, EngineError> {
        let link = |(name, alias): &(String, String)| {
            let other = self.container(name)?;
            let alias = if alias.is_empty() { other.name.clone() } else { alias.clone() };
            Ok(Link {
                neighbour: self.neighbour(&other),
                alias,
                // Filled in when it has its own name.
                knower: String::new(),
                ports: other.document.exposed.iter().copied().collect(),
                env: other.document.env.clone(),
                id: other.id,
            })
        };
        settings.links.iter().map(link).collect()
    }

    /// Refuses to start a container one of whose networks was removed. One that got another name since it was last started
    /// is found by that from now on. It must be ours alone.
    pub(crate) fn check_networks(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let directory = self.store.container_path(id);
        if !Config::is_written(&directory)? {
            return Ok(());
        }
        let mut config = Config::read(&directory)?;
        let is_renamed = rename(&mut config.request.network, name);
        let runner::Network::Connected(connection) = &config.request.network else { return Ok(()) };
        for definition in connection.all().filter_map(|connect| connect.definition.as_ref()) {
            if self.store.network(&definition.id)?.is_none() {
                return Err(StoreError::NoSuchNetwork { network: definition.name.clone() }.into());
            }
        }
        if is_renamed {
            config.write(&directory)?;
        }
        Ok(())
    }

    /// Connects a container to a further network, at once if it runs, and whenever it is started.
    ///
    /// # Errors
    /// [`NetworkRefusal`]; there is no such container or network, or the container is in it.
    pub fn connect_network(&self, container: &str, wanted: &NetworkUse) -> Result<(), EngineError> {
        let container = self.container(container)?;
        check_mode(&container)?;
        let mut connect = self.connect_of(wanted, &container.id)?;
        connect.leads_out = false;
        if connect.definition.is_some() {
            connect.names.insert(0, container.name.clone());
            self.store.join_network(&connect.network, &container.id)?;
        }
        let joined =
            self.change_networks(&container, &Request::JoinNetwork(Box::new(connect.clone())), |config| {
                join(config, &connect, &container)
            });
        if joined.is_err() && !self.is_in(&container, &connect.network)? {
            self.store.leave_network(&connect.network, &container.id)?;
        }
        joined
    }

    /// Takes a container out of a network.
    ///
    /// # Errors
    /// There is no such container or network, or the container is not in it.
    pub fn disconnect_network(&self, network: &str, container: &str) -> Result<(), EngineError> {
        let container = self.container(container)?;
        let network = self.find_network(network)?;
        check_mode(&container)?;
        let key = key_of(&network);
        let request = Request::LeaveNetwork { network: key.clone(), name: network.name.clone() };
        self.change_networks(&container, &request, |config| leave(config, &key, &network.name, &container))?;
        Ok(self.store.leave_network(&network.id, &container.id)?)
    }

    /// Lets a container forget another one's further name: `CONTAINER/NAME`.
    ///
    /// # Errors
    /// There is no such container, or it knows none by that name.
    pub fn remove_link(&self, text: &str) -> Result<(), EngineError> {
        let Some((knower, alias)) = text.trim_start_matches('/').split_once('/') else {
            let container = self.container(text.trim_start_matches('/'))?;
            return Err(NetworkRefusal::OwnName(container.name).into());
        };
        let container = self.container(knower)?;
        let request = Request::RemoveLink { alias: alias.to_owned() };
        self.change_networks(&container, &request, |config| {
            let forgotten = match &mut config.request.network {
                runner::Network::Connected(connection) => connection.forget_link(alias),
                _ => None,
            };
            let (knower, alias) = (container.name.clone(), alias.to_owned());
            let error = runner::network::error::NetworkError::NoLink { knower, alias };
            forgotten.map(drop).ok_or_else(|| runner::RunError::from(error).into())
        })
    }

    /// Asks the supervisor of a container that runs, and changes what is written about one that does not.
    fn change_networks(
        &self,
        container: &Container,
        request: &Request,
        change: impl Fn(&mut Config) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let Some(dir) = self.claim(&container.id)? else {
            let (_, mut client) = self.running(&container.id)?;
            return Ok(client.ask(request).map(drop)?);
        };
        let mut config = Config::read(dir.path())?;
        change(&mut config)?;
        Ok(config.write(dir.path())?)
    }

    /// Whether a container is known to be in a network.
    fn is_in(&self, container: &Container, network: &str) -> Result<bool, EngineError> {
        let directory = self.store.container_path(&container.id);
        if !Config::is_written(&directory)? {
            return Ok(false);
        }
        Ok(match Config::read(&directory)?.request.network {
            runner::Network::Connected(connection) => {
                connection.all().any(|connect| connect.network == network)
            }
            _ => false,
        })
    }
}

/// Gives a new container's name to whoever asks for it in its networks, and to its links.
pub(crate) fn name_container(network: &mut runner::Network, name: &str) {
    let runner::Network::Connected(connection) = network else { return };
    for connect in connection.all_mut().filter(|connect| connect.definition.is_some()) {
        connect.names.insert(0, name.to_owned());
    }
    connection.links.iter_mut().for_each(|link| link.knower = name.to_owned());
}

/// Replaces the name that [`name_container`] gave. `false` if it is the same.
fn rename(network: &mut runner::Network, name: &str) -> bool {
    let runner::Network::Connected(connection) = network else { return false };
    let mut is_renamed = false;
    for own in connection.all_mut().filter_map(|connect| connect.names.first_mut()).filter(|own| *own != name)
    {
        name.clone_into(own);
        is_renamed = true;
    }
    is_renamed
}

/// The ids of the user-defined networks that a container is in.
pub(crate) fn ids_of(network: &runner::Network) -> Vec<String> {
    let runner::Network::Connected(connection) = network else { return Vec::new() };
    connection
        .all()
        .filter_map(|connect| connect.definition.as_ref().map(|defined| defined.id.clone()))
        .collect()
}

fn is_internal(connect: &Connect) -> bool {
    connect.definition.as_ref().is_some_and(|definition| definition.internal)
}

fn key_of(network: &Network) -> String {
    if network.is_predefined() { DEFAULT_NETWORK.to_owned() } else { network.id.clone() }
}

fn check_address(definition: &Definition, wanted: &NetworkUse) -> Result<(), NetworkRefusal> {
    let outside =
        |address: String| Err(NetworkRefusal::AddressOutside { network: definition.name.clone(), address });
    if let (Some(address), Some(subnet)) = (wanted.address, definition.subnet)
        && !subnet.contains(address)
    {
        return outside(address.to_string());
    }
    match wanted.address6 {
        Some(address) if !definition.subnet6.is_some_and(|subnet| subnet.contains(address)) => {
            outside(address.to_string())
        }
        _ => Ok(()),
    }
}

/// Refuses containers that have no network of their own to begin with.
fn check_mode(container: &Container) -> Result<(), NetworkRefusal> {
    match container.document.network.as_str() {
        "none" => Err(NetworkRefusal::Private),
        mode if mode == "host" || mode.starts_with("container:") => Err(NetworkRefusal::Sharing),
        _ => Ok(()),
    }
}

fn join(config: &mut Config, connect: &Connect, container: &Container) -> Result<(), EngineError> {
    let runner::Network::Connected(connection) = &mut config.request.network else {
        return Err(NetworkRefusal::Private.into());
    };
    if connection.all().any(|other| other.network == connect.network) {
        let (container, network) = (container.name.clone(), connect.network_name().to_owned());
        let error = runner::network::error::NetworkError::AlreadyConnected { container, network };
        return Err(runner::RunError::from(error).into());
    }
    connection.further.push(connect.clone());
    Ok(())
}

fn leave(config: &mut Config, key: &str, name: &str, container: &Container) -> Result<(), EngineError> {
    let is_in = |connection: &Connection| connection.all().any(|connect| connect.network == key);
    match &mut config.request.network {
        runner::Network::Connected(connection) if is_in(connection) => {
            if !connection.forget(key) {
                config.request.network = runner::Network::None;
            }
            Ok(())
        }
        _ => {
            let (container, network) = (container.short_id().to_owned(), name.to_owned());
            let error = runner::network::error::NetworkError::NotConnected { container, network };
            Err(runner::RunError::from(error).into())
        }
    }
}
