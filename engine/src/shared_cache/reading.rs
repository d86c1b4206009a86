//! Finding results in shared caches.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base::{Digest, Key};
use runner::isolation::Gap;

use super::claims::Claims;
use super::place::{Answer, Extent, Place, Source};
use super::record::Record;
use super::{Places, Trust};
use crate::Engine;
use crate::error::EngineError;
use crate::history::Recorder;
use crate::ops::Filesystem;
use crate::remote::Fetcher;
use crate::request::{CacheSource, SharedCaches};

/// With how many keys a place is asked at once.
const KEYS_AT_ONCE: usize = 1000;

/// A result that was found in a shared cache. It is this build's only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SharedId(pub(super) usize);

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
    pub(super) fetcher: Fetcher<'a>,
    pub(super) places: Vec<Arc<dyn Source + 'a>>,
    /// Those among them that keep records.
    pub(super) read: Vec<Arc<dyn Place + 'a>>,
    /// What results are written to.
    pub(super) written: Vec<Arc<dyn Place + 'a>>,
    /// What others are asked to wait for.
    pub(super) claims: Option<Claims>,
    trust: Trust,
    /// The definition keys of all steps of the build, each with those of the steps that it needs.
    keyed: Mutex<HashMap<Key, Vec<Key>>>,
    /// Packs that are being fetched.
    pub(super) packs: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    /// Whether results are told others. Settled when that is first asked.
    may_tell: OnceLock<bool>,
    known: Mutex<Known>,
    /// Whether it was asked for builds of other builders.
    compared: OnceLock<()>,
}

/// What is known of results that are elsewhere.
#[derive(Default)]
pub(super) struct Known {
    /// Keys that are likely to be looked up.
    expected: Vec<Key>,
    /// What was found under the keys that were asked for.
    pub(super) answers: HashMap<Key, Option<SharedId>>,
    pub(super) found: Vec<Arc<Elsewhere>>,
    /// Why there are records that are not used.
    refused: HashMap<Key, String>,
    /// Blobs that are nowhere, or not what they should be.
    pub(super) lost: HashSet<Digest>,
    /// Places that are not asked any more.
    failed: HashSet<usize>,
}

/// A result that is elsewhere.
pub(super) struct Elsewhere {
    pub(super) record: Record,
    /// The number of the place with the record.
    pub(super) place: usize,
    /// The keys that it was found under.
    keys: Mutex<Vec<Key>>,
    /// Its files, once they were brought.
    pub(super) here: OnceLock<Filesystem>,
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
        let Places { sources: places, read, written } = Places::open(&fetcher, caches);
        // Others find what we have made only where we write it.
        let is_written =
            |source: &CacheSource| matches!(source, CacheSource::Records(place) if to.contains(place));
        let place = from.iter().position(is_written);
        let claims = wait.zip(place).map(|(limit, place)| Claims::new(limit, place)).transpose()?;
        let (keyed, may_tell, known, compared, packs) = Default::default();
        Ok(Self { fetcher, places, read, written, claims, trust, keyed, packs, may_tell, known, compared })
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

