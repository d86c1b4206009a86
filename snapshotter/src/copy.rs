//! COPY and the copying part of ADD: from a selection of a tree into a layer, as Docker does it.
//!
//! A file goes to the destination, or into it when that is a directory; of a directory, what is in it (or
//! was chosen of it) goes into the destination and merges with what is there: a directory in it that
//! exists gets the attributes of its source. Links are copied as links, hard links within one source stay
//! hard links, times and attributes are kept, owner and mode can be overridden. Destination paths never
//! leave the image: they are resolved by the [`LayerWriter`].
//!
//! Every file is read once. When a key is asked for, it is computed from the bytes that were written, or
//! taken from a cache that knows the file as it was when they were read. So it is right even if a file
//! changed since its key was computed before: the copy's key wins.
//!
//! The stages, each parallel: scan the sources, make the directories, copy the files, link the hard links,
//! give the directories their attributes and times.

mod dirs;
mod files;
mod links;
pub(crate) mod packed;

use std::path::{Path, PathBuf};

use base::{CancelToken, Fault, Faulty, Key};
use sys::path_error::PathError;
use sys::stat::{FileTime, Stat};

use crate::batch::{Batch, BatchKind, batches};
use crate::content_key::{Leaf, batch_key, gather, note_in_cache, selection_key};
use crate::error::StoreError;
use crate::hard_links::HardLinks;
use crate::merkle::{KeyOptions, Modes};
use crate::mode_change::ModeChange;
use crate::select::Selection;
use crate::stat_cache::StatCache;
use crate::tree::{Entry, Follow, Tree, TreeError};
use crate::writer::{Attributes, LayerWriter, WriteError};

/// The mode of directories that are made because the destination lies in them.
const PARENT_MODE: u32 = 0o755;

/// How a selection is copied.
#[derive(Clone, Copy)]
pub struct CopyOptions<'a> {
    /// Where to, in the image; not necessarily existing. Links on the way are followed.
    pub destination: &'a Path,
    /// Whether the destination must be a directory: it was written with a slash at the end, or there are
    /// several sources.
    pub dest_is_dir: bool,
    /// Whether missing directories on the way are made.
    pub create_destination: bool,
    /// Whether a destination directory becomes a copy of the directory that is copied into it, with its attributes.
    pub destination_is_copy: bool,
    /// Whether what is of another kind at the destination goes; otherwise that is an error.
    pub replace: bool,
    /// The time of everything that is copied; `None` keeps that of the source.
    pub time: Option<FileTime>,
    /// The owner of everything that is created; `None` keeps the owner of the source.
    pub chown: Option<(u32, u32)>,
    /// The owner of directories that have no source, if `chown` does not say.
    pub parent_owner: (u32, u32),
    /// Which modes files and directories have.
    pub modes: Modes,
    /// How those change.
    pub chmod: Option<&'a ModeChange>,
    /// Whether extended attributes are copied.
    pub xattrs: bool,
    /// Compute the content key of what is copied, with these options.
    pub key: Option<KeyOptions>,
    /// Note the hashes of the files in this cache; its paths are those of the source tree.
    pub stat_cache: Option<&'a StatCache>,
}

