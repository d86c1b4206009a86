//! Docker's `daemon.json`: `registry-mirrors`, which are for `docker.io` alone, and `insecure-registries`.
//!
//! Source: Docker documentation, "dockerd" and "Registry as a pull through cache".

use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use super::{EndpointRule, HostFileError, Said, Scheme, split_url, wrong};
use crate::endpoint::Capabilities;
use base::reference::DEFAULT_REGISTRY;

/// What a `daemon.json` says of registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DaemonJson {
    mirrors: Vec<EndpointRule>,
    insecure: Vec<Insecure>,
}

/// Registries that need no TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Insecure {
    Host(String),
    /// Addresses that begin with these bits.
    Network(IpAddr, u8),
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default, rename = "registry-mirrors")]
    mirrors: Vec<String>,
    #[serde(default, rename = "insecure-registries")]
    insecure: Vec<String>,
}

impl DaemonJson {
    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// When it is not JSON, or a mirror is not a URL.
    pub fn parse(path: &Path, text: &str) -> Result<Self, HostFileError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let wire: Wire = serde_json::from_str(text).map_err(|error| HostFileError {
            path: path.to_owned(),
            line: error.line().clamp(1, text.lines().count().max(1)),
            problem: error.to_string(),
        })?;
        let mut mirrors = Vec::with_capacity(wire.mirrors.len());
        for mirror in &wire.mirrors {
            let Some((Some(scheme), host, mirror_path)) = split_url(mirror) else {
                let start = text.find(mirror.as_str()).unwrap_or(0);
                let problem =
                    format!("registry mirror \"{mirror}\" is not a URL such as https://mirror.example");
                return Err(wrong(path, text, start, &problem));
            };
            let mirror_path = format!("{mirror_path}/v2");
            let rule = EndpointRule::new(host, scheme);
            mirrors.push(EndpointRule { path: mirror_path, capabilities: Capabilities::READ, ..rule });
        }
        let insecure = wire.insecure.iter().map(|text| Insecure::of(text)).collect();
        Ok(Self { mirrors, insecure })
    }

    /// What it says of a registry.
    pub fn rules(&self, registry: &str) -> Said {
        let insecure = self.insecure.iter().any(|insecure| insecure.fits(registry));
        let is_hub = registry == DEFAULT_REGISTRY && !self.mirrors.is_empty();
        if !insecure && !is_hub {
            return Said::Nothing;
        }
        let scheme = if insecure { Scheme::Either } else { Scheme::Usual };
        let mut rules = if is_hub { self.mirrors.clone() } else { Vec::new() };
        for mirror in &mut rules {
            if mirror.scheme == Scheme::Https && self.insecure.iter().any(|known| known.fits(&mirror.host)) {
                (mirror.scheme, mirror.skip_verify) = (Scheme::Either, true);
            }
        }
        rules.push(EndpointRule::new(registry, scheme));
        Said::Endpoints(rules)
    }
}

impl Insecure {
    fn of(text: &str) -> Self {
        let network = text.split_once('/').and_then(|(address, bits)| {
            let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self::Network(address, bits))
        });
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
        network.unwrap_or_else(|| Self::Host(host.trim_end_matches('/').to_owned()))
    }

    fn fits(&self, registry: &str) -> bool {
        match self {
            Self::Host(host) => host == registry,
            Self::Network(network, bits) => {
                let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host.parse().is_ok_and(|address| is_within(address, *network, *bits))
            }
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let bits_of = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
        IpAddr::V6(address) => (address.to_bits(), false),
    };
    let ((one, one_is_4), (other, other_is_4)) = (bits_of(address), bits_of(network));
    let differing = one ^ other;
    one_is_4 == other_is_4 && differing.leading_zeros() >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DaemonJson, HostFileError> {
        DaemonJson::parse(Path::new("/etc/docker/daemon.json"), text)
    }

    fn hosts(said: Said) -> Vec<(String, Scheme)> {
        match said {
            Said::Endpoints(rules) => rules.into_iter().map(|rule| (rule.host, rule.scheme)).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn mirrors_are_for_docker_hub() {
        let file =
            parse(r#"{"debug":true,"registry-mirrors":["https://m.example/","http://n.example:5000/x"]}"#);
        let file = file.unwrap();
        let known =
            [("m.example", Scheme::Https), ("n.example:5000", Scheme::Http), ("docker.io", Scheme::Usual)];
        assert_eq!(hosts(file.rules("docker.io")), known.map(|(host, scheme)| (host.to_owned(), scheme)));
        assert_eq!(file.rules("quay.io"), Said::Nothing);
    }

    #[test]
    fn insecure_registries_are_hosts_or_networks() {
        let file = parse(r#"{"insecure-registries":["a.example:5000","10.1.0.0/16","fd00::/8"]}"#).unwrap();
        let is_insecure = |registry: &str| !hosts(file.rules(registry)).is_empty();
        for registry in ["a.example:5000", "10.1.2.3:5000", "10.1.2.3", "[fd00::1]:80"] {
            assert!(is_insecure(registry), "{registry}");
        }
        for registry in ["a.example", "10.2.0.1", "[fe00::1]:80", "docker.io", "10.1.example.com"] {
            assert!(!is_insecure(registry), "{registry}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = parse("{\n \"registry-mirrors\": [\n  \"m.example\"]}").unwrap_err().to_string();
        assert!(
            error.starts_with("/etc/docker/daemon.json, line 3: registry mirror \"m.example\""),
            "{error}"
        );
        assert_eq!(parse("{\n  \"registry-mirrors\": 5\n}").unwrap_err().line, 2);
        assert_eq!(parse("").unwrap(), DaemonJson::default());
    }
}
