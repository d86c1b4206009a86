//! Carries data between published ports of the host and a container, where no rule of the firewall does.
//!
//! That is for connections from the host itself, from containers of the same network (which would otherwise have to
//! be turned around on the bridge), over IPv6 to a container without it, and for everything that an ordinary user
//! publishes. Rules for loopback addresses would need `route_localnet`, which opens the host's loopback services to
//! the network, and do not exist for IPv6.
//!
//! One thread serves all ports of a container (`epoll(7)`). It keeps nothing for a connection but what one side has
//! sent and the other does not take yet. The thread may live in the container's network namespace, so that
//! connections to the container are made from inside: the sockets that others connect to stay the host's.

mod datagrams;
mod streams;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;

use self::datagrams::Datagrams;
use self::streams::Streams;
use super::error::NetworkError;
use super::reserve::{Listening, Reserved};

/// What the stopping descriptor is called.
const STOP: u64 = u64::MAX;
/// The tokens of a port's own sockets begin here times its number.
const TOKENS_PER_PORT: u64 = 1 << 40;
/// How many events are taken at once.
const EVENTS: usize = 64;
/// How often silence is looked for.
const TICK: Duration = Duration::from_secs(5);

/// Where data goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination {
    /// The container's address.
    pub(super) address: IpAddr,
}

/// A running forwarder. Dropping it ends all connections.
#[derive(Debug)]
pub(super) struct Forwarder {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to serve ports. With a namespace, connections to the container are made from inside of it.
pub(super) fn start(
    ports: Vec<Reserved>,
    destination: Destination,
    namespace: Option<OwnedFd>,
) -> Result<Forwarder, NetworkError> {
    let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    let stop = Arc::new(stop.map_err(|errno| NetworkError::Forward(errno.into()))?);
    let serving = Serving::new(ports, destination, &stop).map_err(NetworkError::Forward)?;
    let thread = std::thread::Builder::new().name("lap-ports".to_owned());
    let thread = thread.spawn(move || {
        let entered = namespace.map_or(Ok(()), |namespace| {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        });
        // Without its namespace, or when waiting fails, the ports stay taken and answer nothing; there is
        // nobody here to tell.
        if entered.is_ok() {
            let _ = serving.run();
        }
    });
    Ok(Forwarder { stop, thread: Some(thread.map_err(NetworkError::Forward)?) })
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // A counter that is full has been written to already.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic of it ended its connections, as we are about to.
            let _ = thread.join();
        }
    }
}

/// What the thread works on.
struct Serving {
    events: OwnedFd,
    ports: Vec<Port>,
    /// Keeps the descriptor that ends the thread open as long as it is waited for.
    _stop: Arc<OwnedFd>,
}

/// One published port.
enum Port {
    Tcp(Streams),
    Udp(Datagrams),
}

impl Serving {
    fn new(ports: Vec<Reserved>, destination: Destination, stop: &Arc<OwnedFd>) -> io::Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&events, stop.as_fd(), EventData::new_u64(STOP), EventFlags::IN)?;
        let mut all = Vec::new();
        for (number, reserved) in ports.into_iter().enumerate() {
            let to = SocketAddr::new(destination.address, reserved.published.container_port);
            let tokens = Tokens { base: number as u64 * TOKENS_PER_PORT };
            all.push(match reserved.socket {
                Listening::Tcp(listener) => Port::Tcp(Streams::new(listener, to, tokens, &events)?),
                Listening::Udp(socket) => Port::Udp(Datagrams::new(socket, to, tokens, &events)?),
            });
        }
        Ok(Self { events, ports: all, _stop: Arc::clone(stop) })
    }

    /// Serves until it is told to stop.
    fn run(mut self) -> io::Result<()> {
        let mut happened: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut last_tick = Instant::now();
        loop {
            happened.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.events, spare_capacity(&mut happened), timeout.as_ref()) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            for event in &happened {
                let token = event.data.u64();
                if token == STOP {
                    return Ok(());
                }
                let port = usize::try_from(token / TOKENS_PER_PORT).ok();
                match port.and_then(|port| self.ports.get_mut(port)) {
                    Some(Port::Tcp(streams)) => streams.on_event(token, &self.events),
                    Some(Port::Udp(datagrams)) => datagrams.on_event(token, &self.events),
                    None => {}
                }
            }
            self.ports.iter_mut().for_each(Port::resume);
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.ports.iter_mut().for_each(|port| port.tick(&self.events));
            }
        }
    }

    /// How long to wait for events; `None` is as long as it takes.
    fn timeout(&self) -> Option<Timespec> {
        match self.ports.iter().map(Port::waits).min() {
            Some(Waits::Now) => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            Some(Waits::Tick) => Some(Timespec { tv_sec: TICK.as_secs() as i64, tv_nsec: 0 }),
            Some(Waits::Events) | None => None,
        }
    }
}

/// What a port waits for; the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Waits {
    /// Nothing: it has more to do.
    Now,
    /// Time to pass, and events.
    Tick,
    /// Events.
    Events,
}

impl Port {
    fn waits(&self) -> Waits {
        match self {
            Self::Tcp(streams) => streams.waits(),
            Self::Udp(datagrams) => datagrams.waits(),
        }
    }

    fn resume(&mut self) {
        if let Self::Tcp(streams) = self {
            streams.resume();
        }
    }

    fn tick(&mut self, events: &OwnedFd) {
        match self {
            Self::Tcp(streams) => streams.tick(events),
            Self::Udp(datagrams) => datagrams.tick(),
        }
    }
}

/// Names of a port's sockets for the kernel's events.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    base: u64,
}

impl Tokens {
    /// The name of the listening socket.
    fn own(self) -> u64 {
        self.base
    }

    /// The name of side `side` of connection number `index`.
    fn of(self, index: usize, side: usize) -> u64 {
        self.base + 1 + index as u64 * 2 + side as u64
    }

    /// The number and the side of the connection with this name.
    fn which(self, token: u64) -> (usize, usize) {
        let number = token - self.base - 1;
        ((number / 2) as usize, (number % 2) as usize)
    }
}

/// Adds a socket to the events that are waited for: told once for every change.
fn watch(events: &OwnedFd, socket: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
    Ok(epoll::add(events, socket, EventData::new_u64(token), flags)?)
}

#[cfg(test)]
mod tests;
