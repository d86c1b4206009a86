//! A place that results are written to.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::{Digest, Key};

use super::SharedCache;
use super::layers::Layers;
use super::place::{Answer, Extent, NewRecord, Place};
use super::record::{Record, RecordedLayer};
use super::segments::Packs;
use super::writing::Made;
use crate::error::EngineError;
use crate::remote::Fetcher;

/// What results are written from.
pub(super) struct Results<'a> {
    pub(super) cache: &'a SharedCache<'a>,
    pub(super) layers: &'a Layers<'a>,
}

/// A place that is written to.
pub(super) struct Destination<'a> {
    pub(super) place: Arc<dyn Place + 'a>,
    /// What is known of its packs, if several results at a time are written there.
    pub(super) packs: Option<Packs>,
    /// Set when it was given up.
    failed: AtomicBool,
    /// Whether a blob is there for certain. Held while it is written: who needs the same one waits instead of sending
    /// it a second time.
    blobs: Mutex<HashMap<Digest, Arc<Mutex<bool>>>>,
}

impl<'a> Destination<'a> {
    /// What is written to `place`.
    pub(super) fn new(place: Arc<dyn Place + 'a>) -> Self {
        let packs = place.wants_segments().then(Packs::default);
        Self { place, packs, failed: AtomicBool::new(false), blobs: Mutex::default() }
    }

    /// Whether it is still written to.
    pub(super) fn is_wanted(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Writes results as far as they are not there, in a segment if that is worth while.
    pub(super) fn write(&self, results: &Results<'_>, made: &[&Made]) -> Result<(), EngineError> {
        match &self.packs {
            // What is healed has no part in what may be damaged.
            Some(packs) if results.cache.lost_blobs().is_empty() => self.write_together(packs, results, made),
            _ => made.iter().try_for_each(|made| self.write_alone(results, made)),
        }
    }

    /// Writes the blobs of a result and then its record, as far as they are not there.
    pub(super) fn write_alone(&self, results: &Results<'_>, made: &Made) -> Result<(), EngineError> {
        let lost = results.cache.lost_blobs();
        if made.found && lost.is_empty() && self.has_enough(results, &made.key)? {
            return Ok(());
        }
        let chain = results.layers.of(made.result.snapshot)?;
        for layer in &chain {
            self.write_blob(results.cache.fetcher(), layer, &lost)?;
        }
        let blobs: Vec<_> = chain.iter().map(RecordedLayer::descriptor).collect();
        let bytes = results.cache.trust().to_bytes(&made.key, &made.record(chain));
        let replaces = !lost.is_empty() || self.is_to_be_replaced(results, &made.key)?;
        let record = NewRecord { bytes: &bytes, blobs: &blobs, replaces };
        self.place.add_record(&made.key, &record, results.cache.fetcher().cancel)?;
        Ok(())
    }

    /// Whether the place has a record that others can use as well as what we would write.
    pub(super) fn has_enough(&self, results: &Results<'_>, key: &Key) -> Result<bool, EngineError> {
        let (trust, name) = (results.cache.trust(), self.place.name());
        let there = self.place.look_up(&[*key], Extent::First, results.cache.fetcher().cancel)?;
        let is_enough = |answer: &Answer| match answer {
            Answer::Found { records, .. } => records.iter().any(|record| trust.is_enough(&name, key, record)),
            Answer::None | Answer::Unasked => false,
        };
        Ok(there.iter().any(is_enough))
    }

    /// Whether there may be a record that is worth less than one that we sign. Nobody else looks.
    pub(super) fn is_to_be_replaced(&self, results: &Results<'_>, key: &Key) -> Result<bool, EngineError> {
        Ok(results.cache.trust().is_particular() && !self.has_enough(results, key)?)
    }

    /// Writes the blob of a layer, unless it is there.
    pub(super) fn write_blob(
        &self,
        fetcher: &Fetcher<'_>,
        layer: &RecordedLayer,
        lost: &HashSet<Digest>,
    ) -> Result<(), EngineError> {
        let blob = {
            let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
            blobs.entry(layer.digest).or_default().clone()
        };
        let mut is_there = blob.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_there {
            // A blob of ours that is damaged is no blob for others.
            fetcher.engine.store.open_blob(&layer.digest)?;
            let file = fetcher.engine.store.blob_path(&layer.digest);
            self.place.add_blob(&layer.descriptor(), &file, lost.contains(&layer.digest), fetcher.cancel)?;
            *is_there = true;
        }
        Ok(())
    }

    /// What others do not get to know costs them time, and this build nothing.
    pub(super) fn give_up(&self, fetcher: &Fetcher<'_>, error: &EngineError) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            let (name, why) = (self.place.name(), base::fault::chain(error));
            let message = format!("nothing more is written to the shared cache {name}: {why}");
            fetcher.progress.warn("SharedCache", message);
        }
    }
}

impl Made {
    /// What is written of it, with its layers.
    pub(super) fn record(&self, layers: Vec<RecordedLayer>) -> Record {
        Record::new(self.result.content, layers, (self.cost_ms, self.path_ms), self.step.clone())
    }
}
