//! Graphs from a few words, and a world of fakes to solve them in: a cache in memory that outlives the
//! build, steps whose results the test decides, and a record of everything that was asked and told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::{CancelToken, Digest, Key, KeyHasher, Platform};
use crossbeam_channel::Sender;
use llb::{
    ExecOp, FileOp, Graph, GraphBuilder, ImageSource, Input, LocalSource, Metadata, Op, SourceOp, VertexIndex,
};
use solver::{Executed, Flights, Limits, Ops, Schedule, SolveError, Solved, StepOutcome, solve};

/// Builds a graph whose vertices are called by one word each.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) builder: GraphBuilder,
    platform: Option<Platform>,
}

impl Plan {
    pub(crate) fn image(&mut self, name: &str) -> Input {
        let digest = Digest::of(name.as_bytes());
        let image =
            ImageSource { reference: name.to_owned(), manifest: digest, chain_id: digest, layers: None };
        self.add(Op::Source(SourceOp::Image(image)), name, &[], false)
    }

    pub(crate) fn local(&mut self, name: &str) -> Input {
        self.add(Op::Source(SourceOp::Local(LocalSource { name: name.to_owned() })), name, &[], false)
    }

    pub(crate) fn run(&mut self, name: &str, inputs: &[Input]) -> Input {
        self.add(exec(name), name, inputs, false)
    }

    pub(crate) fn run_uncached(&mut self, name: &str, inputs: &[Input]) -> Input {
        self.add(exec(name), name, inputs, true)
    }

    /// A file operation. Two with the same inputs are the same vertex.
    pub(crate) fn files(&mut self, name: &str, inputs: &[Input]) -> Input {
        self.add(Op::File(FileOp { has_base: false, actions: Vec::new() }), name, inputs, false)
    }

    pub(crate) fn add(&mut self, op: Op, name: &str, inputs: &[Input], ignore_cache: bool) -> Input {
        let platform = self.platform.get_or_insert_with(|| Platform::new("linux", "amd64", ""));
        let metadata = Metadata { name: name.to_owned(), ignore_cache, ..Metadata::default() };
        self.builder.add(op, platform, inputs, metadata)
    }

    pub(crate) fn finish(self) -> Graph {
        self.builder.finish().unwrap()
    }
}

pub(crate) fn exec(command: &str) -> Op {
    Op::Exec(ExecOp::new(vec![command.to_owned()]))
}

/// What outlives a build: the cache, the files of local directories, and how steps come out.
#[derive(Default)]
pub(crate) struct World {
    cache: Mutex<HashMap<Key, Key>>,
    /// How often each result was made, by content key.
    made: Mutex<HashMap<Key, usize>>,
    /// What a vertex selects from local directories.
    files: BTreeMap<String, String>,
    /// What steps leave; of others, something made of their name and inputs.
    results: BTreeMap<String, String>,
    failing: BTreeSet<String>,
    /// What another process makes while this one is about to.
    elsewhere: BTreeSet<String>,
    /// Looking them up fails.
    lookup_fails: BTreeSet<String>,
    /// How long steps took before.
    costs: BTreeMap<String, u64>,
    /// The steps that builds share which go on at the same time.
    flights: Flights<String>,
    /// Is told the name of each step that a build waits for.
    waits: Option<Sender<String>>,
}

impl World {
    pub(crate) fn set_files(&mut self, vertex: &str, files: &str) {
        self.files.insert(vertex.to_owned(), files.to_owned());
    }

    pub(crate) fn set_result(&mut self, vertex: &str, result: &str) {
        self.results.insert(vertex.to_owned(), result.to_owned());
    }

    pub(crate) fn set_failing(&mut self, vertex: &str, failing: bool) {
        if failing {
            self.failing.insert(vertex.to_owned());
        } else {
            self.failing.remove(vertex);
        }
    }

    pub(crate) fn set_lookup_fails(&mut self, vertex: &str) {
        self.lookup_fails.insert(vertex.to_owned());
    }

    pub(crate) fn set_cost(&mut self, vertex: &str, milliseconds: u64) {
        self.costs.insert(vertex.to_owned(), milliseconds);
    }

    /// How often that was made which was made most often.
    pub(crate) fn most_often_made(&self) -> usize {
        self.made.lock().unwrap().values().copied().max().unwrap_or(0)
    }

    pub(crate) fn tell_waits(&mut self, waits: Sender<String>) {
        self.waits = Some(waits);
    }

    pub(crate) fn set_made_elsewhere(&mut self, vertex: &str) {
        self.elsewhere.insert(vertex.to_owned());
    }

    pub(crate) fn build(&self, graph: &Graph, targets: &[Input]) -> Record {
        self.build_with(graph, targets, GENEROUS, &CancelToken::new(), &|_, _| {})
    }

    /// Builds; `during` is called from every step that runs, with its name and cancel token.
    pub(crate) fn build_with(
        &self,
        graph: &Graph,
        targets: &[Input],
        schedule: impl Into<Schedule>,
        cancel: &CancelToken,
        during: During<'_>,
    ) -> Record {
        let ops = FakeOps { world: self, graph, during, record: Mutex::default() };
        let targets: Vec<VertexIndex> = targets.iter().map(|target| target.vertex).collect();
        let result = solve(graph, &targets, schedule, &ops, cancel);
        let record = Record { result: Some(result), ..ops.record.into_inner().unwrap() };
        record.check_events();
        record
    }
}

pub(crate) const GENEROUS: Limits = Limits { process: 8, files: 8, network: 8 };

pub(crate) type During<'a> = &'a (dyn Fn(&str, &CancelToken) + Sync);

