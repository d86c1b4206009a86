//! Merging: the layers of one snapshot on top of another, as `COPY --link` and merge operations want it.
//!
//! Where the driver can stack layer directories, nothing is read or written: the new snapshots share the
//! directories, and rows are all that is made. Elsewhere every layer is written out and applied again, as
//! if it had been pulled. Either way the layers are the same, with the same digests.

use std::path::PathBuf;

use base::{CancelToken, Key};

use crate::compress::Compression;
use crate::db::snapshots::{self, ChainLink};
use crate::db::{leases, sharing};
use crate::difference::EMPTY_LAYER;
use crate::error::StoreError;
use crate::lease::Lease;
use crate::snapshot::SnapshotId;
use crate::store::Store;

impl Store {
    /// The snapshot whose tree is that of `base` with all layers of `upper` on top, as overlayfs would show
    /// it: directories merge, everything else in `upper` hides what is below. It is protected by `lease`.
    /// `content` is recorded as the content key of its tree, unless one is known.
    ///
    /// Without a base, that is `upper` itself. Where directories are shared, the same merge again answers the
    /// same snapshot.
    ///
    /// # Errors
    /// [`StoreError::NoSuchSnapshot`]; where layers must be copied, what writing and applying them meets.
    pub fn merge(
        &self,
        lease: &Lease,
        base: Option<SnapshotId>,
        upper: SnapshotId,
        content: Option<&Key>,
        cancel: &CancelToken,
    ) -> Result<SnapshotId, StoreError> {
        self.hold(lease, upper)?;
        let Some(base) = base else { return Ok(upper) };
        self.hold(lease, base)?;
        let mut layers = self.read_chain(upper)?;
        // A difference begins with nothing, of which another layer need not tell.
        if let [_, .., lowest] = layers.as_slice()
            && self.snapshot_info(lowest.id)?.chain_id == Some(EMPTY_LAYER.0)
        {
            layers.pop();
        }
        let top = if self.can_stack(base, &layers)? {
            self.stack(lease, base, &layers)?
        } else {
            self.apply_again(lease, base, &layers, cancel)?
        };
        if let Some(content) = content {
            self.db().write("record a content key", |c| snapshots::note_content(c, top, content))?;
        }
        Ok(top)
    }

    fn can_stack(&self, base: SnapshotId, layers: &[ChainLink]) -> Result<bool, StoreError> {
        let below = self.view_dirs(base)?;
        let Some(below) = below.first() else { return Ok(false) };
        let layers: Vec<PathBuf> =
            layers.iter().map(|link| self.link_root(link)).collect::<Result<_, StoreError>>()?;
        Ok(self.driver()?.can_stack(below, &layers)?)
    }

    /// New rows that share the directories of `layers`, the topmost first.
    fn stack(&self, lease: &Lease, base: SnapshotId, layers: &[ChainLink]) -> Result<SnapshotId, StoreError> {
        let now = self.now_millis();
        let top = self.db().write("merge snapshots", |c| {
            let top =
                layers.iter().rev().try_fold(base, |below, link| sharing::stack(c, below, link, now))?;
            leases::hold_snapshot(c, lease.id(), top)?;
            Ok(top)
        })?;
        lease.note_snapshot(top);
        Ok(top)
    }

    /// New snapshots with the content of `layers`, the topmost first.
    fn apply_again(
        &self,
        lease: &Lease,
        base: SnapshotId,
        layers: &[ChainLink],
        cancel: &CancelToken,
    ) -> Result<SnapshotId, StoreError> {
        layers.iter().rev().try_fold(base, |below, link| {
            let layer = self.layer(lease, link.id, Compression::None, cancel)?;
            self.apply_layer(lease, Some(below), &layer.descriptor, Some(&layer.diff_id), cancel)
        })
    }
}

#[cfg(test)]
mod tests;