    /// Notes the definition key of a step, and those of the steps that it needs. It is likely to be looked up, so that one question is
    /// enough for many.
    pub(crate) fn expect(&self, key: &Key, below: Vec<Key>) {
        self.keyed.lock().unwrap_or_else(PoisonError::into_inner).insert(*key, below);
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
            self.ask(key, Extent::First);
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

    /// The definition keys of all steps of the build.
    pub(super) fn keyed(&self) -> Vec<Key> {
        self.keyed.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// The definition keys that the step with this one needs; `None` if no step has it.
    pub(super) fn below(&self, key: &Key) -> Option<Vec<Key>> {
        self.keyed.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// A result that a place has.
    pub(super) fn elsewhere(&self, key: &Key) -> Option<Arc<Elsewhere>> {
        let hit = self.find(key)?;
        Some(Arc::clone(&self.known().found[hit.id.0]))
    }

    /// All keys that are known to lead to a result.
    pub(super) fn keys_of(&self, found: &Elsewhere) -> BTreeSet<Key> {
        let known = found.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut keys: BTreeSet<Key> =
            known.iter().flat_map(|key| self.places[found.place].same_as(key)).collect();
        keys.extend(known);
        keys
    }

    /// Whether results of this builder are for others. Tells why not, once.
    pub(super) fn may_tell(&self) -> bool {
        *self.may_tell.get_or_init(|| {
            let why = unfit(self.fetcher.engine);
            if let Some(why) = &why {
                let message = format!("results are not shared with other builders: {why}");
                self.fetcher.progress.warn("SharedCache", message);
            }
            why.is_none()
        })
    }

    /// Asks the places for a key, and for those that are expected as far as they answer about these as well.
    fn ask(&self, key: &Key, extent: Extent) {
        let mut missing = self.take_expected(key);
        let mut unasked = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            if missing.is_empty() || self.known().failed.contains(&index) {
                continue;
            }
            let answers = place.look_up(&missing, extent, self.fetcher.cancel).unwrap_or_else(|error| {
                self.give_up(index, &error);
                missing.iter().map(|_| Answer::None).collect()
            });
            let mut rest = Vec::new();
            for (key, answer) in missing.into_iter().zip(answers) {
                match answer {
                    Answer::Unasked => unasked.push(key),
                    Answer::Found { records, is_own } if self.keep(index, &key, &records, is_own) => {}
                    Answer::Found { .. } | Answer::None => rest.push(key),
                }
            }
            missing = rest;
        }
        let mut known = self.known();
        missing.into_iter().for_each(|key| {
            known.answers.insert(key, None);
        });
        known.expected.extend(unasked.into_iter().rev());
    }

    /// Keeps the first of some records that can be used. Where segments have none, the place may have one under the key itself.
    fn keep(&self, index: usize, key: &Key, records: &[Vec<u8>], is_own: bool) -> bool {
        let place = &self.places[index];
        let name = place.name();
        let mut record = records.iter().find_map(|bytes| self.usable(&name, key, bytes));
        if record.is_none() && !is_own {
            let own = place.records(&[*key], self.fetcher.cancel).ok().and_then(|mut own| own.pop()?);
            record = own.and_then(|bytes| self.usable(&name, key, &bytes));
        }
        let Some(record) = record else { return false };
        let mut known = self.known();
        let id = SharedId(known.found.len());
        let (keys, here) = (Mutex::new(vec![*key]), OnceLock::new());
        known.found.push(Arc::new(Elsewhere { record, place: index, keys, here }));
        known.answers.insert(*key, Some(id));
        true
    }

    /// Reads a record. Why there is one that is not used is remembered.
    fn usable(&self, place: &str, key: &Key, bytes: &[u8]) -> Option<Record> {
        let read = self.trust.read(place, key, bytes);
        let mut known = self.known();
        match read {
            Ok(record) => record.filter(|record| !record.needs_any(&known.lost)),
            Err(why) => {
                known.refused.insert(*key, format!("the result in {place} is not trusted: {why}"));
                None
            }
        }
    }

    /// Has the records of all steps that are still expected, so that a result that is brought here is found under all of their
    /// keys from now on.
    pub(super) fn ask_for_rest(&self) {
        loop {
            let key = self.known().expected.last().copied();
            let Some(key) = key else { break };
            self.ask(&key, Extent::All);
        }
    }

    /// A key with others that are worth asking for at the same time, those that were expected last before the others.
    fn take_expected(&self, key: &Key) -> Vec<Key> {
        let mut known = self.known();
        let at = known.expected.len().saturating_sub(KEYS_AT_ONCE - 1);
        let expected = known.expected.split_off(at);
        let mut taken = HashSet::new();
        let keys = std::iter::once(*key).chain(expected.into_iter().rev());
        keys.filter(|key| !known.answers.contains_key(key) && taken.insert(*key)).collect()
    }

    /// A place that cannot be read is as good as empty.
    fn give_up(&self, place: usize, error: &EngineError) {
        if self.known().failed.insert(place) && !matches!(error, EngineError::Cancelled) {
            let name = self.places[place].name();
            let why = base::fault::chain(error);
            self.fetcher.progress.warn("SharedCache", format!("the shared cache {name} is not used: {why}"));
        }
    }

    /// Blobs that turned out to be lost.
    pub(crate) fn lost_blobs(&self) -> HashSet<Digest> {
        self.known().lost.clone()
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Elsewhere {
    /// What is said of it.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn note_key(&self, key: &Key) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(key) {
            keys.push(*key);
        }
    }
}

/// Why results of this builder are not for others: their files may have other owners than the steps' definitions say.
fn unfit(engine: &Engine) -> Option<String> {
    let Ok(isolation) = engine.isolation() else { return Some(engine.isolation_line()) };
    let users = isolation.gaps.iter().find(|gap| matches!(gap, Gap::Users(_)))?;
    Some(format!("here are no users other than root: {}", users.why()))
}
