//! Ports of this machine for servers that are told one.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType, bind, getsockname, socket_with};

/// Where ports are given out: below those that the kernel gives to whoever asks for any.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// How many were given out by this process.
static GIVEN: AtomicU16 = AtomicU16::new(0);

/// A port of the host that nobody has now, neither for connections nor for messages, and that no other call gives.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    // Test binaries that run at the same time begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    let port = (0..COUNT).find_map(|_| {
        let next = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed).wrapping_mul(7));
        let port = FIRST + next % COUNT;
        is_free(port).then_some(port)
    });
    port.expect("a free port")
}

/// The first of two ports that nobody has.
///
/// # Panics
/// There are none.
pub fn free_ports_in_a_row() -> u16 {
    std::iter::repeat_with(free_port)
        .take(usize::from(COUNT))
        .find(|port| is_free(port + 1))
        .expect("two free ports")
}

/// A port of this machine at which nobody listens as long as what is answered lives.
///
/// # Panics
/// There is none.
pub fn refusing() -> (OwnedFd, u16) {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let socket = socket.expect("a socket");
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    let address = getsockname(&socket).expect("a bound socket has an address");
    let address = SocketAddrV4::try_from(address).expect("an address of IPv4");
    (socket, address.port())
}

/// Whether a port can be bound. Nobody listens at it for that: what a process that is just being made inherits of it would be in the
/// way of whoever wants to.
pub fn is_free(port: u16) -> bool {
    [SocketType::STREAM, SocketType::DGRAM].into_iter().all(|kind| {
        let probe = || {
            let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
        };
        probe().is_ok()
    })
}
