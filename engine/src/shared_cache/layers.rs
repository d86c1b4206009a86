//! The layers of results as others get them, each made once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use snapshotter::{Compression, SharedLayer, SnapshotId};

use super::record::RecordedLayer;
use crate::error::EngineError;
use crate::remote::Fetcher;

/// Makes layers in one form.
pub(super) struct Layers<'a> {
    fetcher: &'a Fetcher<'a>,
    compression: Compression,
    /// Compress layers anew that are compressed in another way.
    force: bool,
    known: Mutex<HashMap<SnapshotId, RecordedLayer>>,
}

impl<'a> Layers<'a> {
    /// Layers with this compression, if they have none yet; with `force`, whatever they have.
    pub(super) fn new(fetcher: &'a Fetcher<'a>, compression: Compression, force: bool) -> Self {
        Self { fetcher, compression, force, known: Mutex::default() }
    }

    /// All layers of a result, the base first. Their blobs are in the store.
    pub(super) fn of(&self, snapshot: SnapshotId) -> Result<Vec<RecordedLayer>, EngineError> {
        let chain = self.fetcher.engine.store.chain(snapshot)?;
        chain.into_iter().map(|id| self.layer(id)).collect()
    }

    fn layer(&self, id: SnapshotId) -> Result<RecordedLayer, EngineError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let Fetcher { engine, lease, cancel, .. } = *self.fetcher;
        // Two that need it at once make it once: the store sees to that.
        let blob = if self.force {
            engine.store.converted_layer(lease, id, self.compression, cancel)?
        } else {
            engine.store.layer(lease, id, self.compression, cancel)?
        };
        let created_at = engine.store.snapshot_info(id)?.created_at;
        let layer = SharedLayer { descriptor: blob.descriptor, diff_id: blob.diff_id, created_at };
        let layer = RecordedLayer::of(&layer);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id, layer.clone());
        Ok(layer)
    }
}
