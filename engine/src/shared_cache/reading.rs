//! Finding results in shared caches, and bringing their files here when something needs them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base::image::Descriptor;
use base::{CancelToken, Digest, Fault, Faulty as _, Key};
use snapshotter::{CacheValue, Expected, Lease, RecordKind, StoreError};

use super::Trust;
use super::claims::Claims;
use super::place::Place;
use super::record::Record;
use crate::Engine;
use crate::error::EngineError;
use crate::history::Recorder;
use crate::ops::Filesystem;
use crate::remote::Fetcher;
use crate::request::SharedCaches;

/// With how many keys a place is asked at once.
const KEYS_AT_ONCE: usize = 1000;

/// A result that was found in a shared cache. It is this build's only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SharedId(usize);

/// A hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub(crate) id: SharedId,
    /// The content key of the files.
    pub(crate) content: Key,
    /// How long it took to make, in milliseconds.
    pub(crate) cost_ms: u64,
    /// How long the longest chain of steps took that led to it, in milliseconds.
    pub(crate) path_ms: u64,
}

/// The shared caches that a build reads.
pub(crate) struct SharedCache<'a> {
    fetcher: Fetcher<'a>,
    pub(super) places: Vec<Arc<dyn Place + 'a>>,
    /// What others are asked to wait for.
    pub(super) claims: Option<Claims>,
    trust: Trust,
    known: Mutex<Known>,
    /// Whether it was asked for builds of other builders.
    compared: OnceLock<()>,
}

#[derive(Default)]
struct Known {
    /// Keys that are likely to be looked up.
    expected: Vec<Key>,
    /// What was found under the keys that were asked for.
    answers: HashMap<Key, Option<SharedId>>,
    found: Vec<Arc<Found>>,
    /// Why there are records that are not used.
    refused: HashMap<Key, String>,
    /// Blobs that are nowhere, or not what they should be.
    lost: HashSet<Digest>,
    /// Places that are not asked any more.
    failed: HashSet<usize>,
}

/// A result that is elsewhere.
struct Found {
    record: Record,
    /// The place with the record.
    place: usize,
    /// The keys that it was found under.
    keys: Mutex<Vec<Key>>,
    here: OnceLock<Filesystem>,
}

impl<'a> SharedCache<'a> {
    /// What a build reads that fetches with `fetcher`.
    ///
    /// # Errors
    /// When the kernel has no random numbers.
    pub(crate) fn new(
        fetcher: Fetcher<'a>,
        caches: &SharedCaches,
        trust: Trust,
    ) -> Result<Self, EngineError> {
        let SharedCaches { from, to, wait, .. } = caches;
        let places = from.iter().map(|place| super::open(fetcher.engine, place)).collect();
        // Others find what we have made only where we write it.
        let place = from.iter().position(|place| to.contains(place));
        let claims = wait.zip(place).map(|(limit, place)| Claims::new(limit, place)).transpose()?;
        Ok(Self { fetcher, places, claims, trust, known: Mutex::default(), compared: OnceLock::new() })
    }

