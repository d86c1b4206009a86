//! Messages: every client gets a socket of its own to the container, which is forgotten after a silence.
//!
//! The answers leave from the address that the client wrote to, even if the port is bound to all addresses.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use sys::datagram;

use super::{Tokens, Waits, watch};

/// A client that is silent for so long, and is not answered, is forgotten.
const SILENCE: Duration = Duration::from_secs(90);
/// How many clients may be known at once; the one that was silent longest makes room.
const MOST_CLIENTS: usize = 4096;
/// How many messages are carried before others get their turn.
const TURN: usize = 64;
/// No message is longer, in bytes.
const LONGEST: usize = 64 << 10;

/// One port and its clients.
pub(super) struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
    tokens: Tokens,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    known: HashMap<(SocketAddr, Option<IpAddr>), usize>,
    buffer: Vec<u8>,
}

/// Somebody who wrote to the port.
struct Client {
    address: SocketAddr,
    /// The address of ours that it wrote to.
    ours: Option<IpAddr>,
    container: UdpSocket,
    last: Instant,
}

impl Datagrams {
    pub(super) fn new(
        socket: UdpSocket,
        to: SocketAddr,
        tokens: Tokens,
        events: &OwnedFd,
    ) -> io::Result<Self> {
        datagram::report_destination(&socket)?;
        watch(events, &socket, tokens.own(), EventFlags::IN)?;
        let (clients, free, known) = (Vec::new(), Vec::new(), HashMap::new());
        Ok(Self { socket, to, tokens, clients, free, known, buffer: vec![0; LONGEST] })
    }

    /// What it waits for besides events.
    pub(super) fn waits(&self) -> Waits {
        if self.known.is_empty() { Waits::Events } else { Waits::Tick }
    }

    /// Forgets clients that are silent.
    pub(super) fn tick(&mut self) {
        for index in 0..self.clients.len() {
            if self.clients[index].as_ref().is_some_and(|client| client.last.elapsed() > SILENCE) {
                self.forget(index);
            }
        }
    }

    fn forget(&mut self, index: usize) {
        if let Some(client) = self.clients[index].take() {
            self.known.remove(&(client.address, client.ours));
            self.free.push(index);
        }
    }

    /// Does what an event asks for.
    pub(super) fn on_event(&mut self, token: u64, events: &OwnedFd) {
        for _ in 0..TURN {
            // An error is about one message, which is lost as messages may be; or there is none.
            let carried = if token == self.tokens.own() {
                self.request(events)
            } else {
                self.answer(self.tokens.which(token).0)
            };
            if matches!(carried, Err(ref error) if error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
        }
    }

    /// Carries a message to the container.
    fn request(&mut self, events: &OwnedFd) -> io::Result<()> {
        let received = datagram::receive(&self.socket, &mut self.buffer)?;
        let key = (received.from, received.to);
        let index = match self.known.get(&key) {
            Some(index) => *index,
            None => self.client(received.from, received.to, events)?,
        };
        let Some(Some(client)) = self.clients.get_mut(index) else { return Ok(()) };
        client.last = Instant::now();
        client.container.send(&self.buffer[..received.length]).map(drop)
    }

    /// Carries an answer of the container.
    fn answer(&mut self, index: usize) -> io::Result<()> {
        let Some(Some(client)) = self.clients.get_mut(index) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let length = client.container.recv(&mut self.buffer)?;
        client.last = Instant::now();
        datagram::send(&self.socket, &self.buffer[..length], client.address, client.ours)
    }

    fn client(&mut self, address: SocketAddr, ours: Option<IpAddr>, events: &OwnedFd) -> io::Result<usize> {
        if self.known.len() >= MOST_CLIENTS {
            let clients = self.clients.iter().enumerate();
            let last = |(index, client): (usize, &Option<Client>)| Some((client.as_ref()?.last, index));
            if let Some((_, index)) = clients.filter_map(last).min() {
                self.forget(index);
            }
        }
        let any: IpAddr =
            if self.to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let container = UdpSocket::bind((any, 0))?;
        container.connect(self.to)?;
        container.set_nonblocking(true)?;
        let index = self.free.last().copied().unwrap_or(self.clients.len());
        watch(events, &container, self.tokens.of(index, 0), EventFlags::IN)?;
        if self.free.pop().is_none() {
            self.clients.push(None);
        }
        self.clients[index] = Some(Client { address, ours, container, last: Instant::now() });
        self.known.insert((address, ours), index);
        Ok(index)
    }
}
