//! What a build knows of its steps when it has ended, for those who are told of all at once.
//!
//! A build that found its last step looked at none of the others. They are looked up now, so that a cache that is written anew does
//! not lose them.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Key;
use snapshotter::{CacheValue, SnapshotId};

use super::reading::{Elsewhere, SharedCache};
use crate::error::EngineError;

/// The result of a step.
pub(super) struct Told {
    /// All keys that are known to lead to it.
    pub(super) keys: BTreeSet<Key>,
    pub(super) place: Where,
    /// What its files are.
    pub(super) content: Key,
    /// How long it took to make, in milliseconds.
    pub(super) cost_ms: u64,
    /// How long the longest chain of steps took that led to it, in milliseconds.
    pub(super) path_ms: u64,
    /// The name of the step.
    pub(super) step: String,
}

/// Where a result is.
pub(super) enum Where {
    /// In the store.
    Here(SnapshotId),
    /// In a cache that was read.
    Elsewhere(Arc<Elsewhere>),
}

impl SharedCache<'_> {
    /// The results of all steps of the build's graph, as far as they are known anywhere.
    pub(super) fn told(&self) -> Result<Vec<Told>, EngineError> {
        let keys: BTreeSet<Key> = self.keyed().into_iter().collect();
        let mut told = Vec::new();
        for key in keys {
            let here = self.told_here(&key)?;
            told.extend(here.or_else(|| self.told_elsewhere(&key)));
        }
        Ok(told)
    }

    fn told_here(&self, key: &Key) -> Result<Option<Told>, EngineError> {
        let store = &self.fetcher().engine.store;
        let Some(value) = store.cache_get(self.fetcher().lease, key)? else { return Ok(None) };
        let CacheValue {
            snapshot: Some(snapshot),
            content: Some(content),
            cost_ms,
            description,
            metadata,
            ..
        } = value
        else {
            return Ok(None);
        };
        let path_ms = <[u8; 8]>::try_from(metadata.as_slice()).map_or(0, u64::from_le_bytes);
        let keys = store.cache_keys_of(snapshot)?.into_iter().collect();
        let place = Where::Here(snapshot);
        Ok(Some(Told { keys, place, content, cost_ms, path_ms, step: description }))
    }

    fn told_elsewhere(&self, key: &Key) -> Option<Told> {
        let found = self.elsewhere(key)?;
        let keys = self.keys_of(&found);
        let super::record::Record { content, cost_ms, path_ms, ref step, .. } = *found.record();
        let step = step.clone();
        Some(Told { keys, place: Where::Elsewhere(found), content, cost_ms, path_ms, step })
    }
}
