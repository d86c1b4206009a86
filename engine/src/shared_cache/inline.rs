//! Cache metadata in an image's config: whoever pulls the image's name finds the steps that made it.
//!
//! The records say which layer of the image is the topmost of a step's result, and nothing that differs from builder to builder,
//! as times do: the same image is the same on all.

use base64::Engine as _;
use snapshotter::SnapshotId;

use super::documents::{CacheConfig, CacheRecord};
use super::reading::SharedCache;
use super::record::Record;
use super::told::Where;
use crate::error::EngineError;

impl SharedCache<'_> {
    /// The field for the config of an image with this root filesystem, [`INLINE`](super::INLINE): base64 of the records.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn inline(&self, root: SnapshotId) -> Result<Option<String>, EngineError> {
        if !self.may_tell() {
            return Ok(None);
        }
        let chain = self.fetcher().engine.store.chain(root)?;
        let mut records = std::collections::BTreeMap::new();
        for told in self.told()? {
            let Where::Here(snapshot) = told.place else { continue };
            let Some(layer) = chain.iter().position(|id| *id == snapshot) else { continue };
            let record = Record::new(told.content, Vec::new(), (0, 0), String::new());
            let record = |key| (key, CacheRecord::new(&key, &record, layer));
            records.extend(told.keys.into_iter().map(record));
        }
        let records: Vec<CacheRecord> = records.into_values().collect();
        let bytes = CacheConfig::inline(&records);
        Ok(Some(base64::engine::general_purpose::STANDARD.encode(bytes)))
    }
}
