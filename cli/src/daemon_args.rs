//! `lap daemon` as typed.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DaemonArgs {
    /// Listen here, as unix:///PATH or tcp://HOST:PORT; may be repeated [default: buildkit.sock in the runtime directory]
    #[arg(long = "addr", value_name = "ADDRESS")]
    pub(crate) addresses: Vec<String>,

    /// The group, by name or number, that may use the sockets besides their owner
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,

    /// Let clients ask for this: network.host, security.insecure or device; may be repeated
    #[arg(long = "allow-insecure-entitlement", value_name = "NAME")]
    pub(crate) allow: Vec<String>,

    /// Listen on tcp although anybody who reaches the port can build
    #[arg(long)]
    pub(crate) insecure_tcp: bool,
}
