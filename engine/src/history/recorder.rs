//! Takes down a build while it runs: its log, its keys, how long its steps took, and why they ran.
//!
//! A record is worth less than the build: what cannot be written is told as a warning and fails nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use base::event::{Event, Outcome};
use base::{Digest, Key, Timestamp};
use llb::{Graph, VertexIndex};
use runner::Usage;
use snapshotter::{BuildContent, BuildRecord, BuildStatus, HeldDir, HintKind, Store};
use solver::explain::{Now, StepFacts};

use super::document::{
    BuildDocument, GraphDocument, OtherDocument, RequestDocument, StepDocument, StepOutcome, UsageDocument,
    facts_of,
};
use super::earlier::EarlierBuilds;
use super::log::EventLog;
use super::note;
use super::reasons;
use super::timing::Timing;
use crate::error::{BuildError, EngineError};
use crate::report::BuildReport;

/// Listings of so many bytes are worth a thread to be compared.
const LONG_LISTING: usize = 64 << 10;

/// Takes down one build.
pub(crate) struct Recorder {
    store: Store,
    id: String,
    project: Key,
    name: String,
    request: RequestDocument,
    started: Timestamp,
    isolation: String,
    log: EventLog,
    /// Made when the first step runs. Others wait meanwhile: no step is to run before the build is in the history.
    directory: Mutex<Option<HeldDir>>,
    /// The graph that is taken down, of those that the build has solved.
    graph: Mutex<Option<Arc<RecordedGraph>>>,
    steps: Mutex<Vec<StepDocument>>,
    other: Mutex<HashMap<Digest, Other>>,
    earlier: EarlierBuilds,
    /// Whether a listing was kept that takes long to compare.
    has_long_listing: AtomicBool,
    /// The first thing that could not be written; told at the end.
    failed: Mutex<Option<EngineError>>,
}

/// A graph of the build.
struct RecordedGraph {
    key: Key,
    places: HashMap<Digest, usize>,
    /// Made when a step needs an explanation, or the graph was not written yet.
    facts: OnceLock<Vec<StepFacts>>,
    graph: Arc<Graph>,
}

impl RecordedGraph {
    fn facts(&self) -> &[StepFacts] {
        self.facts.get_or_init(|| facts_of(&self.graph))
    }
}

