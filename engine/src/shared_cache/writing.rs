//! Telling other builders of results, beside the build: no step waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::Key;
use crossbeam_channel::Sender;
use snapshotter::Compression;

use super::SharedCache;
use super::destination::{Destination, Results};
use super::gathering::{Gathering, PACE};
use super::layers::Layers;
use crate::error::EngineError;
use crate::history::Recorder;
use crate::ops::Filesystem;

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

impl Told {
    fn result(&self) -> Option<&Made> {
        match self {
            Self::Result(made) => Some(made),
            Self::Note(..) => None,
        }
    }
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

/// Does `work` while what it tells the writer is written wherever the build writes to, and waits for the end of both. What
/// `cache` found to be of no use is replaced.
pub(crate) fn write_while<T>(cache: &SharedCache<'_>, work: impl FnOnce(&Writer) -> T) -> T {
    if cache.written.is_empty() || !cache.may_tell() {
        return work(&Writer::default());
    }
    let (sender, receiver) = crossbeam_channel::unbounded();
    let writer = Writer { sender: Some(sender), pending: Arc::default() };
    let pending = Arc::clone(&writer.pending);
    let places: Vec<_> = cache.written.iter().map(|place| Destination::new(Arc::clone(place))).collect();
    let names: Vec<String> = places.iter().map(|destination| destination.place.name()).collect();
    let layers = Layers::new(cache.fetcher(), COMPRESSION, false);
    let results = Results { cache, layers: &layers };
    // Who waits for a result waits for each.
    let is_paced = cache.claims.is_none() && places.iter().any(|destination| destination.packs.is_some());
    let gathering = Gathering::new(receiver, is_paced.then_some(PACE));
    std::thread::scope(|scope| {
        let write = || write_all(&results, &places, &gathering, &pending);
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

/// Writes what comes until nothing more does.
fn write_all(
    results: &Results<'_>,
    places: &[Destination<'_>],
    gathering: &Gathering<Told>,
    pending: &AtomicUsize,
) {
    loop {
        let told = gathering.next();
        if told.is_empty() {
            return;
        }
        for destination in places {
            write(results, destination, &told);
        }
        let made = told.iter().filter_map(Told::result);
        made.for_each(|made| results.cache.release(&made.key));
        pending.fetch_sub(told.len(), Ordering::SeqCst);
    }
}

/// Writes to one place, unless nothing more is to be written there.
fn write(results: &Results<'_>, destination: &Destination<'_>, told: &[Told]) {
    let fetcher = results.cache.fetcher();
    if fetcher.cancel.is_cancelled() || !destination.is_wanted() {
        return;
    }
    let made: Vec<&Made> = told.iter().filter_map(Told::result).collect();
    let mut written = destination.write(results, &made);
    for told in told {
        if let Told::Note(key, note) = told {
            written = written.and_then(|()| destination.place.put_note(key, note, fetcher.cancel));
        }
    }
    match written {
        Ok(()) | Err(EngineError::Cancelled) => {}
        Err(error) => destination.give_up(fetcher, &error),
    }
}
