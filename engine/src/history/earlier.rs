//! Earlier builds of the same project, and what they say about the steps of this one.

use std::collections::HashMap;

use base::{FileChange, Key, Timestamp};
use snapshotter::listing::Listing;
use snapshotter::{BuildRecord, HintKind, Store};
use solver::explain::{Before, Comparison, Now, Reason, Standing, StepFacts};

use super::document::{BuildDocument, GraphDocument};

/// How many builds are looked at, the newest first.
const MOST_LOOKED_AT: usize = 6;

/// A build that is compared with.
struct Earlier {
    id: String,
    comparison: Comparison,
    /// How long its steps took, now or when they ran, in milliseconds.
    costs: Vec<Option<u64>>,
}

/// The earlier builds of one project, the newest first, read one after another as they are needed.
pub(crate) struct EarlierBuilds {
    project: Key,
    /// The build that is explained, and when it began.
    own: (String, Timestamp),
    /// Not read yet, the newest last; `None` before anybody asked.
    unread: Option<Vec<BuildRecord>>,
    read: Vec<Earlier>,
    known: HashMap<usize, Explanation>,
}

/// Why a step had to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// The first difference first; never empty.
    pub(crate) reasons: Vec<Reason>,
    /// The id of the build that it was compared with; `None` when there is none.
    pub(crate) compared_with: Option<String>,
}

impl EarlierBuilds {
    /// The builds of `project` that began before the build `id` did, at `started`. Reads nothing yet.
    pub(crate) fn of(project: Key, id: &str, started: Timestamp) -> Self {
        Self { project, own: (id.to_owned(), started), unread: None, read: Vec::new(), known: HashMap::new() }
    }

    /// Whether nothing can be compared with.
    pub(crate) fn is_empty(&mut self, store: &Store) -> bool {
        self.read.is_empty() && self.unread(store).is_empty()
    }

    fn unread(&mut self, store: &Store) -> &mut Vec<BuildRecord> {
        let (project, (own, started)) = (self.project, &self.own);
        self.unread.get_or_insert_with(|| {
            // One more, since this one may be among them.
            let mut records = store.builds_of(&project, MOST_LOOKED_AT + 1).unwrap_or_default();
            records.retain(|record| record.created <= *started && record.id != *own);
            records.truncate(MOST_LOOKED_AT);
            records.reverse();
            records
        })
    }

    /// Why `step` had to run, and whatever above it is the reason for that: the chain down to its root, each with its
    /// step. `ran` tells whether a step ran in this build.
    pub(crate) fn chain(
        &mut self,
        store: &Store,
        now: Now<'_>,
        step: usize,
        ran: &dyn Fn(usize) -> bool,
    ) -> Vec<(usize, Explanation)> {
        let mut chain: Vec<(usize, Explanation)> = Vec::new();
        let mut next = Some(step);
        while let Some(at) = next {
            let mut explanation = self.explain(store, now, at);
            if at != step && matches!(explanation.reasons[..], [Reason::Removed { .. }]) && !ran(at) {
                explanation.reasons = vec![Reason::OtherResult];
            }
            // Inputs come before what uses them, so this ends.
            next = explanation.reasons[0].input().filter(|input| *input < at);
            chain.push((at, explanation));
        }
        chain
    }

    fn explain(&mut self, store: &Store, now: Now<'_>, step: usize) -> Explanation {
        if let Some(known) = self.known.get(&step) {
            return known.clone();
        }
        let keys = (now.keys)(step);
        let removed = keys.definition.and_then(|definition| store.removed_at(&definition).ok()?);
        if let Some(at) = removed.filter(|_| !keys.not_asked) {
            return Explanation { reasons: vec![Reason::Removed { at: Some(at) }], compared_with: None };
        }
        let mut best: Option<(Standing, usize)> = None;
        for index in 0.. {
            if index == self.read.len() && !self.read_next(store, now.steps) {
                break;
            }
            let standing = self.read[index].comparison.standing(step, &keys);
            if best.is_none_or(|(best, _)| standing > best) {
                best = Some((standing, index));
            }
            if standing >= Standing::Similar {
                break;
            }
        }
        let explanation = match best {
            None => Explanation { reasons: vec![Reason::NeverBuilt], compared_with: None },
            Some((_, index)) => {
                let earlier = &self.read[index];
                let reasons =
                    earlier.comparison.explain(now, step, &|before, now| file_changes(store, before, now));
                Explanation { reasons, compared_with: Some(earlier.id.clone()) }
            }
        };
        self.known.insert(step, explanation.clone());
        explanation
    }

    /// Reads the next build that can be read. `false` when there is none.
    fn read_next(&mut self, store: &Store, now: &[StepFacts]) -> bool {
        while let Some(record) = self.unread(store).pop() {
            if let Some((before, costs)) = read(store, &record) {
                self.read.push(Earlier { id: record.id, comparison: Comparison::new(now, before), costs });
                return true;
            }
        }
        false
    }

    /// How long each step took by what the newest of the builds knows, in milliseconds.
    pub(crate) fn costs(&mut self, store: &Store, now: &[StepFacts]) -> Vec<Option<u64>> {
        if self.read.is_empty() && !self.read_next(store, now) {
            return Vec::new();
        }
        let newest = &self.read[0];
        let cost = |step| newest.costs.get(newest.comparison.matched(step)?).copied().flatten();
        (0..now.len()).map(cost).collect()
    }
}

fn read(store: &Store, record: &BuildRecord) -> Option<(Before, Vec<Option<u64>>)> {
    let document = BuildDocument::decode(&super::read_record(store, &record.id).ok()??)?;
    let graph = store.hint(HintKind::Graph, &document.graph?).ok()??;
    let steps = GraphDocument::decode(&graph)?.facts()?;
    let keys = document.steps.iter().map(super::document::StepDocument::keys).collect::<Vec<_>>();
    let costs = document.steps.iter().map(|step| step.cost_ms).collect();
    (steps.len() == keys.len()).then_some((Before { steps, keys }, costs))
}

/// How the files behind two content keys differ, if both listings are there.
pub(crate) fn file_changes(store: &Store, before: &Key, now: &Key) -> Option<Vec<FileChange>> {
    let listing = |key: &Key| Listing::decode(&store.hint(HintKind::Listing, key).ok()??);
    Some(listing(before)?.changes(&listing(now)?))
}
