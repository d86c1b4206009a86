//! Settings of the kernel that a container has of its own.
//!
//! Most of `/proc/sys` is the whole machine's. What belongs to a namespace may be set for a container that has
//! that namespace for itself, and nothing else may (`sysctl(8)`, `namespaces(7)`); the same names as in Docker.

use sys::ns::Namespaces;
use sys::spawn::Step;

use oci_spec::runtime::Spec;

use super::c_string;
use crate::error::RequestError;

/// Settings of System V IPC below `kernel` (`proc_sys_kernel(5)`).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shm_rmid_forced", "shmall", "shmmax", "shmmni"];

const OWN_IPC: &str = "shared memory of its own (no --ipc host)";

/// The steps for all settings of a spec, by name: the spec keeps them in no order.
pub(super) fn steps(spec: &Spec, namespaces: Namespaces) -> Result<Vec<Step>, RequestError> {
    let settings = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut settings: Vec<(&String, &String)> = settings.into_iter().flatten().collect();
    settings.sort();
    settings.into_iter().map(|(name, value)| step(name, value, namespaces)).collect()
}

fn step(name: &str, value: &str, namespaces: Namespaces) -> Result<Step, RequestError> {
    let path = path(name);
    let (namespace, needed) = match path.split_once('/') {
        Some(("net", _)) => (Namespaces::NETWORK, "a network of its own (--network none)"),
        Some(("kernel", setting)) if IPC.contains(&setting) => (Namespaces::IPC, OWN_IPC),
        Some(("fs", rest)) if rest.starts_with("mqueue/") => (Namespaces::IPC, OWN_IPC),
        // The host name has a place of its own in a spec; Docker gives the domain name by this setting.
        Some(("kernel", "domainname")) => (Namespaces::UTS, "a host name of its own (no --uts host)"),
        _ => return Err(RequestError::Sysctl { name: name.to_owned() }),
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(RequestError::Sysctl { name: name.to_owned() });
    }
    if !namespaces.contains(namespace) {
        return Err(RequestError::SharedSysctl { name: name.to_owned(), needed });
    }
    Ok(Step::Sysctl {
        file: c_string("kernel setting", &format!("/proc/sys/{path}"))?,
        value: c_string("value of a kernel setting", value)?,
    })
}

/// The path of a setting below `/proc/sys`. Either separator may be meant, and it is the one that comes first; the
/// other one then stands for itself, as in `net/ipv4/conf/eth0.100/forwarding` and `net.ipv4.conf.eth0/100.forwarding`
/// (`sysctl(8)`).
fn path(name: &str) -> String {
    let exchange = |character| match character {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'.') => name.chars().map(exchange).collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_separator_is_the_one_that_comes_first() {
        assert_eq!(path("net.core.somaxconn"), "net/core/somaxconn");
        assert_eq!(path("net/core/somaxconn"), "net/core/somaxconn");
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
    }

    #[test]
    fn what_belongs_to_no_namespace_is_refused() {
        let every = Namespaces::NETWORK.with(Namespaces::IPC).with(Namespaces::UTS);
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname"] {
            assert!(step(name, "1", every).is_ok(), "{name}");
            let shared = step(name, "1", Namespaces::NONE);
            assert!(matches!(shared, Err(RequestError::SharedSysctl { .. })), "{name}");
        }
        let bad = [
            "kernel.panic",
            "kernel.hostname",
            "kernel.msgmaxx",
            "vm.swappiness",
            "fs.file-max",
            "net",
            "net.",
            "net..x",
            "net/../kernel/panic",
            "/net/core/somaxconn",
            "net.//.kernel.panic",
            "net./.kernel",
            "kernel/shmmax/../panic",
            "",
        ];
        for name in bad {
            assert!(matches!(step(name, "1", every), Err(RequestError::Sysctl { .. })), "{name}");
        }
    }
}