impl CopyOptions<'_> {
    /// Everything into the root, as it is: owners, modes and attributes stay.
    pub fn as_it_is() -> Self {
        Self {
            destination: Path::new("/"),
            dest_is_dir: true,
            create_destination: true,
            destination_is_copy: false,
            replace: false,
            time: None,
            chown: None,
            parent_owner: (0, 0),
            modes: Modes::Own,
            chmod: None,
            xattrs: true,
            key: None,
            stat_cache: None,
        }
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyStats {
    /// Regular files, without further names of the same file.
    pub files: u64,
    /// Links, devices and pipes, and further names of files.
    pub others: u64,
    /// Directories that were made, without parents of the destination.
    pub dirs: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// The content key of what was copied, if it was asked for: what [`crate::content_key::content_key`]
    /// answers for the same content.
    pub content_key: Option<Key>,
}

/// Why a selection could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source could not be read.
    #[error(transparent)]
    Source(#[from] TreeError),
    /// The layer could not be written.
    #[error(transparent)]
    Target(#[from] WriteError),
    /// Several files were to become one.
    #[error("cannot copy {files} files to \"{}\": it is not a directory (end it with a slash to make one)", destination.display())]
    ManyToOne {
        /// Where to.
        destination: PathBuf,
        /// How many files the sources name.
        files: usize,
    },
    /// The files of a packed layer could not be written.
    #[error(transparent)]
    Store(Box<StoreError>),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<PathError> for CopyError {
    fn from(error: PathError) -> Self {
        Self::Target(error.into())
    }
}

impl From<base::cancel::Cancelled> for CopyError {
    fn from(error: base::cancel::Cancelled) -> Self {
        Self::Source(error.into())
    }
}

impl Faulty for CopyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Source(error) => error.fault(),
            Self::Target(error) => error.fault(),
            Self::ManyToOne { .. } => Fault::Input,
            Self::Store(error) => error.fault(),
        }
    }
}

type Result<T> = std::result::Result<T, CopyError>;

/// Copies `selection` of `source` into the layer of `writer`. An empty selection changes nothing there.
///
/// # Errors
/// A source cannot be read or keeps changing, a directory would replace something else or the reverse,
/// or the layer cannot be written. The layer is then incomplete and must be dropped.
pub fn copy(
    writer: &LayerWriter,
    source: &Tree,
    selection: &Selection,
    options: &CopyOptions<'_>,
    cancel: &CancelToken,
) -> Result<CopyStats> {
    let batches = batches_of(source, selection, options, cancel)?;
    copy_batches(writer, source, &batches, options, cancel)
}

/// The selection in pieces.
pub(crate) fn batches_of(
    source: &Tree,
    selection: &Selection,
    options: &CopyOptions<'_>,
    cancel: &CancelToken,
) -> Result<Vec<Batch>> {
    Ok(batches(source, selection, with_xattrs(options), cancel)?)
}

fn with_xattrs(options: &CopyOptions<'_>) -> bool {
    options.xattrs || options.key.is_some_and(|key| key.xattrs)
}

/// The same pieces as they were when a key was made of them last.
pub(crate) fn seen_before(selection: &Selection, options: &CopyOptions<'_>) -> Option<Vec<Batch>> {
    options.stat_cache?.take_look(selection, with_xattrs(options))
}

/// Copies a selection that was cut into `batches`.
pub(crate) fn copy_batches(
    writer: &LayerWriter,
    source: &Tree,
    batches: &[Batch],
    options: &CopyOptions<'_>,
    cancel: &CancelToken,
) -> Result<CopyStats> {
    if batches.is_empty() {
        return Ok(CopyStats {
            content_key: options.key.map(|_| selection_key(&[])),
            ..CopyStats::default()
        });
    }
    let destination = Destination::find(writer, batches, options)?;
    let job = Job { writer, source, options: *options, clone: files::CloneSupport::default(), cancel };
    let (mut stats, mut keys) = (CopyStats::default(), Vec::new());
    for batch in batches {
        let leaves = job.batch(batch, &destination, &mut stats)?;
        keys.extend(job.keep(batch, &leaves));
    }
    stats.content_key = options.key.map(|_| selection_key(&keys));
    Ok(stats)
}

/// Where the batches go.
struct Destination {
    dir: Entry,
    /// The name of the one file that is copied, when it does not keep its own.
    name: Option<std::ffi::OsString>,
}

impl Destination {
    /// Makes the directories that are missing.
    fn find(writer: &LayerWriter, batches: &[Batch], options: &CopyOptions<'_>) -> Result<Self> {
        let (dir, name) = decide(writer.tree(), batches, options)?;
        Ok(Self { dir: make_parents(writer, &dir, options)?, name })
    }
}

