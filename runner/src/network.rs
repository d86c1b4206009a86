//! Networks of containers.
//!
//! [`connect`] gives a container a network namespace that is connected to the world, before the container's process
//! exists; the process then joins it ([`crate::Network::Namespace`]). For root that is a bridge with an address of its
//! own for every container ([`bridge`]), for an ordinary user a program that carries packets ([`user_mode`]), or a bridge in a
//! namespace of the user's own ([`hub`]). Ports are published by rules of the firewall ([`firewall`]) and by a thread
//! ([`forward`]).
//!
//! ```text
//! connect --namespace--> a new one, made on a thread      (goes with its last user)
//!         --reserve----> sockets on the host's ports       (go with this process)
//!         --bridge-----> lock, sweep, address, lease, rules (swept by the next one if we are killed)
//!         --link-------> virtual cable, addresses, routes  (go with the namespace)
//!         --forward----> a thread that serves the sockets  (goes with this process)
//!         --names------> a thread that answers for names   (goes with this process)
//! ```
//!
//! A container may be in several networks, with a card in each: [`Attachment::join`] and [`Attachment::leave_network`]
//! change that while it runs. Names are served to those in a user-defined network ([`definition`]).
//!
//! Nothing here outlives a crash for long: see [`record`] for what is written down and [`leftovers`] for what can be
//! left.

pub mod address;
mod bridge;
pub mod definition;
pub mod endpoint;
pub mod error;
pub mod firewall;
mod forward;
mod hub;
mod join;
pub mod leftovers;
mod link;
mod linked;
mod making;
mod names;
mod namespace;
mod netlink;
pub mod options;
mod program;
pub mod publish;
pub mod record;
mod reserve;
mod setting;
pub mod sublink;
mod user_mode;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::address::MacAddress;
use self::bridge::{Addresses, Seat};
use self::definition::Definition;
use self::endpoint::{Asked, Endpoint, InetEndpoint};
use self::error::NetworkError;
use self::firewall::Backend;
use self::forward::{Destination, Forwarder};
use self::hub::Place;
pub use self::hub::keeper::{COMMAND as HUB_COMMAND, run as run_hub};
pub use self::join::Connection;
pub(crate) use self::join::{etc_files, join, served};
use self::link::Links;
pub use self::linked::Link;
use self::names::NameServer;
use self::namespace::Namespace;
use self::options::CardOptions;
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
    /// The default network's name, or the id of a user-defined one.
    pub network: String,
    /// The network, if it is a user-defined one.
    #[serde(default)]
    pub definition: Option<Box<Definition>>,
    /// The names by which the network's other containers find this one, if it is a user-defined network.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether packets to elsewhere leave by this network.
    #[serde(default = "yes")]
    pub leads_out: bool,
    /// Ports that the host offers.
    pub publish: Vec<Publish>,
    /// The address; `None` is a free one.
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address; `None` is the one that goes with the IPv4 address, if the network has IPv6.
    pub address6: Option<Ipv6Addr>,
    /// The address of the network card; `None` is the one that goes with the IPv4 address.
    pub mac: Option<MacAddress>,
    /// What its card is to be like beyond that.
    #[serde(default)]
    pub card: CardOptions,
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
            definition: None,
            names: Vec::new(),
            leads_out: true,
            publish: Vec::new(),
            address: None,
            address6: None,
            mac: None,
            card: CardOptions::default(),
            mtu: None,
            firewall: None,
        }
    }

    /// A user-defined network.
    pub fn to(definition: Definition, container: &str) -> Self {
        let network = definition.id.clone();
        Self { network, definition: Some(Box::new(definition)), ..Self::new(container) }
    }

    /// What was asked for about its part of the network.
    pub fn asked(&self) -> Asked {
        Asked { address: self.address, address6: self.address6, card: self.card.clone() }
    }

    /// The ports that the host offers, with the address that the network has for those that name none.
    fn bound(&self) -> Vec<Publish> {
        let host = self.definition.as_ref().and_then(|definition| definition.bind_to);
        let bind = |wish: &Publish| Publish { host: wish.host.or(host.map(IpAddr::V4)), ..wish.clone() };
        self.publish.iter().map(bind).collect()
    }

    /// What people call the network.
    pub fn network_name(&self) -> &str {
        self.definition.as_ref().map_or(&self.network, |definition| &definition.name)
    }
}

fn yes() -> bool {
    true
}

