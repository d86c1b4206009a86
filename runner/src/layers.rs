//! Packed layers of a request's filesystems, mounted where nobody sees them for as long as something is to be made of
//! them here. What was made keeps its own hold of them in its mount namespace, and goes with that.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Mount;
use sys::path_error::{PathContext as _, PathError};
use sys::rootdir::RootDir;

/// The packed ones among the layers of some mounts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    packed: Arc<Vec<(PathBuf, OwnedFd)>>,
    /// Whether what is mounted is mounted in a new process, where they have other numbers.
    in_process: bool,
}

impl Layers {
    /// Mounts those of `mounts`, for filesystems of this process.
    ///
    /// # Errors
    /// One of them cannot be mounted.
    pub(crate) fn of<'a>(mounts: impl IntoIterator<Item = &'a Mount>) -> Result<Self, PathError> {
        let mut packed: Vec<(PathBuf, OwnedFd)> = Vec::new();
        for directory in mounts.into_iter().flat_map(read_only) {
            if !packed.iter().any(|(known, _)| known == directory)
                && let Some(root) = mount(directory)?
            {
                packed.push((directory.to_owned(), root));
            }
        }
        Ok(Self { packed: Arc::new(packed), in_process: false })
    }

    /// The same layers for filesystems of a process that gets their [`descriptors`](Self::descriptors).
    pub(crate) fn for_new_process(self) -> Self {
        Self { in_process: true, ..self }
    }

    /// What a new process gets.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.packed.iter().map(|(_, root)| root.as_fd()).collect()
    }

    fn find(&self, directory: &Path) -> Option<usize> {
        self.packed.iter().position(|(known, _)| known == directory)
    }

    /// By which path the kernel finds a layer where it is mounted.
    pub(crate) fn path<'a>(&self, directory: &'a Path) -> Cow<'a, Path> {
        match self.find(directory) {
            Some(number) if self.in_process => Cow::Owned(sys::spawn::layer_path(number)),
            Some(number) => Cow::Owned(sys::erofs::path_of(&self.packed[number].1)),
            None => Cow::Borrowed(directory),
        }
    }

    /// A directory that nobody needs once this layer is taken: itself, or that of a packed layer's files.
    pub(crate) fn place<'a>(&self, directory: &'a Path) -> &'a Path {
        let files = directory.parent().filter(|_| self.find(directory).is_some());
        files.unwrap_or(directory)
    }
}

/// Opens a layer to read it.
pub(crate) fn open(directory: &Path) -> Result<RootDir, PathError> {
    match mount(directory)? {
        // What is open stays when the mount is given back.
        Some(root) => RootDir::open(sys::erofs::path_of(&root)),
        None => RootDir::open(directory),
    }
}

fn mount(directory: &Path) -> Result<Option<OwnedFd>, PathError> {
    sys::erofs::mount_layer(directory).at("mount the packed layer", directory)
}

/// The directories of a mount that are only read.
fn read_only(mount: &Mount) -> &[PathBuf] {
    match mount {
        Mount::Overlay { lower, .. } => lower,
        Mount::Bind { source, read_only: true } => std::slice::from_ref(source),
        Mount::Bind { .. } => &[],
    }
}
