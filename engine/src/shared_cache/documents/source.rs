//! Reading a cache document: it is loaded when the first result is looked for that is not in the store, and answers from memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::image::Descriptor;
use base::{CancelToken, Key, Reference};
use snapshotter::BlobWriter;

use super::config::Catalogue;
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::error::EngineError;
use crate::progress::Progress;
use crate::remote::patience;
use crate::shared_cache::place::Source;

/// A cache document that is read.
pub(crate) struct DocumentSource<'a> {
    store: Box<dyn DocumentStore + 'a>,
    /// How long loading it may take.
    limit: Duration,
    progress: Progress,
    /// Held while it is loaded, so that is done once.
    catalogue: Mutex<Option<Arc<Catalogue>>>,
}

impl<'a> DocumentSource<'a> {
    /// What `store` has, as far as it says so within `limit`.
    pub(crate) fn new(store: Box<dyn DocumentStore + 'a>, limit: Duration, progress: &Progress) -> Self {
        Self { store, limit, progress: progress.clone(), catalogue: Mutex::default() }
    }

    fn catalogue(&self, cancel: &CancelToken) -> Result<Arc<Catalogue>, EngineError> {
        let mut known = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let name = format!("importing cache manifest from {}", self.store.name());
        let catalogue = self.progress.step(&name, |_| {
            let loaded = patience::within(self.limit, "reading it", cancel, |cancel| self.store.load(cancel));
            let catalogue = Catalogue::new(loaded?);
            match (catalogue.usable(), catalogue.all()) {
                (0, results) if results > 0 => {
                    Err(EngineError::from(CacheDocumentError::Foreign { results }))
                }
                _ => Ok(Arc::new(catalogue)),
            }
        })?;
        Ok(Arc::clone(known.insert(catalogue)))
    }
}

impl Source for DocumentSource<'_> {
    fn name(&self) -> String {
        self.store.name()
    }

    fn repository(&self) -> Option<&Reference> {
        self.store.repository()
    }

    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let catalogue = self.catalogue(cancel)?;
        Ok(keys.iter().map(|key| Some(catalogue.record(key)?.to_bytes())).collect())
    }

    fn same_as(&self, key: &Key) -> Vec<Key> {
        let known = self.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|catalogue| catalogue.same_as(key)).unwrap_or_default()
    }

    fn note(&self, _key: &Key, _cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(None)
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        self.store.copy_blob(blob, to, cancel)
    }
}
