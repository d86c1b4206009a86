//! Settings of the kernel that a container has of its own.
//!
//! Most of `/proc/sys` is the whole machine's. What belongs to a namespace may be set for a container that has
//! that namespace for itself, and nothing else may (`sysctl(8)`, `namespaces(7)`); the same names as in Docker.

use sys::ns::Namespaces;
use sys::spawn::Step;

use oci_spec::runtime::Spec;

use super::c_string;
use crate::error::RequestError;

/// Settings of System V IPC (`proc_sys_kernel(5)`).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The steps for all settings of a spec, by name: the spec keeps them in no order.
pub(super) fn steps(spec: &Spec, namespaces: Namespaces) -> Result<Vec<Step>, RequestError> {
    let settings = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut settings: Vec<(&String, &String)> = settings.into_iter().flatten().collect();
    settings.sort();
    settings.into_iter().map(|(name, value)| step(name, value, namespaces)).collect()
}

fn step(name: &str, value: &str, namespaces: Namespaces) -> Result<Step, RequestError> {
    let name = &name.replace('/', ".");
    let (namespace, needed) = if name.starts_with("net.") {
        (Namespaces::NETWORK, "a network of its own (--network none)")
    } else if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
        (Namespaces::IPC, "shared memory of its own (no --ipc host)")
    } else {
        return Err(RequestError::Sysctl { name: name.clone() });
    };
    if name.split('.').any(str::is_empty) {
        return Err(RequestError::Sysctl { name: name.clone() });
    }
    if !namespaces.contains(namespace) {
        return Err(RequestError::SharedSysctl { name: name.clone(), needed });
    }
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    Ok(Step::Sysctl {
        file: c_string("kernel setting", &file)?,
        value: c_string("value of a kernel setting", value)?,
    })
}
