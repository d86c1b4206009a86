//! Containers that join namespaces of another one (`--network container:`, `--pid container:`, `--ipc container:`).
//!
//! The other one is known by its directory. Its supervisor writes there which process is its first; by that its
//! namespaces are opened when the joining container starts, and again when it is restarted.

use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sys::path_error::{PathContext as _, PathError};

use crate::network;
use crate::network::endpoint::Endpoint;
use crate::request::{Network, RunRequest, SharedMemory, Sharing};
use crate::shim::{ShimError, State, Status};

/// Another container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its name, for people.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
}

/// The words that Docker has for it, and that scripts look for.
const NO_SUCH_CONTAINER: &str = "No such container";

/// Why a container cannot be joined. The words are Docker's where it has some.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// It does not run.
    #[error("cannot join {kind} namespace of a non running container: container {name} is {}", status.name())]
    NotRunning {
        /// The kind of namespace.
        kind: &'static str,
        /// The container.
        name: String,
        /// What it does.
        status: Status,
    },
    /// It is between two runs.
    #[error("container {name} is restarting, wait until the container is running")]
    Restarting {
        /// The container.
        name: String,
    },
    /// It was removed.
    #[error("{words}: {name}", words = NO_SUCH_CONTAINER)]
    Gone {
        /// The container.
        name: String,
    },
    /// It is in another user namespace, which this process cannot enter.
    #[error(
        "cannot join {kind} namespace of container {name}: it is in another user namespace, because it was started with \
         other ids (see /etc/subuid) or in another place"
    )]
    OtherUserNamespace {
        /// The kind of namespace.
        kind: &'static str,
        /// The container.
        name: String,
    },
    /// What its supervisor has written cannot be read.
    #[error("cannot find out about container {name}")]
    State {
        /// The container.
        name: String,
        /// Why not.
        #[source]
        source: Box<ShimError>,
    },
    /// Its namespace cannot be opened.
    #[error("cannot join {kind} namespace of container {name}")]
    Open {
        /// The kind of namespace.
        kind: &'static str,
        /// The container.
        name: String,
        /// Why not.
        #[source]
        source: PathError,
    },
}

impl base::Faulty for NeighbourError {
    fn fault(&self) -> base::Fault {
        match self {
            Self::State { source, .. } => source.fault(),
            Self::Open { source, .. } => source.fault(),
            _ => base::Fault::Input,
        }
    }
}

/// A request whose process joins namespaces that are open.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The request, which names the namespaces by our descriptors.
    pub(crate) request: RunRequest,
    /// Keeps them open until the process is there.
    held: Vec<OwnedFd>,
}

/// Opens the namespaces of other containers that a request asks for; `None` if it asks for none.
pub(crate) fn join(request: &RunRequest) -> Result<Option<Joined>, NeighbourError> {
    let mut joined = Joined { request: request.clone(), held: Vec::new() };
    if let Network::Container { neighbour, servers_chosen, host_names } = &request.network {
        let (path, state) = joined.open(neighbour, Kind::NETWORK)?;
        joined.request.network = Network::Namespace(path);
        // Without an endpoint it has the host's network, or that of a third one.
        if let Some(Endpoint { inet, inet6, network: defined, .. }) = state.network {
            let hostname = request.hostname.as_deref().unwrap_or("localhost");
            let own = [inet, inet6].into_iter().flatten().map(|inet| (inet.address, hostname));
            let gateway = inet.and_then(|inet| inet.gateway);
            let machine = host_names.iter().filter_map(|name| Some((gateway?, name.as_str())));
            let names: Vec<(IpAddr, &str)> = own.chain(machine).collect();
            joined.request.etc = network::etc_files(&request.etc, &names, None, *servers_chosen);
            let others = &state.further_networks;
            if defined.is_some() || others.iter().any(|other| other.network.is_some()) {
                let (_, served) = network::served(request.etc.resolv_conf.as_deref().unwrap_or_default());
                joined.request.etc.resolv_conf = Some(served);
            }
        }
    }
    if let Sharing::Container(neighbour) = &request.pids {
        let (path, _) = joined.open(neighbour, Kind::PIDS)?;
        joined.request.pids = Sharing::Namespace(path);
    }
    if let Sharing::Container(neighbour) = &request.ipc {
        let (path, _) = joined.open(neighbour, Kind::IPC)?;
        joined.request.ipc = Sharing::Namespace(path);
        let (path, _) = joined.open(neighbour, Kind::MEMORY)?;
        joined.request.shared_memory = SharedMemory::Namespace(path);
    }
    Ok(if joined.held.is_empty() { None } else { Some(joined) })
}

