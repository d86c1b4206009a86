//! Earlier builds of the same project, and what they say about the steps of this one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use base::{FileChange, Key};
use snapshotter::listing::Listing;
use snapshotter::{BuildRecord, HintKind, Store};
use solver::explain::{Before, Comparison, Now, Reason, Standing, StepFacts};

use super::document::{BuildDocument, GraphDocument};
use super::note::Note;

/// How many builds are looked at, the newest first.
const MOST_LOOKED_AT: usize = 6;

/// A build that is compared with.
struct Earlier {
    id: String,
    comparison: Comparison,
    /// How long its steps took, now or when they ran, in milliseconds.
    costs: Vec<Option<u64>>,
    /// Files behind content keys that are not in the store.
    listings: HashMap<Key, Vec<u8>>,
}

/// The earlier builds of one project, read one after another as they are needed.
///
/// Steps that begin at once may read the same build twice; none waits while another reads.
pub(crate) struct EarlierBuilds {
    project: Key,
    /// The build that is explained.
    own: String,
    /// The newest first; empty before anybody asked.
    builds: OnceLock<Vec<EarlierBuild>>,
    /// The newest build of another builder, of whom a shared cache tells.
    elsewhere: OnceLock<Earlier>,
    /// The roots of the steps that were explained.
    roots: Mutex<HashMap<usize, Root>>,
}

struct EarlierBuild {
    record: BuildRecord,
    /// `None` inside when it cannot be read.
    read: OnceLock<Option<Earlier>>,
}

/// The step that a chain of reasons begins with, and why that one had to run.
pub(crate) type Root = (usize, Reason);

/// The reasons of a step.
pub(crate) struct Chain {
    /// The step and those that are the reason for it, as far as they were not told before.
    pub(crate) new: Vec<(usize, Explanation)>,
    pub(crate) root: Root,
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
    /// The builds of `project` that are over when the build `id` needs them, whatever the clock said in them. Reads nothing
    /// yet.
    pub(crate) fn of(project: Key, id: &str) -> Self {
        let (builds, elsewhere) = (OnceLock::new(), OnceLock::new());
        Self { project, own: id.to_owned(), builds, elsewhere, roots: Mutex::default() }
    }

    /// Compares with a build of another builder as well; `place` is where it was told of.
    pub(crate) fn add_elsewhere(&self, note: Note, place: &str, now: &[StepFacts]) {
        let Note { build, before, costs, listings } = note;
        let id = format!("{build} in {place}");
        self.elsewhere.get_or_init(|| Earlier {
            id,
            comparison: Comparison::new(now, before),
            costs,
            listings,
        });
    }

    /// Whether nothing can be compared with.
    pub(crate) fn is_empty(&self, store: &Store) -> bool {
        self.elsewhere.get().is_none() && self.builds(store).is_empty()
    }

    fn builds(&self, store: &Store) -> &[EarlierBuild] {
        if let Some(builds) = self.builds.get() {
            return builds;
        }
        // One more, since this one may be among them.
        let mut records = store.builds_of(&self.project, MOST_LOOKED_AT + 1).unwrap_or_default();
        records.retain(|record| record.id != self.own);
        records.truncate(MOST_LOOKED_AT);
        let unread = |record| EarlierBuild { record, read: OnceLock::new() };
        self.builds.get_or_init(|| records.into_iter().map(unread).collect())
    }

