//! What a container has of its own, of the host and of other containers, and what follows from that for its names.

use base::image::ContainerConfig;
use runner::etc_files::Resolver;
use runner::neighbour::Neighbour;
use runner::{EtcFiles, Network, SharedMemory, Sharing};

use crate::Engine;
use crate::containers::Container;
use crate::error::EngineError;
use crate::network::{self, gateway_names};
use crate::request::{ContainerNetwork, HostAddress, IpcMode, PidMode, RunRequest};

/// What Docker's documents call an IPC namespace that others may join.
const SHAREABLE: &str = "shareable";

/// The surroundings of a container.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) network: Network,
    pub(super) pids: Sharing,
    pub(super) ipc: Sharing,
    pub(super) shared_memory: SharedMemory,
    /// Its host name; in the network of another container that one's.
    pub(super) hostname: String,
    /// Further lines of its hosts file.
    pub(super) hosts: Vec<(String, HostAddress)>,
    /// How it looks names up.
    pub(super) resolver: Resolver,
    /// Whether it has an address when it has started, which belongs into its hosts file.
    is_connected: bool,
    /// As Docker's documents call the three.
    pub(super) network_mode: String,
    pub(super) pid_mode: String,
    pub(super) ipc_mode: String,
}

impl Engine {
    /// Finds the containers that a new one shares something with.
    pub(super) fn surroundings(
        &self,
        request: &RunRequest,
        image: &ContainerConfig,
        id: &str,
    ) -> Result<Surroundings, EngineError> {
        check(request)?;
        let isolation = &request.isolation;
        let (pids, pid_mode) = self.pids(&isolation.pids)?;
        let (ipc, shared_memory, ipc_mode) = self.ipc(&isolation.ipc)?;
        let own = Surroundings {
            network: Network::None,
            pids,
            ipc,
            shared_memory,
            hostname: request.hostname.clone().unwrap_or_else(|| id[..12].to_owned()),
            hosts: isolation.hosts.clone(),
            resolver: isolation.resolver.clone(),
            is_connected: false,
            network_mode: String::new(),
            pid_mode,
            ipc_mode,
        };
        let ContainerNetwork::Container(name) = &request.network.mode else {
            let network = self.network_of(&request.network, image, isolation, id)?;
            let is_connected = matches!(network, Network::Connected(_));
            let network_mode = match &request.network.mode {
                // As it was named, as in Docker.
                ContainerNetwork::Named(uses) => uses.first().map(|first| first.network.clone()),
                _ => None,
            };
            let network_mode = network_mode.unwrap_or_else(|| name_of(&network).to_owned());
            return Ok(Surroundings { network, is_connected, network_mode, ..own });
        };
        let donor = self.container(name)?;
        let asked = &donor.document;
        let is_connected =
            !matches!(asked.network.as_str(), "host" | "none") && !asked.network.starts_with("container:");
        // As there: on the host's network all its name servers are reached.
        let servers_chosen = !asked.resolver.servers.is_empty() || !is_connected;
        let host_names = gateway_names(&asked.hosts);
        Ok(Surroundings {
            network: Network::Container { neighbour: self.neighbour(&donor), servers_chosen, host_names },
            hostname: asked.hostname.clone(),
            hosts: asked.hosts.clone(),
            resolver: asked.resolver.clone(),
            is_connected,
            network_mode: mode_of(&donor),
            ..own
        })
    }

    fn pids(&self, mode: &PidMode) -> Result<(Sharing, String), EngineError> {
        Ok(match mode {
            PidMode::Own => (Sharing::Own, String::new()),
            PidMode::Host => (Sharing::Host, "host".to_owned()),
            PidMode::Container(name) => {
                let donor = self.container(name)?;
                (Sharing::Container(self.neighbour(&donor)), mode_of(&donor))
            }
        })
    }

    fn ipc(&self, mode: &IpcMode) -> Result<(Sharing, SharedMemory, String), EngineError> {
        let own = |memory, name: &str| (Sharing::Own, memory, name.to_owned());
        Ok(match mode {
            IpcMode::Private => own(SharedMemory::Own, "private"),
            IpcMode::Shareable => own(SharedMemory::Own, SHAREABLE),
            IpcMode::None => own(SharedMemory::None, "none"),
            IpcMode::Host => (Sharing::Host, SharedMemory::Host, "host".to_owned()),
            IpcMode::Container(name) => {
                let donor = self.container(name)?;
                if donor.document.ipc_mode != SHAREABLE {
                    return Err(EngineError::NotShareable(donor.id));
                }
                // The runner finds the memory where it finds the namespace.
                let sharing = Sharing::Container(self.neighbour(&donor));
                (sharing, SharedMemory::Own, mode_of(&donor))
            }
        })
    }

    pub(crate) fn neighbour(&self, container: &Container) -> Neighbour {
        let directory = self.store.container_path(&container.id);
        Neighbour { name: container.name.clone(), directory }
    }
}

impl Surroundings {
    /// The files of `/etc` that tell of them.
    pub(super) fn etc_files(&self) -> Result<EtcFiles, EngineError> {
        Ok(EtcFiles {
            resolv_conf: Some(runner::etc_files::resolv_conf(&self.resolver)?),
            hosts: Some(network::hosts(self.is_connected, &self.hostname, &self.hosts)),
            hostname: Some(format!("{}\n", self.hostname).into_bytes()),
            read_only: false,
        })
    }
}

/// The name of a network that is not another container's.
fn name_of(network: &Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Connected(_) => name_of_bridge(),
        Network::Host | Network::Namespace(_) | Network::Container { .. } => "host",
    }
}

fn name_of_bridge() -> &'static str {
    "bridge"
}

fn mode_of(donor: &Container) -> String {
    format!("container:{}", donor.id)
}

/// Refuses what a container in the network of another one cannot have of its own, in Docker's words.
fn check(request: &RunRequest) -> Result<(), EngineError> {
    let ContainerNetwork::Container(_) = request.network.mode else { return Ok(()) };
    let (network, isolation) = (&request.network, &request.isolation);
    if !network.links.is_empty() {
        return Err(EngineError::ConflictingOptions("links and the network mode"));
    }
    let addresses = network.address.is_some() || network.address6.is_some();
    let conflicts = [
        (request.hostname.is_some(), "hostname and the network mode"),
        (isolation.resolver != Resolver::default(), "dns and the network mode"),
        (!isolation.hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (network.mac.is_some(), "mac-address and the network mode"),
        (addresses, "ip address and the container type network mode"),
        (
            network.publish_exposed || !network.publish.is_empty(),
            "port publishing and the container type network mode",
        ),
        (!network.expose.is_empty(), "port exposing and the container type network mode"),
    ];
    let conflict = conflicts.into_iter().find(|(is_asked, _)| *is_asked);
    conflict.map_or(Ok(()), |(_, what)| Err(EngineError::ConflictingOptions(what)))
}
