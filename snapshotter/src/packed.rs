//! Packed layers: a layer as the archive that it came as, uncompressed, and an [EROFS](crate::erofs) image of its files
//! that points into it. It is mounted and never unpacked.
//!
//! **Mounts belong to nobody but those who use them.** A process that reads a packed layer has a mount that only its
//! descriptor knows, made when the layer is first read; a container has one in its own mount namespace, which the runner
//! makes. Nothing is attached where others see it, nothing is counted, and the kernel takes each away with its user,
//! whatever ends that.
//!
//! The rest of the store works with paths of layer directories, and goes on doing so: the path of a mounted layer is that
//! of its descriptor. It is good in this process only, so what others get ([`base::Mount`]) names the place where
//! the directory would be.

pub(crate) mod bases;
mod candidates;
pub(crate) mod contents;
mod convert;
mod copied;
mod files;
mod mend;
pub(crate) mod pieces;
mod probe;
pub(crate) mod pulled;
mod remake;
pub(crate) mod sketch;
mod way;

pub use convert::{ConvertTo, Converted, Kept};
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};

use base::Digest;
use base::digest::Digester;
use sys::erofs::Way;
use sys::fs::PathError;

use crate::apply::{ApplyError, ApplyOptions, Ownership};
use crate::batch::Batch;
use crate::db::packed::{self as rows, PackedLayer};
use crate::db::{settings, snapshots};
use crate::erofs::{self, BlockBits, WriteError};
use crate::error::StoreError;
use crate::layout::SnapshotDirs;
use crate::snapshot::SnapshotId;
use crate::store::{Options, Store};
use crate::write_back::begin_if_long;
use files::Files;
pub(crate) use pieces::Archive;
use pieces::Pieces;
use sketch::Sketch;
pub use way::PackingObstacle;

/// How many files a copy has at least that is packed without being asked for: fewer are copied in less time than mounting
/// what they become takes from those who use it.
const WORTH_PACKING: usize = 1024;

/// How many bytes a blob has at least that stays packed without being asked for.
const WORTH_KEEPING: u64 = 8 << 20;

/// How many bytes a copy has otherwise: an archive of them is digested while it is written, a directory afterwards.
const WORTH_DIGESTING: u64 = 64 << 20;

/// In which form layers are kept that come as archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StoredForm {
    /// What suits: copies of many files are packed, where the kernel can mount that; all else is kept as directories.
    #[default]
    Auto,
    /// As directories. Packed layers that are there become directories when they are used.
    Dir,
    /// Packed, where the kernel can mount that and the layer allows it.
    Packed,
}

/// What one handle of a store knows of packed layers.
pub(crate) struct PackedLayers {
    wanted: StoredForm,
    /// How they are to be mounted, if that was said.
    asked: Option<Way>,
    /// How they are mounted, or why they are not, found out once.
    way: OnceLock<Result<Way, PackingObstacle>>,
    /// Who is told that layers become directories, and whether he was.
    teller: fn(&PackingObstacle),
    told: AtomicBool,
    mounts: Mutex<HashMap<SnapshotId, OwnedFd>>,
}

