//! What network a container or a step of a build gets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use base::image::ContainerConfig;
use llb::NetworkMode;
use runner::Network;
use runner::isolation::Mode;
pub use runner::network::endpoint::{Endpoint, InetEndpoint};
use runner::network::error::NetworkError;
use runner::network::leftovers::{self, Leftover};
pub use runner::network::publish::{ContainerPort, Publish, Published};
pub use runner::network::publish::{parse as parse_publish, parse_exposed};
use runner::network::{Connect, Connection};

pub use runner::network::{HUB_COMMAND, run_hub};

use crate::Engine;
use crate::doctor::Finding;
use crate::error::EngineError;
use crate::request::{ContainerNetwork, HostAddress, Isolation, NetworkSettings, StepSettings};

impl Engine {
    /// The network of a container of an image, unless it is another container's.
    pub(crate) fn network_of(
        &self,
        settings: &NetworkSettings,
        image: &ContainerConfig,
        isolation: &Isolation,
        id: &str,
    ) -> Result<Network, EngineError> {
        Ok(match &settings.mode {
            ContainerNetwork::Host => Network::Host,
            ContainerNetwork::None => Network::None,
            ContainerNetwork::Named(uses) => {
                let mut connects = self.connects(uses, id)?.into_iter();
                let first = connects.next().unwrap_or_else(|| Connect::new(id));
                Network::Connected(Box::new(Connection {
                    runtime: self.runtime_path(),
                    connect: Connect { publish: published(settings, image)?, ..first },
                    further: connects.collect(),
                    links: self.links(settings)?,
                    servers_chosen: !isolation.resolver.servers.is_empty(),
                    host_names: gateway_names(&isolation.hosts),
                }))
            }
            _ => Network::Connected(Box::new(Connection {
                runtime: self.runtime_path(),
                connect: Connect {
                    publish: published(settings, image)?,
                    address: settings.address,
                    address6: settings.address6,
                    mac: settings.mac,
                    ..Connect::new(id)
                },
                further: Vec::new(),
                links: self.links(settings)?,
                servers_chosen: !isolation.resolver.servers.is_empty(),
                host_names: gateway_names(&isolation.hosts),
            })),
        })
    }

    /// Decides what the default network is. Where there can be none of the container's own it is the host's, and the
    /// reason is returned, for people. Who asks for a bridge or for ports is not given less.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn settle_network(&self, settings: &mut NetworkSettings) -> Result<Option<String>, EngineError> {
        let asks = settings.publish_exposed || !settings.publish.is_empty();
        if settings.mode != ContainerNetwork::Default || asks {
            return Ok(None);
        }
        let missing = self.missing_for_networks()?;
        settings.mode = if missing.is_some() { ContainerNetwork::Host } else { ContainerNetwork::Bridge };
        Ok(missing)
    }

    /// Why containers cannot have a network of their own, if they cannot.
    fn missing_for_networks(&self) -> Result<Option<String>, EngineError> {
        if self.isolation()?.mode == Mode::Chroot {
            return Ok(Some("this process may not make namespaces".to_owned()));
        }
        let missing = runner::network::missing().map_err(runner::RunError::from)?;
        Ok(missing.map(|error| error.to_string()))
    }

    /// The network of a step that has this mode.
    pub(crate) fn network_of_step(
        &self,
        mode: NetworkMode,
        settings: &StepSettings,
    ) -> Result<Network, EngineError> {
        Ok(match mode {
            NetworkMode::Host => Network::Host,
            NetworkMode::None => Network::None,
            NetworkMode::Default if settings.bridge => Network::Connected(Box::new(Connection {
                runtime: self.runtime_path(),
                connect: Connect::new(&sys::random::hex(32)?),
                further: Vec::new(),
                links: Vec::new(),
                servers_chosen: false,
                host_names: gateway_names(&settings.hosts),
            })),
            NetworkMode::Default => Network::Host,
        })
    }

    fn runtime_path(&self) -> PathBuf {
        self.runtime_directory.clone()
    }

    /// Whether containers can have networks, and what networks have left on this machine; with `remove` that is
    /// removed.
    pub fn examine_networks(&self, remove: bool) -> Vec<Finding> {
        let mut findings = vec![match self.missing_for_networks() {
            Ok(None) => Finding::fine("containers have networks of their own"),
            Ok(Some(why)) => Finding::better(format!("containers share the host's network: {why}"), ""),
            Err(error) => Finding::broken(error.to_string(), ""),
        }];
        let found = match leftovers::list(&self.runtime_directory) {
            Ok(found) => found.into_iter().filter(|leftover| !self.is_kept(leftover)).collect(),
            Err(error) => {
                findings.push(Finding::broken(error.to_string(), ""));
                Vec::new()
            }
        };
        let finding = |leftover: &Leftover| match remove.then(|| self.remove(leftover)) {
            Some(Ok(())) => Finding::fine(format!("removed: {leftover}")),
            Some(Err(error)) => Finding::broken(format!("{leftover}; it cannot be removed: {error}"), ""),
            None if leftover.is_expected() => Finding::fine(leftover.to_string()),
            None => Finding::better(leftover.to_string(), "lap system doctor --fix removes it"),
        };
        findings.extend(found.iter().map(finding));
        findings
    }

    /// Whether it is a network that somebody made and that waits for containers.
    fn is_kept(&self, leftover: &Leftover) -> bool {
        // One that cannot be looked up is shown, and removing it loses nothing that is not made anew.
        matches!(leftover, Leftover::IdleNetwork { network, .. } if matches!(self.store.network(network), Ok(Some(_))))
    }

    fn remove(&self, leftover: &Leftover) -> Result<(), NetworkError> {
        leftovers::remove(&self.runtime_directory, leftover)
    }
}