/// What happened in one build, by name and in order of time.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) result: Option<Result<Solved<Key>, SolveError<String>>>,
    pub(crate) scanned: Vec<String>,
    pub(crate) looked_up: Vec<String>,
    /// What got its definition key.
    pub(crate) keyed: Vec<String>,
    pub(crate) ran: Vec<String>,
    /// `start x`, `done x`, `cached x`, `failed x`, `cancelled x`.
    pub(crate) events: Vec<String>,
}

impl Record {
    /// What ran, in the order of the alphabet.
    pub(crate) fn ran(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.ran.iter().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// What ran to a good end.
    pub(crate) fn ended_well(&self) -> BTreeSet<String> {
        self.events.iter().filter_map(|event| event.strip_prefix("done ")).map(str::to_owned).collect()
    }

    pub(crate) fn outputs(&self) -> &[Key] {
        match &self.result {
            Some(Ok(solved)) => &solved.outputs,
            other => panic!("no outputs: {other:?}"),
        }
    }

    pub(crate) fn position(&self, event: &str) -> usize {
        let found = self.events.iter().position(|e| e == event);
        found.unwrap_or_else(|| panic!("no \"{event}\" in {:?}", self.events))
    }

    /// What holds of every build: a vertex starts and ends once at most, in this order, and only what has
    /// started is done or cancelled.
    fn check_events(&self) {
        let mut started = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for event in &self.events {
            let (what, name) = event.split_once(' ').unwrap();
            let first = match what {
                "start" => !ended.contains(name) && started.insert(name),
                "done" | "cancelled" => started.contains(name) && ended.insert(name),
                _ => ended.insert(name),
            };
            assert!(first, "\"{event}\" has no place in {:?}", self.events);
        }
        assert!(started.is_subset(&ended), "not all has ended: {:?}", self.events);
    }
}

struct FakeOps<'a> {
    world: &'a World,
    graph: &'a Graph,
    during: During<'a>,
    record: Mutex<Record>,
}

impl FakeOps<'_> {
    fn name(&self, vertex: VertexIndex) -> String {
        self.graph.vertex(vertex).metadata.name.clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<Key, Key>> {
        self.world.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &str, vertex: VertexIndex) {
        let event = format!("{what} {}", self.name(vertex));
        self.record().events.push(event);
    }
}

impl Ops for FakeOps<'_> {
    type Output = Key;
    type Error = String;

    fn part(&self, outputs: &Key, output: u32) -> Key {
        solver::key::of_output(outputs, output)
    }

    fn local_key(&self, vertex: VertexIndex, _slot: usize, _cancel: &CancelToken) -> Result<Key, String> {
        let name = self.name(vertex);
        self.record().scanned.push(name.clone());
        let files = self.world.files.get(&name).ok_or_else(|| format!("{name}: not found"))?;
        Ok(KeyHasher::new("files").str(files).finish())
    }

    fn content_key(
        &self,
        _vertex: VertexIndex,
        _slot: usize,
        input: &Key,
        _cancel: &CancelToken,
    ) -> Result<Key, String> {
        Ok(*input)
    }

    fn lookup(&self, vertex: VertexIndex, key: &Key) -> Result<Option<Key>, String> {
        let name = self.name(vertex);
        self.record().looked_up.push(name.clone());
        if self.world.lookup_fails.contains(&name) {
            return Err(format!("{name} failed"));
        }
        Ok(self.cache().get(key).copied())
    }

    fn save(&self, key: &Key, output: &Key) -> Result<(), String> {
        self.cache().insert(*key, *output);
        Ok(())
    }

    fn execute(
        &self,
        vertex: VertexIndex,
        inputs: &[Option<Key>],
        content: &Key,
        cancel: &CancelToken,
    ) -> Result<Executed<Key>, String> {
        let name = self.name(vertex);
        let waits = || self.world.waits.iter().for_each(|waits| waits.send(name.clone()).unwrap());
        let lead =
            self.world.flights.lead(content, &name, cancel, waits).map_err(|error| error.to_string())?;
        let cancel = lead.cancel();
        if !self.graph.vertex(vertex).metadata.ignore_cache
            && let Some(output) = self.cache().get(content).copied()
        {
            return Ok(Executed { output, reused: true });
        }
        self.record().ran.push(name.clone());
        (self.during)(&name, cancel);
        if self.world.failing.contains(&name) || cancel.is_cancelled() {
            return Err(format!("{name} failed"));
        }
        let output = match self.world.results.get(&name) {
            Some(result) => KeyHasher::new("result").str(result).finish(),
            None => KeyHasher::new("made")
                .str(&name)
                .add(inputs)
                .add(&self.world.files.get(&name).cloned())
                .finish(),
        };
        self.save(content, &output)?;
        *self.world.made.lock().unwrap().entry(*content).or_default() += 1;
        Ok(Executed { output, reused: self.world.elsewhere.contains(&name) })
    }

    fn expected_costs(&self) -> Vec<Option<u64>> {
        let cost = |index: usize| self.world.costs.get(&self.name(VertexIndex::new(index))).copied();
        (0..self.graph.len()).map(cost).collect()
    }

    fn keyed(&self, vertex: VertexIndex, _definition: &Key) {
        self.record().keyed.push(self.name(vertex));
    }

    fn started(&self, vertex: VertexIndex) {
        self.tell("start", vertex);
    }

    fn completed(&self, vertex: VertexIndex, outcome: StepOutcome<'_, String>) {
        let what = match outcome {
            StepOutcome::Cached => "cached",
            StepOutcome::Done => "done",
            StepOutcome::Failed(_) => "failed",
            StepOutcome::Cancelled => "cancelled",
        };
        self.tell(what, vertex);
    }
}
