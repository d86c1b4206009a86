//! `--link`: a container that knows another one by a further name, and not the other way round.
//!
//! In the default network that is a line of the hosts file and variables of the environment, with the address that the
//! other one has when this one starts; Docker calls it a legacy feature. In a user-defined network it is a name that our
//! server answers for.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sys::path_error::{PathContext as _, PathError};
use sys::rootdir::{RootDir, stat_of};
use sys::stat::Kind;

use super::Attachment;
use super::endpoint::Endpoint;
use super::error::NetworkError;
use super::join::Connection;
use super::publish::ContainerPort;
use crate::files;
use crate::neighbour::Neighbour;
use crate::shim::State;

/// Where a container has its hosts file.
const HOSTS: &str = "etc/hosts";

/// A container that is known by another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The container.
    pub neighbour: Neighbour,
    /// Its id.
    pub id: String,
    /// The other name.
    pub alias: String,
    /// The name of the container that knows it so, for the environment.
    pub knower: String,
    /// The ports that it is said to listen on.
    pub ports: Vec<ContainerPort>,
    /// Its environment.
    pub env: Vec<String>,
}

/// A link, and the address of the other container in the network that both are in.
#[derive(Debug)]
pub(super) struct Linked<'l> {
    link: &'l Link,
    /// `None` in a user-defined network, where the address is asked for.
    address: Option<IpAddr>,
}

/// Finds the containers of all links.
pub(super) fn find<'l>(
    connection: &'l Connection,
    attachment: &Attachment,
) -> Result<Vec<Linked<'l>>, NetworkError> {
    let is_default = connection.connect.definition.is_none() && !attachment.addresses().is_empty();
    let find = |link: &'l Link| {
        if !is_default {
            return Ok(Linked { link, address: None });
        }
        let not_running = || NetworkError::LinkToStopped {
            container: link.neighbour.name.clone(),
            alias: link.alias.clone(),
        };
        let state = State::read(&link.neighbour.directory).map_err(|_| not_running())?;
        let endpoints = state.network.iter().chain(&state.further_networks);
        let of_default = endpoints.filter(|endpoint| endpoint.network.is_none());
        let address = of_default.filter_map(|endpoint: &Endpoint| endpoint.inet).next();
        Ok(Linked { link, address: Some(address.ok_or_else(not_running)?.address) })
    };
    connection.links.iter().map(find).collect()
}

/// No hosts file that we change is longer than this, in bytes.
const LONGEST_HOSTS: u64 = 1 << 20;

impl Link {
    /// What the other container is called: the alias, the short id, and the name.
    fn names(&self) -> [&str; 3] {
        [self.alias.as_str(), self.id.get(..12).unwrap_or(&self.id), self.neighbour.name.as_str()]
    }

    /// Takes what this link has added out of the hosts file of a container whose first process is `pid`.
    pub(crate) fn leave_hosts_of(&self, pid: u32) -> Result<(), PathError> {
        let root = RootDir::of_open(files::root_of(pid)?, "/");
        let path = root.shown(HOSTS);
        let mut file = root.open_file_for_writing(HOSTS)?;
        if stat_of(&file, &path)?.kind != Kind::File {
            return Ok(());
        }
        let mut text = Vec::new();
        (&mut file).take(LONGEST_HOSTS).read_to_end(&mut text).at("read", &path)?;
        let left = self.left_of(&text);
        // In place: the file is mounted where it is.
        file.seek(SeekFrom::Start(0)).at("write", &path)?;
        file.write_all(&left).at("write", &path)?;
        file.set_len(left.len() as u64).at("write", &path)
    }

    /// What is left of a hosts file without this link: of each of its names, the first line is taken out.
    fn left_of(&self, text: &[u8]) -> Vec<u8> {
        let mut names = self.names().to_vec();
        let mut left = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let told = line.split(|byte| *byte == b'\t').nth(1).map(<[u8]>::trim_ascii_end);
            match names.iter().position(|name| told == Some(name.as_bytes())) {
                Some(place) => drop(names.swap_remove(place)),
                None => left.extend_from_slice(line),
            }
        }
        left
    }
}

