//! Streams: every connection to the port gets one to the container, and what comes from one goes to the other.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Tokens, Waits, watch};

/// What is read at once, in bytes.
const PIECE: usize = 64 << 10;
/// How many pieces one connection may move before the others get their turn.
const TURN: usize = 32;
/// How many connections are accepted before others get their turn.
const ACCEPT_TURN: usize = 64;

/// One port and its connections.
pub(super) struct Streams {
    listener: TcpListener,
    to: SocketAddr,
    tokens: Tokens,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that had more to move than their turn allowed.
    unfinished: VecDeque<usize>,
    /// Whether accepting stopped because we have too many descriptors.
    is_refused: bool,
    piece: Vec<u8>,
}

/// A client and the container.
struct Connection {
    sides: [TcpStream; 2],
    /// What goes from each side to the other.
    flows: [Flow; 2],
    /// Whether the container has not answered yet.
    connecting: bool,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// What was read and could not be written yet.
    kept: Vec<u8>,
    /// Whether everything was read.
    ended: bool,
    /// Whether the other side was told so.
    closed: bool,
}

/// How moving data ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// An event will tell of more.
    Wait,
    /// There is more to do now.
    More,
    /// Both directions have ended.
    Done,
}

impl Streams {
    pub(super) fn new(
        listener: TcpListener,
        to: SocketAddr,
        tokens: Tokens,
        events: &OwnedFd,
    ) -> io::Result<Self> {
        watch(events, &listener, tokens.own(), EventFlags::IN)?;
        let (connections, free, unfinished) = (Vec::new(), Vec::new(), VecDeque::new());
        let piece = vec![0; PIECE];
        Ok(Self { listener, to, tokens, connections, free, unfinished, is_refused: false, piece })
    }

    /// What it waits for besides events.
    pub(super) fn waits(&self) -> Waits {
        match (self.unfinished.is_empty(), self.is_refused) {
            (false, _) => Waits::Now,
            (true, true) => Waits::Tick,
            (true, false) => Waits::Events,
        }
    }

    /// Tries again after descriptors ran out.
    pub(super) fn tick(&mut self, events: &OwnedFd) {
        if self.is_refused && self.listen(events, EventFlags::IN).is_ok() {
            self.is_refused = false;
        }
    }

    /// Says whether new connections are waited for.
    fn listen(&self, events: &OwnedFd, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(events, &self.listener, EventData::new_u64(self.tokens.own()), flags)?)
    }

    /// Does what an event asks for.
    pub(super) fn on_event(&mut self, token: u64, events: &OwnedFd) {
        if token == self.tokens.own() {
            self.accept(events);
        } else {
            self.advance(self.tokens.which(token).0);
        }
    }

    /// Gives every connection that has more to move another turn.
    pub(super) fn resume(&mut self) {
        for index in std::mem::take(&mut self.unfinished) {
            self.advance(index);
        }
    }

    fn accept(&mut self, events: &OwnedFd) {
        for _ in 0..ACCEPT_TURN {
            match self.listener.accept() {
                // A client that cannot be served is closed, which is what it would see from the container.
                Ok((client, _)) => drop(self.connect(client, events)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    // The event would come again and again.
                    self.is_refused = self.listen(events, EventFlags::empty()).is_ok();
                    return;
                }
                // The client went away before it was accepted, or a signal came.
                Err(_) => {}
            }
        }
    }

    fn connect(&mut self, client: TcpStream, events: &OwnedFd) -> io::Result<()> {
        client.set_nonblocking(true)?;
        let container = connect(self.to)?;
        for side in [&client, &container] {
            side.set_nodelay(true)?;
        }
        let index = self.free.pop().unwrap_or(self.connections.len());
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let watched = watch(events, &client, self.tokens.of(index, 0), flags)
            .and_then(|()| watch(events, &container, self.tokens.of(index, 1), flags));
        if index == self.connections.len() {
            self.connections.push(None);
        }
        if let Err(error) = watched {
            self.free.push(index);
            return Err(error);
        }
        let flows = [Flow::default(), Flow::default()];
        self.connections[index] = Some(Connection { sides: [client, container], flows, connecting: true });
        Ok(())
    }

    /// Moves what can be moved. A connection that fails is closed on both sides.
    fn advance(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        match connection.advance(&mut self.piece) {
            Ok(Moved::Wait) => {}
            Ok(Moved::More) => self.unfinished.push_back(index),
            Ok(Moved::Done) | Err(_) => {
                self.connections[index] = None;
                self.free.push(index);
            }
        }
    }
}

/// Begins to connect.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

impl Connection {
    fn advance(&mut self, piece: &mut [u8]) -> io::Result<Moved> {
        if self.connecting {
            if let Some(error) = self.sides[1].take_error()? {
                return Err(error);
            }
            match self.sides[1].peer_addr() {
                Ok(_) => self.connecting = false,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(Moved::Wait),
                Err(error) => return Err(error),
            }
        }
        let mut moved = Moved::Wait;
        let [client, container] = &self.sides;
        let [out, back] = &mut self.flows;
        for (flow, from, to) in [(out, client, container), (back, container, client)] {
            if flow.advance(from, to, piece)? == Moved::More {
                moved = Moved::More;
            }
        }
        if self.flows.iter().all(|flow| flow.closed) { Ok(Moved::Done) } else { Ok(moved) }
    }
}

impl Flow {
    fn advance(&mut self, mut from: &TcpStream, to: &TcpStream, piece: &mut [u8]) -> io::Result<Moved> {
        for _ in 0..TURN {
            if !self.kept.is_empty() {
                let written = write_some(to, &self.kept)?;
                self.kept.drain(..written);
                if !self.kept.is_empty() {
                    return Ok(Moved::Wait);
                }
                // An idle connection keeps no memory.
                self.kept = Vec::new();
            }
            if self.ended {
                if !self.closed {
                    self.closed = true;
                    to.shutdown(Shutdown::Write)?;
                }
                return Ok(Moved::Wait);
            }
            match from.read(piece) {
                Ok(0) => self.ended = true,
                Ok(length) => {
                    let written = write_some(to, &piece[..length])?;
                    self.kept.extend_from_slice(&piece[written..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Wait),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Moved::More)
    }
}

/// Writes as much as is taken now, perhaps nothing.
fn write_some(mut to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.write(&bytes[written..]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Whether there is no descriptor or memory for another connection.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}
