//! Packed layers of a request's filesystems, mounted where nobody sees them for as long as something is to be made of
//! them here. What was made keeps its own hold of them in its mount namespace, and goes with that.

mod kept;
mod users;

use std::borrow::Cow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Mount;
use sys::erofs::{Backing, LayerFiles, Way};
use sys::path_error::{PathContext as _, PathError};
use sys::rootdir::RootDir;

pub use kept::KeptLayers;
use users::Shared;

/// The packed ones among the layers of some mounts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    packed: Arc<Vec<Arc<Layer>>>,
    /// Whether what is mounted is mounted in a new process, where they have other numbers.
    in_process: bool,
    /// Whether they have to be attached there before.
    attached: bool,
}

/// A packed layer that is mounted.
#[derive(Debug)]
struct Layer {
    directory: PathBuf,
    root: OwnedFd,
    shared: Shared,
}

impl Layers {
    /// Mounts those of `mounts` in this way, for filesystems of this process, unless they are `kept`.
    ///
    /// # Errors
    /// One of them cannot be mounted.
    pub(crate) fn of<'a>(
        mounts: impl IntoIterator<Item = &'a Mount>,
        way: Way,
        kept: &KeptLayers,
    ) -> Result<Self, PathError> {
        // A mount that gets attached is nobody else's.
        let none = KeptLayers::default();
        let kept = if way.attached { &none } else { kept };
        let mut packed: Vec<Arc<Layer>> = Vec::new();
        for directory in mounts.into_iter().flat_map(read_only) {
            if !packed.iter().any(|known| known.directory == *directory)
                && let Some(layer) = Layer::of(directory, way.backing, kept)?
            {
                packed.push(layer);
            }
        }
        Ok(Self { packed: Arc::new(packed), in_process: false, attached: way.attached })
    }

    /// The same layers for filesystems of a process that gets their [`descriptors`](Self::descriptors).
    pub(crate) fn for_new_process(self) -> Self {
        Self { in_process: true, ..self }
    }

    /// Lets others share what is mounted here, for as long as this is there.
    pub(crate) fn tell(&self) {
        self.packed.iter().for_each(|layer| users::tell(&layer.directory, &layer.root, &layer.shared));
    }

    /// What a new process gets.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.packed.iter().map(|layer| layer.root.as_fd()).collect()
    }

    /// The paths of those that have to be attached before anything is made of them, whatever was mounted of them.
    pub(crate) fn to_attach(&self) -> Vec<PathBuf> {
        let all = self.packed.iter().map(|layer| self.path(&layer.directory).into_owned());
        if self.attached { all.collect() } else { Vec::new() }
    }

    /// Opens a layer to read it, in this process.
    pub(crate) fn open(&self, directory: &Path) -> Result<RootDir, PathError> {
        match self.find(directory) {
            Some(number) => RootDir::open(sys::erofs::path_of(&self.packed[number].root)),
            None => RootDir::open(directory),
        }
    }

    fn find(&self, directory: &Path) -> Option<usize> {
        self.packed.iter().position(|layer| layer.directory == directory)
    }

    /// By which path the kernel finds a layer where it is mounted.
    pub(crate) fn path<'a>(&self, directory: &'a Path) -> Cow<'a, Path> {
        match self.find(directory) {
            Some(number) if self.in_process => Cow::Owned(sys::spawn::layer_path(number)),
            Some(number) => Cow::Owned(sys::erofs::path_of(&self.packed[number].root)),
            None => Cow::Borrowed(directory),
        }
    }

    /// A directory that nobody needs once this layer is taken: itself, or that of a packed layer's files.
    pub(crate) fn place<'a>(&self, directory: &'a Path) -> &'a Path {
        let files = directory.parent().filter(|_| self.find(directory).is_some());
        files.unwrap_or(directory)
    }
}

impl Layer {
    /// Mounts a layer, or shares a mount of it; `None` when it is not packed.
    fn of(directory: &Path, backing: Backing, kept: &KeptLayers) -> Result<Option<Arc<Self>>, PathError> {
        let mounted = || -> std::io::Result<Option<Arc<Self>>> {
            let Some(files) = LayerFiles::open(directory)? else { return Ok(None) };
            let identity = files.identity()?;
            if let Some(layer) = kept.find(directory, &identity) {
                return Ok(Some(layer));
            }
            let (root, shared) = match users::find(directory, &identity) {
                Some(found) => found,
                None => (files.mount(backing)?, Shared::none(identity)),
            };
            let layer = Arc::new(Self { directory: directory.to_owned(), root, shared });
            kept.keep(&layer);
            Ok(Some(layer))
        };
        mounted().at("mount the packed layer", directory)
    }
}

/// The directories of a mount that are only read.
fn read_only(mount: &Mount) -> &[PathBuf] {
    match mount {
        Mount::Overlay { lower, .. } => lower,
        Mount::Bind { source, read_only: true } => std::slice::from_ref(source),
        Mount::Bind { .. } => &[],
    }
}
