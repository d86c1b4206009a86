//! The sockets of the server of names, inside the container's network namespace.

use std::io;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::firewall::nftables::Tables;
use super::super::publish::Transport;
use super::ADDRESS;

/// Where questions for names go.
const PORT: u16 = 53;

/// Where questions come in.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) messages: UdpSocket,
    pub(super) streams: TcpListener,
}

/// Makes them, on a thread that enters the namespace and ends.
pub(super) fn make(namespace: OwnedFd) -> io::Result<Sockets> {
    let thread = std::thread::Builder::new().name("lap-names".to_owned());
    let inside = thread.spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        make_here()
    })?;
    inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes the sockets panicked")))
}

fn make_here() -> io::Result<Sockets> {
    let sockets = listen(0)?;
    let (messages, streams) = (sockets.messages.local_addr()?, sockets.streams.local_addr()?);
    let ports = [(Transport::Udp, messages.port()), (Transport::Tcp, streams.port())];
    match Tables::open().and_then(|mut tables| tables.lead_to_names(ADDRESS, PORT, &ports)) {
        Ok(()) => Ok(sockets),
        // A kernel without nf_tables.
        Err(_) => listen(PORT),
    }
}

fn listen(port: u16) -> io::Result<Sockets> {
    let address = SocketAddrV4::new(ADDRESS, port);
    let (messages, streams) = (UdpSocket::bind(address)?, TcpListener::bind(address)?);
    messages.set_nonblocking(true)?;
    streams.set_nonblocking(true)?;
    Ok(Sockets { messages, streams })
}
