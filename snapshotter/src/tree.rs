//! A read-only merged view of directories, in user space.
//!
//! A [`Tree`] is a stack of directories, the topmost first, seen as overlayfs would show it (whiteouts
//! hide, opaque directories end the merge), or one host directory as it is, less what a [`Filter`]
//! excludes. Paths are resolved inside the tree: an absolute link and `..` start from and stop at its
//! root, whatever the directories really hold. No mount and no process is needed.
//!
//! A tree holds open one descriptor per directory of the stack and caches nothing: it shows what is on
//! disk now. It never writes. Overlays mounted with `redirect_dir` or `metacopy` are not understood.

mod listing;
mod marks;
mod resolve;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Fault, Faulty};
use sys::path_error::{PathContext as _, PathError};
use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};
use sys::xattr::{self, Target, Xattr};

pub use listing::OpenDir;
pub use marks::is_content_xattr;
pub(crate) use marks::{OPAQUE_TRUSTED, OPAQUE_USER, is_image_xattr, is_layer_xattr};
pub(crate) use resolve::Resolution;

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] PathError),
    /// A path leads through more symbolic links than the kernel would follow.
    #[error("too many levels of symbolic links at \"{}\"", .0.display())]
    LinkLoop(PathBuf),
    /// Something else than a regular file was to be read.
    #[error("\"{}\" is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// A file is longer than the caller wants to hold in memory.
    #[error("\"{}\" is {size} bytes long; at most {limit} can be read", path.display())]
    TooLarge {
        /// The file, relative to the root of the tree.
        path: PathBuf,
        /// Its length.
        size: u64,
        /// The most that was allowed.
        limit: u64,
    },
    /// A file changed every time it was read.
    #[error("\"{}\" keeps changing while it is read; try again when nothing writes to it", .0.display())]
    Unstable(PathBuf),
    /// The caller asked to stop.
    #[error(transparent)]
    Cancelled(#[from] base::cancel::Cancelled),
}

impl TreeError {
    /// The file that was there when its directory was read and is not there any more, if that is what happened.
    pub fn vanished(&self) -> Option<&Path> {
        match self {
            Self::File(error) if error.is_not_found() => Some(&error.path),
            _ => None,
        }
    }
}

impl Faulty for TreeError {
    fn fault(&self) -> Fault {
        match self {
            Self::File(error) => error.fault(),
            Self::LinkLoop(_) | Self::NotAFile(_) | Self::TooLarge { .. } | Self::Unstable(_) => Fault::Input,
            Self::Cancelled(_) => Fault::Cancelled,
        }
    }
}

type Result<T> = std::result::Result<T, TreeError>;

/// Decides which entries of a tree do not exist for its reader: the rules of a `.dockerignore`.
pub trait Filter: Send + Sync {
    /// What decides about the entries of the directory at this path, relative to the root of the tree and
    /// empty for the root itself. Asked once for all of them.
    fn directory<'a>(&'a self, dir: &Path) -> Box<dyn DirectoryFilter + 'a>;

    /// Whether nothing below this excluded directory can be included by an exception, so that it need
    /// not be looked into.
    fn prunes(&self, dir: &Path) -> bool;
}

/// Decides about the entries of one directory.
pub trait DirectoryFilter: Send + Sync {
    /// Whether the entry of this name is excluded.
    fn excludes(&self, name: &OsStr) -> bool;
}

/// What a filter says about an entry; the stricter, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It is there.
    Included,
    /// A directory that is there only if something below it is.
    IfNotEmpty,
    /// It is not there.
    Excluded,
}

/// A filter at one directory.
pub(crate) struct Judge<'a> {
    filter: &'a dyn Filter,
    entries: Box<dyn DirectoryFilter + 'a>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(filter: &'a dyn Filter, dir: &Path) -> Self {
        Self { filter, entries: filter.directory(dir) }
    }

    /// What is said about the entry at `path`, which is in this directory.
    pub(crate) fn verdict(&self, path: &Path, is_dir: bool) -> Verdict {
        if !self.entries.excludes(path.file_name().unwrap_or_default()) {
            Verdict::Included
        } else if is_dir && !self.filter.prunes(path) {
            Verdict::IfNotEmpty
        } else {
            Verdict::Excluded
        }
    }
}

/// Whether a symbolic link in the last place of a path is followed. Those before it always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The last component too.
    Last,
    /// Not the last component.
    NoLast,
}

/// One entry of a tree: a name, what the kernel says about it, and where it really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    path: PathBuf,
    stat: Stat,
    top: u16,
    below: Vec<u16>,
}

impl Entry {
    /// The path from the root of the tree, without links and without a leading slash; empty for the root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last component of the path; empty for the root.
    pub fn name(&self) -> &OsStr {
        // The path is clean, so this need not look at its components.
        let path = self.path.as_os_str().as_bytes();
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        OsStr::from_bytes(&path[start..])
    }

    /// Kind, mode, owner, size, times and identity; of a merged directory, those of its topmost part.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// The kind of file.
    pub fn kind(&self) -> Kind {
        self.stat.kind
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.stat.is_dir()
    }

    /// The directory of the stack that holds this entry, counted from the top; of a merged directory,
    /// its topmost part.
    pub fn layer(&self) -> usize {
        self.top.into()
    }

    /// All directories of the stack that contribute to this entry, the topmost first.
    fn layers(&self) -> impl Iterator<Item = u16> + '_ {
        std::iter::once(self.top).chain(self.below.iter().copied())
    }
}

/// What a tree is made of.
struct Inner {
    layers: Vec<RootDir>,
    overlay: bool,
    filter: Option<Arc<dyn Filter>>,
}

/// A read-only merged view of directories. Clones share the open directories.
#[derive(Clone)]
pub struct Tree(Arc<Inner>);

