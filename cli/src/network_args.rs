//! The flags of `lap run` that say what network a container has. Names and forms are Docker's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use engine::Engine;
use engine::network::{parse_exposed, parse_publish};
use engine::request::{ContainerNetwork, MacAddress, NetworkSettings, NetworkUse};

use crate::error::CliError;
use crate::output::csv;
use crate::pairs::pairs;
use crate::terminal::complain;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Network: bridge (an address of its own), host, none, a network's name, or container:NAME for that of another one
    ///
    /// Several networks are named by several of these. What the container has in one can follow its name:
    /// name=NETWORK,alias=NAME,ip=ADDRESS,ip6=ADDRESS,mac-address=ADDRESS,gw-priority=NUMBER,
    /// link-local-ip=ADDRESS,driver-opt=NAME=VALUE
    #[arg(long = "network", alias = "net", value_name = "MODE")]
    pub(crate) networks: Vec<String>,

    /// A further name by which others in the network find the container
    #[arg(long = "network-alias", alias = "net-alias", value_name = "NAME")]
    pub(crate) aliases: Vec<String>,

    /// Know another container by a further name: CONTAINER[:NAME]
    #[arg(long = "link", value_name = "CONTAINER[:NAME]")]
    pub(crate) links: Vec<String>,

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

    /// A further address of the card's link, in 169.254.0.0/16 or fe80::/10
    #[arg(long = "link-local-ip", value_name = "ADDRESS")]
    pub(crate) link_local: Vec<IpAddr>,

    /// The address of the container's network card
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<MacAddress>,
}

impl NetworkArgs {
    /// What the flags mean.
    pub(crate) fn settings(&self) -> Result<NetworkSettings, CliError> {
        let settings = NetworkSettings {
            mode: self.mode()?,
            publish: each(&self.publish, parse_publish)?,
            publish_exposed: self.publish_all,
            expose: each(&self.expose, parse_exposed)?,
            address: self.ip,
            address6: self.ip6,
            mac: self.mac_address,
            links: self.links.iter().map(|text| link(text)).collect(),
        };
        let has_ports = settings.publish_exposed || !settings.publish.is_empty();
        if has_ports && matches!(settings.mode, ContainerNetwork::Host | ContainerNetwork::None) {
            complain(&format!(
                "no port is published: with --network {} there is nothing to publish",
                self.networks.first().map_or("default", String::as_str)
            ));
        }
        Ok(settings)
    }

    /// What the flags about networks mean together.
    fn mode(&self) -> Result<ContainerNetwork, CliError> {
        let simple = match self.networks.as_slice() {
            [] => Some(ContainerNetwork::Default),
            [one] => simple_mode(one)?,
            _ => None,
        };
        if let Some(mode) = simple {
            let is_default = matches!(mode, ContainerNetwork::Default | ContainerNetwork::Bridge);
            if is_default && !self.link_local.is_empty() {
                return Ok(ContainerNetwork::Named(vec![self.with_flags(named("default"))]));
            }
            if is_default && !self.aliases.is_empty() {
                let message = "network-scoped aliases are only supported for user-defined networks";
                return Err(CliError::failed(message.to_owned()));
            }
            return Ok(mode);
        }
        let mut uses = self.networks.iter().map(|text| network_use(text)).collect::<Result<Vec<_>, _>>()?;
        // What is said without a network is about the first.
        if let Some(first) = uses.first_mut() {
            first.aliases.extend(self.aliases.iter().cloned());
            first.address = first.address.or(self.ip);
            first.address6 = first.address6.or(self.ip6);
            first.mac = first.mac.or(self.mac_address);
            first.link_local.extend(&self.link_local);
        }
        Ok(ContainerNetwork::Named(uses))
    }

    /// A network with what is said without one.
    fn with_flags(&self, network: String) -> NetworkUse {
        NetworkUse {
            network,
            aliases: self.aliases.clone(),
            address: self.ip,
            address6: self.ip6,
            mac: self.mac_address,
            link_local: self.link_local.clone(),
            ..NetworkUse::default()
        }
    }
}

/// `CONTAINER[:NAME]`
pub(crate) fn link(text: &str) -> (String, String) {
    let (container, alias) = text.split_once(':').unwrap_or((text, ""));
    (container.to_owned(), alias.to_owned())
}

