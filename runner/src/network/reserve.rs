//! Takes the ports of the host that are to be published, by listening on them.
//!
//! A port that is bound cannot be somebody else's, and the kernel gives it back when we end, however that comes. The
//! sockets are not only there to hold the ports: [`super::forward`] serves them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::error::NetworkError;
use super::publish::{ContainerPort, Publish, Published, Transport};

/// How many connections may wait to be accepted, as Go and most servers have it where the kernel allows.
const BACKLOG: i32 = 4096;
/// How often another port is tried when the kernel's choice for one family is taken in the other.
const TRIES: usize = 64;

/// A port of the host that is ours.
#[derive(Debug)]
pub(super) struct Reserved {
    /// What it leads to.
    pub(super) published: Published,
    /// Where what comes to it can be taken.
    pub(super) socket: Listening,
}

/// A socket that others connect or send to.
#[derive(Debug)]
pub(super) enum Listening {
    /// For streams.
    Tcp(TcpListener),
    /// For messages.
    Udp(UdpSocket),
}

/// Takes a port for every wish, in the order of the wishes: one for each address. `ipv6` says whether "every address"
/// means those of IPv6 too.
pub(super) fn reserve(wishes: &[Publish], ipv6: bool) -> Result<Vec<Reserved>, NetworkError> {
    // Who does not care must not take what another one asked for.
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|index| wishes[*index].ports.as_ref().map_or(usize::MAX, ExactSizeIterator::len));
    let mut taken = Vec::new();
    for index in order {
        let wish = &wishes[index];
        let addresses = match wish.host {
            Some(address) => vec![address],
            None if ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None => vec![Ipv4Addr::UNSPECIFIED.into()],
        };
        let reserved = match &wish.ports {
            None => any(&addresses, wish.container)?,
            Some(ports) => first_free(&addresses, ports, wish.container)?,
        };
        taken.push((index, reserved));
    }
    taken.sort_by_key(|(index, _)| *index);
    Ok(taken.into_iter().flat_map(|(_, reserved)| reserved).collect())
}

/// A port that the kernel chooses.
fn any(addresses: &[IpAddr], container: ContainerPort) -> Result<Vec<Reserved>, NetworkError> {
    let mut tries = 0;
    loop {
        match all(addresses, 0, container) {
            Err(NetworkError::PortTaken { .. }) if tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// The first port of a range that is free on all addresses.
fn first_free(
    addresses: &[IpAddr],
    ports: &RangeInclusive<u16>,
    container: ContainerPort,
) -> Result<Vec<Reserved>, NetworkError> {
    for port in ports.clone() {
        match all(addresses, port, container) {
            Err(NetworkError::PortTaken { .. }) if ports.len() > 1 => {}
            result => return result,
        }
    }
    let transport = container.transport;
    Err(NetworkError::RangeTaken { first: *ports.start(), last: *ports.end(), transport })
}

/// The same port of all addresses; 0 lets the kernel choose it for the first one.
fn all(addresses: &[IpAddr], mut port: u16, container: ContainerPort) -> Result<Vec<Reserved>, NetworkError> {
    let mut reserved = Vec::new();
    for address in addresses {
        let one = listen(SocketAddr::new(*address, port), container)?;
        port = one.published.host.port();
        reserved.push(one);
    }
    Ok(reserved)
}

fn listen(address: SocketAddr, container: ContainerPort) -> Result<Reserved, NetworkError> {
    let transport = container.transport;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => NetworkError::PortTaken { address, transport, container: None },
        _ => NetworkError::Bind { address, transport, source },
    };
    let socket = bind(address, transport).map_err(failed)?;
    let socket = match transport {
        Transport::Tcp => Listening::Tcp(TcpListener::from(socket)),
        Transport::Udp => Listening::Udp(UdpSocket::from(socket)),
    };
    let host = socket.local_address().map_err(failed)?;
    Ok(Reserved { published: Published { host, container_port: container.number, transport }, socket })
}

/// A socket for one family alone: those of IPv6 would otherwise take IPv4 too, which is another wish.
fn bind(address: SocketAddr, transport: Transport) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if transport == Transport::Tcp {
        // Old connections that linger do not keep the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if transport == Transport::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

impl Listening {
    fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::ports::{free_port, free_ports_in_a_row};
    use testkit::wait::until;

    use super::super::publish::parse;
    use super::*;

    fn reserve_texts(texts: &[&str]) -> Result<Vec<Reserved>, NetworkError> {
        let wishes: Vec<Publish> = texts.iter().flat_map(|text| parse(text).unwrap()).collect();
        reserve(&wishes, true)
    }

    #[test]
    fn a_port_is_taken_once() {
        let port = free_port();
        let first = reserve_texts(&[&format!("127.0.0.1:{port}:80")]).unwrap();
        let error = reserve_texts(&[&format!("127.0.0.1:{port}:80")]).unwrap_err();
        assert!(error.to_string().contains("already allocated"), "{error}");
        // The other transport has ports of its own.
        reserve_texts(&[&format!("127.0.0.1:{port}:80/udp")]).unwrap();
        drop(first);
        // A process that another test is just making has a copy for a moment.
        until("it is free", || reserve_texts(&[&format!("127.0.0.1:{port}:80")]).is_ok());
    }

    #[test]
    fn the_rest_of_a_range_is_tried() {
        let port = free_ports_in_a_row();
        let held = reserve_texts(&[&format!("127.0.0.1:{port}:80")]).unwrap();
        let range = format!("127.0.0.1:{port}-{}:80", port + 1);
        let second = reserve_texts(&[&range]).unwrap();
        assert_eq!(second[0].published.host.port(), port + 1);
        let error = reserve_texts(&[&range]).unwrap_err();
        assert!(matches!(error, NetworkError::RangeTaken { .. }), "{error}");
        drop(held);
    }

    #[test]
    fn every_address_has_the_same_port() {
        let all = reserve_texts(&["81", "82/udp"]).unwrap();
        let shown: Vec<_> =
            all.iter().map(|one| (one.published.container_port, one.published.host.is_ipv6())).collect();
        assert_eq!(shown, [(81, false), (81, true), (82, false), (82, true)]);
        assert_eq!(all[0].published.host.port(), all[1].published.host.port());
    }

    #[test]
    fn an_address_of_another_host_is_said() {
        let error = reserve_texts(&["203.0.113.7:8080:80"]).unwrap_err();
        assert!(error.to_string().ends_with("203.0.113.7 is not an address of this host"), "{error}");
    }
}
