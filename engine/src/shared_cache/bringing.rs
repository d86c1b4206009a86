//! Bringing results here that were found in shared caches, when something needs their files.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, PoisonError};

use base::image::Descriptor;
use base::{CancelToken, Digest, Fault, Faulty as _, Key};
use snapshotter::{CacheValue, CacheWrite, Expected, Lease, RecordKind, StoreError};
use sys::fs::PathContext as _;

use super::place::Source;
use super::reading::{Elsewhere, Known, SharedCache, SharedId};
use super::record::Record;
use super::segments::Cut;
use crate::Engine;
use crate::error::EngineError;
use crate::ops::Filesystem;
use crate::remote::Fetcher;

impl SharedCache<'_> {
    /// Has another key lead to a hit, now or when it is brought here.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn found_under(&self, id: SharedId, key: &Key) -> Result<(), EngineError> {
        let found = Arc::clone(&self.known().found[id.0]);
        found.note_key(key);
        found.here.get().map_or(Ok(()), |here| self.save_here(&found.record, *here, key))
    }

    /// The files of a result, which are fetched now unless they are here.
    ///
    /// # Errors
    /// [`EngineError::SharedResultLost`] when blobs are not there any more: the build has to be planned anew.
    pub(crate) fn bring(&self, id: SharedId, cancel: &CancelToken) -> Result<Filesystem, EngineError> {
        let found = Arc::clone(&self.known().found[id.0]);
        if let Some(here) = found.here.get() {
            return Ok(*here);
        }
        self.ask_for_rest();
        let name = format!("importing {} from {}", found.record.step, self.places[found.place].name());
        let snapshot = self.fetcher.progress.step(&name, |vertex| self.unpack(&found, vertex, cancel))?;
        let here = *found.here.get_or_init(|| Filesystem { snapshot, content: found.record.content });
        self.save_all(&found, here)?;
        Ok(here)
    }

    /// Has all known keys lead to a result that was brought here, and to those of which it has all layers: they are here as well.
    fn save_all(&self, whole: &Arc<Elsewhere>, here: Filesystem) -> Result<(), EngineError> {
        let engine = self.fetcher.engine;
        let chain = engine.store.chain(here.snapshot)?;
        let mut writes = self.writes(whole, here);
        let others = self.known().found.clone();
        for part in others.iter().filter(|other| other.here.get().is_none()) {
            let length = part.record.layers.len();
            if length < chain.len() && part.record.is_part_of(&whole.record) {
                let content = part.record.content;
                let here = *part.here.get_or_init(|| Filesystem { snapshot: chain[length - 1], content });
                writes.extend(self.writes(part, here));
            }
        }
        Ok(engine.store.cache_write(&writes)?)
    }

    /// What is written to the store for a result that is here.
    fn writes(&self, found: &Elsewhere, here: Filesystem) -> Vec<CacheWrite> {
        let value = |output| CacheWrite::Value { output, value: value_of(&found.record, here) };
        self.keys_of(found).into_iter().map(value).collect()
    }

    /// Has a key lead to a result that was brought here.
    fn save_here(&self, record: &Record, here: Filesystem, key: &Key) -> Result<(), EngineError> {
        Ok(self.fetcher.engine.store.cache_put(key, value_of(record, here))?)
    }

    /// Brings a blob of a result to the store, and nothing more of it.
    ///
    /// # Errors
    /// [`EngineError::SharedResultLost`] when it is not there any more.
    pub(super) fn fetch_of(
        &self,
        found: &Elsewhere,
        blob: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        self.fetcher
            .engine
            .fetch_each(self.fetcher.lease, &[blob], cancel, |blob, stop| self.fetch(found.place, blob, stop))
    }

    /// Makes a snapshot of a result's layers, fetching those that are not here.
    fn unpack(
        &self,
        found: &Elsewhere,
        vertex: Digest,
        cancel: &CancelToken,
    ) -> Result<snapshotter::SnapshotId, EngineError> {
        let Fetcher { engine, lease, progress, .. } = self.fetcher;
        let Record { step, layers, .. } = &found.record;
        let layers: Vec<_> = layers.iter().map(super::record::RecordedLayer::to_layer).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let (mut parent, done) = engine.unpacked_prefix(lease, &diff_ids)?;
        let missing: Vec<&Descriptor> = layers[done..].iter().map(|layer| &layer.descriptor).collect();
        engine.fetch_each(lease, &missing, cancel, |layer, stop| {
            let id = format!("importing {}", layer.digest.short());
            progress.status(vertex, &id, 0, layer.size, false);
            self.fetch(found.place, layer, stop)?;
            progress.status(vertex, &id, layer.size, layer.size, true);
            Ok(())
        })?;
        for layer in &layers[done..] {
            cancel.check()?;
            let applied = engine.store.apply_shared_layer(lease, parent, layer, cancel);
            parent = Some(applied.map_err(|error| self.lost_if_wrong(layer.descriptor.digest, error))?);
        }
        // No record without layers is read.
        parent.ok_or(EngineError::SharedResultLost { what: step.clone(), why: "it has no layers".to_owned() })
    }

    /// Fetches a blob from the place that has the record, or from another.
    fn fetch(&self, first: usize, blob: &Descriptor, cancel: &CancelToken) -> Result<(), EngineError> {
        let others = (0..self.places.len()).filter(|index| *index != first);
        let mut why = String::new();
        for place in std::iter::once(first).chain(others) {
            match self.fetch_at(&*self.places[place], blob, cancel) {
                Ok(true) => return Ok(()),
                Ok(false) => why = format!("{} does not have it any more", self.places[place].name()),
                Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
                Err(EngineError::Store(error)) if !is_wrong(&error) => return Err(error.into()),
                Err(error) => why = base::fault::chain(&error),
            }
        }
        // What lay beside it is lost as well, which need not be found out one by one.
        let place = &self.places[first];
        let beside = place.cut_of(&blob.digest).map(|cut| place.cut_beside(&cut)).unwrap_or_default();
        self.known().lost.extend(beside);
        Err(self.lost(blob.digest, why))
    }

    /// Fetches a blob from a place, if it is there: on its own, or in a pack.
    fn fetch_at(
        &self,
        place: &dyn Source,
        blob: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let cut = place.cut_of(&blob.digest).filter(|cut| cut.size == blob.size);
        if let Some(cut) = cut
            && self.fetch_cut(place, &cut, cancel)?
        {
            return Ok(true);
        }
        fetch_from(self.fetcher.engine, self.fetcher.lease, place, blob, cancel)
    }

    /// Fetches the pack that a blob lies in, unless it is here, and cuts the blob out; `false` if there is no such pack.
    fn fetch_cut(&self, place: &dyn Source, cut: &Cut, cancel: &CancelToken) -> Result<bool, EngineError> {
        let Fetcher { engine, lease, .. } = self.fetcher;
        let pack = cut.pack();
        // Who needs another blob of it waits.
        let held = {
            let mut packs = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(packs.entry(cut.pack).or_default())
        };
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_here = engine.store.blob(lease, &cut.pack)?.is_some();
        if !is_here && !fetch_from(engine, lease, place, &pack, cancel)? {
            return Ok(false);
        }
        drop(held);
        let path = engine.store.blob_path(&cut.pack);
        let mut file = engine.store.open_blob(&cut.pack)?;
        file.seek(SeekFrom::Start(cut.at)).at("read", &path)?;
        let mut writer = engine.store.ingest(lease)?;
        writer.copy_from(&mut file.take(cut.size))?;
        writer.finish(Some(Expected { digest: cut.blob, size: cut.size }))?;
        Ok(true)
    }

    fn lost_if_wrong(&self, blob: Digest, error: StoreError) -> EngineError {
        if is_wrong(&error) { self.lost(blob, base::fault::chain(&error)) } else { error.into() }
    }

    /// From now on, what needs this blob is a miss.
    fn lost(&self, blob: Digest, why: String) -> EngineError {
        let mut known = self.known();
        known.lost.insert(blob);
        let Known { answers, found, lost, .. } = &mut *known;
        for answer in answers.values_mut() {
            *answer = answer.filter(|id| !found[id.0].record.needs_any(lost));
        }
        EngineError::SharedResultLost { what: format!("blob {blob}"), why }
    }
}

