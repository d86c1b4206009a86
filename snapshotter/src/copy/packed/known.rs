//! What becomes known of the files of a copy: for the key of what was copied, and for the cache of the next build.

use base::Key;
use sys::stat::Stat;

use super::super::Job;
use super::Place;
use crate::batch::{Batch, Seen};
use crate::content_key::{Leaf, selection_key};
use crate::hard_links::HardLinks;
use crate::stat_cache::Record;

pub(super) struct Known<'a> {
    job: &'a Job<'a>,
    batches: &'a [Batch],
    /// By the numbers of the batches.
    files: Vec<Files>,
}

/// What is known of the files of one batch.
#[derive(Default)]
struct Files {
    /// Of those that were looked at.
    found: Vec<(Place, Option<Leaf>)>,
    /// Those that were not, because they are what was seen for the key.
    as_seen: Vec<Place>,
}

impl<'a> Known<'a> {
    pub(super) fn new(job: &'a Job<'a>, batches: &'a [Batch]) -> Self {
        Self { job, batches, files: batches.iter().map(|_| Files::default()).collect() }
    }

    /// What a file turned out to be.
    pub(super) fn note(&mut self, place: Place, leaf: Option<Leaf>) {
        self.files[place.batch].found.push((place, leaf));
    }

    /// A file is what is remembered of one with this status.
    pub(super) fn is_remembered(&mut self, place: Place, stat: &Stat, record: Record) {
        match self.seen(place.batch).and_then(|seen| seen.leaf(place.dir, place.child)) {
            // Another key of the same files may have found something else meanwhile.
            Some(leaf) if leaf.record == Some(record) => self.files[place.batch].as_seen.push(place),
            _ => self.note(place, self.job.file_leaf(Some(record), stat, &[], Some(record.hash))),
        }
    }

    /// Notes it all in the cache, and computes the content key if it was asked for. `links` are those of the batches.
    pub(super) fn keep(self, links: &[HardLinks]) -> Option<Key> {
        let Self { job, batches, .. } = self;
        let mut keys = Vec::new();
        for (number, (batch, links)) in batches.iter().zip(links).enumerate() {
            if let Some(seen) = self.as_seen(number, links) {
                keys.push(seen.key);
                continue;
            }
            let mut leaves = self.leaves(number);
            job.give_later_names_their_leaves(&batch.scan, links, &mut leaves);
            keys.extend(job.keep(batch, &leaves));
        }
        job.options.key.map(|_| selection_key(&keys))
    }

    /// What was seen for a key like that of the copy.
    fn seen(&self, batch: usize) -> Option<&'a Seen> {
        let options = self.job.options.key?;
        self.batches[batch].seen.as_ref().filter(|seen| seen.options == options)
    }

    /// What was seen of a batch, if that is what all of its files are: the cache has it already, and the key is the same.
    fn as_seen(&self, batch: usize, links: &HardLinks) -> Option<&'a Seen> {
        let seen = self.seen(batch).filter(|_| links.pairs().is_empty())?;
        let Files { found, as_seen } = &self.files[batch];
        let is_as_seen =
            |(place, leaf): &(Place, Option<Leaf>)| match (leaf, seen.leaf(place.dir, place.child)) {
                (Some(leaf), Some(seen)) => leaf.key == seen.key && leaf.record == seen.record,
                _ => false,
            };
        let is_all = found.len() + as_seen.len() == seen.leaves.iter().flatten().flatten().count();
        (is_all && found.iter().all(is_as_seen)).then_some(seen)
    }

    /// What is known of the files of a batch, in the shape of its scan.
    fn leaves(&self, batch: usize) -> Vec<Vec<Option<Leaf>>> {
        let dirs = &self.batches[batch].scan.dirs;
        let mut leaves: Vec<Vec<Option<Leaf>>> =
            dirs.iter().map(|dir| vec![None; dir.children.len()]).collect();
        let Files { found, as_seen } = &self.files[batch];
        for place in as_seen {
            let seen = self.seen(batch).and_then(|seen| seen.leaf(place.dir, place.child));
            leaves[place.dir][place.child] = seen.cloned().map(|seen| Leaf { remembered: true, ..seen });
        }
        for (place, leaf) in found {
            leaves[place.dir][place.child].clone_from(leaf);
        }
        leaves
    }
}
