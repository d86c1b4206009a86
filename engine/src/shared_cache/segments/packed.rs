//! A place whose records may lie in segments.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::image::Descriptor;
use base::{CancelToken, Digest, Key, Reference};
use snapshotter::BlobWriter;

use super::super::claims::{Claim, Claimed};
use super::super::place::{Answer, Extent, NewRecord, Place, Source};
use super::{Cut, Segment};
use crate::error::EngineError;

/// With how many keys a place is asked first that answers one at a time.
const ASKED_FIRST: usize = 4;

/// How many times as many it is asked for next, as long as what is wanted is not found.
const GROWTH: usize = 4;

/// How many of the other segments are read that a segment tells of.
const OTHERS: usize = 16;

/// How many different records of one key are remembered.
const MOST_OF_ONE: usize = 4;

/// The most bytes of records that are remembered.
const MAX_KNOWN: usize = 32 << 20;

/// A place whose records may lie in segments. What was read of one is remembered for the whole build.
pub(in super::super) struct Packed<'a> {
    place: Box<dyn Place + 'a>,
    known: Mutex<Known>,
}

/// What segments have told.
#[derive(Default)]
struct Known {
    /// Different records of one key are of different builders.
    records: HashMap<Key, Vec<Vec<u8>>>,
    /// How long these are together, in bytes.
    size: usize,
    cuts: HashMap<Digest, Cut>,
    /// Keys under which there are other segments, that were not asked for.
    others: Vec<Key>,
}

impl Known {
    fn add(&mut self, key: Key, record: Vec<u8>) {
        let size = self.size + record.len();
        let records = self.records.entry(key).or_default();
        if size <= MAX_KNOWN && records.len() < MOST_OF_ONE && !records.contains(&record) {
            self.size = size;
            records.push(record);
        }
    }
}

impl<'a> Packed<'a> {
    /// The same place, with segments.
    pub(in super::super) fn new(place: Box<dyn Place + 'a>) -> Self {
        Self { place, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found under a key: a record, or one of a segment.
    fn unpacked(&self, key: &Key, found: Vec<u8>) -> Option<Vec<u8>> {
        let Some(segment) = Segment::read(&found) else { return Some(found) };
        let mut known = self.known();
        let mut own = None;
        for (of, record) in segment.records {
            let record = record.into_bytes();
            if of == *key {
                own = Some(record.clone());
            }
            known.add(of, record);
        }
        for cut in segment.cuts {
            known.cuts.entry(cut.blob).or_insert(cut);
        }
        known.others.extend(segment.others.into_iter().take(OTHERS));
        own
    }

    /// Asks for a few keys and then for more, until there are answers enough.
    fn ask_gradually(
        &self,
        keys: &[Key],
        extent: Extent,
        cancel: &CancelToken,
    ) -> Result<Vec<Answer>, EngineError> {
        let mut answers: Vec<Answer> = keys.iter().map(|_| Answer::Unasked).collect();
        self.remember(keys, &mut answers);
        let mut count = if extent == Extent::All { keys.len() } else { ASKED_FIRST };
        while extent == Extent::All || !matches!(answers[0], Answer::Found { .. }) {
            let unasked = |(at, answer): (usize, &Answer)| matches!(answer, Answer::Unasked).then_some(at);
            let some: Vec<usize> = answers.iter().enumerate().filter_map(unasked).take(count).collect();
            if some.is_empty() {
                break;
            }
            let asked: Vec<Key> = some.iter().map(|at| keys[*at]).collect();
            for (at, record) in some.into_iter().zip(self.records(&asked, cancel)?) {
                answers[at] = Answer::own(record);
            }
            self.read_others(cancel)?;
            self.remember(keys, &mut answers);
            count *= GROWTH;
        }
        Ok(answers)
    }

    /// Reads the segments that others have told of: they are of the same build, or of those that it was made from.
    fn read_others(&self, cancel: &CancelToken) -> Result<(), EngineError> {
        let mut known = self.known();
        let mut others = std::mem::take(&mut known.others);
        others.sort_unstable();
        others.dedup();
        others.retain(|key| !known.records.contains_key(key));
        others.truncate(OTHERS);
        drop(known);
        if !others.is_empty() {
            self.records(&others, cancel)?;
            // One level is enough: a segment tells of all.
            self.known().others.clear();
        }
        Ok(())
    }

    /// Adds what is known of segments.
    fn remember(&self, keys: &[Key], answers: &mut [Answer]) {
        let known = self.known();
        for (key, answer) in keys.iter().zip(answers) {
            let Some(remembered) = known.records.get(key) else { continue };
            let is_own = !matches!(answer, Answer::Unasked | Answer::Found { is_own: false, .. });
            let mut records = match std::mem::replace(answer, Answer::None) {
                Answer::Found { records, .. } => records,
                Answer::None | Answer::Unasked => Vec::new(),
            };
            for record in remembered {
                if !records.contains(record) {
                    records.push(record.clone());
                }
            }
            *answer = Answer::Found { records, is_own };
        }
    }
}

impl Source for Packed<'_> {
    fn name(&self) -> String {
        self.place.name()
    }

    fn repository(&self) -> Option<&Reference> {
        self.place.repository()
    }

    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let found = self.place.records(keys, cancel)?;
        Ok(keys.iter().zip(found).map(|(key, found)| self.unpacked(key, found?)).collect())
    }

    fn look_up(
        &self,
        keys: &[Key],
        extent: Extent,
        cancel: &CancelToken,
    ) -> Result<Vec<Answer>, EngineError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let Some(found) = self.place.records_at_once(keys, cancel)? else {
            return self.ask_gradually(keys, extent, cancel);
        };
        let unpacked = |(key, found): (&Key, Option<Vec<u8>>)| self.unpacked(key, found?);
        let found = keys.iter().zip(found).map(unpacked);
        let mut answers: Vec<Answer> = found.map(Answer::own).collect();
        self.read_others(cancel)?;
        self.remember(keys, &mut answers);
        Ok(answers)
    }

    fn cut_of(&self, blob: &Digest) -> Option<Cut> {
        self.known().cuts.get(blob).copied()
    }

    fn cut_beside(&self, cut: &Cut) -> Vec<Digest> {
        let known = self.known();
        known.cuts.values().filter(|other| other.pack == cut.pack).map(|other| other.blob).collect()
    }

    fn same_as(&self, key: &Key) -> Vec<Key> {
        self.place.same_as(key)
    }

    fn claim(&self, claim: &Claim, cancel: &CancelToken) -> Result<Claimed, EngineError> {
        self.place.claim(claim, cancel)
    }

    fn release(&self, claim: &Claim, cancel: &CancelToken) -> Result<(), EngineError> {
        self.place.release(claim, cancel)
    }

    fn note(&self, key: &Key, cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError> {
        self.place.note(key, cancel)
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        self.place.copy_blob(blob, to, cancel)
    }
}

impl Place for Packed<'_> {
    fn wants_segments(&self) -> bool {
        self.place.wants_segments()
    }

    fn add_record(
        &self,
        key: &Key,
        record: &NewRecord<'_>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        self.place.add_record(key, record, cancel)
    }

    fn put_note(&self, key: &Key, note: &[u8], cancel: &CancelToken) -> Result<(), EngineError> {
        self.place.put_note(key, note, cancel)
    }

    fn add_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        anew: bool,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        self.place.add_blob(blob, file, anew, cancel)
    }
}
