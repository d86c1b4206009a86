//! Unpacks a layer: a tar stream into a directory, by the rules of the OCI image specification
//! (`layer.md`) for whiteouts, and so that nothing is ever written outside that directory.
//!
//! Who may write what:
//! * A name that leaves the root by `..`, or by passing a symlink that climbs above it, is
//!   [`ApplyError::Escape`]. An absolute name, and an absolute symlink on the way, count from the root, as
//!   they would inside the container. The target of a symlink entry is only data.
//! * A later entry replaces an earlier one of the same name; a directory over a directory keeps what is in
//!   it. The last component of a name is never followed.
//! * `trusted.overlay.*` and `user.overlay.*` attributes of an archive are not set: they would change what
//!   overlayfs shows.
//!
//! What this does not do: it opens no mount, it starts no process, it does not clean up (after an error the
//! caller deletes the directory), and it does not sync. Nobody else may change the directory meanwhile.

mod attributes;
mod directories;
pub(crate) mod node;
pub(crate) mod packed;
mod path;
pub(crate) mod read_ahead;
mod remove;
mod root;
mod tree;
mod unpack;
pub(crate) mod whiteout;

use std::io::{self, BufReader, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use base::cancel::Cancelled;
use base::{CancelToken, Digest, Fault, Faulty};
use sys::rootdir::RootDir;

use crate::compress::{self, CompressError};
use crate::tar_entry::{EntryName, Mtime};
use crate::tar_read::TarError;
use root::Root;
use tree::Tree;
use unpack::Unpack;

pub use packed::Unfit;

/// What the directory is, which decides what a whiteout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layering {
    /// A lower directory of overlayfs. Deleted names become character devices 0:0, opaque directories get
    /// an attribute (kernel documentation, `filesystems/overlayfs.rst`, "whiteouts and opaque
    /// directories").
    Overlay {
        /// The attribute is `user.overlay.opaque`, for mounts with `userxattr`, instead of
        /// `trusted.overlay.opaque`. Whiteouts are devices either way: since Linux 5.8 everyone may make
        /// that device, and unprivileged overlay mounts need 5.11.
        userxattr: bool,
    },
    /// A complete tree that holds the layers below already: whiteouts delete.
    Flat,
    /// Not a layer: names that look like whiteouts are ordinary names.
    Plain,
}

/// What to do with owners, and with what only the superuser may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Files belong to whom the archive says.
    #[default]
    FromArchive,
    /// Files belong to this user and this group.
    Of(u32, u32),
    /// Files belong to the caller. Attributes that the kernel refuses to an ordinary user are left out and
    /// counted.
    Ignore,
}

/// What to do with character and block devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Devices {
    /// Make them; where that is not permitted, fail with [`ApplyError::Device`].
    #[default]
    Create,
    /// Leave them out and count them.
    Skip,
}

/// Bounds that turn a decompression bomb into an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most entries.
    pub max_entries: u64,
    /// The most bytes of uncompressed archive, with the holes of its sparse files.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// Ten million entries and 1 TiB: above any image, below what fills a machine unnoticed.
    fn default() -> Self {
        Self { max_entries: 10_000_000, max_bytes: 1 << 40 }
    }
}

/// A directory in use that an archive is unpacked into. What is there keeps its kind, unless it may be replaced: a directory
/// is not replaced by something else, and nothing else by a directory. The directory itself stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// The path of the directory below the root; the names of the archive count from there and may not leave it,
    /// its links count from the root.
    pub below: PathBuf,
    /// The time of directories that the archive needs and has no entry for.
    pub time: Mtime,
    /// Whether what is there may become of another kind.
    pub replaces: bool,
}

/// How to unpack.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// What the directory is.
    pub layering: Layering,
    /// The directories below this one in an overlay, topmost first. A parent directory for which the layer
    /// has no entry gets its owner, mode, time and attributes from the topmost of them that has it;
    /// without one it is 0755, owned by root, of time 0.
    pub lower: Vec<PathBuf>,
    /// What is too much.
    pub limits: Limits,
    /// Whose the files are.
    pub ownership: Ownership,
    /// What happens to devices.
    pub devices: Devices,
    /// The archive is no layer, and the directory not ours alone.
    pub in_use: Option<InUse>,
}