impl Linked<'_> {
    /// Lines of the hosts file: the alias, the short id, and the name.
    pub(super) fn host_names(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        let names = self.link.names();
        self.address.into_iter().flat_map(move |address| names.into_iter().map(move |name| (address, name)))
    }

    /// The names that our server answers for, with the container's id.
    pub(super) fn names_of_ids(&self) -> Option<(String, String)> {
        self.address.is_none().then(|| (self.link.alias.clone(), self.link.id.clone()))
    }

    /// The variables that tell of it.
    fn variables(&self) -> Vec<String> {
        let Some(address) = self.address else { return Vec::new() };
        let Link { alias, knower, ports, env, .. } = self.link;
        let prefix = variable_name(alias);
        let mut all = vec![format!("{prefix}_NAME=/{knower}/{alias}")];
        let url = |port: &ContainerPort| format!("{}://{address}:{}", port.transport, port.number);
        all.extend(ports.first().map(|first| format!("{prefix}_PORT={}", url(first))));
        for port in ports {
            let ContainerPort { number, transport } = port;
            let of_port = format!("{prefix}_PORT_{number}_{}", transport.to_string().to_uppercase());
            all.push(format!("{of_port}={}", url(port)));
            all.push(format!("{of_port}_ADDR={address}"));
            all.push(format!("{of_port}_PORT={number}"));
            all.push(format!("{of_port}_PROTO={transport}"));
        }
        // What every container has tells nothing of this one.
        let is_own = |entry: &&String| {
            !["HOME=", "PATH=", "HOSTNAME=", "TERM="].iter().any(|name| entry.starts_with(name))
        };
        all.extend(env.iter().filter(is_own).map(|entry| format!("{prefix}_ENV_{entry}")));
        all
    }
}

/// The variables that tell of linked containers.
pub(super) fn environment(links: &[Linked<'_>]) -> impl Iterator<Item = String> {
    links.iter().flat_map(Linked::variables).collect::<Vec<_>>().into_iter()
}

/// An alias as the name of a variable begins.
fn variable_name(alias: &str) -> String {
    alias.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_takes_its_own_lines_out_of_a_hosts_file() {
        let neighbour = Neighbour { name: "db".to_owned(), directory: "/nowhere".into() };
        let (id, alias) = ("0123456789abcdef".to_owned(), "store".to_owned());
        let link = Link { neighbour, id, alias, knower: String::new(), ports: Vec::new(), env: Vec::new() };
        let own = "127.0.0.1\tlocalhost\n10.0.0.2\tweb\n";
        let other = "10.0.0.3\tother\n10.0.0.3\t0123456789ab\n10.0.0.3\tdb\n";
        let text = format!("{own}10.0.0.3\tstore\n10.0.0.3\t0123456789ab\n10.0.0.3\tdb\n{other}");
        assert_eq!(String::from_utf8(link.left_of(text.as_bytes())).unwrap(), format!("{own}{other}"));
        assert_eq!(link.left_of(b"no line end"), b"no line end");
    }

    #[test]
    fn a_link_is_told_by_variables() {
        let link = Link {
            neighbour: Neighbour { name: "db".to_owned(), directory: "/none".into() },
            id: "0123456789abcdef".to_owned(),
            alias: "my-db".to_owned(),
            knower: "web".to_owned(),
            ports: vec!["5432".parse().unwrap()],
            env: vec!["PATH=/bin".to_owned(), "USER=x".to_owned()],
        };
        let linked = Linked { link: &link, address: Some("10.176.0.2".parse().unwrap()) };
        assert_eq!(
            linked.variables(),
            [
                "MY_DB_NAME=/web/my-db",
                "MY_DB_PORT=tcp://10.176.0.2:5432",
                "MY_DB_PORT_5432_TCP=tcp://10.176.0.2:5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.176.0.2",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_ENV_USER=x",
            ]
        );
        let names: Vec<&str> = linked.host_names().map(|(_, name)| name).collect();
        assert_eq!(names, ["my-db", "0123456789ab", "db"]);
    }
}
