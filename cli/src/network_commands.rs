//! `lap network` as typed. Names, short forms and meanings are Docker's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};

use crate::prune_args::PruneArgs;

#[derive(Debug, Args)]
pub(crate) struct NetworkCommandArgs {
    #[command(subcommand)]
    pub(crate) command: NetworkCommand,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum NetworkCommand {
    /// Make a network
    Create(Box<NetworkCreateArgs>),
    /// List networks
    #[command(alias = "list")]
    Ls(NetworkLsArgs),
    /// Show networks in full
    Inspect(NetworkInspectArgs),
    /// Remove networks that no running container is in
    #[command(alias = "remove")]
    Rm(NetworkRmArgs),
    /// Connect a container to a network
    Connect(NetworkConnectArgs),
    /// Take a container out of a network
    Disconnect(NetworkDisconnectArgs),
    /// Remove all networks that no container is in
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCreateArgs {
    /// Its name
    pub(crate) name: String,

    /// What makes it: bridge, or macvlan or ipvlan, which put cards on an interface of the machine (-o parent=eth0)
    #[arg(short, long, default_value = engine::networks::DRIVER, value_name = "DRIVER")]
    pub(crate) driver: String,

    /// Its addresses, as 10.1.2.0/24; free ones without
    #[arg(long = "subnet", value_name = "SUBNET")]
    pub(crate) subnets: Vec<String>,

    /// The machine's address in the network
    #[arg(long = "gateway", value_name = "ADDRESS")]
    pub(crate) gateways: Vec<IpAddr>,

    /// The part of the subnet that containers get addresses of
    #[arg(long = "ip-range", value_name = "SUBNET")]
    pub(crate) ranges: Vec<String>,

    /// An address that no container gets, with the name of who has it: NAME=ADDRESS
    #[arg(long = "aux-address", value_name = "NAME=ADDRESS")]
    pub(crate) auxiliary: Vec<String>,

    /// Give containers IPv6 addresses
    #[arg(long)]
    pub(crate) ipv6: bool,

    /// Give containers IPv4 addresses, which they have in any case
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_short_help = true)]
    pub(crate) ipv4: Option<bool>,

    #[arg(long, hide = true)]
    pub(crate) scope: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) ipam_driver: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) ipam_opt: Vec<String>,
    #[arg(long, hide = true)]
    pub(crate) ingress: bool,
    #[arg(long, hide = true)]
    pub(crate) config_only: bool,
    #[arg(long, hide = true)]
    pub(crate) config_from: Option<String>,

    /// Leave no way out of the network
    #[arg(long)]
    pub(crate) internal: bool,

    /// Note that containers may be added by hand, which they may in any case
    #[arg(long)]
    pub(crate) attachable: bool,

    /// A label, as NAME or NAME=VALUE
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,

    /// An option of the driver, for example com.docker.network.driver.mtu=1400
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkLsArgs {
    /// Only networks that fit: dangling, driver, id, label, name, scope or type
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub(crate) filters: Vec<String>,

    /// Print with a template such as '{{.Name}}', or as json
    #[arg(long)]
    pub(crate) format: Option<String>,

    /// Print ids in full
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkInspectArgs {
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,

    /// Print with a template such as '{{.Driver}}', or as json
    #[arg(short, long)]
    pub(crate) format: Option<String>,

    /// Accepted for Docker's sake; everything is shown in any case
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkRmArgs {
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    pub(crate) networks: Vec<String>,

    /// Do not fail where there is no such network
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkConnectArgs {
    /// The network
    pub(crate) network: String,

    /// The container
    pub(crate) container: String,

    /// A further name by which the network's other containers find it
    #[arg(long = "alias", value_name = "NAME")]
    pub(crate) aliases: Vec<String>,

    /// Its IPv4 address in the network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<Ipv4Addr>,

    /// Its IPv6 address in the network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<Ipv6Addr>,

    /// Packets to elsewhere leave by the network whose number is the highest
    #[arg(long, default_value_t = 0, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) gw_priority: i64,

    /// An option of the driver for this container: com.docker.network.endpoint.ifname, macaddress or sysctls
    #[arg(long = "driver-opt", value_name = "NAME=VALUE")]
    pub(crate) options: Vec<String>,

    /// Know another container in the network by a further name: CONTAINER[:NAME]
    #[arg(long = "link", value_name = "CONTAINER[:NAME]")]
    pub(crate) links: Vec<String>,

    /// A further address of the card's link, in 169.254.0.0/16 or fe80::/10
    #[arg(long = "link-local-ip", value_name = "ADDRESS")]
    pub(crate) link_local: Vec<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkDisconnectArgs {
    /// The network
    pub(crate) network: String,

    /// The container
    pub(crate) container: String,

    /// Accepted for Docker's sake: nothing keeps a container in a network
    #[arg(short, long)]
    pub(crate) force: bool,
}
