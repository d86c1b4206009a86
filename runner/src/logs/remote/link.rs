//! A connection to a server of logs, of any kind. Every call ends within a limit of time.

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use super::address::Address;
use super::tls::{Encrypt, Encrypted, TlsFiles};

/// How long a server may take to accept a connection.
const CONNECTING: Duration = Duration::from_secs(5);

/// How long it may take to take a record.
const SENDING: Duration = Duration::from_secs(10);

/// A connection that may be there or not.
pub(super) struct Link {
    /// The first that works is used.
    places: Vec<Address>,
    tls: TlsFiles,
    encrypt: Encrypt,
    /// How long a record may take.
    limit: Duration,
    /// How long a connection is used.
    lasts: Option<Duration>,
    open: Option<(Open, Instant)>,
}

enum Open {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<dyn Encrypted>),
    Unix(UnixStream),
    Unixgram(UnixDatagram),
}

impl Link {
    pub(super) fn new(places: Vec<Address>, tls: TlsFiles, encrypt: Encrypt) -> Self {
        Self { places, tls, encrypt, limit: SENDING, lasts: None, open: None }
    }

    /// Changes how many milliseconds a record may take, and how many a connection is used.
    pub(super) fn set_limits(&mut self, sending: Option<u64>, lasts: Option<u64>) {
        self.limit = sending.filter(|time| *time > 0).map_or(SENDING, Duration::from_millis);
        self.lasts = lasts.map(Duration::from_millis);
    }

    /// Whether there is a connection that the other side has not ended, and that is not too old. What the other side says
    /// is not read here.
    pub(super) fn is_usable(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let has_ended = |socket: BorrowedFd<'_>| matches!(recv(socket, &mut [0; 1][..], flags), Ok((_, 0)));
        let Some((open, since)) = &self.open else { return false };
        let is_old = self.lasts.is_some_and(|lasts| since.elapsed() > lasts);
        !is_old
            && match open {
                Open::Tcp(stream) => !has_ended(stream.as_fd()),
                Open::Unix(stream) => !has_ended(stream.as_fd()),
                Open::Udp(_) | Open::Unixgram(_) | Open::Tls(_) => true,
            }
    }

    pub(super) fn disconnect(&mut self) {
        self.open = None;
    }

    /// Connects to the first place where somebody is.
    pub(super) fn connect(&mut self) -> io::Result<()> {
        self.open = None;
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for place in &self.places {
            match self.connect_to(place) {
                Ok(open) => {
                    self.open = Some((open, Instant::now()));
                    return Ok(());
                }
                Err(error) => failed = io::Error::new(error.kind(), format!("{place}: {error}")),
            }
        }
        Err(failed)
    }

    /// Sends all of it: a datagram, or bytes of a stream.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.open()? {
            Open::Udp(socket) => socket.send(bytes).map(drop),
            Open::Unixgram(socket) => socket.send(bytes).map(drop),
            Open::Tcp(stream) => stream.write_all(bytes),
            Open::Unix(stream) => stream.write_all(bytes),
            Open::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends a datagram to a socket of this machine. What is too large for one goes in a file that is handed over, as
    /// systemd's native protocol has it.
    pub(super) fn send_large(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.send(bytes);
        let (Err(error), Open::Unixgram(socket)) = (&sent, self.open()?) else { return sent };
        if !matches!(error.raw_os_error(), Some(libc_errno::EMSGSIZE | libc_errno::ENOBUFS)) {
            return sent;
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("log record", flags)?);
        file.write_all(bytes)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let handed = [file.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&handed));
        sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Reads some bytes of an answer.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.open()? {
            Open::Udp(socket) => socket.recv(buffer),
            Open::Unixgram(socket) => socket.recv(buffer),
            Open::Tcp(stream) => stream.read(buffer),
            Open::Unix(stream) => stream.read(buffer),
            Open::Tls(stream) => stream.read(buffer),
        }
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        let open = self.open.as_mut().map(|(open, _)| open);
        open.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn connect_to(&self, place: &Address) -> io::Result<Open> {
        let limit = Some(self.limit);
        Ok(match place {
            Address::Udp(host, port) => Open::Udp(udp(host, *port, self.limit)?),
            Address::Tcp(host, port) => Open::Tcp(tcp(host, *port, self.limit)?),
            Address::Tls(host, port) => {
                Open::Tls((self.encrypt)(tcp(host, *port, self.limit)?, host, &self.tls)?)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(limit)?;
                stream.set_read_timeout(limit)?;
                Open::Unix(stream)
            }
            Address::Unixgram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(limit)?;
                Open::Unixgram(socket)
            }
        })
    }
}

/// Numbers of errors that the standard library has no names for.
mod libc_errno {
    pub(super) const EMSGSIZE: i32 = rustix::io::Errno::MSGSIZE.raw_os_error();
    pub(super) const ENOBUFS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();
}

fn udp(host: &str, port: u16, limit: Duration) -> io::Result<UdpSocket> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve(host, port)? {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        match UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address).map(|()| socket)) {
            Ok(socket) => {
                socket.set_write_timeout(Some(limit))?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn tcp(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve(host, port)? {
        match TcpStream::connect_timeout(&address, CONNECTING) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(limit))?;
                stream.set_read_timeout(Some(limit))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// The addresses of a host; one that is written as an address needs nobody who knows it.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host.parse() {
        Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
        Err(_) => Ok((host, port).to_socket_addrs()?.collect()),
    }
}
