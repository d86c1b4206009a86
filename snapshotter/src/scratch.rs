//! Directories that live as long as somebody works in them.

use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::lease::Lease;
use crate::store::Store;

/// A directory on the store's file system, removed with all in it when dropped. The collector removes it
/// if its owner was killed.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    /// Protects the directory from the collector.
    _lease: Lease,
}

impl ScratchDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next collection.
        let _ = sys::fs::remove_tree(&self.path);
    }
}

impl Store {
    /// A new, empty directory with mode 0755.
    pub fn scratch(&self, lease: &Lease) -> Result<ScratchDir, StoreError> {
        let path = self.layout().ingest(lease.id(), self.next_number());
        sys::fs::create_dir(&path, 0o755)?;
        Ok(ScratchDir { path, _lease: lease.clone() })
    }
}
