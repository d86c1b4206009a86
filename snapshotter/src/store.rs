//! Opening a store: the handle that everything else hangs on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use base::time::Clock;
use sys::clock::SystemClock;
use sys::erofs::Way;
use sys::fs::{PathContext as _, PathError};
use sys::lock::{FileLock, LockMode};

use crate::apply::{ApplyOptions, Devices, Layering, Limits};
use crate::db::{Database, DbError, recovery, settings, to_millis};
use crate::driver::{self, Driver, DriverKind};
use crate::error::StoreError;
use crate::layout::Layout;
use crate::packed::{PackedLayers, PackingObstacle, StoredForm};

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// The driver for snapshots. `None` takes the one that the store was made for; a new store takes
    /// overlay where it can be mounted.
    pub driver: Option<DriverKind>,
    /// In which form layers are kept.
    pub layer_form: StoredForm,
    /// How packed layers are mounted; `None` is the best way that the kernel has.
    pub layer_way: Option<Way>,
    /// Hears, once, that packed layers become directories because they cannot be mounted.
    pub on_unpacked: fn(&PackingObstacle),
    /// Tells when records are made.
    pub clock: Arc<dyn Clock>,
    /// What is too much for a layer or an archive that is unpacked.
    pub archive_limits: Limits,
    /// Whether devices in layers are made. In a user namespace the kernel lets nobody make them.
    pub devices: bool,
}

impl Default for Options {
    /// Whatever works best here, and the machine's clock.
    fn default() -> Self {
        Self {
            driver: None,
            layer_form: StoredForm::default(),
            layer_way: None,
            on_unpacked: |_| {},
            clock: Arc::new(SystemClock),
            archive_limits: Limits::default(),
            devices: true,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("driver", &self.driver).finish_non_exhaustive()
    }
}

/// A layer store: blobs, snapshots, images and the build cache below one directory.
///
/// Clones are cheap and share everything. Any number of threads and processes may use one root at once;
/// none has to be alive for another to work.
///
/// ```no_run
/// use std::path::Path;
/// use snapshotter::{CommitInfo, Options, Store};
///
/// # fn main() -> Result<(), snapshotter::StoreError> {
/// let store = Store::open(Path::new("/var/lib/lapstrake"), Options::default())?;
/// let lease = store.lease("example")?;
/// let active = store.prepare(&lease, None)?;
/// // … write files below active.layer_dir() …
/// let base = active.commit(CommitInfo::default())?;
/// let child = store.prepare(&lease, Some(base))?;
/// let mount = child.mount()?; // for a process to run in
/// # let _ = mount;
/// store.sync()
/// # }
/// ```
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    layout: Layout,
    database: Database,
    clock: Arc<dyn Clock>,
    wanted_driver: Option<DriverKind>,
    packed: PackedLayers,
    archive_limits: Limits,
    devices: bool,
    driver: OnceLock<Driver>,
    /// Numbers what this handle creates.
    counter: AtomicU64,
    /// Held shared as long as the store is open; a change of format takes it exclusively.
    _lock: FileLock,
}

