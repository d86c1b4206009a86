//! Networks of containers.
//!
//! [`connect`] gives a container a network namespace that is connected to the world, before the container's process
//! exists; the process then joins it ([`crate::Network::Namespace`]). For root that is a bridge with an address of its
//! own for every container ([`bridge`]), for an ordinary user a program that carries packets ([`user_mode`]). Ports are
//! published by rules of the firewall ([`firewall`]) and by a thread ([`forward`]).
//!
//! ```text
//! connect --namespace--> a new one, made on a thread      (goes with its last user)
//!         --reserve----> sockets on the host's ports       (go with this process)
//!         --bridge-----> lock, sweep, address, lease, rules (swept by the next one if we are killed)
//!         --link-------> virtual cable, addresses, routes  (go with the namespace)
//!         --forward----> a thread that serves the sockets  (goes with this process)
//! ```
//!
//! Nothing here outlives a crash for long: see [`record`] for what is written down and [`leftovers`] for what can be
//! left.

pub mod address;
mod bridge;
pub mod endpoint;
pub mod error;
pub mod firewall;
mod forward;
mod join;
pub mod leftovers;
mod link;
mod namespace;
mod netlink;
mod program;
pub mod publish;
pub mod record;
mod reserve;
mod setting;
mod user_mode;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::address::MacAddress;
use self::bridge::Seat;
use self::endpoint::{Endpoint, InetEndpoint};
use self::error::NetworkError;
use self::firewall::Backend;
use self::forward::{Destination, Forwarder};
pub use self::join::Connection;
pub(crate) use self::join::{etc_files, join};
use self::link::Links;
use self::namespace::Namespace;
use self::publish::{Publish, Published};
use self::record::{Directory, LeaseRecord};
use self::reserve::Reserved;
use self::user_mode::UserMode;

/// The network of containers that do not name one.
pub const DEFAULT_NETWORK: &str = "default";

/// What a container wants of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// The container's id.
    pub container: String,
    /// The network's name.
    pub network: String,
    /// Ports that the host offers.
    pub publish: Vec<Publish>,
    /// The address; `None` is a free one.
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address; `None` is the one that goes with the IPv4 address, if the network has IPv6.
    pub address6: Option<Ipv6Addr>,
    /// The address of the network card; `None` is the one that goes with the IPv4 address.
    pub mac: Option<MacAddress>,
    /// The largest packet in bytes, if the network is made for this container; `None` is what the way out allows.
    pub mtu: Option<u32>,
    /// Which firewall has the rules, if the network is made for this container; `None` is the better one.
    pub firewall: Option<Backend>,
}

impl Connect {
    /// The default network without any ports.
    pub fn new(container: &str) -> Self {
        Self {
            container: container.to_owned(),
            network: DEFAULT_NETWORK.to_owned(),
            publish: Vec::new(),
            address: None,
            address6: None,
            mac: None,
            mtu: None,
            firewall: None,
        }
    }
}

/// A connected network namespace. Dropping it, or better [`disconnect`](Self::disconnect), gives everything back;
/// the container must have ended.
#[derive(Debug)]
pub struct Attachment {
    // In the order in which they are dropped: nobody connects to a container that leaves.
    forwarder: Option<Forwarder>,
    kind: Option<Kind>,
    namespace: Namespace,
    published: Vec<Published>,
}

/// How a namespace is connected.
#[derive(Debug)]
enum Kind {
    Bridge(Box<Seat>),
    UserMode(UserMode),
}

/// A network namespace that is being made, and ports that are already taken.
#[derive(Debug)]
pub struct Preparation {
    namespace: namespace::Pending,
    reserved: Vec<Reserved>,
}

/// Begins: makes the namespace meanwhile and takes the ports. Other work may be done before [`connect`].
///
/// # Errors
/// A port cannot be taken, or no thread can be started.
pub fn prepare(runtime: &Path, wanted: &Connect) -> Result<Preparation, NetworkError> {
    let ipv6 = setting::has_ipv6()?;
    let namespace = namespace::begin(ipv6)?;
    let reserved = reserve::reserve(&wanted.publish, ipv6).map_err(|error| name_holder(runtime, error))?;
    Ok(Preparation { namespace, reserved })
}

/// Connects a container. `runtime` is the runtime directory: networks of different directories know nothing of each
/// other.
///
/// # Errors
/// See [`NetworkError`]. Nothing is left then.
pub fn connect(
    runtime: &Path,
    wanted: &Connect,
    preparation: Preparation,
) -> Result<Attachment, NetworkError> {
    let Preparation { namespace, reserved } = preparation;
    let published: Vec<Published> = reserved.iter().map(|one| one.published).collect();
    if !may_administer_networks()? {
        return by_program(wanted, namespace.finish()?, reserved, published);
    }
    let (seat, bridge) = bridge::take_seat(runtime, wanted, published.clone())?;
    let address = seat.addresses().inet;
    // From here on dropping gives the seat back.
    let namespace = match namespace.finish() {
        Ok(namespace) => namespace,
        Err(error) => {
            seat.leave()?;
            return Err(error);
        }
    };
    let kind = Some(Kind::Bridge(Box::new(seat)));
    let mut attachment = Attachment { forwarder: None, kind, namespace, published };
    if let Some(Kind::Bridge(seat)) = &attachment.kind {
        seat.plug_in(bridge, &mut attachment.namespace)?;
    }
    attachment.forward(reserved, address.into(), false)?;
    Ok(attachment)
}

