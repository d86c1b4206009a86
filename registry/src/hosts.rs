//! From a registry's name to the URLs of its API, and which hosts may be spoken to without TLS.
//!
//! `docker.io` is served by `registry-1.docker.io`. Loopback addresses are spoken to in plain HTTP,
//! everything else over HTTPS unless it is listed as insecure. Mirrors are [endpoints](crate::endpoint).

use base::reference::DEFAULT_REGISTRY;
use reqwest::Url;

use crate::error::ErrorKind;

/// The host that serves `docker.io`.
pub(crate) const DOCKER_HUB: &str = "registry-1.docker.io";

/// Which hosts may be spoken to in plain HTTP.
#[derive(Debug, Clone)]
pub(crate) struct PlainHttp {
    /// Whether loopback addresses are.
    pub(crate) loopback: bool,
    /// Hosts, with their ports if they have any, as users name them.
    pub(crate) hosts: Vec<String>,
}

impl PlainHttp {
    /// Whether `registry` (`host` or `host:port`) is spoken to in plain HTTP.
    pub(crate) fn allows(&self, registry: &str) -> bool {
        (self.loopback && is_loopback(registry)) || self.hosts.iter().any(|host| host == registry)
    }
}

/// The base URL of a registry's API, which ends in `/v2/`.
pub(crate) fn api_base(registry: &str, plain: &PlainHttp) -> Result<Url, ErrorKind> {
    let host = if registry == DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
    let scheme = if plain.allows(registry) { "http" } else { "https" };
    let bad = || ErrorKind::BadAddress { registry: registry.to_owned() };
    let url = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|_| bad())?;
    // A name that smuggles in a path or a user would not come back as the host it went in as.
    let clean = url.path() == "/v2/" && url.username().is_empty() && url.query().is_none();
    if clean && url.has_host() { Ok(url) } else { Err(bad()) }
}

/// Whether `host`, as in a URL, is a registry itself rather than a mirror of it.
pub(crate) fn is_host_of(host: &str, registry: &str) -> bool {
    let bare = |name: &str| name.strip_suffix(":443").or_else(|| name.strip_suffix(":80")).map(str::to_owned);
    host == registry
        || bare(registry).is_some_and(|bare| bare == host)
        || (registry == DEFAULT_REGISTRY && matches!(host, DOCKER_HUB | "index.docker.io" | "docker.io"))
}

/// Host and port as people write them, the port only if it is not the scheme's own.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether two URLs have one origin (scheme, host and port), so that a secret of one may go to the other.
pub(crate) fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether `host`, with or without a port, is this machine's loopback.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(registry: &str) -> String {
        let plain = PlainHttp { loopback: true, hosts: vec!["plain.example:80".to_owned()] };
        api_base(registry, &plain).map_or_else(|error| error.to_string(), |url| url.to_string())
    }

    #[test]
    fn schemes_follow_the_rules() {
        assert_eq!(base("docker.io"), "https://registry-1.docker.io/v2/");
        assert_eq!(base("localhost:5000"), "http://localhost:5000/v2/");
        assert_eq!(base("127.3.2.1"), "http://127.3.2.1/v2/");
        assert_eq!(base("[::1]:5000"), "http://[::1]:5000/v2/");
        assert_eq!(base("10.0.0.1:5000"), "https://10.0.0.1:5000/v2/");
        assert_eq!(base("plain.example:80"), "http://plain.example/v2/");
        assert_eq!(base("plain.example"), "https://plain.example/v2/");
    }

    #[test]
    fn names_that_are_not_hosts_are_refused() {
        for name in ["user@host", "host/path", "host?x", "", "ho st"] {
            assert!(base(name).contains("is not the address"), "{name}: {}", base(name));
        }
    }

    #[test]
    fn loopback_is_recognised_by_address_not_by_look() {
        assert!(is_loopback("localhost") && is_loopback("127.0.0.1:1") && is_loopback("[::1]"));
        assert!(!is_loopback("127.0.0.1.example.com") && !is_loopback("localhost.example.com:5000"));
    }
}