impl Store {
    /// Opens the store below `root`, an absolute path, and creates it if there is none.
    ///
    /// A store of an older format is changed to the present one, which waits until no other process has it
    /// open. After a restart of the machine, the first open drops the rows of files that may not have reached
    /// the disk. Which driver works is found out when a driver is first needed.
    ///
    /// # Errors
    /// The root is relative, on a network file system, not ours to write, or has a newer format.
    pub fn open(root: &Path, options: Options) -> Result<Self, StoreError> {
        if !root.is_absolute() {
            return Err(StoreError::RelativeRoot { path: root.to_owned() });
        }
        let layout = Layout::new(root);
        if !sys::fs::exists(&layout.database())? {
            layout.create()?;
            refuse_network_filesystem(root)?;
            create_database(&layout)?;
        }
        let mut lock = FileLock::acquire(&layout.store_lock(), LockMode::Shared)?;
        let database = match Database::open(&layout.database()) {
            Err(DbError::Format { found, known, .. }) if found < known => {
                lock = upgrade(&layout, lock)?;
                Database::open(&layout.database())?
            }
            opened => opened?,
        };
        recover(&database, &layout)?;
        Ok(Self(Arc::new(Shared {
            layout,
            database,
            packed: PackedLayers::new(&options),
            clock: options.clock,
            wanted_driver: options.driver,
            archive_limits: options.archive_limits,
            devices: options.devices && sys::userns::is_initial(),
            driver: OnceLock::new(),
            counter: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    /// The directory that holds everything.
    pub fn root(&self) -> &Path {
        self.layout().root()
    }

    /// How to unpack layers and archives of others in this store: within its limits, and without devices where
    /// nobody could make or use them.
    pub fn apply_options(&self, layering: Layering) -> ApplyOptions {
        let devices = if self.0.devices { Devices::Create } else { Devices::Skip };
        ApplyOptions { limits: self.0.archive_limits, devices, ..ApplyOptions::new(layering) }
    }

    /// The driver in use. The first call on a new store finds out which one works and records it.
    pub fn driver_kind(&self) -> Result<DriverKind, StoreError> {
        Ok(self.driver()?.kind())
    }

    /// Makes everything committed until now survive a power loss, with one flush of the file system and one of
    /// the database's log after it, or none if nothing is new. To be called once at the end of a build or a pull, before success is
    /// reported.
    pub fn sync(&self) -> Result<(), StoreError> {
        let unsynced = self.db().read_consistently("list unsynced files", recovery::unsynced)?;
        if unsynced.is_empty() {
            return Ok(());
        }
        sys::fs::sync_filesystem(self.root())?;
        Ok(self.db().write_durably("record synced files", |c| recovery::set_synced(c, &unsynced))?)
    }

    /// A directory for files without a name (`O_TMPFILE`), on the file system of the store.
    pub fn scratch_dir(&self) -> PathBuf {
        self.layout().ingests()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.0.layout
    }

    /// Gives memory back that a process that waits for long does not need.
    pub fn rest(&self) {
        self.db().rest();
    }

    /// The packed layers that this handle has mounted.
    pub(crate) fn packed(&self) -> &PackedLayers {
        &self.0.packed
    }

    /// Whether devices in layers are made.
    pub(crate) fn makes_devices(&self) -> bool {
        self.0.devices
    }

    pub(crate) fn db(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn now(&self) -> base::Timestamp {
        self.0.clock.now()
    }

    /// Now, as it is stored.
    pub(crate) fn now_millis(&self) -> i64 {
        to_millis(self.now())
    }

    /// A number that this handle has not used before.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.counter.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn driver(&self) -> Result<&Driver, StoreError> {
        if let Some(driver) = self.0.driver.get() {
            return Ok(driver);
        }
        let recorded = self.db().read("read the driver", |c| settings::get(c, settings::DRIVER))?;
        let driver = match recorded.as_deref().and_then(driver::from_name) {
            Some(driver) => driver,
            None => self.choose_driver()?,
        };
        if let Some(wanted) = self.0.wanted_driver.filter(|wanted| *wanted != driver.kind()) {
            let root = self.root().to_owned();
            return Err(StoreError::DriverMismatch { root, recorded: driver.kind(), wanted });
        }
        Ok(self.0.driver.get_or_init(|| driver))
    }

    /// Finds out which driver works and records it, unless another process was faster.
    fn choose_driver(&self) -> Result<Driver, StoreError> {
        let lease = self.lease("probe")?;
        let scratch = self.layout().ingest(lease.id(), self.next_number());
        let chosen = match self.0.wanted_driver {
            Some(DriverKind::Native) => driver::native(),
            wanted => match driver::probe_overlay(&scratch) {
                Ok(overlay) => overlay,
                Err(source) if wanted == Some(DriverKind::Overlay) => {
                    return Err(StoreError::OverlayUnavailable { root: self.root().to_owned(), source });
                }
                Err(_) => driver::native(),
            },
        };
        let recorded = self.db().write("record the driver", |c| {
            if let Some(recorded) = settings::get(c, settings::DRIVER)? {
                return Ok(driver::from_name(&recorded));
            }
            settings::put(c, settings::DRIVER, chosen.name()).map(|()| None)
        })?;
        Ok(recorded.unwrap_or(chosen))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.root()).finish()
    }
}

/// Creates the database under a lease, so that the collector of a faster process leaves its files alone.
fn create_database(layout: &Layout) -> Result<(), StoreError> {
    loop {
        let name = new_name()?;
        let Some(lease) = FileLock::create(&layout.lease(&name))? else { continue };
        Database::create(&layout.database(), &layout.ingest(&name, 0))?;
        return Ok(lease.remove()?);
    }
}

/// Changes the database of an older program, which nobody may use meanwhile.
fn upgrade(layout: &Layout, shared: FileLock) -> Result<FileLock, StoreError> {
    drop(shared);
    let alone = FileLock::acquire(&layout.store_lock(), LockMode::Exclusive)?;
    Database::upgrade(&layout.database())?;
    drop(alone);
    Ok(FileLock::acquire(&layout.store_lock(), LockMode::Shared)?)
}

/// Puts the rows in order after a restart of the machine.
fn recover(database: &Database, layout: &Layout) -> Result<(), StoreError> {
    let boot = sys::fs::boot_id()?;
    let recorded = database.read("read the boot id", |c| settings::get(c, settings::BOOT))?;
    if recorded.as_deref() != Some(&boot) {
        let names = sys::fs::list(&layout.snapshots())?;
        let highest = names.iter().filter_map(|name| name.to_str()?.parse().ok()).max().unwrap_or(0);
        database.write("drop unsynced rows", |c| recovery::recover(c, &boot, highest))?;
    }
    Ok(())
}

/// A random name that nobody else uses.
pub(crate) fn new_name() -> Result<String, PathError> {
    sys::random::hex(16)
}

/// Locks and the shared memory of the database need a local file system.
fn refuse_network_filesystem(root: &Path) -> Result<(), StoreError> {
    let magic = rustix::fs::statfs(root).at("inspect the file system of", root)?.f_type;
    // linux/magic.h; the type of `f_type` differs between architectures.
    let kind = match u32::try_from(magic).unwrap_or(0) {
        0x6969 => "nfs",
        0xff53_4d42 => "cifs",
        0xfe53_4d42 => "smb2",
        0x517b => "smb",
        0x0102_1997 => "9p",
        0x00c3_6400 => "ceph",
        0x5346_414f => "afs",
        _ => return Ok(()),
    };
    Err(StoreError::NetworkFilesystem { path: PathBuf::from(root), kind })
}

#[cfg(test)]
mod tests;
