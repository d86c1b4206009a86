//! Why a container does not get the network that was asked for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base::{Fault, Faulty};
use sys::path_error::PathError;

use super::address::Subnet4;
use super::publish::{PublishError, Transport};

/// What failed, on what, and what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text of a port makes no sense.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A network namespace could not be made or configured.
    #[error("cannot {operation} a network namespace; use --network host if this place does not allow them")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The kernel did not do something with an interface.
    #[error("cannot {operation} {interface}")]
    Interface {
        /// What was tried.
        operation: &'static str,
        /// On which interface.
        interface: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Every subnet that we would choose is in use on this machine.
    #[error("no free subnet for network \"{network}\": routes lead to all that lap chooses from")]
    NoSubnet {
        /// The network.
        network: String,
    },
    /// A subnet that was asked for overlaps with another network of this machine. The words are Docker's.
    #[error("invalid pool request: Pool overlaps with other one on this address space: {subnet}")]
    SubnetTaken {
        /// The subnet.
        subnet: Subnet4,
    },
    /// The bridge that a network is to have is somebody else's interface.
    #[error("cannot make the bridge {bridge} of network \"{network}\": there is an interface of that name")]
    BridgeExists {
        /// The bridge.
        bridge: String,
        /// The network.
        network: String,
    },
    /// A container cannot have two addresses in one network. The words are Docker's.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// The container's name or short id.
        container: String,
        /// The network.
        network: String,
    },
    /// A container does not know another one by the name that it is to forget.
    #[error("no such link: {knower} knows no container as {alias}")]
    NoLink {
        /// The container's name or short id.
        knower: String,
        /// The name.
        alias: String,
    },
    /// A container is not in the network that it is to leave. The words are Docker's.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's short id.
        container: String,
        /// The network.
        network: String,
    },
    /// A container that another is to know by a further name does not run. The words are Docker's.
    #[error("cannot link to a non running container: /{container} AS /{alias}")]
    LinkToStopped {
        /// The container.
        container: String,
        /// The further name.
        alias: String,
    },
    /// The server of names could not be started.
    #[error("cannot serve names at 127.0.0.11 to the container")]
    Names(#[source] io::Error),
    /// All addresses of a subnet are taken.
    #[error("no free address in {subnet} of network \"{network}\"")]
    NoAddress {
        /// The network.
        network: String,
        /// Its subnet.
        subnet: Subnet4,
    },
    /// The address that was asked for is not one that a container of this network can have.
    #[error(
        "address {address} cannot be had in network \"{network}\": it has {subnet}, the first address of which is the gateway's"
    )]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// The network.
        network: String,
        /// Its subnet of the same family, or "no subnet of that family".
        subnet: String,
    },
    /// The address that was asked for belongs to another container.
    #[error("address {address} is taken by container {container}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The short id of who has it.
        container: String,
    },
    /// A port of the host is in use.
    #[error("bind for {address}/{transport} failed: port is already allocated{}", holder(container))]
    PortTaken {
        /// The address and port.
        address: SocketAddr,
        /// How data is carried.
        transport: Transport,
        /// The short id of the container that has it, if it is one.
        container: Option<String>,
    },
    /// Every port of a range is in use.
    #[error("bind for ports {first}-{last}/{transport} failed: all ports are allocated")]
    RangeTaken {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// How data is carried.
        transport: Transport,
    },
    /// A port may not be bound.
    #[error("port {address}/{transport} cannot be published: {}", bind_hint(*address, source))]
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// How data is carried.
        transport: Transport,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The firewall could not be changed.
    #[error("cannot change the firewall rules of network \"{network}\" with {tool}")]
    Firewall {
        /// The network.
        network: String,
        /// How it was tried.
        tool: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Neither way to program the firewall exists.
    #[error(
        "cannot set up network \"{network}\": this kernel has no nf_tables, and the program {program} is not installed (Debian package iptables)"
    )]
    NoFirewall {
        /// The network.
        network: String,
        /// The missing program.
        program: &'static str,
    },
    /// A program that we need failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither program that connects an ordinary user's containers is there.
    #[error(
        "an ordinary user's containers need the program pasta (Debian package passt) or slirp4netns; install one, or use --network host or --network none"
    )]
    NoUserModeProgram,
    /// The device that both of them need cannot be used.
    #[error(
        "an ordinary user's containers need /dev/net/tun, which {why}; use --network host or --network none, or have it changed (modprobe tun, chmod 0666 /dev/net/tun)"
    )]
    NoTunnelDevice {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The namespace that holds an ordinary user's networks cannot be made.
    #[error("cannot make the namespace of this user's networks: {why}")]
    Hub {
        /// Why.
        why: String,
    },
    /// Nothing leads out of an ordinary user's networks.
    #[error("no network of this user leads out, and this one is not internal (--internal): {why}")]
    NoWayOut {
        /// Why.
        why: String,
    },
    /// An ordinary user's networks were made with other ids.
    #[error(
        "this user's networks belong to containers that were started with other ids (see /etc/subuid); stop those containers first"
    )]
    OtherUsers,
    /// The interface that containers are to have cards on is not there.
    #[error("invalid parent interface {parent} of network \"{network}\": there is no such interface")]
    NoParent {
        /// The interface.
        parent: String,
        /// The network.
        network: String,
    },
    /// The kernel has no interfaces of this kind.
    #[error("this kernel has no {driver}: load the module of that name, or choose another driver")]
    NoDriver {
        /// The driver of networks.
        driver: &'static str,
    },
    /// An ordinary user may not put cards on interfaces of the machine.
    #[error("the driver {driver} puts cards on the machine's own interfaces, which only root may")]
    NeedsInterface {
        /// The driver.
        driver: &'static str,
    },
    /// There is no such setting of a card.
    #[error("there is no setting {name}")]
    NoSetting {
        /// Its name, with dots.
        name: String,
    },
    /// A flag that an ordinary user's network cannot follow.
    #[error(
        "{flag} needs the machine's own bridge, which only root can make; a network of one's own (lap network create) may do"
    )]
    NeedsBridge {
        /// The flag.
        flag: &'static str,
    },
    /// A record is not what we wrote.
    #[error("{} is not a record of a network; remove it if nothing runs", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] PathError),
    /// The threads that carry data to published ports could not be started.
    #[error("cannot carry data to published ports")]
    Forward(#[source] io::Error),
}

fn holder(container: &Option<String>) -> String {
    container.as_ref().map_or_else(String::new, |id| format!(" by container {id}"))
}

fn bind_hint(address: SocketAddr, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need root; use a higher one, or sysctl net.ipv4.ip_unprivileged_port_start={}",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => format!("{} is not an address of this host", address.ip()),
        _ => "it cannot be bound".to_owned(),
    }
}

impl Faulty for NetworkError {
    fn fault(&self) -> Fault {
        match self {
            Self::Publish(_)
            | Self::AddressOutside { .. }
            | Self::AddressTaken { .. }
            | Self::PortTaken { .. }
            | Self::RangeTaken { .. }
            | Self::SubnetTaken { .. }
            | Self::BridgeExists { .. }
            | Self::AlreadyConnected { .. }
            | Self::LinkToStopped { .. }
            | Self::NoLink { .. }
            | Self::NotConnected { .. }
            | Self::NoParent { .. }
            | Self::NoSetting { .. }
            | Self::NeedsInterface { .. }
            | Self::NeedsBridge { .. } => Fault::Input,
            Self::File(error) => error.fault(),
            _ => Fault::Environment,
        }
    }
}
