//! Reads what the archive says about files, many at a time: status, link target, attributes, and the
//! content of small files. Order is kept; large files are opened later, one by one.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use sys::path_error::{PathContext, PathError};
use sys::rootdir::RootDir;
use sys::stat::Stat;
use sys::xattr::{self, Target};

use super::{Change, DiffError};
use crate::tar_entry::{Entry, Kind, Mtime, Xattr};
use crate::tree::is_image_xattr;

/// Files up to this size are read ahead, in bytes.
const SMALL: u64 = 64 << 10;

/// How many changes are loaded together.
const BATCH: usize = 256;

/// How many directories may be open for one batch, so that several layers can be written at a time under
/// the usual limit of 1024 open files.
const BATCH_DIRECTORIES: usize = 24;

/// A change with everything that the archive needs to say it.
pub(super) enum Loaded {
    Present(Box<Present>),
    Deleted(PathBuf),
    Opaque(PathBuf),
    /// A socket, which no archive can hold.
    Socket,
}

/// A file that is there.
pub(super) struct Present {
    pub(super) entry: Entry,
    pub(super) content: Content,
    /// Device and inode number, for a file that has more than one name.
    pub(super) shared_inode: Option<(u64, u64)>,
}

/// The content of a file.
pub(super) enum Content {
    /// All of it (nothing, for what has no content).
    Read(Vec<u8>),
    /// To be read from the file of this name in this directory.
    InFile(Arc<RootDir>, PathBuf),
}

/// Loads changes in batches, keeping their order.
pub(super) struct Loader<'a, I> {
    root: &'a RootDir,
    /// Attributes of files that are not complete by themselves.
    references: References,
    changes: I,
    /// The directory of the last change.
    directory: Option<(PathBuf, Arc<RootDir>)>,
}

/// The names of attributes by which overlayfs refers to data in another layer.
pub(super) type References = &'static [&'static [u8]];

/// A change, and the directory that its name is in.
type Task = (Change, Arc<RootDir>);

impl<'a, I: Iterator<Item = Result<Change, DiffError>>> Loader<'a, I> {
    pub(super) fn new(root: &'a RootDir, references: References, changes: I) -> Self {
        Self { root, references, changes, directory: None }
    }

    /// The next changes, loaded; none at the end.
    pub(super) fn next_batch(&mut self) -> Result<Vec<Loaded>, DiffError> {
        let mut tasks: Vec<Task> = Vec::with_capacity(BATCH);
        let mut directories = 0;
        while tasks.len() < BATCH && directories < BATCH_DIRECTORIES {
            let Some(change) = self.changes.next() else { break };
            let change = change?;
            let parent = change.path().parent().unwrap_or(Path::new(""));
            let directory = match &self.directory {
                Some((open_path, directory)) if open_path == parent => Arc::clone(directory),
                _ => {
                    directories += 1;
                    let directory = Arc::new(self.root.open_dir(parent)?);
                    self.directory = Some((parent.to_owned(), Arc::clone(&directory)));
                    directory
                }
            };
            tasks.push((change, directory));
        }
        let references = self.references;
        tasks.into_par_iter().map(|(change, directory)| load(change, directory, references)).collect()
    }
}

fn load(change: Change, directory: Arc<RootDir>, references: References) -> Result<Loaded, DiffError> {
    match change {
        Change::Deleted(path) => Ok(Loaded::Deleted(path)),
        Change::Opaque(path) => Ok(Loaded::Opaque(path)),
        Change::Present(path) => load_present(path, directory, references),
    }
}

fn load_present(path: PathBuf, directory: Arc<RootDir>, references: References) -> Result<Loaded, DiffError> {
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let shown = directory.shown(name);
    let stat = directory.stat(name)?.ok_or_else(|| {
        PathError::new("read the status of", &shown, std::io::Error::from(std::io::ErrorKind::NotFound))
    })?;
    let Some(kind) = Kind::of(stat.kind) else { return Ok(Loaded::Socket) };
    let mut entry = entry_of(kind, &path, &stat);
    let content = if kind == Kind::File && 0 < stat.size && stat.size <= SMALL {
        let file = directory.open_file(name)?;
        entry.xattrs = exported_xattrs(Target::Open(file.as_fd()), &shown, &path, references)?;
        let mut bytes = Vec::with_capacity(stat.size as usize);
        file.take(stat.size).read_to_end(&mut bytes).at("read", &shown)?;
        Content::Read(bytes)
    } else {
        entry.xattrs = exported_xattrs(Target::Name(&directory, name), &shown, &path, references)?;
        if kind == Kind::Symlink {
            entry.link = directory.read_link(name)?.into_vec();
        }
        match stat.size {
            size if kind == Kind::File && size > 0 => {
                Content::InFile(Arc::clone(&directory), PathBuf::from(name))
            }
            _ => Content::Read(Vec::new()),
        }
    };
    let shared = kind != Kind::Directory && stat.links > 1;
    let shared_inode = shared.then_some((stat.device, stat.inode));
    Ok(Loaded::Present(Box::new(Present { entry, content, shared_inode })))
}

fn entry_of(kind: Kind, path: &Path, stat: &Stat) -> Entry {
    let mut entry = Entry::new(kind, path.as_os_str().as_bytes());
    entry.mode = stat.mode;
    entry.uid = stat.uid;
    entry.gid = stat.gid;
    entry.mtime = Mtime { seconds: stat.mtime.seconds, nanos: 0 };
    if kind == Kind::File {
        entry.size = stat.size;
    }
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
        entry.device = (rustix::fs::major(stat.rdev), rustix::fs::minor(stat.rdev));
    }
    entry
}

/// The attributes that belong to an image. What overlayfs left as a reference to another layer is refused.
fn exported_xattrs(
    target: Target<'_>,
    shown: &Path,
    path: &Path,
    references: References,
) -> Result<Vec<Xattr>, DiffError> {
    let incomplete = RefCell::new(None);
    let xattrs = xattr::read_all(target, shown, |name| {
        if references.contains(&name) {
            *incomplete.borrow_mut() = Some(String::from_utf8_lossy(name).into_owned());
        }
        is_image_xattr(name)
    })?;
    if let Some(attribute) = incomplete.into_inner() {
        return Err(DiffError::Incomplete { path: path.to_owned(), attribute });
    }
    Ok(xattrs.into_iter().map(Xattr::from).collect())
}
