//! From a request with [`Network::Connected`] to one that joins a namespace which is connected already, and whose
//! files of `/etc` say what the network is like.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::NetworkError;
use super::linked::{self as link, Link, Linked};
use super::names::ADDRESS;
use super::{Attachment, Connect, connect, prepare};
use crate::request::{EtcFiles, Network, RunRequest};

/// Where systemd's resolver, which listens on the loopback interface, says whom it asks itself.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
/// No `resolv.conf` is longer than this, in bytes.
const LONGEST: u64 = 64 << 10;
/// What people find in a `resolv.conf` without a server.
const NO_SERVER: &str = "# The host's name servers listen on its loopback interface only, where a container cannot reach them.\n\
     # Name another one with --dns.\n";

/// A container's part of a network, which is made when the container starts, and again when it is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The runtime directory.
    pub runtime: PathBuf,
    /// What the container wants of its first network.
    pub connect: Connect,
    /// What it wants of others.
    #[serde(default)]
    pub further: Vec<Connect>,
    /// Containers that it knows by other names.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Whether somebody chose the name servers in the request's `resolv.conf`. Else those that a container cannot
    /// reach are replaced.
    pub servers_chosen: bool,
    /// Names for the machine itself, which go into the request's hosts file with the address by which the container
    /// reaches it.
    #[serde(default)]
    pub host_names: Vec<String>,
}

impl Connection {
    /// What the container wants of all its networks.
    pub fn all(&self) -> impl Iterator<Item = &Connect> {
        std::iter::once(&self.connect).chain(&self.further)
    }

    /// The same, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Connect> {
        std::iter::once(&mut self.connect).chain(&mut self.further)
    }

    /// Whether the container is in a user-defined network, where names are served.
    pub fn serves_names(&self) -> bool {
        self.all().any(|connect| connect.definition.is_some())
    }
}

/// Connects a container, if its request says so, and gives the request that its process is started by.
pub(crate) fn join(request: &RunRequest) -> Result<Option<(Attachment, RunRequest)>, NetworkError> {
    let Network::Connected(connection) = &request.network else { return Ok(None) };
    let Connection { runtime, connect: wanted, servers_chosen, host_names, .. } = &**connection;
    sys::fs::create_dir_all(runtime, 0o700)?;
    let mut attachment = connect(runtime, wanted, prepare(runtime, wanted)?)?;
    connection.further.iter().try_for_each(|further| attachment.join(runtime, further))?;
    let links = link::find(connection, &attachment)?;
    let hostname = request.hostname.as_deref().unwrap_or("localhost");
    let mut names: Vec<(IpAddr, &str)> =
        attachment.addresses().into_iter().map(|address| (address, hostname)).collect();
    for name in host_names {
        let flag = "--add-host with host-gateway";
        names.push((attachment.gateway().ok_or(NetworkError::NeedsBridge { flag })?, name));
    }
    names.extend(links.iter().flat_map(Linked::host_names));
    let mut etc = etc_files(&request.etc, &names, attachment.resolver(), *servers_chosen);
    if connection.serves_names() {
        let (servers, served) = served(request.etc.resolv_conf.as_deref().unwrap_or_default());
        attachment.serve_names(servers, links.iter().flat_map(Linked::names_of_ids).collect())?;
        etc.resolv_conf = Some(served);
    }
    let env = link::environment(&links).chain(request.env.iter().cloned()).collect();
    let network = Network::Namespace(attachment.namespace());
    let request = RunRequest { network, etc, env, ..request.clone() };
    Ok(Some((attachment, request)))
}

/// A `resolv.conf` that names our own server, and the servers that it named before, which that one asks. It asks from
/// outside the container, so it reaches also those on the host's loopback interface.
pub(crate) fn served(text: &[u8]) -> (Vec<IpAddr>, Vec<u8>) {
    let text = String::from_utf8_lossy(text);
    let (servers, mut lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| server(line).is_some());
    let own = format!("nameserver {ADDRESS}");
    lines.push(&own);
    // As in Docker: names of one word are asked for as they are first.
    let is_said = lines.iter().any(|line| line.starts_with("options") && line.contains("ndots:"));
    lines.extend((!is_said).then_some("options ndots:0"));
    let address = |line: &&str| server(line).and_then(|server| server.parse().ok());
    (servers.iter().filter_map(address).collect(), (lines.join("\n") + "\n").into_bytes())
}

