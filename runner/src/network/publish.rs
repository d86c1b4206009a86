//! Which ports of a container the host offers: the forms of `-p` and what they mean. Values only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How data is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Single messages.
    Udp,
}

impl Transport {
    /// The protocol's number (IANA, as in `/etc/protocols`).
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a container, as `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Its number, never 0.
    pub number: u16,
    /// How data is carried.
    pub transport: Transport,
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.transport)
    }
}

/// One port of a container to be offered by the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The address of the host; `None` is every one, of IPv4 and of IPv6.
    pub host: Option<IpAddr>,
    /// Ports of the host, the first free one of which is taken; `None` is any.
    pub ports: Option<RangeInclusive<u16>>,
    /// The container's port.
    pub container: ContainerPort,
}

/// A port of the host that leads to one of a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The container's port.
    pub container_port: u16,
    /// How data is carried.
    pub transport: Transport,
}

/// Why the text of a `-p` or `--expose` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Something is not a port or a range of ports.
    #[error(
        "invalid port \"{port}\" in \"{text}\": a port is a number from 1 to 65535, a range is 8000-8010"
    )]
    Port {
        /// The wrong part.
        port: String,
        /// All of the text.
        text: String,
    },
    /// The container's port is missing.
    #[error("no port of the container in \"{text}\": write [ADDRESS:][PORT:]CONTAINER-PORT[/udp]")]
    NoContainerPort {
        /// The text.
        text: String,
    },
    /// The address is none.
    #[error("invalid address \"{address}\" in \"{text}\": write an address of this host, IPv6 as [::1]")]
    Address {
        /// The wrong part.
        address: String,
        /// All of the text.
        text: String,
    },
    /// The transport is unknown.
    #[error("protocol \"{protocol}\" in \"{text}\" cannot be published; use tcp or udp")]
    Protocol {
        /// The wrong part.
        protocol: String,
        /// All of the text.
        text: String,
    },
    /// Two ranges that do not match.
    #[error("\"{text}\" gives {host} ports of the host for {container} of the container: give as many")]
    Ranges {
        /// The text.
        text: String,
        /// How many of the host.
        host: usize,
        /// How many of the container.
        container: usize,
    },
    /// The long form has a part that it does not know.
    #[error("unknown field \"{field}\" in \"{text}\": there are target, published, protocol and mode")]
    Field {
        /// The wrong part.
        field: String,
        /// All of the text.
        text: String,
    },
}

/// What one `-p` asks for: `[[ADDRESS:][PORTS]:]CONTAINER-PORTS[/tcp|/udp]`, where ports may be a range, or
/// `target=80,published=8080,protocol=tcp`.
///
/// # Errors
/// The text is something else.
pub fn parse(text: &str) -> Result<Vec<Publish>, PublishError> {
    if text.contains('=') { parse_fields(text) } else { parse_parts(text, text) }
}

/// What one `--expose` or a line of EXPOSE names: `PORTS[/tcp|/udp]`.
///
/// # Errors
/// The text is something else.
pub fn parse_exposed(text: &str) -> Result<Vec<ContainerPort>, PublishError> {
    let (ports, transport) = transport(text, text)?;
    Ok(range(ports, text)?.map(|number| ContainerPort { number, transport }).collect())
}

fn parse_fields(text: &str) -> Result<Vec<Publish>, PublishError> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            // There is one host: both modes mean it.
            Some(("mode", "host" | "ingress")) => {}
            _ => return Err(PublishError::Field { field: field.to_owned(), text: text.to_owned() }),
        }
    }
    let short = match published {
        "" => format!("{target}/{protocol}"),
        _ => format!("{published}:{target}/{protocol}"),
    };
    parse_parts(&short, text)
}

fn parse_parts(short: &str, text: &str) -> Result<Vec<Publish>, PublishError> {
    let (short, transport) = transport(short, text)?;
    let (before, container) = short.rsplit_once(':').unwrap_or(("", short));
    // A colon inside brackets is the address's own.
    let split = before.rsplit_once(':').filter(|(_, host)| !host.ends_with(']'));
    let (address, host) = split.unwrap_or(("", before));
    if container.is_empty() {
        return Err(PublishError::NoContainerPort { text: text.to_owned() });
    }
    let container = range(container, text)?;
    let address = if address.is_empty() { None } else { Some(self::address(address, text)?) };
    let host = if host.is_empty() { None } else { Some(range(host, text)?) };
    let pairs = pairs(host, container, text)?;
    let publish =
        |(ports, number)| Publish { host: address, ports, container: ContainerPort { number, transport } };
    Ok(pairs.into_iter().map(publish).collect())
}

/// Ports of the host to choose from, if not any, and a port of the container.
type Pair = (Option<RangeInclusive<u16>>, u16);

/// Which ports of the host go with each of the container's. One port of the container may have a range to choose
/// from; otherwise there are as many on both sides.
fn pairs(
    host: Option<RangeInclusive<u16>>,
    container: RangeInclusive<u16>,
    text: &str,
) -> Result<Vec<Pair>, PublishError> {
    match host {
        None => Ok(container.map(|number| (None, number)).collect()),
        Some(host) if container.len() == 1 => Ok(vec![(Some(host), *container.start())]),
        Some(host) if host.len() == container.len() => {
            Ok(host.zip(container).map(|(host, number)| (Some(host..=host), number)).collect())
        }
        Some(host) => {
            Err(PublishError::Ranges { text: text.to_owned(), host: host.len(), container: container.len() })
        }
    }
}

/// What is before `/tcp` or `/udp`, and which of them.
fn transport<'t>(part: &'t str, text: &str) -> Result<(&'t str, Transport), PublishError> {
    let (ports, protocol) = part.split_once('/').unwrap_or((part, "tcp"));
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((ports, Transport::Tcp)),
        "udp" => Ok((ports, Transport::Udp)),
        _ => Err(PublishError::Protocol { protocol: protocol.to_owned(), text: text.to_owned() }),
    }
}

fn range(part: &str, text: &str) -> Result<RangeInclusive<u16>, PublishError> {
    let port = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|port| is_number && *port != 0)
    };
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(PublishError::Port { port: part.to_owned(), text: text.to_owned() }),
    }
}

fn address(part: &str, text: &str) -> Result<IpAddr, PublishError> {
    let invalid = || PublishError::Address { address: part.to_owned(), text: text.to_owned() };
    let address = match part.strip_prefix('[') {
        Some(rest) => {
            let inside = rest.strip_suffix(']').ok_or_else(invalid)?;
            IpAddr::V6(inside.parse::<Ipv6Addr>().map_err(|_| invalid())?)
        }
        None => part.parse().or_else(|_| localhost(part).ok_or_else(invalid))?,
    };
    Ok(address)
}

/// The one name that means the same everywhere.
fn localhost(part: &str) -> Option<IpAddr> {
    (part == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

impl FromStr for ContainerPort {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, PublishError> {
        match parse_exposed(text)?.as_slice() {
            [one] => Ok(*one),
            _ => Err(PublishError::Port { port: text.to_owned(), text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One line for each: address, ports of the host, port of the container.
    fn shown(text: &str) -> Vec<String> {
        let ports = |ports: &Option<RangeInclusive<u16>>| match ports {
            None => "any".to_owned(),
            Some(ports) if ports.len() == 1 => ports.start().to_string(),
            Some(ports) => format!("{}-{}", ports.start(), ports.end()),
        };
        let show = |one: &Publish| {
            let host = one.host.map_or("all".to_owned(), |host| host.to_string());
            format!("{host} {} {}", ports(&one.ports), one.container)
        };
        parse(text).unwrap().iter().map(show).collect()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(shown("80"), ["all any 80/tcp"]);
        assert_eq!(shown("8080:80"), ["all 8080 80/tcp"]);
        assert_eq!(shown("8080:80/UDP"), ["all 8080 80/udp"]);
        assert_eq!(shown("127.0.0.1:8080:80"), ["127.0.0.1 8080 80/tcp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1 any 80/tcp"]);
        assert_eq!(shown("[::1]:8080:80"), ["::1 8080 80/tcp"]);
        assert_eq!(shown("::1:8080:80"), ["::1 8080 80/tcp"]);
        assert_eq!(shown("[::]::53/udp"), [":: any 53/udp"]);
        assert_eq!(shown("localhost:1:2"), ["127.0.0.1 1 2/tcp"]);
        assert_eq!(shown("8000-8001:80-81"), ["all 8000 80/tcp", "all 8001 81/tcp"]);
        assert_eq!(shown("8000-8001:80"), ["all 8000-8001 80/tcp"]);
        assert_eq!(shown("80-81"), ["all any 80/tcp", "all any 81/tcp"]);
        assert_eq!(shown("target=80,published=8080,protocol=udp,mode=host"), ["all 8080 80/udp"]);
        assert_eq!(shown("target=80"), ["all any 80/tcp"]);
    }

    #[test]
    fn other_text_is_refused_with_its_wrong_part() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        for (text, part) in [
            ("", "no port of the container"),
            ("8080:", "no port of the container"),
            ("[::1]:80", "invalid port \"[::1]\""),
            ("0", "\"0\""),
            ("65536", "\"65536\""),
            ("+80", "\"+80\""),
            ("81-80", "\"81-80\""),
            ("x:80", "invalid port \"x\""),
            ("host.example:1:80", "\"host.example\""),
            ("[::1:1:80", "\"[::1\""),
            ("80/sctp", "\"sctp\""),
            ("1-3:80-81", "3 ports of the host for 2"),
            ("target=80,color=red", "\"color=red\""),
            ("published=80", "no port of the container"),
        ] {
            assert!(error(text).contains(part), "{text}: {}", error(text));
        }
    }

    #[test]
    fn exposed_ports_are_ports_of_the_container() {
        let ports = |text: &str| {
            parse_exposed(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ports("80"), "80/tcp");
        assert_eq!(ports("7000-7001/udp"), "7000/udp 7001/udp");
        assert!(parse_exposed("1:2").is_err());
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[0-9:.\\[\\]/a-z=,-]{0,30}") {
            if let Ok(all) = parse(&text) {
                prop_assert!(all.iter().all(|one| one.container.number != 0));
            }
            drop(parse_exposed(&text));
        }
    }
}
