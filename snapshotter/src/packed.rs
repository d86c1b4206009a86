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

mod copied;
mod mend;
mod probe;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use base::digest::Digester;
use base::{CancelToken, Digest};
use sys::fs::{PathContext as _, PathError};

use crate::apply::packed::{self, Packed};
use crate::apply::{Applied, ApplyError, ApplyOptions, Ownership};
use crate::db::packed::{self as rows, PackedLayer};
use crate::db::{settings, snapshots};
use crate::driver::DriverKind;
use crate::erofs::{self, BlockBits, WriteError};
use crate::error::StoreError;
use crate::layout::SnapshotDirs;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// How many files a copy has at least that is packed without being asked for: fewer are copied in less time than mounting
/// what they become takes from those who use it.
const WORTH_PACKING: usize = 1024;

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

/// Why layers are not packed although that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PackingObstacle {
    /// The store keeps something else than layers for overlayfs of the initial user namespace.
    #[error("the store's driver has no use for packed layers")]
    Driver,
    /// This is not the superuser, or devices are not made here.
    #[error("mounting packed layers needs root privileges in the initial user namespace")]
    Rights,
    /// The kernel cannot mount them.
    #[error("the kernel cannot mount packed layers (it needs EROFS and Linux 6.15 or newer)")]
    Kernel(#[source] PathError),
}

/// What one handle of a store knows of packed layers.
pub(crate) struct PackedLayers {
    wanted: StoredForm,
    /// Why none are made, found out once.
    obstacle: OnceLock<Option<PackingObstacle>>,
    mounts: Mutex<HashMap<SnapshotId, OwnedFd>>,
}

impl PackedLayers {
    pub(crate) fn new(wanted: StoredForm) -> Self {
        Self { wanted, obstacle: OnceLock::new(), mounts: Mutex::default() }
    }