/// `NAME`, or `name=NAME,…`
fn network_use(text: &str) -> Result<NetworkUse, CliError> {
    let hint = "for example --network web or --network name=web,alias=db,ip=10.1.2.3";
    if !text.contains('=') {
        let is_special = matches!(text, "host" | "none") || text.starts_with("container:");
        return match is_special {
            true => {
                let message =
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
                Err(CliError::failed(message.to_owned()))
            }
            false => Ok(NetworkUse { network: named(text), ..NetworkUse::default() }),
        };
    }
    let bad = |part: &str| CliError::usage(format!("invalid field {part} in --network {text}"), hint);
    let mut wanted = NetworkUse::default();
    for part in csv(text).iter().map(String::as_str) {
        let (name, value) = part.split_once('=').ok_or_else(|| bad(part))?;
        match name {
            "name" => wanted.network = named(value),
            "alias" => wanted.aliases.push(value.to_owned()),
            "ip" => wanted.address = Some(value.parse().map_err(|_| bad(part))?),
            "ip6" => wanted.address6 = Some(value.parse().map_err(|_| bad(part))?),
            "mac-address" => wanted.mac = Some(value.parse().map_err(|_| bad(part))?),
            "link-local-ip" => wanted.link_local.push(value.parse().map_err(|_| bad(part))?),
            "driver-opt" => wanted.options.extend(pairs(&[value.to_owned()])),
            "gw-priority" => wanted.gateway_priority = value.parse().map_err(|_| bad(part))?,
            _ => return Err(bad(part)),
        }
    }
    match wanted.network.is_empty() {
        true => Err(CliError::usage(format!("--network {text} names no network"), hint)),
        false => Ok(wanted),
    }
}

/// A network's name; the default one has two.
fn named(text: &str) -> String {
    if text == "default" { "bridge".to_owned() } else { text.to_owned() }
}

/// Decides what the default network is, and says so where it is less than usual.
pub(crate) fn settle(engine: &Engine, settings: &mut NetworkSettings) -> Result<(), CliError> {
    let missing = engine.settle_network(settings).map_err(|error| CliError::engine(&error))?;
    if let Some(why) = missing {
        complain(&format!("the container shares the host's network: {why}"));
    }
    Ok(())
}

/// A mode that stands alone; `None` is a network that somebody made.
fn simple_mode(text: &str) -> Result<Option<ContainerNetwork>, CliError> {
    Ok(Some(match text {
        "default" => ContainerNetwork::Default,
        "bridge" => ContainerNetwork::Bridge,
        "host" => ContainerNetwork::Host,
        "none" => ContainerNetwork::None,
        other => match other.strip_prefix("container:") {
            Some("") => {
                let message = "--network container: names no container".to_owned();
                return Err(CliError::usage(message, "write --network container:NAME"));
            }
            Some(name) => ContainerNetwork::Container(name.to_owned()),
            None => return Ok(None),
        },
    }))
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
            networks: vec!["bridge".to_owned()],
            publish: vec!["8080-8081:80-81".to_owned(), "53/udp".to_owned()],
            expose: vec!["90-91".to_owned()],
            ..NetworkArgs::default()
        };
        let settings = args.settings().unwrap();
        assert_eq!((settings.publish.len(), settings.expose.len()), (3, 2));
        assert_eq!(settings.mode, ContainerNetwork::Bridge);
        let bad = NetworkArgs { networks: vec!["container:".to_owned()], ..NetworkArgs::default() };
        assert!(bad.settings().unwrap_err().message().contains("no container"));
        let bad = NetworkArgs {
            publish: vec!["x".to_owned()],
            networks: vec!["host".to_owned()],
            ..NetworkArgs::default()
        };
        assert!(bad.settings().unwrap_err().message().contains("\"x\""));
    }

    fn mode(networks: &[&str], aliases: &[&str]) -> Result<ContainerNetwork, String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let args = NetworkArgs {
            networks: owned(networks),
            aliases: owned(aliases),
            ip: Some(Ipv4Addr::new(10, 9, 8, 7)),
            ..NetworkArgs::default()
        };
        args.settings().map(|settings| settings.mode).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn networks_have_names_and_what_belongs_to_them() {
        let advanced = "name=web,alias=a,alias=b,ip=10.1.2.3,mac-address=02:4c:00:00:00:01,gw-priority=-3";
        let Ok(ContainerNetwork::Named(uses)) = mode(&["db", advanced], &["x"]) else {
            panic!("no networks")
        };
        let [first, second] = uses.as_slice() else { panic!("two") };
        assert_eq!((first.network.as_str(), first.address), ("db", Some(Ipv4Addr::new(10, 9, 8, 7))));
        assert_eq!(
            (&first.aliases[..], &second.aliases[..]),
            (&["x".to_owned()][..], &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!((second.network.as_str(), second.gateway_priority), ("web", -3));
        assert_eq!(second.address, Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(mode(&[], &[]), Ok(ContainerNetwork::Default));
        assert!(mode(&["bridge"], &["x"]).unwrap_err().contains("only supported for user-defined networks"));
        assert!(mode(&["db", "host"], &[]).unwrap_err().contains("conflicting options"));
        let options = "name=web,link-local-ip=169.254.7.7,\"driver-opt=a.b=c=1,d=2\"";
        let Ok(ContainerNetwork::Named(uses)) = mode(&[options], &[]) else { panic!("no network") };
        assert_eq!(uses[0].options, [("a.b".to_owned(), "c=1,d=2".to_owned())].into());
        assert_eq!(uses[0].link_local, ["169.254.7.7".parse::<IpAddr>().unwrap()]);
        for bad in ["name=web,ip=x", "name=web,link-local-ip=x", "alias=a", "name=web,colour=red"] {
            assert!(mode(&[bad], &[]).is_err(), "{bad}");
        }
    }
}