/// The files of a container that has these addresses, and knows them by names.
pub(crate) fn etc_files(
    etc: &EtcFiles,
    names: &[(IpAddr, &str)],
    resolver: Option<IpAddr>,
    servers_chosen: bool,
) -> EtcFiles {
    let resolv_conf = match &etc.resolv_conf {
        Some(text) if !servers_chosen => Some(reachable(text, resolver, Path::new(UPSTREAM))),
        other => other.clone(),
    };
    let hosts = etc.hosts.as_ref().map(|text| hosts(text, names));
    EtcFiles { hosts, resolv_conf, ..etc.clone() }
}

/// Adds names to a hosts file.
fn hosts(text: &[u8], names: &[(IpAddr, &str)]) -> Vec<u8> {
    let lines = names.iter().map(|(address, name)| format!("{address}\t{name}\n"));
    text.iter().copied().chain(lines.collect::<String>().into_bytes()).collect()
}

/// A `resolv.conf` whose name servers a container reaches. What listens on the host's loopback interface is left out;
/// if nothing else remains, `resolver` leads there, or whoever that one asks is asked.
fn reachable(text: &[u8], resolver: Option<IpAddr>, upstream: &Path) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let (servers, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| server(line).is_some());
    let reached = |lines: &[&str]| -> Vec<String> {
        lines.iter().filter(|line| is_reachable(line)).map(|line| (*line).to_owned()).collect()
    };
    let mut lines = reached(&servers);
    if lines.is_empty() {
        lines.extend(resolver.map(|address| format!("nameserver {address}")));
    }
    if lines.is_empty() {
        // Without systemd there is no such file.
        let upstream = sys::fs::read_limited(upstream, LONGEST).ok().flatten().unwrap_or_default();
        lines = reached(&String::from_utf8_lossy(&upstream).lines().collect::<Vec<_>>());
    }
    let mut all: String = rest.iter().map(|line| format!("{line}\n")).collect();
    if lines.is_empty() {
        all.push_str(NO_SERVER);
    }
    all.extend(lines.iter().map(|line| format!("{line}\n")));
    all.into_bytes()
}

/// The server of a line that names one.
fn server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next()).flatten()
}

/// Whether a line names a server that is not the host itself. An address of one link only, with the name of an
/// interface of the host after it, means nothing to a container.
fn is_reachable(line: &str) -> bool {
    let address = server(line).and_then(|server| server.parse::<IpAddr>().ok());
    address.is_some_and(|address| !address.is_loopback() && !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(text: &str, resolver: Option<&str>, upstream: &Path) -> String {
        let resolver = resolver.map(|text| text.parse().unwrap());
        String::from_utf8(reachable(text.as_bytes(), resolver, upstream)).unwrap()
    }

    #[test]
    fn servers_on_the_loopback_interface_are_replaced() {
        let none = Path::new("/no/such/file");
        let mixed = "search a\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n";
        assert_eq!(reached(mixed, Some("10.0.2.3"), none), "search a\nnameserver 192.0.2.1\n");
        let stub = "nameserver 127.0.0.53\noptions edns0\n";
        assert_eq!(reached(stub, Some("10.0.2.3"), none), "options edns0\nnameserver 10.0.2.3\n");
        let directory = tempfile::tempdir().unwrap();
        let upstream = directory.path().join("resolv.conf");
        std::fs::write(&upstream, "# comment\nnameserver 192.0.2.7\nsearch b\n").unwrap();
        assert_eq!(reached(stub, None, &upstream), "options edns0\nnameserver 192.0.2.7\n");
        assert_eq!(reached(stub, None, none), format!("options edns0\n{NO_SERVER}"));
    }

    #[test]
    fn our_own_server_stands_before_others() {
        let (servers, text) = served(b"search a\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n");
        assert_eq!(servers, ["127.0.0.53", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(String::from_utf8(text).unwrap(), "search a\nnameserver 127.0.0.11\noptions ndots:0\n");
        let (servers, text) = served(b"options ndots:2\n");
        assert_eq!((servers.len(), text), (0, b"options ndots:2\nnameserver 127.0.0.11\n".to_vec()));
    }

    #[test]
    fn a_container_knows_its_own_name() {
        let text = hosts(b"127.0.0.1\tlocalhost\n", &[("10.176.0.2".parse().unwrap(), "web")]);
        assert_eq!(String::from_utf8(text).unwrap(), "127.0.0.1\tlocalhost\n10.176.0.2\tweb\n");
    }
}
