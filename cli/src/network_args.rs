//! The flags of `lap run` that say what network a container has. Names and forms are Docker's.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Args;
use engine::Engine;
use engine::network::{parse_exposed, parse_publish};
use engine::request::{ContainerNetwork, MacAddress, NetworkSettings};

use crate::error::CliError;
use crate::terminal::complain;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Network: bridge (an address of its own), host, none, or container:NAME for that of another one
    #[arg(long, alias = "net", default_value = "default", value_name = "MODE")]
    pub(crate) network: String,

    /// Offer a port of the container on the host: [ADDRESS:][PORT:]CONTAINER-PORT[/udp]
    ///
    /// Ports may be ranges, as in 8000-8010:80-90. Without a port of the host, a free one is taken; one of a range is
    /// taken for a single port of the container.
    #[arg(short, long, value_name = "PORTS")]
    pub(crate) publish: Vec<String>,

    /// Offer all ports that the image or --expose names, on free ports of the host
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,

    /// Name a port, or a range of ports, that the container listens on
    #[arg(long, value_name = "PORT")]
    pub(crate) expose: Vec<String>,

    /// The container's IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<Ipv4Addr>,

    /// The container's IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<Ipv6Addr>,

    /// The address of the container's network card
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<MacAddress>,
}

impl NetworkArgs {
    /// What the flags mean.
    pub(crate) fn settings(&self) -> Result<NetworkSettings, CliError> {
        let settings = NetworkSettings {
            mode: mode(&self.network)?,
            publish: each(&self.publish, parse_publish)?,
            publish_exposed: self.publish_all,
            expose: each(&self.expose, parse_exposed)?,
            address: self.ip,
            address6: self.ip6,
            mac: self.mac_address,
        };
        let has_ports = settings.publish_exposed || !settings.publish.is_empty();
        if has_ports && matches!(settings.mode, ContainerNetwork::Host | ContainerNetwork::None) {
            complain(&format!(
                "no port is published: with --network {} there is nothing to publish",
                self.network
            ));
        }
        Ok(settings)
    }
}

/// Decides what the default network is, and says so where it is less than usual.
pub(crate) fn settle(engine: &Engine, settings: &mut NetworkSettings) -> Result<(), CliError> {
    let missing = engine.settle_network(settings).map_err(|error| CliError::engine(&error))?;
    if let Some(why) = missing {
        complain(&format!("the container shares the host's network: {why}"));
    }
    Ok(())
}

fn mode(text: &str) -> Result<ContainerNetwork, CliError> {
    match text {
        "default" => Ok(ContainerNetwork::Default),
        "bridge" => Ok(ContainerNetwork::Bridge),
        "host" => Ok(ContainerNetwork::Host),
        "none" => Ok(ContainerNetwork::None),
        other => match other.strip_prefix("container:").filter(|name| !name.is_empty()) {
            Some(name) => Ok(ContainerNetwork::Container(name.to_owned())),
            None => {
                let message = format!("there is no network \"{other}\"");
                let hint = "use --network bridge, --network host, --network none or --network container:NAME";
                Err(CliError::usage(message, hint))
            }
        },
    }
}

/// What all texts mean together.
fn each<T, E: std::fmt::Display>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<Vec<T>, E>,
) -> Result<Vec<T>, CliError> {
    let hint = "for example -p 8080:80, -p 127.0.0.1:8080:80 or -p 53:53/udp";
    let mut all = Vec::new();
    for text in texts {
        all.extend(parse(text).map_err(|error| CliError::usage(error.to_string(), hint))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_settings() {
        let args = NetworkArgs {
            network: "bridge".to_owned(),
            publish: vec!["8080-8081:80-81".to_owned(), "53/udp".to_owned()],
            expose: vec!["90-91".to_owned()],
            ..NetworkArgs::default()
        };
        let settings = args.settings().unwrap();
        assert_eq!((settings.publish.len(), settings.expose.len()), (3, 2));
        assert_eq!(settings.mode, ContainerNetwork::Bridge);
        let bad = NetworkArgs { network: "elsewhere".to_owned(), ..NetworkArgs::default() };
        assert!(bad.settings().unwrap_err().message().contains("elsewhere"));
        let bad = NetworkArgs {
            publish: vec!["x".to_owned()],
            network: "host".to_owned(),
            ..NetworkArgs::default()
        };
        assert!(bad.settings().unwrap_err().message().contains("\"x\""));
    }
}