    /// The builds that can be read, the newest first, and then that of another builder.
    fn read<'a>(&'a self, store: &'a Store, now: &'a [StepFacts]) -> impl Iterator<Item = &'a Earlier> {
        let here = self.builds(store).iter().filter_map(move |build| {
            if let Some(read) = build.read.get() {
                return read.as_ref();
            }
            let earlier = read(store, &build.record).map(|(before, costs)| Earlier {
                id: build.record.id.clone(),
                comparison: Comparison::new(now, before),
                costs,
                listings: HashMap::new(),
            });
            build.read.get_or_init(|| earlier).as_ref()
        });
        here.chain(self.elsewhere.get())
    }

    /// Why `step` had to run, and whatever above it is the reason for that, down to the root. `ran` tells whether a step
    /// ran in this build. What was told of another step is not told again, so a long chain costs no more than its steps.
    pub(crate) fn chain(
        &self,
        store: &Store,
        now: Now<'_>,
        step: usize,
        ran: &dyn Fn(usize) -> bool,
    ) -> Chain {
        let mut new: Vec<(usize, Explanation)> = Vec::new();
        let mut next = Some(step);
        let mut root = None;
        while let Some(at) = next {
            root = self.roots().get(&at).cloned();
            if root.is_some() {
                break;
            }
            let mut explanation = self.explain(store, now, at);
            if at != step && matches!(explanation.reasons[..], [Reason::Removed { .. }]) && !ran(at) {
                explanation.reasons = vec![Reason::OtherResult];
            }
            // Inputs come before what uses them, so this ends.
            next = explanation.reasons[0].input().filter(|input| *input < at);
            new.push((at, explanation));
        }
        let root = root.or_else(|| {
            let (at, explanation) = new.last()?;
            Some((*at, explanation.reasons[0].clone()))
        });
        let root = root.unwrap_or((step, Reason::NeverBuilt));
        self.roots().extend(new.iter().map(|(at, _)| (*at, root.clone())));
        Chain { new, root }
    }

    /// The solver begins anew, with keys that may be others.
    pub(crate) fn forget_explanations(&self) {
        self.roots().clear();
    }

    fn roots(&self) -> MutexGuard<'_, HashMap<usize, Root>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn explain(&self, store: &Store, now: Now<'_>, step: usize) -> Explanation {
        let keys = (now.keys)(step);
        let removed = keys.definition.and_then(|definition| store.removed_at(&definition).ok()?);
        if let Some(at) = removed.filter(|_| !keys.not_asked) {
            return Explanation { reasons: vec![Reason::Removed { at: Some(at) }], compared_with: None };
        }
        let mut best: Option<(Standing, &Earlier)> = None;
        for earlier in self.read(store, now.steps) {
            let standing = earlier.comparison.standing(step, &keys);
            if best.is_none_or(|(best, _)| standing > best) {
                best = Some((standing, earlier));
            }
            if standing >= Standing::Similar {
                break;
            }
        }
        match best {
            None => Explanation { reasons: vec![Reason::NeverBuilt], compared_with: None },
            Some((_, earlier)) => {
                let changes = |before: &Key, now: &Key| earlier.file_changes(store, before, now);
                let reasons = earlier.comparison.explain(now, step, &changes);
                Explanation { reasons, compared_with: Some(earlier.id.clone()) }
            }
        }
    }

    /// How long each step took by what the newest of the builds knows, in milliseconds.
    pub(crate) fn costs(&self, store: &Store, now: &[StepFacts]) -> Vec<Option<u64>> {
        let Some(newest) = self.read(store, now).next() else { return Vec::new() };
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

impl Earlier {
    /// How the files behind two content keys differ, if both listings are known.
    fn file_changes(&self, store: &Store, before: &Key, now: &Key) -> Option<Vec<FileChange>> {
        let now = listing(store, now)?;
        let elsewhere = self.listings.get(before).and_then(|before| Listing::changes_between(before, &now));
        elsewhere.or_else(|| Listing::changes_between(&listing(store, before)?, &now))
    }
}

/// How the files behind two content keys differ, if both listings are there.
pub(crate) fn file_changes(store: &Store, before: &Key, now: &Key) -> Option<Vec<FileChange>> {
    Listing::changes_between(&listing(store, before)?, &listing(store, now)?)
}

/// An encoded listing.
fn listing(store: &Store, key: &Key) -> Option<Vec<u8>> {
    store.hint(HintKind::Listing, key).ok()?
}
