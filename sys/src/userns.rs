//! User namespaces: whose machine this is as this process sees it.
//!
//! Source: `user_namespaces(7)`.

use std::os::unix::fs::MetadataExt as _;

/// Whether this process is root of the file tree that it sees: it is user 0, and so is the owner of `/`. In a
/// user namespace that was made for an ordinary user, the process is user 0 too, but the system's files belong
/// to somebody that the namespace does not know. In a container that has a namespace and a file tree of its
/// own, they belong to user 0 there.
pub fn owns_system() -> bool {
    let root_owner = std::fs::metadata("/").map_or(u32::MAX, |metadata| metadata.uid());
    rustix::process::geteuid().is_root() && root_owner == 0
}