/// Work that is no step of the graph.
struct Other {
    name: String,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl Recorder {
    /// Begins the record of a build.
    pub(crate) fn new(
        store: &Store,
        project: Key,
        name: String,
        request: RequestDocument,
        isolation: String,
        started: Timestamp,
    ) -> Result<Arc<Self>, EngineError> {
        let id = super::new_id()?;
        let earlier = EarlierBuilds::of(project, &id);
        Ok(Arc::new(Self {
            store: store.clone(),
            id,
            project,
            name,
            request,
            started,
            isolation,
            log: EventLog::default(),
            directory: Mutex::default(),
            graph: Mutex::default(),
            steps: Mutex::default(),
            other: Mutex::default(),
            earlier,
            has_long_listing: AtomicBool::new(false),
            failed: Mutex::default(),
        }))
    }

    /// The build's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Notes an event, which others are told as well.
    pub(crate) fn observe(&self, event: &Event) {
        self.log.add(event);
        match event {
            Event::VertexDeclared { vertex, name, .. } if self.place(vertex).is_none() => {
                let other = Other { name: name.clone(), started: None, ended: None };
                self.lock_other().entry(*vertex).or_insert(other);
            }
            Event::VertexStarted { vertex, at } => self.started(vertex, *at),
            Event::VertexCompleted { vertex, at, outcome } => self.completed(vertex, *at, outcome),
            _ => {}
        }
    }

    fn started(&self, vertex: &Digest, at: Timestamp) {
        match self.place(vertex) {
            Some(step) => self.lock_steps()[step].started = Some(at),
            None => {
                if let Some(other) = self.lock_other().get_mut(vertex) {
                    other.started = Some(at);
                }
            }
        }
    }

    fn completed(&self, vertex: &Digest, at: Timestamp, outcome: &Outcome) {
        let Some(step) = self.place(vertex) else {
            if let Some(other) = self.lock_other().get_mut(vertex) {
                other.ended = Some(at);
            }
            return;
        };
        let document = &mut self.lock_steps()[step];
        document.ended = document.started.map(|_| at);
        document.outcome = match outcome {
            Outcome::Cached => StepOutcome::Cached,
            Outcome::Done => StepOutcome::Done,
            Outcome::Failed(_) => StepOutcome::Failed,
            Outcome::Cancelled => StepOutcome::Canceled,
        };
        if let Outcome::Failed(message) = outcome {
            document.error = Some(message.clone());
        }
    }

    /// The steps are known. A build that somebody else steers may solve several graphs one after the other: what is taken down is the last
    /// one that has steps which the one before did not have. Answers whether this one is.
    pub(crate) fn begin_graph(&self, graph: &Arc<Graph>) -> bool {
        let ids = || graph.topological().iter().map(|index| &graph.vertex(*index).id);
        if let Some(known) = self.graph()
            && ids().all(|id| known.places.contains_key(id))
        {
            // The same, when the solver has to begin anew; or a part of it.
            if known.places.len() != graph.len() {
                return false;
            }
        } else {
            let places = ids().enumerate().map(|(place, id)| (*id, place)).collect();
            let (key, facts) = (GraphDocument::key(graph), OnceLock::new());
            let graph = RecordedGraph { key, places, facts, graph: Arc::clone(graph) };
            *self.graph.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(graph));
        }
        self.earlier.forget_explanations();
        let mut steps = self.lock_steps();
        steps.clear();
        steps.extend(graph.topological().iter().map(|index| {
            let not_asked = graph.vertex(*index).metadata.ignore_cache;
            StepDocument { not_asked, ..StepDocument::default() }
        }));
        true
    }

    /// The graph that is taken down.
    fn graph(&self) -> Option<Arc<RecordedGraph>> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The definition key of a step is known.
    pub(crate) fn keyed(&self, vertex: VertexIndex, definition: &Key) {
        self.lock_steps()[vertex.index()].definition = Some(*definition);
    }

    /// The content key of what a step uses of an input is known.
    pub(crate) fn content_key(&self, vertex: VertexIndex, slot: usize, key: &Key) {
        let inputs = &mut self.lock_steps()[vertex.index()].inputs;
        if inputs.len() <= slot {
            inputs.resize(slot + 1, None);
        }
        inputs[slot] = Some(*key);
    }

    /// Whether the files behind a content key are to be kept.
    pub(crate) fn wants_listing(&self, key: &Key) -> bool {
        !self.store.has_hint(HintKind::Listing, key).unwrap_or(true)
    }

