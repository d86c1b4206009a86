//! The server of names inside a container of a user-defined network, at 127.0.0.11.
//!
//! It answers for the containers of the networks that the container is in, by what their leases say when it is asked
//! ([`answer`]), and hands all other questions on to the servers of the host ([`forward`], [`streams`]). Nobody else has to
//! run: every supervisor serves its own container, and what a killed one leaves is a lease that nobody holds.
//!
//! Port 53 is left to the container's own programs, which may want it on all addresses: the sockets have ports that the
//! kernel chooses, and rules of the container's own firewall lead from port 53 there. Where there can be no such rules the
//! sockets are at port 53 themselves. They are made by a thread that enters the container's network namespace, and served
//! by one that stays outside, from where also servers on the host's loopback interface are reached.

mod answer;
mod forward;
mod sockets;
mod streams;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use self::forward::Serving;
use super::record::Directory;

/// Where containers ask, as in Docker.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A network whose containers are known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) directory: Directory,
    /// The name of the network.
    pub(super) network: String,
}

/// What the server answers by.
#[derive(Debug, Default)]
struct Knowledge {
    networks: Vec<Known>,
    /// Names that only this container has for others, with their ids.
    links: Vec<(String, String)>,
    /// Whom to ask for all else.
    servers: Vec<IpAddr>,
    /// Whether anybody may be asked: who cannot get out does not by this way either.
    leads_out: bool,
}

/// What the server answers by, which changes when the container joins or leaves a network.
type Shared = Arc<Mutex<Knowledge>>;

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct NameServer {
    knowledge: Shared,
    /// Names for others in any network.
    links: Vec<(String, String)>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts to serve the container of a namespace.
    pub(super) fn start(
        namespace: OwnedFd,
        servers: Vec<IpAddr>,
        links: Vec<(String, String)>,
    ) -> io::Result<Self> {
        let sockets = sockets::make(namespace)?;
        let knowledge = Shared::new(Mutex::new(Knowledge { servers, ..Knowledge::default() }));
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let serving = Serving::new(sockets, Arc::clone(&knowledge), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("lap-names".to_owned());
        // When waiting fails, questions are no longer answered; there is nobody here to tell.
        let thread = thread.spawn(move || drop(serving.run()))?;
        Ok(Self { knowledge, links, stop, thread: Some(thread) })
    }

    /// Replaces the networks that it knows, and the further names of others in them.
    pub(super) fn know(&self, networks: Vec<Known>, links: Vec<(String, String)>, leads_out: bool) {
        let mut knowledge = self.knowledge.lock().unwrap_or_else(PoisonError::into_inner);
        (knowledge.networks, knowledge.leads_out) = (networks, leads_out);
        knowledge.links = [self.links.clone(), links].concat();
    }
}

impl NameServer {
    /// Forgets a name for another container, from the next [`know`](Self::know) on.
    pub(super) fn forget_link(&mut self, alias: &str) {
        self.links.retain(|(known, _)| known != alias);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // A counter that is full has been written to already.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of it ended it, as we are about to.
            let _ = thread.join();
        }
    }
}
