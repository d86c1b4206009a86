//! What the solver's decisions mean: each kind of operation carried out over the store and the runner.
//! One file for each kind.

mod build_group;
mod diff;
mod exec;
mod failed;
mod file;
mod git;
mod http;
mod image;
mod log_limit;
mod merge;
mod mounts;
mod outputs;
mod selection;
mod surroundings;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};

use base::event::Outcome;
use base::{CancelToken, Digest, Key, Timestamp};
use llb::{Graph, Group, Op, SourceOp, Vertex, VertexIndex};
use runner::KeptLayers;
use snapshotter::writer::{LayerWriter, WriterOptions};
use snapshotter::{ActiveSnapshot, CacheValue, CommitInfo, Layering, Lease, RecordKind, SnapshotId, Tree};
use solver::key::of_output;
use solver::{Executed, Lead, Ops, StepOutcome};

pub(crate) use self::build_group::BuildGroup;
pub(crate) use self::mounts::StepMounts;
use self::outputs::Filesystems;
pub(crate) use self::outputs::StepOutputs;
pub(crate) use self::selection::DockerPatterns;
pub(crate) use self::surroundings::Surroundings;
use crate::Engine;
use crate::contexts::Contexts;
use crate::error::{EngineError, StepError};
use crate::failed::KeptStep;
use crate::history::Recorder;
use crate::progress::{Onlooker, Progress};
use crate::remote::patience::Fetched;
use crate::remote::{Access, Fetcher, without_credentials};
use crate::request::BuildRequest;
use crate::shared_cache::{self, PortableMounts, SharedCache, SharedId, Writer};

/// The result of a vertex: a committed snapshot, and what its files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filesystem {
    pub(crate) snapshot: SnapshotId,
    /// The content key of the whole tree: equal keys, equal files.
    pub(crate) content: Key,
}

/// The result of a vertex, wherever it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StepResult {
    /// In the store.
    Here(Filesystem),
    /// In a cache that builders share. It is fetched when its files are needed.
    Shared {
        id: SharedId,
        /// The content key of the whole tree.
        content: Key,
    },
}

impl StepResult {
    /// The content key of the whole tree.
    pub(crate) fn content(self) -> Key {
        match self {
            Self::Here(Filesystem { content, .. }) | Self::Shared { content, .. } => content,
        }
    }

    /// The result, if it is in a cache that builders share.
    pub(crate) fn if_shared(self) -> Option<SharedId> {
        match self {
            Self::Here(_) => None,
            Self::Shared { id, .. } => Some(id),
        }
    }
}

/// The caches that a build shares with others.
#[derive(Clone, Copy)]
pub(crate) struct Sharing<'a> {
    pub(crate) cache: &'a SharedCache<'a>,
    pub(crate) writer: &'a Writer,
    pub(crate) mounts: &'a PortableMounts<'a>,
}

impl Sharing<'_> {
    /// The files of a result.
    pub(crate) fn here(&self, result: StepResult, cancel: &CancelToken) -> Result<Filesystem, EngineError> {
        match result {
            StepResult::Here(filesystem) => Ok(filesystem),
            StepResult::Shared { id, .. } => self.cache.bring(id, cancel),
        }
    }
}

/// Carries out the operations of one build.
pub(crate) struct BuildOps<'a> {
    engine: &'a Engine,
    graph: &'a Graph,
    contexts: &'a Contexts,
    request: &'a BuildRequest,
    lease: &'a Lease,
    progress: &'a Progress,
    access: &'a Access,
    sharing: Sharing<'a>,
    /// Sources whose results are there already, by what they are called instead of a chain of layers.
    given: HashMap<Digest, StepResult>,
    /// The content keys of what steps select from the context, as they were when keys were made.
    context_keys: Mutex<HashMap<(VertexIndex, usize), Key>>,
    /// The definition keys of vertices, as far as they are known.
    definitions: Mutex<HashMap<VertexIndex, Key>>,
    /// How the results were made that this build has made or found.
    made: Mutex<HashMap<SnapshotId, Made>>,
    group: BuildGroup,
    /// Layers that its steps have mounted.
    layers: KeptLayers,
    /// Whether a process of a step has failed.
    has_failed: AtomicBool,
    /// What is kept of the first that did.
    kept: OnceLock<KeptStep>,
}

/// What the collector is told of a result, and people who look at the cache.
#[derive(Debug, Clone, Default)]
struct Made {
    /// How long it took, in milliseconds.
    cost_ms: u64,
    /// How long the longest chain of steps took that led to it, in milliseconds.
    path_ms: u64,
    kind: RecordKind,
    /// The name of the step.
    by: String,
    /// Whether it is an image, which others have from where we had it.
    is_image: bool,
}