impl ApplyOptions {
    /// Everything as the archive says, within the default limits.
    pub fn new(layering: Layering) -> Self {
        Self {
            layering,
            lower: Vec::new(),
            limits: Limits::default(),
            ownership: Ownership::default(),
            devices: Devices::default(),
            in_use: None,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of uncompressed archive.
    pub bytes: u64,
    /// Devices left out by [`Devices::Skip`].
    pub skipped_devices: u64,
    /// Extended attributes left out, because the filesystem has none of that kind, because an ordinary user
    /// may not set them, or because they are overlayfs's own.
    pub skipped_xattrs: u64,
    /// The layer hides everything below it. overlayfs ignores the mark on a layer's root directory, so the
    /// caller has to leave the lower directories out.
    pub root_opaque: bool,
}

/// Why a layer was not unpacked. The directory then holds an unusable part of it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The directory to unpack into cannot be opened.
    #[error("cannot open {} to unpack into", path.display())]
    Root {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The stream is not a good archive.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// The decompressor could not start.
    #[error(transparent)]
    Compression(#[from] CompressError),
    /// A name leads out of the root.
    #[error("archive entry {entry} leads outside the directory that it is unpacked into")]
    Escape {
        /// The entry whose name or link target does.
        entry: EntryName,
    },
    /// An entry has no name, or would replace the root directory by something else.
    #[error("archive entry {entry} has no usable name")]
    Name {
        /// The entry.
        entry: EntryName,
    },
    /// A name uses the reserved prefix `.wh.` in a way that names no file.
    #[error("archive entry {entry} is not a valid whiteout")]
    Whiteout {
        /// The entry.
        entry: EntryName,
    },
    /// A file of this layer is in the place of a directory on the way to an entry.
    #[error("archive entry {entry} lies below {parent}, which is not a directory")]
    NotADirectory {
        /// The entry.
        entry: EntryName,
        /// The part of its path that is no directory.
        parent: EntryName,
    },
    /// A directory would be replaced by something else.
    #[error("cannot overwrite directory \"{}\" with non-directory", path.display())]
    OverDirectory {
        /// Where it is, from the root.
        path: PathBuf,
    },
    /// Something else would be replaced by a directory.
    #[error("cannot overwrite non-directory \"{}\" with directory", path.display())]
    DirectoryOver {
        /// Where it is, from the root.
        path: PathBuf,
    },
    /// A hard link names something that the archive does not contain.
    #[error("archive entry {entry} is a hard link to {target}, which is not a file of this archive")]
    LinkTarget {
        /// The entry.
        entry: EntryName,
        /// What it names.
        target: EntryName,
    },
    /// A device was to be made without the right to do so.
    #[error("archive entry {entry} is a device, and making devices needs root privileges")]
    Device {
        /// The entry.
        entry: EntryName,
    },
    /// [`Limits::max_entries`] is reached.
    #[error("the archive has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// [`Limits::max_bytes`] is reached.
    #[error("the archive has more than {limit} bytes uncompressed")]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
    /// A system call failed.
    #[error("cannot {operation} archive entry {entry}")]
    Io {
        /// What was to be done, to be read before "archive entry".
        operation: &'static str,
        /// The entry.
        entry: EntryName,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The thread that reads ahead could not be started.
    #[error("cannot start a thread to decompress the layer")]
    Thread(#[source] io::Error),
    /// The uncompressed bytes are not those that the image promises.
    #[error("the layer's uncompressed content is {actual}, but the image says {expected}")]
    DiffId {
        /// What the image says.
        expected: Digest,
        /// What was found.
        actual: Digest,
    },
    /// The layer can be unpacked, but not be kept as one file.
    #[error("archive entry {entry} cannot be part of a packed layer")]
    Unfit {
        /// The entry.
        entry: EntryName,
        /// What is the matter with it.
        #[source]
        source: Unfit,
    },
    /// The caller asked to stop.
    #[error("unpacking was cancelled")]
    Cancelled,
}

impl From<Cancelled> for ApplyError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Faulty for ApplyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Archive(error) => error.fault(),
            Self::Compression(error) => error.fault(),
            Self::Root { .. } | Self::Io { .. } | Self::Thread(_) | Self::Device { .. } => Fault::Environment,
            Self::Cancelled => Fault::Cancelled,
            _ => Fault::Input,
        }
    }
}

impl ApplyError {
    /// Whether a limit of [`Limits`] was reached.
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::TooManyEntries { .. } | Self::TooManyBytes { .. })
    }

    /// What to do about a failure of the whole file system.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => sys::path_error::hint(source),
            _ => "",
        }
    }
}

/// Unpacks an uncompressed tar stream into the directory `root`, reading it to its end.
pub fn apply(
    archive: impl Read,
    root: &Path,
    options: &ApplyOptions,
    cancel: &CancelToken,
) -> Result<Applied, ApplyError> {
    let tree = Tree::new(open(root)?, options)?;
    Unpack::new(BufReader::with_capacity(read_ahead::BUFFER, archive), tree, options, cancel).run()
}

/// Unpacks a tar stream in any known compression below an open directory that others may change meanwhile, which can
/// make this fail, but lead it nowhere else.
pub fn apply_in_use(
    archive: impl Read + Send,
    root: &RootDir,
    options: &ApplyOptions,
    cancel: &CancelToken,
) -> Result<Applied, ApplyError> {
    let path = root.path();
    let root =
        Root::of_open(root.as_fd()).map_err(|source| ApplyError::Root { path: path.to_owned(), source })?;
    let plain = compress::decompressor(archive)?;
    let tree = Tree::new(root, options)?;
    Unpack::new(BufReader::with_capacity(read_ahead::BUFFER, plain), tree, options, cancel).run()
}

fn open(root: &Path) -> Result<Root, ApplyError> {
    Root::open(root).map_err(|source| ApplyError::Root { path: root.to_owned(), source })
}

/// Unpacks a layer blob in any known compression into the directory `root`, and returns the digest of the
/// uncompressed bytes as well. A thread of its own decompresses and digests.
///
/// Layers made to be fetched piece by piece are ordinary layers here. What zstd:chunked adds lies between frames
/// and is not seen. What eStargz adds (`stargz.index.json` and a landmark such as `.no.prefetch.landmark`) are
/// entries of the archive: they are unpacked and counted in the diffID, as in Docker, containerd and umoci.
///
/// With `expected`, another digest is [`ApplyError::DiffId`]; the tree has been written by then, and the
/// caller deletes it as after any error.
pub fn apply_blob(
    blob: impl Read + Send,
    expected: Option<Digest>,
    root: &Path,
    options: &ApplyOptions,
    cancel: &CancelToken,
) -> Result<(Applied, Digest), ApplyError> {
    let plain = compress::decompressor(blob)?;
    let tree = Tree::new(open(root)?, options)?;
    let (applied, diff_id) =
        read_ahead::run(plain, |archive| Unpack::new(archive, tree, options, cancel).run())
            .map_err(ApplyError::Thread)?;
    let applied = applied?;
    match expected {
        Some(expected) if expected != diff_id => Err(ApplyError::DiffId { expected, actual: diff_id }),
        _ => Ok((applied, diff_id)),
    }
}
