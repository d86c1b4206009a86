//! A store in a temporary directory, for the tests of this crate.

use std::path::PathBuf;

use base::image::{Descriptor, ImageConfig, Manifest, media_type};
use base::{CancelToken, Digest, Key, Platform};

use crate::compress::Compression;
use crate::driver::DriverKind;
use crate::gc::Policy;
use crate::lease::Lease;
use crate::snapshot::{CommitInfo, SnapshotId};
use crate::store::{Options, Store};

/// A store, and a lease that holds what the test makes.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) lease: Lease,
    pub(crate) dir: tempfile::TempDir,
}

impl TestStore {
    /// A store with the native driver, which works everywhere.
    pub(crate) fn new() -> Self {
        Self::with_driver(DriverKind::Native)
    }

    pub(crate) fn with_driver(driver: DriverKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { driver: Some(driver), ..Options::default() };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let lease = store.lease("test").unwrap();
        Self { store, lease, dir }
    }

    /// A store with the overlay driver, or `None`, with a note, where overlayfs cannot be mounted.
    #[allow(clippy::disallowed_macros, reason = "a test says why it is skipped")]
    pub(crate) fn overlay() -> Option<Self> {
        let test = Self::with_driver(DriverKind::Overlay);
        match test.store.driver_kind() {
            Ok(_) => Some(test),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    /// One store for each driver that works here.
    pub(crate) fn each_driver() -> Vec<Self> {
        Some(Self::new()).into_iter().chain(Self::overlay()).collect()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Another handle on the same store, as another process would have.
    pub(crate) fn reopened(&self) -> Store {
        Store::open(&self.root(), Options::default()).unwrap()
    }

    /// A committed snapshot whose layer has one more file.
    pub(crate) fn snapshot(&self, parent: Option<SnapshotId>, file: &str) -> SnapshotId {
        let active = self.store.prepare(&self.lease, parent).unwrap();
        std::fs::write(active.layer_dir().join(file), file).unwrap();
        active.commit(CommitInfo::default()).unwrap()
    }

    /// Ends the only lease, so that nothing is held.
    pub(crate) fn release(&mut self) {
        self.lease = self.store.lease("next").unwrap();
    }

    pub(crate) fn exists(&self, id: SnapshotId) -> bool {
        self.store.view_dirs(id).is_ok()
    }

    /// An image of the one snapshot `id`, tagged `name`.
    pub(crate) fn image(&self, name: &str, id: SnapshotId) -> Descriptor {
        let layer = self.store.layer(&self.lease, id, Compression::GZIP, &CancelToken::new()).unwrap();
        let manifest = self.manifest(&[layer.diff_id], vec![layer.descriptor]);
        self.store.tag(name, &manifest).unwrap();
        manifest
    }

    /// A manifest and config in the store.
    pub(crate) fn manifest(&self, diff_ids: &[Digest], layers: Vec<Descriptor>) -> Descriptor {
        let mut config = ImageConfig::scratch(&Platform::host());
        config.rootfs.diff_ids = diff_ids.to_vec();
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: self.document(media_type::OCI_CONFIG, &config),
            layers,
            annotations: Default::default(),
        };
        self.document(media_type::OCI_MANIFEST, &manifest)
    }

    /// A JSON document in the store.
    pub(crate) fn document(&self, media_type: &str, document: &impl serde::Serialize) -> Descriptor {
        let bytes = serde_json::to_vec(document).unwrap();
        let blob = self.store.put_blob(&self.lease, &bytes).unwrap();
        Descriptor::new(media_type, blob.digest, blob.size)
    }

    /// Asserts that rows and files agree and that a collection of everything leaves nothing behind.
    pub(crate) fn assert_nothing_left(mut self) {
        self.release();
        assert!(self.store.check().unwrap().is_sound());
        self.store.gc(Policy::DROP_CACHE).unwrap();
        assert!(self.store.check().unwrap().is_clean(), "{:?}", self.store.check().unwrap());
    }
}

/// A key that differs for each number.
pub(crate) fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}