/// The hosts file of a container. One that is connected to a network when it starts has its name beside the address
/// that it gets then, and only then knows which one is the machine's.
pub(crate) fn hosts(is_connected: bool, hostname: &str, extra: &[(String, HostAddress)]) -> Vec<u8> {
    let address = |address| match address {
        HostAddress::Given(address) => Some(address),
        HostAddress::Gateway if is_connected => None,
        HostAddress::Gateway => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let extra = extra.iter().filter_map(|(name, of)| Some((name.clone(), address(*of)?)));
    let own = if is_connected { "" } else { hostname };
    runner::etc_files::hosts(own, &extra.collect::<Vec<_>>())
}

/// The names that stand for the machine itself.
pub(crate) fn gateway_names(hosts: &[(String, HostAddress)]) -> Vec<String> {
    let is_gateway =
        |(name, address): &(String, HostAddress)| (*address == HostAddress::Gateway).then(|| name.clone());
    hosts.iter().filter_map(is_gateway).collect()
}

/// The ports that were asked for, and with `-P` those that are exposed and were not.
fn published(settings: &NetworkSettings, image: &ContainerConfig) -> Result<Vec<Publish>, EngineError> {
    let mut all = settings.publish.clone();
    if !settings.publish_exposed {
        return Ok(all);
    }
    let is_new = |port: &ContainerPort| settings.publish.iter().all(|asked| asked.container != *port);
    all.extend(exposed(settings, image)?.into_iter().filter(is_new).map(|container| Publish {
        host: None,
        ports: None,
        container,
    }));
    Ok(all)
}

/// The ports that a container is said to listen on, by its image and by flags.
fn exposed(
    settings: &NetworkSettings,
    image: &ContainerConfig,
) -> Result<BTreeSet<ContainerPort>, EngineError> {
    let mut all: BTreeSet<ContainerPort> = settings.expose.iter().copied().collect();
    for text in image.exposed_ports.keys() {
        all.extend(parse_exposed(text).map_err(|error| runner::RunError::from(NetworkError::from(error)))?);
    }
    Ok(all)
}

/// The same with the ports that are to be published, for people. What an image says that makes no sense, or that we
/// cannot publish, is left out.
pub(crate) fn exposed_ports(settings: &NetworkSettings, image: &ContainerConfig) -> BTreeSet<ContainerPort> {
    let of_image = image.exposed_ports.keys().filter_map(|text| parse_exposed(text).ok()).flatten();
    let published = settings.publish.iter().map(|publish| publish.container);
    settings.expose.iter().copied().chain(published).chain(of_image).collect()
}

#[cfg(test)]
mod tests {
    use base::image::Empty;

    use super::*;

    #[test]
    fn exposed_ports_are_published_once() {
        let port = |text: &str| text.parse::<ContainerPort>().unwrap();
        let exposed = ["80/tcp", "81/tcp", "53/udp"].map(|text| (text.to_owned(), Empty {}));
        let image = ContainerConfig { exposed_ports: exposed.into(), ..ContainerConfig::default() };
        let settings = NetworkSettings {
            publish: runner::network::publish::parse("8080:80").unwrap(),
            publish_exposed: true,
            expose: vec![port("81"), port("90")],
            ..NetworkSettings::default()
        };
        let all = published(&settings, &image).unwrap();
        let shown: Vec<String> = all.iter().map(|one| one.container.to_string()).collect();
        assert_eq!(shown, ["80/tcp", "53/udp", "81/tcp", "90/tcp"]);
        let quiet = NetworkSettings { publish_exposed: false, ..settings };
        assert_eq!(published(&quiet, &image).unwrap().len(), 1);
    }
}
