//! Contents of the files of `/etc` that a container gets from outside.
//!
//! They are written into memory and mounted for the life of the container, so a layer never has them.

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sys::path_error::PathError;

use crate::error::RunError;

/// No `resolv.conf` is longer than this, in bytes; a longer one is cut.
const LONGEST: u64 = 64 << 10;

/// How names are looked up, where it is not as on the host. What is empty is as there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Domains in which names are looked up; `.` is none.
    pub search: Vec<String>,
    /// Options, as `ndots:2`.
    pub options: Vec<String>,
}

/// The host's resolver configuration (`resolv.conf(5)`), changed as `resolver` says. A host without one gives
/// an empty file, which means a resolver on the loopback interface.
pub fn resolv_conf(resolver: &Resolver) -> Result<Vec<u8>, RunError> {
    let host = host_resolv_conf()?;
    if *resolver == Resolver::default() {
        return Ok(host);
    }
    Ok(changed(&String::from_utf8_lossy(&host), resolver).into_bytes())
}

fn changed(host: &str, resolver: &Resolver) -> String {
    let replaced = |line: &&str| match line.split_whitespace().next() {
        Some("nameserver") => resolver.servers.is_empty(),
        Some("search" | "domain") => resolver.search.is_empty(),
        Some("options") => resolver.options.is_empty(),
        _ => false,
    };
    let mut lines: Vec<String> = host.lines().filter(replaced).map(str::to_owned).collect();
    lines.extend(resolver.servers.iter().map(|server| format!("nameserver {server}")));
    let search: Vec<&str> = resolver.search.iter().map(String::as_str).filter(|name| *name != ".").collect();
    if !search.is_empty() {
        lines.push(format!("search {}", search.join(" ")));
    }
    if !resolver.options.is_empty() {
        lines.push(format!("options {}", resolver.options.join(" ")));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn host_resolv_conf() -> Result<Vec<u8>, RunError> {
    let path = Path::new("/etc/resolv.conf");
    let read = |path: &Path| -> Result<Vec<u8>, PathError> {
        Ok(sys::fs::read_limited(path, LONGEST)?.unwrap_or_default())
    };
    match read(path) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(PathError { source, .. }) => {
            Err(RunError::Supervise { operation: "read /etc/resolv.conf for the use", source })
        }
        Ok(content) => Ok(content),
    }
}

/// A hosts file: the names of the loopback addresses, the container's own name, and further names. An own name that
/// is empty is left out: a container with an address gets that with its name when it starts.
pub fn hosts(hostname: &str, extra: &[(String, IpAddr)]) -> Vec<u8> {
    let own = if hostname.is_empty() { String::new() } else { format!(" {hostname}") };
    let mut text = format!(
        "127.0.0.1\tlocalhost{own}\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n"
    );
    for (name, address) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_replaces_the_same_of_the_host() {
        let host = "# comment\nnameserver 10.0.0.1\nsearch a.example\noptions ndots:1\n";
        let text = |resolver| changed(host, &resolver);
        let servers = vec!["9.9.9.9".parse().unwrap(), "::1".parse().unwrap()];
        let other = Resolver { servers, ..Resolver::default() };
        assert_eq!(text(other), "search a.example\noptions ndots:1\nnameserver 9.9.9.9\nnameserver ::1\n");
        let search = vec!["b.example".to_owned(), "c".to_owned()];
        let other = Resolver { search, options: vec!["ndots:2".to_owned()], ..Resolver::default() };
        assert_eq!(text(other), "nameserver 10.0.0.1\nsearch b.example c\noptions ndots:2\n");
        let none = Resolver { search: vec![".".to_owned()], ..Resolver::default() };
        assert_eq!(text(none), "nameserver 10.0.0.1\noptions ndots:1\n");
    }

    #[test]
    fn hosts_name_the_loopback_and_the_container() {
        let extra = [("db".to_owned(), "10.0.0.7".parse().unwrap())];
        let text = String::from_utf8(hosts("web", &extra)).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost web\n::1\tlocalhost"), "{text}");
        assert!(text.ends_with("\n10.0.0.7\tdb\n"), "{text}");
    }
}