/// Fetches a blob from a place, if it is there.
pub(super) fn fetch_from(
    engine: &Engine,
    lease: &Lease,
    place: &dyn Source,
    blob: &Descriptor,
    cancel: &CancelToken,
) -> Result<bool, EngineError> {
    let mut writer = engine.store.ingest(lease)?;
    if !place.copy_blob(blob, &mut writer, cancel)? {
        return Ok(false);
    }
    writer.finish(Some(Expected { digest: blob.digest, size: blob.size }))?;
    Ok(true)
}

/// What the store keeps of a result that is here.
fn value_of(record: &Record, here: Filesystem) -> CacheValue {
    CacheValue {
        snapshot: Some(here.snapshot),
        content: Some(here.content),
        cost_ms: record.cost_ms,
        kind: RecordKind::Regular,
        description: record.step.clone(),
        metadata: record.path_ms.to_le_bytes().to_vec(),
        ..CacheValue::default()
    }
}

/// Whether content is not what it should be, rather than this machine being at fault.
fn is_wrong(error: &StoreError) -> bool {
    match error {
        StoreError::BlobMismatch { .. } | StoreError::Content { .. } | StoreError::DiffIdMismatch { .. } => {
            true
        }
        StoreError::Apply { source, .. } => source.fault() == Fault::Input,
        _ => false,
    }
}