impl PackedLayers {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            wanted: options.layer_form,
            asked: options.layer_way,
            way: OnceLock::new(),
            teller: options.on_unpacked,
            told: AtomicBool::new(false),
            mounts: Mutex::default(),
        }
    }

    fn mounted(&self, layer: SnapshotId) -> Option<PathBuf> {
        self.lock().get(&layer).map(sys::erofs::path_of)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SnapshotId, OwnedFd>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Whether a layer is packed that comes as a blob of so many bytes.
    pub(crate) fn packs_layers(&self, size: u64) -> Result<bool, StoreError> {
        let is_wanted = match self.packed().wanted {
            StoredForm::Dir => false,
            StoredForm::Packed => true,
            StoredForm::Auto => size >= WORTH_KEEPING,
        };
        Ok(is_wanted && self.way()?.is_ok())
    }

    /// Whether every layer is packed that can be.
    fn packs_all(&self) -> Result<bool, StoreError> {
        Ok(self.packed().wanted == StoredForm::Packed && self.way()?.is_ok())
    }

    /// Whether the layer of a copy of these files and directories is packed.
    fn packs_copies(&self, batches: &[Batch]) -> Result<bool, StoreError> {
        match self.packed().wanted {
            StoredForm::Dir => Ok(false),
            StoredForm::Packed => Ok(self.way()?.is_ok()),
            StoredForm::Auto => Ok(self.is_worth_packing(batches)? && self.way()?.is_ok()),
        }
    }

    fn is_worth_packing(&self, batches: &[Batch]) -> Result<bool, StoreError> {
        let children = || batches.iter().flat_map(|batch| &batch.scan.dirs).flat_map(|dir| &dir.children);
        if children().count() >= WORTH_PACKING {
            return Ok(true);
        }
        let bytes = children().filter(|child| child.dir.is_none()).map(|child| child.entry.stat().size);
        // Where files can share their content, copying them is nothing.
        Ok(bytes.fold(0, u64::saturating_add) >= WORTH_DIGESTING
            && !sys::copy::shares_content(&self.scratch_dir()).unwrap_or(false))
    }

    /// Where this process finds the files of a snapshot's own layer.
    pub(crate) fn layer_root(&self, layer: SnapshotId) -> Result<PathBuf, StoreError> {
        if let Some(path) = self.packed().mounted(layer) {
            return Ok(path);
        }
        match self.mount_packed(layer)? {
            // Of two who mounted it at a time, one is enough.
            Some(root) => {
                let mut mounts = self.packed().lock();
                Ok(sys::erofs::path_of(mounts.entry(layer).or_insert(root)))
            }
            None => Ok(self.layout().snapshot(layer).fs()),
        }
    }

    /// Mounts a packed layer; `None` when it is a directory, or became one because it cannot be mounted.
    fn mount_packed(&self, layer: SnapshotId) -> Result<Option<OwnedFd>, StoreError> {
        let row = self.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        let Some(row) = row else { return Ok(None) };
        let Some(files) = self.whole_files(layer, &row)? else { return Ok(None) };
        if self.packed().wanted != StoredForm::Dir {
            match self.way()? {
                Ok(way) => match files.mount(&self.layout().snapshot(layer), way.backing) {
                    Ok(root) => return Ok(Some(root)),
                    Err(error) => self.tell_of_unpacking(&PackingObstacle::Mount(error)),
                },
                Err(obstacle) => self.tell_of_unpacking(obstacle),
            }
        }
        self.unpack_packed(layer, &files)?;
        Ok(None)
    }

    /// The archive of a layer, if it is packed.
    pub(crate) fn packed_archive(&self, layer: SnapshotId) -> Result<Option<Archive>, StoreError> {
        let row = self.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        let files = row.map(|row| self.whole_files(layer, &row)).transpose()?;
        Ok(files.flatten().map(Files::into_archive))
    }

    /// Gives mounts of layers back that are not there any more.
    pub(crate) fn forget_packed(&self) -> Result<(), StoreError> {
        if self.packed().lock().is_empty() {
            return Ok(());
        }
        let known = self.db().read("list packed layers", rows::all)?;
        self.packed().lock().retain(|layer, _| known.iter().any(|(known, _)| known == layer));
        Ok(())
    }

    /// Writes the index of an archive that is there; `None`, and no file, when the format cannot hold it.
    fn write_index(
        &self,
        dirs: &SnapshotDirs,
        tree: &erofs::Tree,
        tar: Digest,
        pieces: &Pieces,
    ) -> Result<Option<PackedLayer>, StoreError> {
        let index = self.write_index_file(dirs, tree, pieces)?;
        let sketch = Sketch::of(tree.files().map(|(name, size, _)| (name, size)));
        index.map(|index| Ok(self.row_of(dirs, sketch, pieces, index)?(tar))).transpose()
    }

    /// The same before the digest of the archive is known: writes the file, and gives its digest and length.
    fn write_index_file(
        &self,
        dirs: &SnapshotDirs,
        tree: &erofs::Tree,
        pieces: &Pieces,
    ) -> Result<Option<(Digest, u64)>, StoreError> {
        let path = dirs.index();
        let file = sys::fs::create_new(&path, 0o400)?;
        let mut out =
            Hashed { out: BufWriter::with_capacity(256 << 10, file), digest: Digester::new(), size: 0 };
        let written = tree.write(BlockBits::TAR, pieces, &mut out).and_then(|()| Ok(out.flush()?));
        match written {
            Ok(()) => begin_if_long(out.out.get_ref(), out.size),
            Err(WriteError::Unfit(_)) => {
                sys::fs::remove_file(&path)?;
                return Ok(None);
            }
            Err(WriteError::Output(error)) => {
                let source = PathError::new("write", &path, error);
                return Err(StoreError::PackedIndex { path: dirs.top.clone(), source });
            }
        }
        Ok(Some((out.digest.finish(), out.size)))
    }

    /// The row of a packed layer whose files are there, once the digest of its archive is known.
    fn row_of(
        &self,
        dirs: &SnapshotDirs,
        sketch: Sketch,
        pieces: &Pieces,
        (index, index_size): (Digest, u64),
    ) -> Result<impl FnOnce(Digest) -> PackedLayer + use<>, StoreError> {
        let tar_size = pieces.size();
        let shares = !pieces.parts().is_empty();
        let pieces = shares.then(|| Digest::of(pieces.to_text().as_bytes()));
        let checked = match Files::open(dirs)? {
            Some(files) => files.identity(dirs, &self.boot()?)?,
            None => String::new(),
        };
        Ok(move |tar| PackedLayer {
            tar,
            tar_size,
            index,
            index_size,
            contents: None,
            pieces,
            sketch: Some(sketch),
            checked,
        })
    }

    /// Which start of the machine this is.
    fn boot(&self) -> Result<String, StoreError> {
        let boot = self.db().read("read the boot id", |c| settings::get(c, settings::BOOT))?;
        Ok(boot.unwrap_or_default())
    }

    /// How a layer that is on top of `lower` is unpacked here.
    pub(crate) fn layer_options(
        &self,
        has_parent: bool,
        lower: Vec<PathBuf>,
    ) -> Result<ApplyOptions, StoreError> {
        let ownership = match rustix::process::geteuid().is_root() {
            true => Ownership::FromArchive,
            false => Ownership::Ignore,
        };
        let layering = self.driver()?.layering(has_parent);
        Ok(ApplyOptions { lower, ownership, ..self.apply_options(layering) })
    }

    /// The same for the layer of a snapshot that is there.
    fn options_of(&self, layer: SnapshotId) -> Result<ApplyOptions, StoreError> {
        let parent = self.db().read("look up a snapshot", |c| snapshots::parent(c, layer))?;
        let lower = parent.map(|parent| self.view_dirs(parent)).transpose()?.unwrap_or_default();
        self.layer_options(parent.is_some(), lower)
    }
}

/// Why a layer was not packed.
pub(crate) enum PackError {
    /// The layer is bad, or the disk.
    Apply(ApplyError),
    Store(StoreError),
}

impl From<StoreError> for PackError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Digests and counts what is written.
struct Hashed<W> {
    out: W,
    digest: Digester,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod convert_tests;
#[cfg(test)]
mod pulled_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;
