//! Layers of results that are pushed from where they are: the blobs travel from the cache to the registry, or within the
//! registry, and nothing is unpacked.

use std::sync::Arc;

use base::image::Descriptor;
use base::{CancelToken, Digest};
use snapshotter::SharedLayer;

use super::reading::{Elsewhere, SharedCache, SharedId};
use super::record::RecordedLayer;
use crate::error::EngineError;

impl SharedCache<'_> {
    /// The layers of a result that is elsewhere, the base first.
    pub(crate) fn layers_of(&self, id: SharedId) -> Vec<SharedLayer> {
        let found = Arc::clone(&self.known().found[id.0]);
        found.record().layers.iter().map(RecordedLayer::to_layer).collect()
    }
}

/// Layers that are in shared caches, and perhaps not here.
pub(crate) struct RemoteLayers<'a> {
    cache: &'a SharedCache<'a>,
    results: Vec<SharedId>,
}

impl<'a> RemoteLayers<'a> {
    /// The layers of some results.
    pub(crate) fn new(cache: &'a SharedCache<'a>, results: Vec<SharedId>) -> Self {
        Self { cache, results }
    }

    /// A repository of this registry that should have the blob, and not as a part of another one.
    pub(crate) fn repository(&self, registry: &str, blob: &Digest) -> Option<String> {
        let place = &self.cache.places[self.with(blob)?.place];
        let repository = place.repository()?;
        let is_there = repository.registry == registry && place.cut_of(blob).is_none();
        is_there.then(|| repository.repository.clone())
    }

    /// Brings a blob to the store; `false` if it is none of these layers.
    ///
    /// # Errors
    /// [`EngineError::SharedResultLost`] when it is not there any more: the build has to be planned anew.
    pub(crate) fn bring(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<bool, EngineError> {
        let Some(found) = self.with(&blob.digest) else { return Ok(false) };
        self.cache.fetch_of(&found, blob, cancel)?;
        Ok(true)
    }

    /// The first of the results that has the blob.
    fn with(&self, blob: &Digest) -> Option<Arc<Elsewhere>> {
        let known = self.cache.known();
        let mut results = self.results.iter().map(|id| &known.found[id.0]);
        results.find(|found| found.record().layers.iter().any(|layer| layer.digest == *blob)).cloned()
    }
}