    /// Keeps the files behind a content key.
    pub(crate) fn keep_listing(&self, key: &Key, listing: &[u8]) {
        self.has_long_listing.fetch_or(listing.len() >= LONG_LISTING, Ordering::Relaxed);
        if let Err(error) = self.store.put_hint(HintKind::Listing, key, listing) {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.into());
        }
    }

    /// Whether finding out why a copy [runs](Self::runs) may take long enough to be done beside it.
    pub(crate) fn explains_slowly(&self) -> bool {
        self.has_long_listing.load(Ordering::Relaxed)
    }

    /// A step is about to run: the build is in the history from now on, also if it is killed.
    pub(crate) fn enter_history(&self) {
        // What is wrong with it is told at the end, when it will not have got better.
        let _ = self.make_directory();
    }

    /// A result was found. `path_ms` is what [`made`](Self::made) said when it was made.
    pub(crate) fn found(&self, vertex: VertexIndex, cost_ms: u64, path_ms: u64) {
        let step = &mut self.lock_steps()[vertex.index()];
        step.cost_ms = Some(cost_ms);
        step.path_ms = Some(path_ms);
    }

    /// A result was made. Says how long the longest chain of steps took that led to it, in milliseconds.
    pub(crate) fn made(&self, vertex: VertexIndex, inputs: &[VertexIndex], cost_ms: u64) -> u64 {
        let mut steps = self.lock_steps();
        let below = inputs.iter().filter_map(|input| steps[input.index()].path_ms).max().unwrap_or(0);
        let path_ms = below.saturating_add(cost_ms);
        let step = &mut steps[vertex.index()];
        (step.cost_ms, step.path_ms) = (Some(cost_ms), Some(path_ms));
        path_ms
    }

    /// A shared cache has a result of a step, which is not used.
    pub(crate) fn refused(&self, vertex: VertexIndex, why: String) {
        self.lock_steps()[vertex.index()].refused = Some(why);
    }

    /// An attempt at a step has ended, and its processes used this.
    pub(crate) fn used(&self, vertex: VertexIndex, usage: Usage) {
        let step = &mut self.lock_steps()[vertex.index()];
        let before = step.usage.map_or(0, |before| before.attempts);
        step.usage = Some(UsageDocument::new(before.saturating_add(1), &usage));
    }

    /// How long each step took when it ran in the newest earlier build, in milliseconds, as far as that is known.
    pub(crate) fn expected_costs(&self) -> Vec<Option<u64>> {
        let Some(graph) = self.graph() else { return Vec::new() };
        if self.earlier.is_empty(&self.store) {
            return Vec::new();
        }
        self.earlier.costs(&self.store, graph.facts())
    }

    /// A step is about to run: why, in one line, if there is an earlier build to compare with.
    ///
    /// From now on the build is [in the history](Self::enter_history).
    pub(crate) fn runs(&self, vertex: VertexIndex) -> Option<String> {
        self.enter_history();
        let graph = self.graph()?;
        let refused = self.lock_steps()[vertex.index()].refused.clone();
        if self.earlier.is_empty(&self.store) {
            return refused;
        }
        let keys = |step: usize| self.lock_steps()[step].keys();
        let ran = |step: usize| self.lock_steps()[step].started.is_some();
        let now = Now { steps: graph.facts(), keys: &keys };
        let chain = self.earlier.chain(&self.store, now, vertex.index(), &ran);
        let mut steps = self.lock_steps();
        for (step, explanation) in &chain.new {
            let document = &mut steps[*step];
            document.reasons.clone_from(&explanation.reasons);
            document.compared_with.clone_from(&explanation.compared_with);
        }
        let told = reasons::in_one_line(vertex.index(), &chain.root, graph.facts(), &self.request.build_args);
        Some(refused.unwrap_or(told))
    }

    /// What the build is about, on whatever machine.
    pub(crate) fn subject(&self) -> Key {
        note::subject(&self.request)
    }

    /// Compares with what another builder has written of its newest build, in a cache called `place`.
    pub(crate) fn compare_with(&self, note: &[u8], place: &str) {
        if let (Some(graph), Some(note)) = (self.graph(), note::read(note)) {
            self.earlier.add_elsewhere(note, place, graph.facts());
        }
    }

    /// What other builders are to know of this build, if a step ran in it.
    pub(crate) fn note(&self) -> Option<Vec<u8>> {
        let steps = self.lock_steps().clone();
        let graph = self.graph()?;
        if !steps.iter().any(|step| matches!(step.outcome, StepOutcome::Done)) {
            return None;
        }
        let listing = |key: &Key| self.store.hint(HintKind::Listing, key).ok().flatten();
        Some(note::write(&self.id, GraphDocument::of(graph.facts()), &steps, listing))
    }

    /// The directory of the build, with a row from now on.
    pub(crate) fn directory(&self) -> Result<PathBuf, EngineError> {
        self.make_directory()
    }

    /// Makes the directory of the build with its row, if that is not done yet, and gives its path.
    fn make_directory(&self) -> Result<PathBuf, EngineError> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = &*directory {
            return Ok(directory.path().to_owned());
        }
        let made = self.store.create_build_dir(&self.id)?;
        self.store.put_build(&self.row(None, BuildStatus::Running))?;
        self.log.open(made.path());
        Ok(directory.insert(made).path().to_owned())
    }

    fn row(&self, ended: Option<Timestamp>, status: BuildStatus) -> BuildRecord {
        BuildRecord {
            id: self.id.clone(),
            project: self.project,
            name: self.name.clone(),
            created: self.started,
            ended,
            status,
            pinned: false,
        }
    }

    /// Where the time of the build went so far.
    pub(crate) fn timing(&self, now: Timestamp) -> Timing {
        let other = self.other();
        let graph = self.graph();
        Timing::of(graph.as_ref().map(|graph| &*graph.graph), &self.lock_steps(), &other, self.started, now)
    }

    /// Writes the record. To be called once, when all has been told.
    pub(crate) fn finish(
        &self,
        result: &Result<BuildReport, BuildError>,
        ended: Timestamp,
    ) -> Result<(), EngineError> {
        self.write(&self.document(result, ended), Self::status(result))?;
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn status(result: &Result<BuildReport, BuildError>) -> BuildStatus {
        match result {
            Ok(_) => BuildStatus::Completed,
            Err(BuildError::Cancelled) => BuildStatus::Canceled,
            Err(_) => BuildStatus::Failed,
        }
    }

    fn write(&self, document: &BuildDocument, status: BuildStatus) -> Result<(), EngineError> {
        if let Some(graph) = self.graph()
            && !self.store.has_hint(HintKind::Graph, &graph.key)?
        {
            let document = GraphDocument::of(graph.facts());
            self.store.put_hint(HintKind::Graph, &graph.key, &super::to_json(&document))?;
        }
        let row = self.row(Some(document.ended), status);
        match &*self.directory.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(directory) => {
                self.log.finish(directory.path())?;
                super::write_record(directory.path(), document)?;
                Ok(self.store.put_build(&row)?)
            }
            // Nothing ran.
            None => {
                let content = BuildContent { record: super::to_json(document), events: self.log.take() };
                Ok(self.store.insert_build(&row, &content)?)
            }
        }
    }

    fn document(&self, result: &Result<BuildReport, BuildError>, ended: Timestamp) -> BuildDocument {
        let report = result.as_ref().ok();
        BuildDocument {
            version: BuildDocument::VERSION,
            id: self.id.clone(),
            request: self.request.clone(),
            started: self.started,
            ended,
            isolation: self.isolation.clone(),
            error: result.as_ref().err().map(ToString::to_string),
            image: report.and_then(|report| Some(report.targets.first()?.image_id)),
            names: report
                .iter()
                .flat_map(|report| &report.targets)
                .flat_map(|one| one.names.clone())
                .collect(),
            graph: self.graph().map(|graph| graph.key),
            steps: self.lock_steps().clone(),
            other: self.other(),
        }
    }

    /// What ended that is no step of the graph, in the order in which it began.
    fn other(&self) -> Vec<OtherDocument> {
        let ended = |other: &Other| {
            let (started, ended) = (other.started?, other.ended?);
            Some(OtherDocument { name: other.name.clone(), started, ended })
        };
        let mut all: Vec<OtherDocument> = self.lock_other().values().filter_map(ended).collect();
        all.sort_by(|a, b| (a.started, &a.name).cmp(&(b.started, &b.name)));
        all
    }

    fn place(&self, vertex: &Digest) -> Option<usize> {
        self.graph()?.places.get(vertex).copied()
    }

    fn lock_steps(&self) -> MutexGuard<'_, Vec<StepDocument>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_other(&self) -> MutexGuard<'_, HashMap<Digest, Other>> {
        self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a process wrote: all of it, also what others are not shown.
    pub(crate) fn log(&self, event: &Event) {
        self.log.add(event);
    }
}