impl Joined {
    fn open(&mut self, neighbour: &Neighbour, kind: Kind) -> Result<(PathBuf, State), NeighbourError> {
        let (namespace, state) = neighbour.open(kind)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", namespace.as_raw_fd()));
        self.held.push(namespace);
        Ok((path, state))
    }
}

/// A kind of namespace: what people call it, and its file.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    file: &'static str,
}

impl Kind {
    const NETWORK: Self = Self { name: "network", file: "net" };
    const PIDS: Self = Self { name: "PID", file: "pid" };
    const IPC: Self = Self { name: "IPC", file: "ipc" };
    /// The one in which its `/dev/shm` is mounted.
    const MEMORY: Self = Self { name: "IPC", file: "mnt" };
}

impl Neighbour {
    /// A namespace of the container, and what was known of it meanwhile.
    fn open(&self, kind: Kind) -> Result<(OwnedFd, State), NeighbourError> {
        loop {
            let state = self.running(kind)?;
            let namespaces = PathBuf::from(format!("/proc/{}/ns", state.pid));
            let opened = open(&namespaces.join(kind.file));
            let has_our_users = has_our_users(&namespaces);
            // A process number in a file proves nothing. If the container still runs, it was its.
            let after = self.running(kind)?;
            if (after.pid, after.started_at) != (state.pid, state.started_at) {
                continue;
            }
            let (name, kind) = (self.name.clone(), kind.name);
            return match opened {
                Ok(namespace) if has_our_users.unwrap_or(true) => Ok((namespace, state)),
                // Who may not enter a user namespace may not even look at those in it.
                Ok(_) => Err(NeighbourError::OtherUserNamespace { kind, name }),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    Err(NeighbourError::OtherUserNamespace { kind, name })
                }
                // Its process has ended, and its supervisor is about to write that.
                Err(error) if error.is_not_found() => {
                    Err(NeighbourError::NotRunning { kind, name, status: Status::Exited })
                }
                Err(source) => Err(NeighbourError::Open { kind, name, source }),
            };
        }
    }

    /// What is known of the container, which must have processes.
    fn running(&self, kind: Kind) -> Result<State, NeighbourError> {
        let name = self.name.clone();
        // A directory that cannot be asked for may exist.
        if !sys::fs::exists(&self.directory).unwrap_or(true) {
            return Err(NeighbourError::Gone { name });
        }
        let state = match State::read(&self.directory) {
            Ok(state) => state,
            Err(source) => return Err(NeighbourError::State { name, source: Box::new(source) }),
        };
        match state.status {
            Status::Running | Status::Paused => Ok(state),
            Status::Restarting => Err(NeighbourError::Restarting { name }),
            status => Err(NeighbourError::NotRunning { kind: kind.name, name, status }),
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd, PathError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

/// Whether a process with these namespaces is in our user namespace.
fn has_our_users(namespaces: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_link(namespaces.join("user"))? == std::fs::read_link("/proc/self/ns/user")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Mount;

    #[test]
    fn who_does_not_run_cannot_be_joined() {
        let dir = tempfile::tempdir().unwrap();
        let joined = |directory: &Path| {
            let neighbour = Neighbour { name: "web".to_owned(), directory: directory.to_owned() };
            let root = Mount::Bind { source: "/".into(), read_only: true };
            let request =
                RunRequest { pids: Sharing::Container(neighbour), ..RunRequest::new(root, Vec::new()) };
            join(&request).unwrap_err().to_string()
        };
        assert_eq!(
            joined(dir.path()),
            "cannot join PID namespace of a non running container: container web is created"
        );
        assert_eq!(joined(&dir.path().join("gone")), "No such container: web");
    }
}