/// Decides between "to" and "into": which directory the batches go to, and the name of the one file that does not keep its own.
fn decide(
    tree: &Tree,
    batches: &[Batch],
    options: &CopyOptions<'_>,
) -> Result<(PathBuf, Option<std::ffi::OsString>)> {
    let resolution = tree.resolve(options.destination, Follow::Last)?;
    let path = resolution.path();
    let exists_as_dir = resolution.missing.is_empty() && resolution.entry.is_dir();
    let has_dir = batches.iter().any(|batch| batch.kind == BatchKind::Directory);
    let depth = if exists_as_dir || options.dest_is_dir || has_dir { 0 } else { 1 };
    // A directory that is copied is itself the last part.
    let made = if has_dir { 1 } else { depth };
    if resolution.missing.len() > made && !options.create_destination {
        return Err(WriteError::Missing(options.destination.to_owned()).into());
    }
    if depth == 0 {
        return Ok((path, None));
    }
    let files = batches.iter().map(|batch| batch.scan.dirs[0].children.len()).sum();
    if files > 1 {
        return Err(CopyError::ManyToOne { destination: options.destination.to_owned(), files });
    }
    let name = path.file_name().ok_or(WriteError::Root)?.to_owned();
    Ok((path.parent().unwrap_or(Path::new("")).to_owned(), Some(name)))
}

fn make_parents(writer: &LayerWriter, path: &Path, options: &CopyOptions<'_>) -> Result<Entry> {
    Ok(writer.mkdir_all(path, &parent_attributes(options))?)
}

/// Directories that have no source look like this.
fn parent_attributes(options: &CopyOptions<'_>) -> Attributes {
    let (uid, gid) = options.chown.unwrap_or(options.parent_owner);
    Attributes::new(PARENT_MODE, uid, gid)
}

/// One copy in progress.
struct Job<'a> {
    writer: &'a LayerWriter,
    source: &'a Tree,
    options: CopyOptions<'a>,
    clone: files::CloneSupport,
    cancel: &'a CancelToken,
}

impl Job<'_> {
    /// Copies one batch; answers what the files turned out to be, in the shape of the scan.
    fn batch(
        &self,
        batch: &Batch,
        destination: &Destination,
        stats: &mut CopyStats,
    ) -> Result<Vec<Vec<Option<Leaf>>>> {
        let targets = self.make_dirs(&batch.scan, &destination.dir)?;
        let links = HardLinks::find(&batch.scan);
        let copied = self.copy_files(&batch.scan, &targets, &links, destination.name.as_deref())?;
        stats.dirs += targets.iter().filter(|target| target.is_new()).count() as u64;
        let mut results = Vec::with_capacity(copied.len());
        for part in copied {
            stats.files += part.files;
            stats.others += part.others;
            stats.bytes += part.bytes;
            results.push((part.chunk, part.leaves));
        }
        let mut leaves = gather(&batch.scan, results);
        stats.others += self.make_hard_links(&batch.scan, &targets, &links, &mut leaves)?;
        self.finish_dirs(&batch.scan, &targets)?;
        Ok(leaves)
    }

    /// Notes what became known of the files of a batch, and computes its key if one was asked for.
    fn keep(&self, batch: &Batch, leaves: &[Vec<Option<Leaf>>]) -> Option<Key> {
        if let Some(cache) = self.options.stat_cache {
            note_in_cache(cache, &batch.scan, leaves);
        }
        self.options.key.map(|key| batch_key(key, batch, leaves))
    }

    /// The owner and mode that a copy of a file with this status gets.
    fn target_attributes(&self, stat: &Stat, xattrs: Vec<sys::xattr::Xattr>) -> Attributes {
        let (uid, gid) = self.options.chown.unwrap_or((stat.uid, stat.gid));
        let mode = self.options.modes.of(stat);
        let mode = self.options.chmod.map_or(mode, |change| change.apply(mode, stat.is_dir()));
        let xattrs = if self.options.xattrs { xattrs } else { Vec::new() };
        Attributes { mode, uid, gid, mtime: self.options.time.or(Some(stat.mtime)), xattrs }
    }
}

#[cfg(test)]
mod tests;
