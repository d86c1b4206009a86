//! Writes a layer: what a directory tree adds to, changes in and deletes from the one below it, as a tar
//! stream by the rules of the OCI image specification (`layer.md`). The same tree gives the same bytes.
//!
//! * Entries come in tree order: a directory before what is in it, names sorted by their bytes. The root
//!   directory itself has no entry.
//! * Deleted names are `.wh.NAME`; an opaque directory has `.wh..wh..opq` as its first child.
//! * Times are whole seconds, as Docker, containerd and BuildKit write them. Access times are not written.
//! * A file with several names is written under the first; the others are hard links to it.
//! * Extended attributes: `user.*`, `trusted.*`, `security.capability` and POSIX ACLs. Those of overlayfs
//!   and of the host's security module (labels, signatures) are not part of an image.
//! * Sockets are left out, because they mean nothing without the process behind them.
//! * A directory that only has another time, and a file that is what it was, are no changes. Directories on
//!   the way to a change are written with it.
//!
//! Files are read as they are: the caller makes sure that nobody writes to the tree meanwhile. Nothing here
//! compresses or digests.

mod emit;
mod load;
mod overlay;
mod paths;
mod same;
mod two_trees;

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use base::cancel::Cancelled;
use base::{CancelToken, Fault, Faulty};
use sys::path_error::PathError;
use sys::rootdir::RootDir;

pub use self::paths::{PathChange, PathChangeKind, changed_paths, changed_paths_without};
pub(crate) use self::same::same_content;
use crate::tar_write::TarWriteError;
use crate::tree::TreeError;
use load::Loader;

/// How much of the archive is handed on at a time.
const OUTPUT_BUFFER: usize = 256 << 10;

/// Where a layer comes from.
#[derive(Debug, Clone, Copy)]
pub enum LayerSource<'a> {
    /// The upper directory of an overlay (or a layer directory that apply made), read directly and not
    /// through a mount.
    Overlay {
        /// The directory.
        upper: &'a Path,
        /// The layer directories below it, the topmost first. What is the same there is left out. Without
        /// any, nothing is known of them, and everything in `upper` is written.
        lower: &'a [PathBuf],
        /// Its mounts have the option `userxattr`.
        userxattr: bool,
    },
    /// A complete tree and the complete tree that it began as.
    TwoTrees {
        /// The tree below; without one, everything is new.
        lower: Option<&'a Path>,
        /// The tree that the layer leads to.
        upper: &'a Path,
    },
}

/// How to write a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffOptions {
    /// Later modification times become this one: seconds since 1970, as in `SOURCE_DATE_EPOCH`.
    pub clamp_mtime: Option<i64>,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffStats {
    /// Entries for files that are there.
    pub entries: u64,
    /// Entries for deleted names and opaque directories.
    pub whiteouts: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Sockets left out.
    pub skipped_sockets: u64,
}

/// Why a layer was not written. The output then holds an unusable part of it.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A file of the tree could not be read.
    #[error(transparent)]
    Read(#[from] PathError),
    /// The layers below could not be read.
    #[error(transparent)]
    Below(#[from] TreeError),
    /// The archive could not be written, or a file changed while it was read.
    #[error(transparent)]
    Write(#[from] TarWriteError),
    /// The output refused the last bytes.
    #[error("cannot write the end of the layer")]
    Finish(#[source] io::Error),
    /// An archive that is the layer could not be copied.
    #[error("cannot copy the archive of the layer")]
    Copy(#[source] io::Error),
    /// A file has a name that means a deletion in a layer.
    #[error("{} cannot be stored in an image layer: names that begin with \".wh.\" are reserved", path.display())]
    Reserved {
        /// Its path in the tree.
        path: PathBuf,
    },
    /// overlayfs left only a reference to data in another layer, which a layer cannot hold.
    #[error(
        "{} has the overlay attribute {attribute}, so it is not complete by itself (mount the overlay with \
         redirect_dir=off,metacopy=off)",
        path.display()
    )]
    Incomplete {
        /// Its path in the tree.
        path: PathBuf,
        /// The attribute.
        attribute: String,
    },
    /// The caller asked to stop.
    #[error("writing the layer was cancelled")]
    Cancelled,
}

impl From<Cancelled> for DiffError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Faulty for DiffError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(error) => error.fault(),
            Self::Below(error) => error.fault(),
            Self::Write(error) => error.fault(),
            Self::Finish(source) | Self::Copy(source) => base::fault::of_io(source),
            Self::Reserved { .. } => Fault::Input,
            Self::Incomplete { .. } => Fault::Environment,
            Self::Cancelled => Fault::Cancelled,
        }
    }
}

/// One thing that a layer says; paths are relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// This path is as it is in the tree.
    Present(PathBuf),
    /// This path is deleted.
    Deleted(PathBuf),
    /// What is below in this directory is deleted.
    Opaque(PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Present(path) | Self::Deleted(path) | Self::Opaque(path) => path,
        }
    }
}

/// Paths relative to the root that are no part of a layer, with all below them.
pub type Hidden = HashSet<PathBuf>;

/// Writes the layer as an uncompressed tar stream. `out` gets large pieces and is not flushed.
pub fn write_layer(
    source: LayerSource<'_>,
    options: DiffOptions,
    out: impl Write,
    cancel: &CancelToken,
) -> Result<DiffStats, DiffError> {
    write_layer_without(source, &Hidden::new(), options, out, cancel)
}

/// The same without some paths.
pub fn write_layer_without(
    source: LayerSource<'_>,
    hidden: &Hidden,
    options: DiffOptions,
    out: impl Write,
    cancel: &CancelToken,
) -> Result<DiffStats, DiffError> {
    let out = BufWriter::with_capacity(OUTPUT_BUFFER, out);
    match source {
        LayerSource::Overlay { upper, lower, userxattr } => {
            let root = RootDir::open(upper)?;
            let changes = overlay::Changes::new(&root, lower, userxattr, hidden)?;
            let loader = Loader::new(&root, overlay::references(userxattr), changes);
            emit::write(loader, options, out, cancel)
        }
        LayerSource::TwoTrees { lower, upper } => {
            let root = RootDir::open(upper)?;
            let lower = lower.map(RootDir::open).transpose()?;
            let changes = two_trees::changes(lower.as_ref(), &root, hidden, cancel)?;
            let loader = Loader::new(&root, &[], changes.into_iter().map(Ok));
            emit::write(loader, options, out, cancel)
        }
    }
}
