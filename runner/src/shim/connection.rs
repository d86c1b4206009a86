//! The connections that a supervisor takes requests on. Nothing that comes over one can stop the supervisor:
//! who sends garbage, or does not read the answers, is cut off.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    send, socket_with,
};
use sys::path_error::{PathContext as _, PathError};

use super::protocol::{Incoming, Reply, Request, frame};

/// How many connections there may be at once.
const MOST: usize = 2048;

/// Bytes of answers that somebody may leave unread.
const MOST_UNREAD: usize = 1 << 20;

/// A number for a connection, never used twice.
pub(super) type ConnectionId = u64;

/// Somebody who may ask for something.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: Vec<u8>,
    /// Whether it is to be told how the container ended.
    pub(super) waits: bool,
    /// Whether it is to be told when the container's process ends, for good or not.
    pub(super) waits_next: bool,
    /// Whether the container ends with it.
    pub(super) owner: bool,
    closed: bool,
}

impl Connection {
    /// The requests that have come, with their descriptors.
    pub(super) fn requests(&mut self) -> Vec<(Request, Vec<OwnedFd>)> {
        match self.incoming.receive(&self.socket, false) {
            Ok(true) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(false) | Err(_) => self.closed = true,
        }
        let mut requests = Vec::new();
        loop {
            match self.incoming.next() {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => return requests,
                Err(_) => {
                    self.closed = true;
                    return requests;
                }
            }
        }
    }

    /// Answers, now or as soon as there is room.
    pub(super) fn answer(&mut self, reply: &Reply) {
        match frame(reply) {
            Ok(bytes) if self.outgoing.len() + bytes.len() <= MOST_UNREAD => {
                self.outgoing.extend(bytes);
                self.flush();
            }
            _ => self.closed = true,
        }
    }

    /// Sends what there is room for.
    pub(super) fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match send(&self.socket, &self.outgoing, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// Whether it has answers that there was no room for.
    pub(super) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// All connections, and the socket for new ones.
#[derive(Debug)]
pub(super) struct Connections {
    listener: OwnedFd,
    /// Where the socket is, until it is taken away.
    path: Option<PathBuf>,
    all: Vec<Connection>,
    next: ConnectionId,
}

impl Connections {
    /// Makes the socket of a container's directory, in place of one that a dead supervisor left.
    pub(super) fn listen(directory: &Path) -> Result<Self, PathError> {
        let path = directory.join("control");
        sys::fs::remove_file(&path)?;
        let listener = unix_socket().at("make the socket", &path)?;
        let holder = sys::fs::open(directory)?;
        let address = address(&holder).at("make the socket", &path)?;
        bind(&listener, &address).at("make the socket", &path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .at("change the mode of", &path)?;
        listen(&listener, 128).at("listen on", &path)?;
        Ok(Self { listener, path: Some(path), all: Vec::new(), next: 1 })
    }

    /// Takes a connection that somebody else has made.
    pub(super) fn add(&mut self, socket: OwnedFd) -> ConnectionId {
        let id = self.next;
        self.next += 1;
        self.all.push(Connection {
            id,
            socket,
            incoming: Incoming::default(),
            outgoing: Vec::new(),
            waits: false,
            waits_next: false,
            owner: false,
            closed: false,
        });
        id
    }

    /// Takes a new connection, unless there are too many.
    pub(super) fn accept(&mut self) {
        if let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC)
            && self.all.len() < MOST
        {
            self.add(socket);
        }
    }

    /// The socket that is readable when somebody wants to connect.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn hide(&mut self) {
        if let Some(path) = self.path.take() {
            // A socket that is left over is taken for one nobody listens on, which it is.
            let _ = sys::fs::remove_file(&path);
        }
    }

    /// Whether there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.all.iter_mut()
    }

    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.all.iter_mut().find(|connection| connection.id == id)
    }

    /// Forgets those that have ended, and answers them.
    pub(super) fn remove_closed(&mut self) -> Vec<Connection> {
        self.all.extract_if(.., |connection| connection.closed).collect()
    }
}

/// Those who are connected to a supervisor whose work is done. Dropping this tells them that it has ended.
#[derive(Debug)]
pub struct Waiters(pub(super) Connections);

impl Waiters {
    /// Takes the socket away: who comes from now on finds nobody, and may make a socket of his own.
    pub fn hide(&mut self) {
        self.0.hide();
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.hide();
    }
}

fn unix_socket() -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// The address of the socket in an open directory. Paths of sockets are short (`unix(7)`), those of stores
/// need not be.
fn address(directory: &std::fs::File) -> rustix::io::Result<SocketAddrUnix> {
    use std::os::fd::AsRawFd as _;
    SocketAddrUnix::new(format!("/proc/self/fd/{}/control", directory.as_raw_fd()))
}

/// Connects to whoever supervises the container of a directory; `None` when nobody does.
pub(super) fn connect_to(directory: &Path) -> Result<Option<OwnedFd>, PathError> {
    let path = directory.join("control");
    let holder = match sys::fs::open(directory) {
        Err(error) if error.is_not_found() => return Ok(None),
        holder => holder?,
    };
    let socket = unix_socket().at("connect to", &path)?;
    let address = address(&holder).at("connect to", &path)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(error) => Err(error).at("connect to", &path),
    }
}
