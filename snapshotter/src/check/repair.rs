//! Repairs a store by forgetting what is damaged. What was forgotten is built or pulled again when
//! somebody wants it.

use base::CancelToken;
use sys::lock::{FileLock, LockMode};

use super::{Findings, orphans};
use crate::db::{blobs, cache_mounts, images, snapshots};
use crate::error::StoreError;
use crate::gc::{Freed, Policy};
use crate::store::Store;

impl Store {
    /// Forgets what `findings` says is damaged, with all that depends on it: cache entries, names of
    /// images, and named roots. Then collects garbage. Nothing that is whole is removed, but garbage.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`].
    pub fn repair(&self, findings: &Findings, cancel: &CancelToken) -> Result<Freed, StoreError> {
        let mut lost = Vec::new();
        for id in &findings.lost_snapshots {
            if !self.mend_packed(*id)? {
                lost.push(*id);
            }
        }
        lost.iter().try_for_each(|id| self.detach_users(*id))?;
        // One of those may be whole now, and with it another.
        let mut still = Vec::new();
        for id in lost {
            if !self.mend_packed(id)? {
                still.push(id);
            }
        }
        let mut lost = still;
        let rows = self.db().read("list snapshots", snapshots::all)?;
        lost.extend(orphans(&rows, &lost));
        self.db().write("forget lost snapshots", |c| snapshots::forget(c, &lost))?;
        self.forget_blobs(findings, cancel)?;
        self.db().write("forget incomplete images", |c| {
            findings.incomplete_images.iter().try_for_each(|name| images::delete(c, name).map(drop))?;
            images::forget_lost(c)
        })?;
        self.db().write("forget lost cache mounts", |c| {
            findings.lost_cache_mounts.iter().try_for_each(|directory| cache_mounts::delete(c, directory))
        })?;
        self.adopt_volumes()?;
        self.gc(Policy::KEEP_CACHE)
    }

    /// Forgets blobs that are still damaged: one may have been written again since.
    fn forget_blobs(&self, findings: &Findings, cancel: &CancelToken) -> Result<(), StoreError> {
        let _excluded = FileLock::acquire(&self.layout().blobs_lock(), LockMode::Exclusive)?;
        for digest in findings.lost_blobs.iter().chain(&findings.wrong_blobs) {
            let size = self.db().read("look up a blob", |c| blobs::size(c, digest))?;
            let Some(size) = size else { continue };
            if self.has_length(digest, size)? && self.is_intact(digest, cancel)? {
                continue;
            }
            self.db().write("forget a damaged blob", |c| blobs::delete(c, digest))?;
            self.discard(&self.blob_path(digest))?;
        }
        Ok(())
    }
}