/// A connected network namespace. Dropping it, or better [`disconnect`](Self::disconnect), gives everything back;
/// the container must have ended.
#[derive(Debug)]
pub struct Attachment {
    // In the order in which they are dropped: nobody connects to a container that leaves.
    forwarder: Option<Forwarder>,
    name_server: Option<NameServer>,
    /// One for each network with a bridge, in the order in which they were joined.
    seats: Vec<Seat>,
    /// The default network of an ordinary user.
    user_mode: Option<UserMode>,
    namespace: Namespace,
    published: Vec<Published>,
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
    let reserved = reserve::reserve(&wanted.bound(), ipv6).map_err(|error| name_holder(runtime, error))?;
    Ok(Preparation { namespace, reserved })
}

/// Connects a container to its first network. `runtime` is the runtime directory: networks of different directories know nothing of each
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
    if wanted.definition.is_none() && !may_administer_networks()? {
        return by_program(wanted, namespace.finish()?, reserved, published);
    }
    let place = Place::enter(runtime)?;
    let take = || bridge::take_seat(&place, runtime, wanted, published.clone());
    let (seat, bridge) = take()?;
    // From here on dropping gives the seat back.
    let namespace = match namespace.finish() {
        Ok(namespace) => namespace,
        Err(error) => {
            seat.leave()?;
            return Err(error);
        }
    };
    let mut attachment = Attachment::new(namespace, None, published.clone());
    let address = attachment.plug_in(seat, bridge, take)?.inet;
    let inside = place.is_hub() || !attachment.seats.iter().any(Seat::has_bridge);
    attachment.forward(reserved, address.into(), inside)?;
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
        ("--driver-opt or --link-local-ip", !wanted.card.is_empty()),
    ];
    if let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given) {
        return Err(NetworkError::NeedsBridge { flag });
    }
    let user_mode = user_mode::connect(&mut namespace, user_mode::CARD, wanted.mtu)?;
    let address = user_mode.address;
    let mut attachment = Attachment::new(namespace, Some(user_mode), published);
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
pub(crate) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

impl Attachment {
    fn new(namespace: Namespace, user_mode: Option<UserMode>, published: Vec<Published>) -> Self {
        Self { forwarder: None, name_server: None, seats: Vec::new(), user_mode, namespace, published }
    }

    /// The network that packets to elsewhere leave by, else the first; none where a program leads out.
    fn main_seat(&self) -> Option<&Seat> {
        if self.user_mode.is_some() {
            return None;
        }
        self.seats.iter().find(|seat| seat.leads_out()).or(self.seats.first())
    }

    /// Plugs a seat in. Somebody for whom our runtime directory is not there, because it is on a mount of ours alone, may
    /// have removed the bridge since the seat was taken: then another one is taken, once. Answers the addresses.
    fn plug_in(
        &mut self,
        mut seat: Seat,
        mut bridge: u32,
        again: impl FnOnce() -> Result<(Seat, u32), NetworkError>,
    ) -> Result<Addresses, NetworkError> {
        let mut plugged = seat.plug_in(bridge, &mut self.namespace);
        if plugged.is_err() && matches!(seat.bridge_is(bridge), Ok(false)) {
            // Of the cable there may be something, or nothing.
            let _ = seat.unplug(&mut self.namespace);
            seat.leave()?;
            (seat, bridge) = again()?;
            plugged = seat.plug_in(bridge, &mut self.namespace);
        }
        let addresses = seat.addresses();
        // With or without a cable it is given back with the others.
        self.seats.push(seat);
        plugged.map(|()| addresses)
    }

    /// Whether it is in a network, by its id or the default one's name.
    fn is_in(&self, network: &str) -> bool {
        self.user_mode.is_some() && network == DEFAULT_NETWORK
            || self.seats.iter().any(|seat| seat.directory().is(network))
    }

    /// Connects the container to a further network.
    ///
    /// # Errors
    /// See [`NetworkError`]. Nothing is left then.
    pub fn join(&mut self, runtime: &Path, wanted: &Connect) -> Result<(), NetworkError> {
        if self.is_in(&wanted.network) {
            let container = wanted.names.first().cloned().unwrap_or_else(|| short(&wanted.container));
            let network = wanted.network_name().to_owned();
            return Err(NetworkError::AlreadyConnected { container, network });
        }
        let place = match self.seats.first() {
            Some(seat) => seat.place().clone(),
            None => Place::enter(runtime)?,
        };
        let seats = self.seats.len();
        let take = || bridge::take_seat(&place, runtime, wanted, Vec::new());
        let (seat, bridge) = take()?;
        if let Err(error) = self.plug_in(seat, bridge, take) {
            self.seats.drain(seats..).try_for_each(Seat::leave)?;
            return Err(error);
        }
        self.tell_name_server();
        Ok(())
    }

