//! The one value that the store and the runner share: how to make a root filesystem appear.
//!
//! The store says what to mount; only the runner mounts, in the container's own mount namespace, so
//! nothing has to be unmounted and nothing is left behind after a crash.
//!
//! A read-only directory of a mount may stand for a *packed* layer: there is no such directory, but beside its name are
//! [`PACKED_INDEX`], an EROFS image, and [`PACKED_DATA`], the file that holds what the image's files hold. Whoever mounts
//! takes the root of that image in its place. What other layers hold already is not held again: then there is also
//! [`PACKED_PIECES`], which says in its second line whose [`PACKED_DATA`] the image needs beside its own, by the names of their
//! directories, which are beside this one's: the devices of the image, after the first.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The name of a packed layer's index.
pub const PACKED_INDEX: &str = "index";

/// The name of the file with a packed layer's content.
pub const PACKED_DATA: &str = "tar";

/// The name of the file that says where the pieces of a packed layer's archive lie, if not all of them are in its own.
pub const PACKED_PIECES: &str = "pieces";

/// The name of the file beside them that says who has a packed layer mounted and shares that. It may be wrong, or missing.
pub const PACKED_USERS: &str = "users";

/// A mount that the snapshotter asks for. Paths are absolute paths of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// An overlay of directories (kernel `Documentation/filesystems/overlayfs.rst`).
    Overlay {
        /// Read-only layers, the topmost first. Never empty.
        lower: Vec<PathBuf>,
        /// Where changes go, with its work directory on the same filesystem; `None` is read-only.
        upper: Option<OverlayUpper>,
        /// Mount with `userxattr` (inside a user namespace).
        userxattr: bool,
    },
    /// One directory as it is.
    Bind {
        /// The directory.
        source: PathBuf,
        /// Whether writes are refused.
        read_only: bool,
    },
}

/// The writable part of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayUpper {
    /// The directory that receives changes.
    pub upper: PathBuf,
    /// The empty directory that the kernel works in.
    pub work: PathBuf,
}
