//! Settings of the network below `/proc/sys/net` (`Documentation/networking/ip-sysctl.rst` of the kernel). They are
//! those of the calling thread's network namespace.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use sys::path_error::PathContext as _;

use super::error::NetworkError;

/// No setting is longer, in bytes.
const LONGEST: u64 = 256;

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(name)
}

/// The value of a setting, if this kernel has it.
pub(super) fn read(name: &str) -> Result<Option<String>, NetworkError> {
    match sys::fs::read_limited(&path(name), LONGEST) {
        Err(error) if error.is_not_found() => Ok(None),
        bytes => Ok(Some(String::from_utf8_lossy(&bytes?.unwrap_or_default()).trim().to_owned())),
    }
}

/// Changes a setting. `false` if this kernel does not have it.
pub(super) fn write(name: &str, value: &str) -> Result<bool, NetworkError> {
    let path = path(name);
    let file = match std::fs::OpenOptions::new().write(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.at("open", &path),
    };
    Ok(file?.write_all(value.as_bytes()).at("write", &path).map(|()| true)?)
}

/// Whether this host has IPv6.
pub(super) fn has_ipv6() -> Result<bool, NetworkError> {
    Ok(read("ipv6/conf/all/disable_ipv6")?.as_deref() == Some("0"))
}

/// Lets the host forward packets between interfaces.
pub(super) fn forward_packets() -> Result<(), NetworkError> {
    if read("ipv4/ip_forward")?.as_deref() == Some("0") {
        write("ipv4/ip_forward", "1")?;
    }
    Ok(())
}

/// Lets the host forward packets of IPv6. `false` where that cannot be changed.
///
/// The kernel then stops listening to routers, unless told otherwise, and a host that got its routes from one would lose
/// them; so interfaces that listen are told otherwise first.
pub(super) fn forward_packets6() -> Result<bool, NetworkError> {
    if read("ipv6/conf/all/forwarding")?.as_deref() != Some("0") {
        return Ok(true);
    }
    for interface in sys::fs::list(&path("ipv6/conf"))? {
        let name = format!("ipv6/conf/{}/accept_ra", interface.to_string_lossy());
        if read(&name)?.as_deref() == Some("1") && write(&name, "2").is_err() {
            return Ok(false);
        }
    }
    Ok(write("ipv6/conf/all/forwarding", "1").is_ok())
}