    /// Takes the container out of a network. If packets to elsewhere left by it, they leave by another one then.
    ///
    /// # Errors
    /// [`NetworkError::NotConnected`], or the kernel refuses it.
    pub fn leave_network(&mut self, network: &str, name: &str, container: &str) -> Result<(), NetworkError> {
        if !self.is_in(network) {
            return Err(NetworkError::NotConnected { container: short(container), network: name.to_owned() });
        }
        let led_out = match self.seats.iter().position(|seat| seat.directory().is(network)) {
            Some(place) => {
                let seat = self.seats.remove(place);
                seat.unplug(&mut self.namespace)?;
                let led_out = seat.leads_out();
                seat.leave()?;
                led_out
            }
            // The card goes with the program.
            None => self.user_mode.take().is_some(),
        };
        if led_out {
            // Its ports lead to an address that nobody has any more.
            self.forwarder = None;
            self.published.clear();
            if let Some(next) = self.seats.iter_mut().find(|seat| seat.may_lead_out()) {
                next.lead_out(&mut self.namespace)?;
            }
        }
        self.tell_name_server();
        Ok(())
    }

    /// Answers for names at 127.0.0.11 inside the container, and asks `servers` for what is no container's.
    ///
    /// # Errors
    /// [`NetworkError::Names`].
    pub(crate) fn serve_names(
        &mut self,
        servers: Vec<IpAddr>,
        links: Vec<(String, String)>,
    ) -> Result<(), NetworkError> {
        let namespace = self.namespace.descriptor().map_err(NetworkError::Names)?;
        self.name_server = Some(NameServer::start(namespace, servers, links).map_err(NetworkError::Names)?);
        self.tell_name_server();
        Ok(())
    }

    /// Tells the server of names which networks the container is in.
    fn tell_name_server(&self) {
        let Some(server) = &self.name_server else { return };
        let user_defined = self.seats.iter().filter_map(|seat| {
            Some(names::Known { directory: seat.directory().clone(), network: seat.network_name()?.name })
        });
        let leads_out = self.user_mode.is_some() || self.seats.iter().any(Seat::leads_out);
        server.know(user_defined.collect(), self.seats.iter().flat_map(Seat::links).collect(), leads_out);
    }

    /// Forgets the further name of another container.
    pub(crate) fn forget_link(&mut self, alias: &str) {
        if let Some(server) = &mut self.name_server {
            server.forget_link(alias);
        }
        self.tell_name_server();
    }

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
        let of_seat = |seat: &Seat| {
            let addresses = seat.addresses();
            let inet6 = addresses.inet6.map(IpAddr::V6);
            std::iter::once(IpAddr::V4(addresses.inet)).chain(inet6)
        };
        let of_program = self.user_mode.iter().map(|user_mode| user_mode.address);
        of_program.chain(self.seats.iter().flat_map(of_seat)).collect()
    }

    /// By which address the container reaches the machine that it runs on, if by any.
    pub fn gateway(&self) -> Option<IpAddr> {
        let main = self.main_seat()?;
        (!main.place().is_hub() && main.has_bridge()).then(|| main.gateway().into())
    }

    /// Where the container reaches the host's resolver, if it does also when that listens on the host's loopback
    /// interface only.
    pub fn resolver(&self) -> Option<IpAddr> {
        Some(self.user_mode.as_ref()?.resolver)
    }

    /// What the container has of its other networks than the main one, to be told to others.
    pub fn further_endpoints(&self) -> Vec<Endpoint> {
        let main = self.main_seat();
        let others = self.seats.iter().filter(|seat| !main.is_some_and(|main| std::ptr::eq(*seat, main)));
        others.map(Seat::endpoint).collect()
    }

    /// What the container has of its network, the one that packets to elsewhere leave by, to be told to others.
    pub fn endpoint(&self) -> Endpoint {
        let published = self.published.clone();
        match &self.user_mode {
            Some(user_mode) => Endpoint {
                inet: Some(InetEndpoint { address: user_mode.address, length: None, gateway: None }),
                published,
                ..Endpoint::default()
            },
            None => Endpoint { published, ..self.main_seat().map(Seat::endpoint).unwrap_or_default() },
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
        // All of them are left, whatever becomes of one.
        let left = std::mem::take(&mut self.seats).into_iter().map(Seat::leave).fold(Ok(()), Result::and);
        self.user_mode = None;
        // After the rules: who gets the ports next has rules of its own.
        self.forwarder = None;
        self.name_server = None;
        left
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Nobody is left to tell; the next one that uses the network sweeps.
        let _ = self.leave();
    }
}

#[cfg(test)]
#[path = "network/tests.rs"]
mod tests;