impl Tree {
    /// A stack of layers in overlayfs's form, the topmost first. An empty stack is an empty tree only
    /// to its caller: here it is refused with `InvalidInput`. At most 65 535 layers.
    pub fn overlay<P: AsRef<Path>>(dirs: impl IntoIterator<Item = P>) -> Result<Self> {
        let layers = dirs.into_iter().map(RootDir::open).collect::<std::result::Result<Vec<_>, _>>()?;
        if layers.is_empty() || layers.len() > usize::from(u16::MAX) {
            let cause = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(PathError::new("stack layers on", "", cause).into());
        }
        Ok(Self(Arc::new(Inner { layers, overlay: true, filter: None })))
    }

    /// One directory as it is, less what `filter` excludes: a build context, a mounted root.
    pub fn directory(path: impl AsRef<Path>, filter: Option<Arc<dyn Filter>>) -> Result<Self> {
        let layers = vec![RootDir::open(path)?];
        Ok(Self(Arc::new(Inner { layers, overlay: false, filter })))
    }

    /// The files below an open directory, as they are.
    pub fn of_open(root: RootDir) -> Self {
        Self(Arc::new(Inner { layers: vec![root], overlay: false, filter: None }))
    }

    /// The same tree without its filter.
    pub fn unfiltered(&self) -> Result<Self> {
        let mut layers = Vec::new();
        for layer in &self.0.layers {
            layers.push(RootDir::open(layer.path())?);
        }
        Ok(Self(Arc::new(Inner { layers, overlay: self.0.overlay, filter: None })))
    }

    /// The paths of the directories, the topmost first.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.0.layers.iter().map(RootDir::path)
    }

    /// Whether a filter may hide entries.
    pub fn is_filtered(&self) -> bool {
        self.0.filter.is_some()
    }

    /// The root directory.
    pub fn root(&self) -> Result<Entry> {
        let stat = sys::rootdir::stat_of(&self.0.layers[0], self.0.layers[0].path())?;
        let below = (1..self.0.layers.len()).map(|index| index as u16).collect();
        Ok(Entry { path: PathBuf::new(), stat, top: 0, below })
    }

    /// The entry at `path`, or `None` when there is none. Links on the way are followed inside the tree.
    pub fn lookup(&self, path: impl AsRef<Path>, follow: Follow) -> Result<Option<Entry>> {
        Ok(self.resolve(path.as_ref(), follow)?.into_entry())
    }

    /// The entry at `path`, if there is one, and the path without links, whether it exists or not. The number tells what
    /// is missing: one if only the last component is and could be made, more if not.
    pub fn locate(&self, path: impl AsRef<Path>, follow: Follow) -> Result<(Option<Entry>, PathBuf, usize)> {
        let found = self.resolve(path.as_ref(), follow)?;
        let (path, missing) = (found.path(), found.missing.len());
        // Nothing can be below what is no directory.
        let missing = if found.entry.is_dir() { missing } else { missing.saturating_mul(2) };
        Ok((found.into_entry(), path, missing))
    }

    /// Follows `path` as far as it exists.
    pub(crate) fn resolve(&self, path: &Path, follow: Follow) -> Result<Resolution> {
        resolve::resolve(self, path, follow)
    }

    /// Opens a directory of the tree, to list it or to look at several of its entries.
    pub fn open_dir(&self, dir: &Entry) -> Result<OpenDir<'_>> {
        OpenDir::open(self, dir)
    }

    /// The entries of a directory, sorted by the bytes of their names.
    pub fn read_dir(&self, dir: &Entry) -> Result<Vec<Entry>> {
        self.open_dir(dir)?.entries()
    }

    /// Opens a regular file for reading.
    pub fn open(&self, entry: &Entry) -> Result<File> {
        if entry.kind() != Kind::File {
            return Err(TreeError::NotAFile(entry.path.clone()));
        }
        Ok(self.holder(entry)?.open_file(entry.name())?)
    }

    /// The content of a regular file of at most `limit` bytes.
    pub fn read(&self, entry: &Entry, limit: u64) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let shown = self.shown(entry);
        let file = self.open(entry)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut content).at("read", &shown)?;
        let size = (content.len() as u64).max(entry.stat.size);
        if content.len() as u64 > limit {
            return Err(TreeError::TooLarge { path: entry.path.clone(), size, limit });
        }
        Ok(content)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, entry: &Entry) -> Result<OsString> {
        Ok(self.holder(entry)?.read_link(entry.name())?)
    }

    /// The extended attributes of an entry that belong to an image, sorted: those of users and of root, file
    /// capabilities and POSIX access control lists.
    pub fn xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>> {
        let holder = self.holder(entry)?;
        // The root has no name in a directory of ours; "." names it in itself.
        let name = if entry.path.as_os_str().is_empty() { OsStr::new(".") } else { entry.name() };
        Ok(xattr::read_all(Target::Name(&holder, name), &self.shown(entry), is_image_xattr)?)
    }

    /// The path of an entry on the host, for messages and for tools that need a path. Do not open it:
    /// what is there may have become a link.
    pub fn shown(&self, entry: &Entry) -> PathBuf {
        self.0.layers[entry.layer()].shown(&entry.path)
    }

    /// The real directory that holds an entry, opened without following links.
    fn holder(&self, entry: &Entry) -> Result<RootDir> {
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        self.real_dir(entry.top, parent)
    }

    fn real_dir(&self, layer: u16, path: &Path) -> Result<RootDir> {
        let root = &self.0.layers[usize::from(layer)];
        let vanished = || PathError::new("open directory", root.shown(path), std::io::ErrorKind::NotFound);
        Ok(root.open_real_dir(path)?.ok_or_else(vanished)?)
    }
}

#[cfg(test)]
mod tests;
