//! Network namespaces of containers, made before the container's process and kept by a descriptor.
//!
//! A namespace is a property of a thread, so a thread is made that moves into a new one, configures what can
//! only be configured from inside, opens a netlink socket and ends. Descriptor and socket stay. When the
//! descriptor is closed and no process is in it any more, the kernel takes the namespace down with all its
//! interfaces, however we end.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use sys::path_error::PathContext as _;

use super::error::NetworkError;
use super::link::Links;
use super::setting;

/// The number of a namespace's first interface, the loopback.
const LOOPBACK: u32 = 1;

/// Ports below this need a right; as in Docker's containers, none does.
const PRIVILEGED_PORTS: (&str, &str) = ("ipv4/ip_unprivileged_port_start", "0");

/// The groups whose users may `ping` without a right; as in Docker's containers, all of them. A user namespace may
/// know only some, or one, and takes no other.
const PING_GROUPS: (&str, [&str; 3]) = ("ipv4/ping_group_range", ["0 2147483647", "0 65535", "0 0"]);

/// With IPv6: addresses are used at once, and nobody else's routers are listened to.
const WITH_IPV6: [(&str, &str); 2] =
    [("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/default/accept_ra", "0")];

/// Without IPv6 no interface gets an address of it.
const WITHOUT_IPV6: [(&str, &str); 1] = [("ipv6/conf/default/disable_ipv6", "1")];

/// A network namespace, alive at least as long as this is.
#[derive(Debug)]
pub(super) struct Namespace {
    fd: OwnedFd,
    /// Its interfaces.
    pub(super) links: Links,
}

/// A namespace that is being made meanwhile.
#[derive(Debug)]
pub(super) struct Pending(JoinHandle<Result<Namespace, NetworkError>>);

/// Begins to make a namespace whose loopback interface is up.
pub(super) fn begin(ipv6: bool) -> Result<Pending, NetworkError> {
    let thread = std::thread::Builder::new().name("lap-network".to_owned());
    let make = thread.spawn(move || make(ipv6)).map_err(failed("start a thread for"))?;
    Ok(Pending(make))
}

impl Pending {
    /// Waits until it is there.
    pub(super) fn finish(self) -> Result<Namespace, NetworkError> {
        self.0.join().unwrap_or_else(|_| Err(failed("make")(io::Error::other("its thread panicked"))))
    }
}

/// Runs on a thread of its own, which is in the new namespace afterwards.
fn make(ipv6: bool) -> Result<Namespace, NetworkError> {
    sys::ns::unshare_network().map_err(failed("make"))?;
    let of_ipv6: &[_] = if ipv6 { &WITH_IPV6 } else { &WITHOUT_IPV6 };
    for (name, value) in of_ipv6.iter().chain([&PRIVILEGED_PORTS]) {
        setting::write(name, value)?;
    }
    let (name, ranges) = PING_GROUPS;
    // Without any of them, `ping` needs a right; that is no reason not to have a network.
    let _ = ranges.iter().find(|range| setting::write(name, range).is_ok());
    let path = Path::new("/proc/thread-self/ns/net");
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
    let mut links = Links::open().map_err(failed("configure"))?;
    links.bring_up(LOOPBACK).map_err(failed("bring the loopback interface up in"))?;
    Ok(Namespace { fd, links })
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> NetworkError {
    move |source| NetworkError::Namespace { operation, source }
}

impl Namespace {
    /// A path that names it for this process and its children, as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// One that exists already, which may have been configured by another process.
    pub(super) fn of(fd: OwnedFd) -> Result<Self, NetworkError> {
        let links = super::hub::inside(&fd, || Links::open().map_err(failed("configure")))?;
        Ok(Self { fd, links })
    }

    /// Its descriptor.
    pub(super) fn as_owned(&self) -> &OwnedFd {
        &self.fd
    }

    /// A further descriptor of it.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