/// Connects by a program, as an ordinary user must.
fn by_program(
    wanted: &Connect,
    mut namespace: Namespace,
    reserved: Vec<Reserved>,
    published: Vec<Published>,
) -> Result<Attachment, NetworkError> {
    let flags = [
        ("--ip", wanted.address.is_some()),
        ("--ip6", wanted.address6.is_some()),
        ("--mac-address", wanted.mac.is_some()),
    ];
    if let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) {
        return Err(NetworkError::NeedsBridge { flag });
    }
    let user_mode = user_mode::connect(&mut namespace, wanted.mtu)?;
    let address = user_mode.address;
    let kind = Some(Kind::UserMode(user_mode));
    let mut attachment = Attachment { forwarder: None, kind, namespace, published };
    attachment.forward(reserved, address, true)?;
    Ok(attachment)
}

/// Why no container of ours can be connected to a network, if that is so: an ordinary user needs a program and a device.
///
/// # Errors
/// It cannot be found out.
pub fn missing() -> Result<Option<NetworkError>, NetworkError> {
    if may_administer_networks()? {
        return Ok(None);
    }
    Ok(user_mode::check().err())
}

/// Whether this process has the right to change interfaces. Having `CAP_NET_ADMIN` does not mean that: it may be one of
/// a user namespace that does not own the network.
fn may_administer_networks() -> Result<bool, NetworkError> {
    let allowed = Links::open().and_then(|mut links| links.may_change());
    allowed.map_err(bridge::failed("ask for the right to change", "the interfaces"))
}

/// Adds to an error about a port which container has it.
fn name_holder(runtime: &Path, error: NetworkError) -> NetworkError {
    let NetworkError::PortTaken { address, transport, .. } = error else { return error };
    // The error is worth telling with or without a name.
    let all = containers(runtime).unwrap_or_default();
    let is_it = |one: &&LeaseRecord| {
        let same = |published: &Published| {
            published.host.port() == address.port() && published.transport == transport
        };
        one.published.iter().any(same)
    };
    let container = all.iter().find(is_it).map(|lease| short(&lease.container));
    NetworkError::PortTaken { address, transport, container }
}

/// What the living containers of all networks have, as a list for `lap ps` and `lap port`.
///
/// # Errors
/// The runtime directory cannot be read.
pub fn containers(runtime: &Path) -> Result<Vec<LeaseRecord>, NetworkError> {
    let mut all = Vec::new();
    for name in Directory::names(runtime)? {
        all.extend(Directory::new(runtime, &name).living()?);
    }
    Ok(all)
}

/// The first 12 digits of an id, as people read it.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

impl Attachment {
    fn forward(
        &mut self,
        reserved: Vec<Reserved>,
        address: IpAddr,
        inside: bool,
    ) -> Result<(), NetworkError> {
        if reserved.is_empty() {
            return Ok(());
        }
        let namespace = match inside {
            true => Some(self.namespace.descriptor().map_err(NetworkError::Forward)?),
            false => None,
        };
        self.forwarder = Some(forward::start(reserved, Destination { address }, namespace)?);
        Ok(())
    }

    /// A path of the namespace for this process and its children, as long as this lives.
    pub fn namespace(&self) -> PathBuf {
        self.namespace.path()
    }

    /// The container's own addresses, for its `/etc/hosts`.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.kind {
            Some(Kind::Bridge(seat)) => {
                let addresses = seat.addresses();
                let inet6 = addresses.inet6.map(IpAddr::V6);
                std::iter::once(IpAddr::V4(addresses.inet)).chain(inet6).collect()
            }
            Some(Kind::UserMode(user_mode)) => vec![user_mode.address],
            None => Vec::new(),
        }
    }

    /// By which address the container reaches the machine that it runs on, if by any.
    pub fn gateway(&self) -> Option<IpAddr> {
        match &self.kind {
            Some(Kind::Bridge(seat)) => Some(seat.gateway().into()),
            Some(Kind::UserMode(_)) | None => None,
        }
    }

    /// Where the container reaches the host's resolver, if it does also when that listens on the host's loopback
    /// interface only.
    pub fn resolver(&self) -> Option<IpAddr> {
        match &self.kind {
            Some(Kind::UserMode(user_mode)) => Some(user_mode.resolver),
            _ => None,
        }
    }

    /// What the container has of the network, to be told to others.
    pub fn endpoint(&self) -> Endpoint {
        let published = self.published.clone();
        match &self.kind {
            Some(Kind::Bridge(seat)) => Endpoint { published, ..seat.endpoint() },
            Some(Kind::UserMode(user_mode)) => Endpoint {
                inet: Some(InetEndpoint { address: user_mode.address, length: None, gateway: None }),
                published,
                ..Endpoint::default()
            },
            None => Endpoint::default(),
        }
    }

    /// The ports that the host offers, with the numbers that were chosen.
    pub fn published(&self) -> &[Published] {
        &self.published
    }

    /// Gives everything back.
    ///
    /// # Errors
    /// What failed. It is left to the next one that uses the network.
    pub fn disconnect(mut self) -> Result<(), NetworkError> {
        self.leave()
    }

    fn leave(&mut self) -> Result<(), NetworkError> {
        let left = match self.kind.take() {
            Some(Kind::Bridge(seat)) => seat.leave(),
            Some(Kind::UserMode(_)) | None => Ok(()),
        };
        // After the rules: who gets the ports next has rules of its own.
        self.forwarder = None;
        left
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Nobody is left to tell; the next one that uses the network sweeps.
        let _ = self.leave();
    }
}
