//! Where a server of logs is, as drivers' options say it. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a server of logs is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// Datagrams to a host and a port.
    Udp(String, u16),
    /// A connection to a host and a port.
    Tcp(String, u16),
    /// The same, encrypted.
    Tls(String, u16),
    /// A connection to a socket of this machine.
    Unix(PathBuf),
    /// Datagrams to one.
    Unixgram(PathBuf),
}

impl Address {
    /// Reads `SCHEME://HOST[:PORT]` or `SCHEME:///PATH`, with a scheme of those that are known to whoever asks.
    ///
    /// # Errors
    /// What is wrong, to be put behind the option.
    pub fn parse(text: &str, schemes: &[&str], port: Option<u16>) -> Result<Self, String> {
        let known = || format!("write one of {}://…", schemes.join("://…, "));
        let (scheme, rest) = text.split_once("://").ok_or_else(known)?;
        if !schemes.contains(&scheme) {
            return Err(format!("unsupported scheme: '{scheme}'; {}", known()));
        }
        if scheme.starts_with("unix") {
            if !rest.starts_with('/') {
                return Err("the path of the socket must be absolute".to_owned());
            }
            let path = PathBuf::from(rest);
            return Ok(if scheme == "unix" { Self::Unix(path) } else { Self::Unixgram(path) });
        }
        let (host, port) = host_and_port(rest.trim_end_matches('/'), port)?;
        Ok(match scheme {
            "udp" => Self::Udp(host, port),
            "tcp" => Self::Tcp(host, port),
            _ => Self::Tls(host, port),
        })
    }
}

/// `HOST:PORT`, `[IPv6]:PORT`, or either without the port where there is a usual one.
fn host_and_port(text: &str, usual: Option<u16>) -> Result<(String, u16), String> {
    if text.contains(['/', '?', '@', '#']) {
        return Err("only a host and a port can follow".to_owned());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a bracket is not closed")?;
            (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err("an IPv6 address needs brackets".to_owned()),
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let port = match (port.ok_or("what follows the bracket is no port")?, usual) {
        ("", Some(usual)) => usual,
        ("", None) => return Err("the port is missing".to_owned()),
        (port, _) => port.parse().map_err(|_| format!("\"{port}\" is no port"))?,
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Udp(host, port) => ("udp", host, port),
            Self::Tcp(host, port) => ("tcp", host, port),
            Self::Tls(host, port) => ("tcp+tls", host, port),
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
            Self::Unixgram(path) => return write!(f, "unixgram://{}", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_or_paths() {
        let schemes = ["udp", "tcp", "tcp+tls", "unix", "unixgram"];
        let parse = |text: &str| Address::parse(text, &schemes, Some(514));
        for (text, shown) in [
            ("udp://1.2.3.4", "udp://1.2.3.4:514"),
            ("tcp://host:99", "tcp://host:99"),
            ("tcp+tls://h.example:6514/", "tcp+tls://h.example:6514"),
            ("udp://[::1]:5", "udp://[::1]:5"),
            ("udp://[::1]", "udp://[::1]:514"),
            ("unix:///dev/log", "unix:///dev/log"),
            ("unixgram:///dev/log", "unixgram:///dev/log"),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(shown));
        }
        for bad in [
            "",
            "host:1",
            "http://x",
            "udp://",
            "udp://::1",
            "tcp://h:x",
            "tcp://h:1/p",
            "unix://x",
            "tcp://[::1]x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(Address::parse("udp://h", &schemes, None).is_err());
    }
}