    fn mounted(&self, layer: SnapshotId) -> Option<PathBuf> {
        self.lock().get(&layer).map(sys::erofs::path_of)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SnapshotId, OwnedFd>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open files of a packed layer.
struct Files {
    tar: File,
    index: File,
}

impl Files {
    /// Opens them; `None` when one is missing.
    fn open(dirs: &SnapshotDirs) -> Result<Option<Self>, PathError> {
        let open = |path: &Path| match sys::fs::open(path) {
            Err(error) if error.is_not_found() => Ok(None),
            file => file.map(Some),
        };
        Ok(open(&dirs.tar())?.zip(open(&dirs.index())?).map(|(tar, index)| Self { tar, index }))
    }

    /// Which files they are. What is written to a file, or put in its place, shows in this.
    fn identity(&self, dirs: &SnapshotDirs, boot: &str) -> Result<String, PathError> {
        let mut identity = boot.to_owned();
        for (file, path) in [(&self.tar, dirs.tar()), (&self.index, dirs.index())] {
            let is = file.metadata().at("inspect", &path)?;
            let (seconds, nanoseconds) = (is.ctime(), is.ctime_nsec());
            identity.push_str(&format!(" {} {} {seconds}.{nanoseconds}", is.ino(), is.len()));
        }
        Ok(identity)
    }
}

impl Store {
    /// Why layers are not packed, if that was asked for.
    ///
    /// # Errors
    /// The store's driver cannot be told.
    pub fn packing_obstacle(&self) -> Result<Option<&PackingObstacle>, StoreError> {
        if self.packed().wanted != StoredForm::Packed {
            return Ok(None);
        }
        self.obstacle()
    }

    /// What stands in the way of packed layers, found out once.
    fn obstacle(&self) -> Result<Option<&PackingObstacle>, StoreError> {
        if let Some(known) = self.packed().obstacle.get() {
            return Ok(known.as_ref());
        }
        let found = self.find_obstacle()?;
        Ok(self.packed().obstacle.get_or_init(|| found).as_ref())
    }

    fn find_obstacle(&self) -> Result<Option<PackingObstacle>, StoreError> {
        let driver = self.driver()?;
        if driver.kind() != DriverKind::Overlay || driver.name() != DriverKind::Overlay.to_string() {
            return Ok(Some(PackingObstacle::Driver));
        }
        if !rustix::process::geteuid().is_root() || !self.makes_devices() {
            return Ok(Some(PackingObstacle::Rights));
        }
        // What the kernel could once it can until the machine starts again.
        let boot = self.boot()?;
        let could = self.db().read("look up what the kernel can", |c| settings::get(c, settings::PACKS))?;
        if could.is_some_and(|could| could == boot) {
            return Ok(None);
        }
        let lease = self.lease("probe")?;
        let scratch = self.layout().ingest(lease.id(), self.next_number());
        if let Err(error) = probe::probe(&scratch) {
            return Ok(Some(PackingObstacle::Kernel(error)));
        }
        self.db().write("note what the kernel can", |c| settings::put(c, settings::PACKS, &boot))?;
        Ok(None)
    }

    /// Whether layers that come as archives are packed.
    pub(crate) fn packs(&self) -> Result<bool, StoreError> {
        Ok(self.packed().wanted == StoredForm::Packed && self.packing_obstacle()?.is_none())
    }

    /// Whether the layer of a copy of so many files and directories is packed.
    fn packs_copies(&self, entries: usize) -> Result<bool, StoreError> {
        match self.packed().wanted {
            StoredForm::Dir => Ok(false),
            StoredForm::Packed => self.packs(),
            StoredForm::Auto => Ok(entries >= WORTH_PACKING && self.obstacle()?.is_none()),
        }
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
        let files = self.whole_files(layer, &row)?;
        if self.packed().wanted != StoredForm::Dir
            && let Ok(root) = sys::erofs::mount(files.index.as_fd(), files.tar.as_fd())
        {
            return Ok(Some(root));
        }
        self.unpack_packed(layer, &files)?;
        Ok(None)
    }

    /// The archive of a layer, if it is packed.
    pub(crate) fn packed_archive(&self, layer: SnapshotId) -> Result<Option<File>, StoreError> {
        let row = self.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        row.map(|row| Ok(self.whole_files(layer, &row)?.tar)).transpose()
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

    /// Keeps a layer blob as the files of a packed layer; `None`, and no files, when it has to be unpacked.
    ///
    /// # Errors
    /// As those of [`apply_blob`](crate::apply::apply_blob), also for what files there are then.
    pub(crate) fn pack(
        &self,
        dirs: &SnapshotDirs,
        blob: File,
        expected: Option<Digest>,
        options: &ApplyOptions,
        cancel: &CancelToken,
    ) -> Result<Option<(Applied, PackedLayer)>, PackError> {
        let tar = sys::fs::create_new(&dirs.tar(), 0o400).map_err(StoreError::from)?;
        match packed::pack_blob(blob, expected, &tar, options, cancel) {
            Ok(Packed { applied, diff_id, tree }) => {
                let size = tar.metadata().at("inspect", &dirs.tar()).map_err(StoreError::from)?.len();
                let row = self.write_index(dirs, &tree, (diff_id, size))?;
                Ok(Some((applied, row)))
            }
            Err(ApplyError::Unfit { .. }) => {
                sys::fs::remove_file(&dirs.tar()).map_err(StoreError::from)?;
                Ok(None)
            }
            Err(error) => Err(PackError::Apply(error)),
        }
    }

    /// Writes the index of an archive that is there.
    fn write_index(
        &self,
        dirs: &SnapshotDirs,
        tree: &erofs::Tree,
        (tar, tar_size): (Digest, u64),
    ) -> Result<PackedLayer, StoreError> {
        let path = dirs.index();
        let file = sys::fs::create_new(&path, 0o400)?;
        let mut out =
            Hashed { out: BufWriter::with_capacity(256 << 10, file), digest: Digester::new(), size: 0 };
        let written = tree.write(BlockBits::TAR, tar_size, &mut out).and_then(|()| Ok(out.flush()?));
        written.map_err(|error| {
            let source = match error {
                WriteError::Output(error) => error,
                WriteError::Unfit(error) => io::Error::other(error),
            };
            let source = PathError::new("write", &path, source);
            StoreError::PackedIndex { path: dirs.top.clone(), source }
        })?;
        let Hashed { digest, size, .. } = out;
        let mut row =
            PackedLayer { tar, tar_size, index: digest.finish(), index_size: size, checked: String::new() };
        if let Some(files) = Files::open(dirs)? {
            row.checked = files.identity(dirs, &self.boot()?)?;
        }
        Ok(row)
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
mod tests;
