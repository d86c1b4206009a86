//! Telling other builders of results, beside the build: no step waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::{Digest, Key};
use crossbeam_channel::{Receiver, Sender};
use snapshotter::Compression;

use super::SharedCache;
use super::layers::Layers;
use super::place::{NewRecord, Place};
use super::record::{Record, RecordedLayer};
use crate::error::EngineError;
use crate::history::Recorder;
use crate::ops::Filesystem;
use crate::remote::Fetcher;
use crate::request::CachePlace;

/// How many results are written at once.
const WRITERS: usize = 4;

/// How layers are compressed that are not yet: quickly, since a build is under way.
const COMPRESSION: Compression = Compression::Zstd(1);

/// A result of which others are to be told.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) key: Key,
    pub(crate) result: Filesystem,
    /// How long it took to make, in milliseconds.
    pub(crate) cost_ms: u64,
    /// How long the longest chain of steps took that led to it, in milliseconds.
    pub(crate) path_ms: u64,
    /// The name of the step.
    pub(crate) step: String,
    /// Whether it was in the store, so that others may know of it already.
    pub(crate) found: bool,
}

/// What is to be written.
enum Told {
    Result(Made),
    /// What other builders compare with.
    Note(Key, Vec<u8>),
}

/// Where a build says what it has made.
#[derive(Default)]
pub(crate) struct Writer {
    sender: Option<Sender<Told>>,
    /// How many results are not written yet.
    pending: Arc<AtomicUsize>,
}

impl Writer {
    /// Tells others of a result, if there is one, some time later. Its snapshot is protected by the build's lease.
    pub(crate) fn tell(&self, made: impl FnOnce() -> Option<Made>) {
        self.send(|| Some(Told::Result(made()?)));
    }

    /// Tells others what the build was, so that they can say how theirs differ.
    pub(crate) fn note(&self, recorder: &Recorder) {
        self.send(|| Some(Told::Note(recorder.subject(), recorder.note()?)));
    }

    fn send(&self, told: impl FnOnce() -> Option<Told>) {
        let Some(sender) = &self.sender else { return };
        if let Some(told) = told() {
            self.pending.fetch_add(1, Ordering::SeqCst);
            // The threads that take it end after us.
            let _ = sender.send(told);
        }
    }
}

/// Does `work` while what it tells the writer is written to all of `to`, and waits for the end of both. What `cache`
/// found to be of no use is replaced.
pub(crate) fn write_while<T>(
    cache: &SharedCache<'_>,
    to: &[CachePlace],
    work: impl FnOnce(&Writer) -> T,
) -> T {
    if to.is_empty() {
        return work(&Writer::default());
    }
    if !cache.may_tell() {
        return work(&Writer::default());
    }
    let (sender, receiver) = crossbeam_channel::unbounded();
    let writer = Writer { sender: Some(sender), pending: Arc::default() };
    let pending = Arc::clone(&writer.pending);
    let engine = cache.fetcher().engine;
    let places: Vec<_> = to.iter().map(|place| Destination::new(super::open(engine, place))).collect();
    let names: Vec<String> = places.iter().map(|destination| destination.place.name()).collect();
    let layers = Layers::new(cache.fetcher(), COMPRESSION, false);
    let told = Results { cache, layers: &layers };
    std::thread::scope(|scope| {
        let write = || write_all(&told, &places, &receiver, &pending);
        let threads: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
        let result = work(&writer);
        drop(writer);
        let wait = || {
            for thread in threads {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        };
        if pending.load(Ordering::SeqCst) > 0 {
            let name = format!("exporting cache to {}", names.join(", "));
            cache.fetcher().progress.run(&name, wait);
        } else {
            wait();
        }
        result
    })
}

/// What results are written from.
struct Results<'a> {
    cache: &'a SharedCache<'a>,
    layers: &'a Layers<'a>,
}

/// Writes what comes until nothing more does.
fn write_all(
    results: &Results<'_>,
    places: &[Destination<'_>],
    receiver: &Receiver<Told>,
    pending: &AtomicUsize,
) {
    let cancel = results.cache.fetcher().cancel;
    for told in receiver {
        let is_wanted = |destination: &&Destination<'_>| {
            !cancel.is_cancelled() && !destination.failed.load(Ordering::Relaxed)
        };
        for destination in places.iter().filter(is_wanted) {
            let written = match &told {
                Told::Result(made) => destination.write(results, made),
                Told::Note(key, note) => destination.place.put_note(key, note, cancel),
            };
            match written {
                Ok(()) | Err(EngineError::Cancelled) => {}
                Err(error) => destination.give_up(results.cache.fetcher(), &error),
            }
        }
        if let Told::Result(made) = &told {
            results.cache.release(&made.key);
        }
        pending.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A place that is written to.
struct Destination<'a> {
    place: Arc<dyn Place + 'a>,
    /// Set when it was given up.
    failed: AtomicBool,
    /// Whether a blob is there for certain. Held while it is written: who needs the same one waits instead of sending
    /// it a second time.
    blobs: Mutex<HashMap<Digest, Arc<Mutex<bool>>>>,
}

impl<'a> Destination<'a> {
    fn new(place: Arc<dyn Place + 'a>) -> Self {
        Self { place, failed: AtomicBool::new(false), blobs: Mutex::default() }
    }

    /// Writes the blobs of a result and then its record, as far as they are not there.
    fn write(&self, results: &Results<'_>, made: &Made) -> Result<(), EngineError> {
        let cancel = results.cache.fetcher().cancel;
        let lost = results.cache.lost_blobs();
        if made.found && lost.is_empty() && self.has_enough(results, &made.key)? {
            return Ok(());
        }
        let chain = results.layers.of(made.result.snapshot)?;
        for layer in &chain {
            self.write_blob(results.cache.fetcher(), layer, &lost)?;
        }
        let blobs: Vec<_> = chain.iter().map(RecordedLayer::descriptor).collect();
        let Made { result, cost_ms, path_ms, step, .. } = made;
        let record = Record::new(result.content, chain, (*cost_ms, *path_ms), step.clone());
        let bytes = results.cache.trust().to_bytes(&made.key, &record);
        let replaces = !lost.is_empty() || self.is_to_be_replaced(results, &made.key)?;
        let record = NewRecord { bytes: &bytes, blobs: &blobs, replaces };
        self.place.add_record(&made.key, &record, cancel)
    }

    /// Whether the place has a record that others can use as well as what we would write.
    fn has_enough(&self, results: &Results<'_>, key: &Key) -> Result<bool, EngineError> {
        let (trust, name) = (results.cache.trust(), self.place.name());
        let there = self.place.records(&[*key], results.cache.fetcher().cancel)?;
        Ok(there.iter().flatten().any(|bytes| trust.is_enough(&name, key, bytes)))
    }

    /// Whether there may be a record that is worth less than one that we sign. Nobody else looks.
    fn is_to_be_replaced(&self, results: &Results<'_>, key: &Key) -> Result<bool, EngineError> {
        Ok(results.cache.trust().is_particular() && !self.has_enough(results, key)?)
    }

    fn write_blob(
        &self,
        fetcher: &Fetcher<'_>,
        layer: &RecordedLayer,
        lost: &HashSet<Digest>,
    ) -> Result<(), EngineError> {
        let blob = self
            .blobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(layer.digest)
            .or_default()
            .clone();
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
    fn give_up(&self, fetcher: &Fetcher<'_>, error: &EngineError) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            let (name, why) = (self.place.name(), base::fault::chain(error));
            let message = format!("nothing more is written to the shared cache {name}: {why}");
            fetcher.progress.warn("SharedCache", message);
        }
    }
}
