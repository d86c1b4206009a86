//! The network of an ordinary user's container: a program of ours that carries packets between the container's
//! namespace and ordinary sockets of the host.
//!
//! `pasta` (Debian package passt) is the faster one and knows IPv6; `slirp4netns` is older and more widespread. Both get
//! the namespace as their standard input: a path of `/proc` of another process they may not open, once they gave
//! their rights away, and other descriptors newer versions close.
//!
//! Ports are published by [`super::forward`] from inside the namespace, so that everything `-p` can do is the same
//! with both, and the same as with a bridge.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::path::Path;

use super::bridge::failed;
use super::error::NetworkError;
use super::namespace::Namespace;
use super::program::{self, Server};

/// The name of the container's card.
pub(super) const CARD: &str = "eth0";
/// The namespace, as the programs see it.
const NAMESPACE: &str = "/proc/self/fd/0";
/// Where `pasta` answers questions for names with the host's resolver; a link-local address that nobody has.
const PASTA_RESOLVER: &str = "169.254.1.1";
/// The same of `slirp4netns`.
const SLIRP_RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The device by which both see the packets of the namespace.
const TUNNEL: &str = "/dev/net/tun";

/// A running connection.
#[derive(Debug)]
pub(super) struct UserMode {
    _server: Server,
    /// The container's address.
    pub(super) address: IpAddr,
    /// Where the container reaches the host's resolver, even if that is on the host's loopback interface.
    pub(super) resolver: IpAddr,
}

/// Connects a namespace, in which the interface `card` leads out then, with the best program that is installed and works.
pub(super) fn connect(
    namespace: &mut Namespace,
    card: &str,
    mtu: Option<u32>,
) -> Result<UserMode, NetworkError> {
    let (has_pasta, has_slirp) = check()?;
    let (server, resolver) = match (has_pasta, has_slirp) {
        (false, _) => slirp4netns(namespace, card, mtu)?,
        (true, false) => pasta(namespace, card, mtu)?,
        // Without a default route, for example, only the other one works.
        (true, true) => match pasta(namespace, card, mtu) {
            Ok(started) => started,
            Err(error) => slirp4netns(namespace, card, mtu).map_err(|_| error)?,
        },
    };
    let link = namespace.links.find(card).map_err(failed("find", card))?;
    let link = link.ok_or_else(|| failed("find", card)(io::ErrorKind::NotFound.into()))?;
    let addresses =
        namespace.links.addresses4(link.index).map_err(failed("ask for the addresses of", card))?;
    let address = addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST);
    Ok(UserMode { _server: server, address: address.into(), resolver })
}

fn pasta(namespace: &Namespace, card: &str, mtu: Option<u32>) -> Result<(Server, IpAddr), NetworkError> {
    let mtu = mtu.map(|mtu| mtu.to_string());
    let mut arguments = vec![
        "--config-net",
        "--foreground",
        "--quiet",
        "--netns-only",
        "--no-netns-quit",
        // Ports are our own business, and the gateway's address is the gateway, not a way to our loopback.
        "--tcp-ports=none",
        "--udp-ports=none",
        "--tcp-ns=none",
        "--udp-ns=none",
        "--no-map-gw",
        "--dns-forward",
        PASTA_RESOLVER,
        "--ns-ifname",
        card,
        "--netns",
        NAMESPACE,
        // It writes its number when all is ready.
        "--pid",
        "/proc/self/fd/1",
    ];
    arguments.extend(mtu.iter().flat_map(|mtu| ["--mtu", mtu]));
    let server = Server::start("pasta", &arguments, namespace.as_fd(), |output| output.ends_with(b"\n"))?;
    Ok((server, PASTA_RESOLVER.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))))
}

fn slirp4netns(
    namespace: &Namespace,
    card: &str,
    mtu: Option<u32>,
) -> Result<(Server, IpAddr), NetworkError> {
    // The largest that it takes: packets that never see a wire may be long.
    let mtu = format!("--mtu={}", mtu.unwrap_or(65520));
    let arguments = [
        "--configure",
        &mtu,
        "--disable-host-loopback",
        "--netns-type=path",
        "--ready-fd=1",
        NAMESPACE,
        card,
    ];
    // It writes "1" without a line's end when all is ready; what it says to people are lines.
    let is_ready = |output: &[u8]| output.rsplit(|byte| *byte == b'\n').next() == Some(b"1");
    let server = Server::start("slirp4netns", &arguments, namespace.as_fd(), is_ready)?;
    Ok((server, SLIRP_RESOLVER.into()))
}

/// Whether `pasta` and `slirp4netns` are installed. It is an error if neither is, or if they could not work.
pub(super) fn check() -> Result<(bool, bool), NetworkError> {
    match (program::is_installed("pasta")?, program::is_installed("slirp4netns")?) {
        (false, false) => Err(NetworkError::NoUserModeProgram),
        found => check_tunnel().map(|()| found),
    }
}

/// Both programs fail without the device, and say it in words that do not help.
fn check_tunnel() -> Result<(), NetworkError> {
    match std::fs::OpenOptions::new().read(true).write(true).open(Path::new(TUNNEL)) {
        Ok(_) => Ok(()),
        Err(error) => Err(NetworkError::NoTunnelDevice {
            why: match error.kind() {
                io::ErrorKind::NotFound => "does not exist",
                io::ErrorKind::PermissionDenied => "may not be opened by this user",
                _ => "cannot be opened",
            },
        }),
    }
}
