//! Contents of the files of `/etc` that a container gets from outside.
//!
//! They are written into memory and mounted for the life of the container, so a layer never has them.

use std::net::IpAddr;
use std::path::Path;

use sys::path_error::PathError;

use crate::error::RunError;

/// No `resolv.conf` is longer than this, in bytes; a longer one is cut.
const LONGEST: u64 = 64 << 10;

/// The host's resolver configuration. A host without one gives an empty file, which means a resolver on
/// the loopback interface.
pub fn resolv_conf() -> Result<Vec<u8>, RunError> {
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

/// A hosts file: the names of the loopback addresses, the container's own name, and further names.
pub fn hosts(hostname: &str, extra: &[(String, IpAddr)]) -> Vec<u8> {
    let mut text = format!(
        "127.0.0.1\tlocalhost {hostname}\n\
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
    fn hosts_name_the_loopback_and_the_container() {
        let extra = [("db".to_owned(), "10.0.0.7".parse().unwrap())];
        let text = String::from_utf8(hosts("web", &extra)).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost web\n::1\tlocalhost"), "{text}");
        assert!(text.ends_with("\n10.0.0.7\tdb\n"), "{text}");
    }
}