    /// What the build fetches with.
    pub(crate) fn fetcher(&self) -> &Fetcher<'a> {
        &self.fetcher
    }

    /// Has `recorder` compare with what other builders have written of their newest build. Asks once; steps that begin
    /// meanwhile wait for the answer.
    pub(crate) fn compare(&self, recorder: &Recorder) {
        self.compared.get_or_init(|| {
            for (index, place) in self.places.iter().enumerate() {
                if self.known().failed.contains(&index) {
                    continue;
                }
                // Reasons are worth no warning.
                if let Ok(Some(note)) = place.note(&recorder.subject(), self.fetcher.cancel) {
                    recorder.compare_with(&note, &place.name());
                }
            }
        });
    }

    /// Notes a key that is likely to be looked up, so that one question is enough for many.
    pub(crate) fn expect(&self, key: &Key) {
        if !self.places.is_empty() {
            self.known().expected.push(*key);
        }
    }

    /// Looks a result up. A place that cannot be asked is told of once, and then left alone.
    pub(crate) fn find(&self, key: &Key) -> Option<Hit> {
        if self.places.is_empty() {
            return None;
        }
        let answer = self.known().answers.get(key).copied();
        let id = answer.unwrap_or_else(|| {
            self.ask(key);
            self.known().answers.get(key).copied().flatten()
        })?;
        let found = Arc::clone(&self.known().found[id.0]);
        found.note_key(key);
        let Record { content, cost_ms, path_ms, .. } = found.record;
        Some(Hit { id, content, cost_ms, path_ms })
    }

    /// Has the next look-up ask again for what was not there.
    pub(super) fn look_again(&self, key: &Key) {
        let mut known = self.known();
        if known.answers.get(key) == Some(&None) {
            known.answers.remove(key);
        }
    }

    /// Why a result is not used that a cache has under this key, if there is one.
    pub(crate) fn refusal(&self, key: &Key) -> Option<String> {
        self.known().refused.get(key).cloned()
    }

    /// Whom the build believes, and as whom it speaks.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

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
        let name = format!("importing {} from {}", found.record.step, self.places[found.place].name());
        let snapshot = self.fetcher.progress.step(&name, |vertex| self.unpack(&found, vertex, cancel))?;
        let here = *found.here.get_or_init(|| Filesystem { snapshot, content: found.record.content });
        let keys = found.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        keys.iter().try_for_each(|key| self.save_here(&found.record, here, key))?;
        Ok(here)
    }

    /// Has a key lead to a result that was brought here.
    fn save_here(&self, record: &Record, here: Filesystem, key: &Key) -> Result<(), EngineError> {
        let value = CacheValue {
            snapshot: Some(here.snapshot),
            content: Some(here.content),
            cost_ms: record.cost_ms,
            kind: RecordKind::Regular,
            description: record.step.clone(),
            metadata: record.path_ms.to_le_bytes().to_vec(),
            ..CacheValue::default()
        };
        Ok(self.fetcher.engine.store.cache_put(key, value)?)
    }

    /// Asks every place for a key and those that are expected.
    fn ask(&self, key: &Key) {
        let mut missing = self.take_expected(key);
        for (index, place) in self.places.iter().enumerate() {
            if missing.is_empty() || self.known().failed.contains(&index) {
                continue;
            }
            let records = place.records(&missing, self.fetcher.cancel);
            let records = records.unwrap_or_else(|error| {
                self.give_up(index, &error);
                Vec::new()
            });
            let name = place.name();
            let mut known = self.known();
            for (key, bytes) in missing.iter().zip(records) {
                let read = bytes.map_or(Ok(None), |bytes| self.trust.read(&name, key, &bytes));
                let record = read.unwrap_or_else(|why| {
                    known.refused.insert(*key, format!("the result in {name} is not trusted: {why}"));
                    None
                });
                let Some(record) = record.filter(|record| !record.needs_any(&known.lost)) else { continue };
                let id = SharedId(known.found.len());
                let (keys, here) = (Mutex::default(), OnceLock::new());
                known.found.push(Arc::new(Found { record, place: index, keys, here }));
                known.answers.insert(*key, Some(id));
            }
            missing.retain(|key| !known.answers.contains_key(key));
        }
        let mut known = self.known();
        missing.into_iter().for_each(|key| {
            known.answers.insert(key, None);
        });
    }

    /// A key with others that are worth asking for at the same time.
    fn take_expected(&self, key: &Key) -> Vec<Key> {
        let mut known = self.known();
        let at = known.expected.len().saturating_sub(KEYS_AT_ONCE - 1);
        let mut keys = known.expected.split_off(at);
        keys.push(*key);
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| !known.answers.contains_key(key));
        keys
    }

    /// A place that cannot be read is as good as empty.
    fn give_up(&self, place: usize, error: &EngineError) {
        if self.known().failed.insert(place) && !matches!(error, EngineError::Cancelled) {
            let name = self.places[place].name();
            let why = base::fault::chain(error);
            self.fetcher.progress.warn("SharedCache", format!("the shared cache {name} is not used: {why}"));
        }
    }

    /// Makes a snapshot of a result's layers, fetching those that are not here.
    fn unpack(
        &self,
        found: &Found,
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
            let Fetcher { engine, lease, .. } = self.fetcher;
            match fetch_from(engine, lease, &*self.places[place], blob, cancel) {
                Ok(true) => return Ok(()),
                Ok(false) => why = format!("{} does not have it any more", self.places[place].name()),
                Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
                Err(EngineError::Store(error)) if !is_wrong(&error) => return Err(error.into()),
                Err(error) => why = base::fault::chain(&error),
            }
        }
        Err(self.lost(blob.digest, why))
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

    /// Blobs that turned out to be lost.
    pub(crate) fn lost_blobs(&self) -> HashSet<Digest> {
        self.known().lost.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches a blob from a place, if it is there.
pub(super) fn fetch_from(
    engine: &Engine,
    lease: &Lease,
    place: &dyn Place,
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

impl Found {
    fn note_key(&self, key: &Key) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(key) {
            keys.push(*key);
        }
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