impl Made {
    /// What the store knows of a result.
    fn of(value: &CacheValue) -> Self {
        let path = <[u8; 8]>::try_from(value.metadata.as_slice()).map_or(0, u64::from_le_bytes);
        let (kind, by) = (value.kind, value.description.clone());
        Self { cost_ms: value.cost_ms, path_ms: path, kind, by, is_image: false }
    }
}

impl<'a> BuildOps<'a> {
    /// Declares every vertex of `graph` to progress.
    pub(crate) fn new(
        graph: &'a Graph,
        contexts: &'a Contexts,
        request: &'a BuildRequest,
        fetcher: &Fetcher<'a>,
        sharing: Sharing<'a>,
    ) -> Self {
        Self::over(graph, contexts, request, fetcher, (sharing, HashMap::new()))
    }

    /// The same where some sources are results that there are already.
    pub(crate) fn over(
        graph: &'a Graph,
        contexts: &'a Contexts,
        request: &'a BuildRequest,
        fetcher: &Fetcher<'a>,
        (sharing, given): (Sharing<'a>, HashMap<Digest, StepResult>),
    ) -> Self {
        let Fetcher { engine, lease, access, progress, .. } = *fetcher;
        for index in graph.topological() {
            let vertex = graph.vertex(*index);
            if !is_local(vertex) && !is_given(vertex, &given) {
                let inputs = graph.inputs(*index).iter().map(|input| graph.vertex(input.vertex).id).collect();
                progress.declare(vertex.id, &vertex.metadata.name, inputs);
                if let Some(Group { id, name, weak }) = vertex.metadata.group.clone() {
                    progress.emit(base::Event::VertexGrouped { vertex: vertex.id, id, name, weak });
                }
            }
        }
        let (context_keys, definitions, made) = Default::default();
        let group = BuildGroup::default();
        Self {
            engine,
            graph,
            contexts,
            request,
            lease,
            progress,
            access,
            sharing,
            given,
            context_keys,
            definitions,
            made,
            group,
            layers: KeptLayers::new(),
            has_failed: AtomicBool::new(false),
            kept: OnceLock::new(),
        }
    }

    /// Remembers how a result was made and how long it took: what is cheap goes first.
    fn note_made(&self, output: &Filesystem, index: VertexIndex, since: Timestamp) {
        let vertex = self.graph.vertex(index);
        let elapsed = self.engine.clock.now().duration_since(since).as_millis();
        let cost_ms = u64::try_from(elapsed).unwrap_or(0);
        let inputs: Vec<VertexIndex> = self.graph.inputs(index).iter().map(|input| input.vertex).collect();
        let path_ms = self.progress.recorder().map_or(0, |recorder| recorder.made(index, &inputs, cost_ms));
        let is_checkout = matches!(vertex.op, Op::Source(SourceOp::Git(_)));
        let made = Made {
            cost_ms,
            path_ms,
            kind: if is_checkout { RecordKind::GitCheckout } else { RecordKind::Regular },
            by: without_credentials_in(&vertex.metadata.name),
            is_image: matches!(vertex.op, Op::Source(SourceOp::Image(_))),
        };
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(output.snapshot, made);
    }

    /// Remembers how a result was made that was found.
    fn note_found(&self, output: &Filesystem, index: VertexIndex, value: &CacheValue) {
        let made = Made::of(value);
        if let Some(recorder) = self.progress.recorder() {
            recorder.found(index, made.cost_ms, made.path_ms);
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(output.snapshot, made);
    }

    /// Who takes so long to find out why a step runs that it is done while it does, if so.
    fn slowly_explained_by(&self, index: VertexIndex) -> Option<&Recorder> {
        let recorder = self.progress.recorder().filter(|recorder| recorder.explains_slowly());
        recorder.filter(|_| matches!(self.graph.vertex(index).op, Op::File(_)))
    }

    /// Tells why a step has to run.
    fn explain(&self, index: VertexIndex) {
        let vertex = self.graph.vertex(index);
        let is_image = matches!(vertex.op, Op::Source(SourceOp::Image(_)));
        let reason = self.progress.recorder().and_then(|recorder| {
            self.sharing.cache.compare(recorder);
            recorder.runs(index)
        });
        if let Some(reason) = reason.filter(|_| !is_image) {
            self.progress.emit(base::Event::VertexExplained { vertex: vertex.id, reason });
        }
    }

    /// Notes the content key of what a step uses of an input.
    fn note_content_key(&self, vertex: VertexIndex, slot: usize, key: &Key) {
        if let Some(recorder) = self.progress.recorder() {
            recorder.content_key(vertex, slot, key);
        }
    }

    /// What is known of how a result was made.
    fn made(&self, output: &Filesystem) -> Made {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(&output.snapshot).cloned().unwrap_or_default()
    }

    /// The content key of what a step selects from the context, as it entered the step's key.
    fn expected_context_key(&self, vertex: VertexIndex, slot: usize) -> Option<Key> {
        self.context_keys.lock().unwrap_or_else(PoisonError::into_inner).get(&(vertex, slot)).copied()
    }

    fn fetcher<'b>(&'b self, cancel: &'b CancelToken) -> Fetcher<'b> {
        Fetcher {
            engine: self.engine,
            lease: self.lease,
            access: self.access,
            progress: self.progress,
            rules: &self.request.steps.rules,
            cancel,
        }
    }

    /// The definition keys of what a vertex needs.
    fn definitions_below(&self, vertex: VertexIndex) -> Vec<Key> {
        let known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = self.graph.inputs(vertex).into_iter();
        inputs.filter_map(|input| Some(of_output(known.get(&input.vertex)?, input.output))).collect()
    }

    /// The merged view of a filesystem.
    fn tree(&self, snapshot: SnapshotId) -> Result<Tree, EngineError> {
        Ok(Tree::overlay(self.engine.store.view_dirs(snapshot)?)?)
    }

    /// A filesystem of its own, with what `write` writes. `content` says what that is.
    fn new_filesystem(
        &self,
        content: Key,
        write: impl FnOnce(&LayerWriter) -> Result<(), EngineError>,
    ) -> Result<Filesystem, EngineError> {
        let active = self.engine.store.prepare(self.lease, None)?;
        write(&self.writer(&active, None)?)?;
        let info = CommitInfo { content: Some(content), ..CommitInfo::default() };
        Ok(Filesystem { snapshot: active.commit(info)?, content })
    }

    /// A writer of the layer of `active` over `parent`.
    fn writer(&self, active: &ActiveSnapshot, parent: Option<&Tree>) -> Result<LayerWriter, EngineError> {
        let options = WriterOptions {
            full_copy: active.is_full_copy(),
            userxattr: matches!(active.layering(), Layering::Overlay { userxattr: true }),
            time: self.engine.clock.now(),
        };
        Ok(LayerWriter::new(active.layer_dir(), parent, options)?)
    }

    /// Looks a result up in the store.
    fn lookup_here(&self, vertex: VertexIndex, key: &Key) -> Result<Option<Filesystem>, StepError> {
        let value = self.engine.store.cache_get(self.lease, key).map_err(EngineError::from)?;
        let output =
            |value: &CacheValue| Some(Filesystem { snapshot: value.snapshot?, content: value.content? });
        let Some((value, output)) = value.and_then(|value| output(&value).map(|output| (value, output)))
        else {
            return Ok(None);
        };
        self.note_found(&output, vertex, &value);
        Ok(Some(output))
    }

    /// Tells other builders of a result that was made, or `found` in the store.
    fn tell_others(&self, key: &Key, output: &Filesystem, found: bool) {
        self.sharing.writer.tell(|| {
            let Made { cost_ms, path_ms, by: step, is_image, .. } = self.made(output);
            let made = shared_cache::Made { key: *key, result: *output, cost_ms, path_ms, step, found };
            (!is_image).then_some(made)
        });
    }

    /// Keeps a result in the store, and tells other builders of it.
    fn save_here(&self, key: &Key, output: &Filesystem) -> Result<(), StepError> {
        let made = self.made(output);
        self.tell_others(key, output, false);
        let value = CacheValue {
            snapshot: Some(output.snapshot),
            content: Some(output.content),
            cost_ms: made.cost_ms,
            kind: made.kind,
            description: made.by,
            metadata: made.path_ms.to_le_bytes().to_vec(),
            ..CacheValue::default()
        };
        Ok(self.engine.store.cache_put(key, value).map_err(EngineError::from)?)
    }

    fn run(
        &self,
        index: VertexIndex,
        inputs: &[Option<Filesystem>],
        content: &Key,
        lead: &Lead<'_, Onlooker>,
    ) -> Result<Filesystems, StepError> {
        let vertex = self.graph.vertex(index);
        let cancel = lead.cancel();
        let one = match &vertex.op {
            Op::Exec(op) => return self.exec(index, op, inputs, lead),
            Op::File(op) => self.file(index, op, inputs, content, cancel)?,
            Op::Merge => self.merge(inputs, cancel)?,
            Op::Diff => self.diff(inputs, cancel)?,
            Op::Source(SourceOp::Image(source)) => {
                // Unpacking is no transfer.
                self.fetch(vertex, false, cancel, |fetcher| self.image(vertex, source, fetcher))?
            }
            Op::Source(SourceOp::Local(_)) => {
                unreachable!("the solver never runs a local directory, which has no result")
            }
            Op::Source(SourceOp::Http(source)) => {
                self.fetch(vertex, true, cancel, |fetcher| self.http(vertex, source, content, fetcher))?
            }
            Op::Source(SourceOp::Git(source)) => {
                self.fetch(vertex, false, cancel, |fetcher| self.git(vertex, source, content, fetcher))?
            }
        };
        Ok(one.into())
    }

    /// Looks one result up, here and in the caches that are shared.
    fn lookup_one(&self, vertex: VertexIndex, key: &Key) -> Result<Option<StepResult>, StepError> {
        if let Some(found) = self.lookup_here(vertex, key)? {
            self.tell_others(key, &found, true);
            return Ok(Some(StepResult::Here(found)));
        }
        let (found, recorder) = (self.sharing.cache.find(key), self.progress.recorder());
        let Some(hit) = found else {
            if let (Some(recorder), Some(why)) = (recorder, self.sharing.cache.refusal(key)) {
                recorder.refused(vertex, why);
            }
            return Ok(None);
        };
        if let Some(recorder) = recorder {
            recorder.found(vertex, hit.cost_ms, hit.path_ms);
        }
        Ok(Some(StepResult::Shared { id: hit.id, content: hit.content }))
    }

    /// Carries out a source, with the patience that the user has for it.
    fn fetch(
        &self,
        vertex: &Vertex,
        is_told: bool,
        cancel: &CancelToken,
        work: impl Fn(&Fetcher<'_>) -> Result<Filesystem, EngineError>,
    ) -> Result<Filesystem, EngineError> {
        let fetched = Fetched { name: &vertex.metadata.name, of: &vertex.metadata.stage, is_told };
        self.fetcher(cancel).patiently(fetched, vertex.id, work)
    }
}

/// The text with no name and password in any URL.
fn without_credentials_in(text: &str) -> String {
    let word = |word: &str| if word.contains("://") { without_credentials(word) } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Whether a source is a result that there is already.
fn is_given(vertex: &Vertex, given: &HashMap<Digest, StepResult>) -> bool {
    matches!(&vertex.op, Op::Source(SourceOp::Image(source)) if given.contains_key(&source.chain_id))
}

fn is_local(vertex: &Vertex) -> bool {
    matches!(vertex.op, Op::Source(SourceOp::Local(_)))
}

impl Ops for BuildOps<'_> {
    type Output = StepOutputs;
    type Error = StepError;

    fn part(&self, outputs: &StepOutputs, output: u32) -> StepOutputs {
        StepOutputs::one(outputs.part(output))
    }

    fn local_key(&self, vertex: VertexIndex, slot: usize, cancel: &CancelToken) -> Result<Key, StepError> {
        let key = self.local_selection_key(vertex, slot, cancel)?;
        self.context_keys.lock().unwrap_or_else(PoisonError::into_inner).insert((vertex, slot), key);
        self.note_content_key(vertex, slot, &key);
        Ok(key)
    }

    fn content_key(
        &self,
        vertex: VertexIndex,
        slot: usize,
        input: &StepOutputs,
        cancel: &CancelToken,
    ) -> Result<Key, StepError> {
        let key = self.input_key(vertex, slot, input.first(), cancel)?;
        self.note_content_key(vertex, slot, &key);
        Ok(key)
    }

    fn lookup(&self, vertex: VertexIndex, key: &Key) -> Result<Option<StepOutputs>, StepError> {
        let op = &self.graph.vertex(vertex).op;
        if let Op::Source(SourceOp::Image(source)) = op {
            let found = self.given.get(&source.chain_id).copied();
            let found = found
                .map_or_else(|| Ok(self.unpacked(source)?.map(StepResult::Here)), |given| Ok(Some(given)));
            return found.map(|found| found.map(StepOutputs::one)).map_err(|error: EngineError| error.into());
        }
        // Each result has a key and may have been removed by itself: only all of them are what the step gave.
        let mut found = Vec::new();
        for output in 0..op.outputs() {
            match self.lookup_one(vertex, &of_output(key, output))? {
                Some(result) => found.push(result),
                None => return Ok(None),
            }
        }
        Ok(StepOutputs::of(found))
    }

    fn save(&self, key: &Key, outputs: &StepOutputs) -> Result<(), StepError> {
        for (output, result) in outputs.all() {
            let key = of_output(key, output);
            match result {
                StepResult::Here(filesystem) => self.save_here(&key, &filesystem)?,
                StepResult::Shared { id, .. } => self.sharing.cache.found_under(id, &key)?,
            }
        }
        Ok(())
    }

    fn execute(
        &self,
        vertex: VertexIndex,
        inputs: &[Option<StepOutputs>],
        content: &Key,
        cancel: &CancelToken,
    ) -> Result<Executed<StepOutputs>, StepError> {
        // One build at a time makes a result, of this process and of all, and whoever comes later finds it.
        // Nothing is wrong without this, only slow.
        let we = Onlooker::new(self.progress, self.graph.vertex(vertex).id);
        let lead =
            self.engine.flights.lead(content, &we, cancel, || we.waits()).map_err(EngineError::from)?;
        let cancel = lead.cancel();
        let _claim = self.engine.store.claim(content, cancel).map_err(EngineError::from)?;
        let metadata = &self.graph.vertex(vertex).metadata;
        let mut turn = None;
        if !metadata.ignore_cache {
            let mut found = self.lookup(vertex, content)?;
            if found.is_none() {
                turn = self.sharing.cache.turn(content, &metadata.name, cancel)?;
                found = self.lookup(vertex, content)?;
            }
            if let Some(output) = found {
                return Ok(Executed { output, reused: true });
            }
        }
        let here = |input: &Option<StepOutputs>| {
            input.as_ref().map(|input| self.sharing.here(input.first(), cancel)).transpose()
        };
        let inputs: Vec<_> = inputs.iter().map(here).collect::<Result<_, _>>()?;
        let run = || {
            let started = self.engine.clock.now();
            Ok::<_, StepError>((started, self.run(vertex, &inputs, content, &lead)?))
        };
        let explain = || self.explain(vertex);
        let (started, made) = std::thread::scope(|scope| {
            let beside = self.slowly_explained_by(vertex).and_then(|recorder| {
                recorder.enter_history();
                let thread = std::thread::Builder::new().name("explain".to_owned());
                thread.spawn_scoped(scope, explain).ok()
            });
            if beside.is_none() {
                explain();
            }
            run()
        })?;
        // Saved while the claim is held, so that whoever waits for it finds the result. The first comes last: with it, all
        // are there.
        for (output, filesystem) in made.all().rev() {
            self.note_made(filesystem, vertex, started);
            self.save_here(&of_output(content, output), filesystem)?;
        }
        if let Some(turn) = turn {
            turn.made();
        }
        let output = made.into_outputs().ok_or_else(|| self.no_selection(vertex))?;
        Ok(Executed { output, reused: false })
    }

    fn expected_costs(&self) -> Vec<Option<u64>> {
        self.progress.recorder().map(Recorder::expected_costs).unwrap_or_default()
    }

    fn keyed(&self, vertex: VertexIndex, definition: &Key) {
        // Images are where their registries are.
        if !matches!(self.graph.vertex(vertex).op, Op::Source(SourceOp::Image(_))) {
            for output in 0..self.graph.vertex(vertex).op.outputs() {
                self.sharing.cache.expect(&of_output(definition, output), self.definitions_below(vertex));
            }
        }
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner).insert(vertex, *definition);
        if let Some(recorder) = self.progress.recorder() {
            recorder.keyed(vertex, definition);
        }
    }

    fn started(&self, vertex: VertexIndex) {
        let vertex = self.graph.vertex(vertex);
        if !is_given(vertex, &self.given) {
            self.progress.start(vertex.id);
        }
    }

    fn completed(&self, vertex: VertexIndex, outcome: StepOutcome<'_, StepError>) {
        let vertex = self.graph.vertex(vertex);
        if is_local(vertex) || is_given(vertex, &self.given) {
            return;
        }
        let outcome = match outcome {
            StepOutcome::Cached => Outcome::Cached,
            StepOutcome::Done => Outcome::Done,
            StepOutcome::Failed(error) => Outcome::Failed(error.to_string()),
            StepOutcome::Cancelled => Outcome::Cancelled,
        };
        self.progress.complete(vertex.id, outcome);
    }
}
