//! User namespaces: what ordinary users have in place of the rights of root.
//!
//! Inside a namespace of his own a user is root over what he has outside: his own id, and the ids that
//! `/etc/subuid` and `/etc/subgid` give to him. [`enter`] puts this process into one, with mounts of its own, so
//! that everything after it may go on as for root: the store's files belong to mapped ids, overlays can be
//! mounted, containers need no namespace of users of their own.
//!
//! Source: `user_namespaces(7)`, `subuid(5)`, `newuidmap(1)`.

mod enter;
mod members;
mod ranges;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

pub use self::enter::{EnterError, Entered, Ids, OneIdReason, enter};
pub use self::members::be_member;
pub use self::ranges::{IdMap, MapLine, Range, name_of, parse_ranges};
use crate::fs::PathError;

/// The inode number of the machine's first user namespace (`PROC_USER_INIT_INO` in the kernel's `linux/proc_ns.h`).
const INITIAL: u64 = 0xEFFF_FFFD;

/// What a user namespace makes of ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// User ids.
    pub users: IdMap,
    /// Group ids.
    pub groups: IdMap,
    /// Whether processes may change their supplementary groups.
    pub may_set_groups: bool,
}

impl IdMaps {
    /// Those of this process.
    ///
    /// # Errors
    /// `/proc` is not mounted or cannot be read.
    pub fn of_this_process() -> Result<Self, PathError> {
        let read = |name: &str| {
            let bytes = crate::fs::read(&Path::new("/proc/self").join(name))?;
            Ok::<_, PathError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Self {
            users: IdMap::parse(&read("uid_map")?),
            groups: IdMap::parse(&read("gid_map")?),
            may_set_groups: read("setgroups")?.trim() == "allow",
        })
    }
}

/// An owner that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the owner {uid}:{gid} is not among the ids that this user has; lines in /etc/subuid and /etc/subgid give more"
)]
pub struct UnmappedOwner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The error of giving something to an owner: where that is one that our user namespace does not know, the
/// kernel only says that the argument is invalid.
pub fn owner_error(errno: rustix::io::Errno, uid: u32, gid: u32) -> io::Error {
    if errno == rustix::io::Errno::INVAL && !is_initial() {
        return io::Error::new(io::ErrorKind::InvalidInput, UnmappedOwner { uid, gid });
    }
    errno.into()
}

/// The number of the user namespace that this process is in; 0 where `/proc` does not say.
pub fn number() -> u64 {
    std::fs::metadata("/proc/self/ns/user").map_or(0, |namespace| namespace.ino())
}

/// Whether this process is in the machine's first user namespace. Where `/proc` does not say, it is. The maps do
/// not tell: another namespace may leave every id what it is, too.
pub fn is_initial() -> bool {
    std::fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == INITIAL)
}

/// Whether this process is root of the file tree that it sees: it is user 0, and so is the owner of `/`. In a
/// user namespace that was made for an ordinary user, the process is user 0 too, but the system's files belong
/// to somebody that the namespace does not know. In a container that has a namespace and a file tree of its
/// own, they belong to user 0 there.
pub fn owns_system() -> bool {
    let root_owner = std::fs::metadata("/").map_or(u32::MAX, |metadata| metadata.uid());
    rustix::process::geteuid().is_root() && root_owner == 0
}
