//! Messages of UDP sockets with the address of ours that they were sent to.
//!
//! A socket that is bound to all addresses would answer from whichever the route suggests, and a client that wrote to
//! another one of ours would drop the answer. Sources: `ip(7)` and `ipv6(7)`, `IP_PKTINFO` and `IPV6_PKTINFO`.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt, sockopt,
};

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Length of the message; a longer one than the buffer is cut.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of ours that it was sent to, where the kernel says.
    pub to: Option<IpAddr>,
}

/// Makes [`receive`] tell what a message was sent to.
pub fn report_destination(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(())
}

/// Receives a message.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut pieces = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut pieces,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let from = message.address.and_then(|address| socket_address(&address));
    let to = message.cmsgs()?.find_map(|note| match note {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    });
    let from = from.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Received { length: message.bytes, from, to })
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(address), _) => Some(SocketAddr::V4((*address).into())),
        (_, Some(address)) => Some(SocketAddr::V6((*address).into())),
        _ => None,
    }
}

/// Sends a message, if possible from a certain address of ours.
pub fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
    let pieces = [IoSlice::new(bytes)];
    let flags = MsgFlags::empty();
    match (to, from) {
        (SocketAddr::V4(to), Some(IpAddr::V4(from))) => {
            let source = libc::in_addr { s_addr: u32::from(from).to_be() };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: source,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(socket.as_raw_fd(), &pieces, &control, flags, Some(&SockaddrIn::from(to)))?;
        }
        (SocketAddr::V6(to), Some(IpAddr::V6(from))) => {
            let source = libc::in6_addr { s6_addr: from.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(socket.as_raw_fd(), &pieces, &control, flags, Some(&SockaddrIn6::from(to)))?;
        }
        _ => drop(socket.send_to(bytes, to)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        for (any, asked) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let server = UdpSocket::bind(any).unwrap();
            report_destination(&server).unwrap();
            let asked = SocketAddr::new(asked.parse().unwrap(), server.local_addr().unwrap().port());
            let client = UdpSocket::bind(any).unwrap();
            // Connected, it takes answers from this address alone.
            client.connect(asked).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let received = receive(&server, &mut buffer).unwrap();
            assert_eq!((received.length, received.to), (8, Some(asked.ip())));
            send(&server, b"answer", received.from, received.to).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
    }
}
