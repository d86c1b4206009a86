//! Random graphs, completion orders, failures and cache states, against an evaluator that is too simple to
//! be wrong.

use std::collections::{BTreeSet, HashMap};

use base::{Digest, Key, KeyHasher, Platform};
use llb::{
    ExecOp, Graph, GraphBuilder, ImageSource, Input, LocalSource, Metadata, Op, SourceOp, VertexIndex,
};
use proptest::prelude::*;
use solver::key;

use crate::drive::{Cache, Solve, Steps, solve, solve_all};

/// A graph before it is one: each vertex names inputs among those before it.
#[derive(Debug, Clone)]
struct Shape {
    vertices: Vec<VertexShape>,
    targets: Vec<usize>,
}

#[derive(Debug, Clone)]
struct VertexShape {
    kind: Kind,
    inputs: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Local,
    Image,
    /// What it leaves depends on all inputs.
    Step,
    /// What it leaves depends only on whether the sum of its inputs is odd, so that it often leaves the
    /// same again.
    Parity,
}

/// The circumstances of one build.
#[derive(Debug, Clone)]
struct Circumstances {
    /// By vertex: what it selects from local directories.
    files: Vec<u8>,
    /// By vertex: what it finds outside the build, on the network or on the clock.
    outside: Vec<u8>,
    /// By vertex: whether the cache must not be used.
    uncached: Vec<bool>,
    failing: BTreeSet<usize>,
    /// Those of whose local directories nothing can be read.
    unreadable: BTreeSet<usize>,
    /// Of all keys in the cache, these parts in 16 are collected before the build.
    collected: u8,
}

impl Circumstances {
    /// The same without failures.
    fn healthy(&self) -> Self {
        Self { failing: BTreeSet::new(), unreadable: BTreeSet::new(), ..self.clone() }
    }
}

const MOST_VERTICES: usize = 30;

fn shapes() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![
        1 => Just(Kind::Local), 1 => Just(Kind::Image), 4 => Just(Kind::Step), 2 => Just(Kind::Parity)
    ];
    let vertex = (kind, prop::collection::vec(any::<prop::sample::Index>(), 0..4));
    let vertices = prop::collection::vec(vertex, 1..MOST_VERTICES);
    let targets = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    (vertices, targets).prop_map(|(vertices, targets)| {
        let inputs = |number: usize, kind, inputs: Vec<prop::sample::Index>| match kind {
            Kind::Local | Kind::Image => Vec::new(),
            _ if number == 0 => Vec::new(),
            _ => inputs.iter().map(|input| input.index(number)).collect(),
        };
        let shape = |(number, (kind, indices))| VertexShape { kind, inputs: inputs(number, kind, indices) };
        let mut vertices: Vec<VertexShape> = vertices.into_iter().enumerate().map(shape).collect();
        // A local directory cannot be a target; the last vertex is one that can.
        let last = vertices.len();
        vertices.push(VertexShape { kind: Kind::Step, inputs: (0..last).rev().take(2).collect() });
        let mut targets: Vec<usize> = targets.iter().map(|target| target.index(last)).collect();
        targets.retain(|target| vertices[*target].kind != Kind::Local);
        targets.push(last);
        Shape { vertices, targets }
    })
}

fn circumstances(outside: u8, uncached: f64, failing: usize) -> impl Strategy<Value = Circumstances> {
    let size = MOST_VERTICES + 1;
    (
        prop::collection::vec(0..3u8, size),
        prop::collection::vec(0..=outside, size),
        prop::collection::vec(prop::bool::weighted(uncached), size),
        prop::collection::btree_set(0..size, 0..=failing),
        prop::collection::btree_set(0..size, 0..=failing),
        prop_oneof![3 => Just(0), 1 => 1..16u8],
    )
        .prop_map(|(files, outside, uncached, failing, unreadable, collected)| Circumstances {
            files,
            outside,
            uncached,
            failing,
            unreadable,
            collected,
        })
}

/// A shape in its circumstances.
struct Scene<'a> {
    shape: &'a Shape,
    now: &'a Circumstances,
    graph: Graph,
    targets: Vec<VertexIndex>,
}

impl<'a> Scene<'a> {
    fn new(shape: &'a Shape, now: &'a Circumstances) -> Self {
        let platform = Platform::new("linux", "amd64", "");
        let mut builder = GraphBuilder::new();
        let mut made: Vec<Input> = Vec::new();
        for (number, vertex) in shape.vertices.iter().enumerate() {
            let inputs: Vec<Input> = vertex.inputs.iter().map(|input| made[*input]).collect();
            let metadata = Metadata { ignore_cache: now.uncached[number], ..Metadata::default() };
            made.push(builder.add(op(vertex.kind, number), &platform, &inputs, metadata));
        }
        let targets = shape.targets.iter().map(|target| made[*target].vertex).collect();
        Self { shape, now, graph: builder.finish().unwrap(), targets }
    }

    fn solve(&self, cache: &mut Cache, seed: u64) -> Solve {
        solve(&self.graph, &self.targets, self, cache, seed)
    }

    fn solve_all(&self, cache: &mut Cache, seed: u64) -> Solve {
        solve_all(&self.graph, &self.targets, self, cache, seed)
    }

    fn kind(&self, vertex: VertexIndex) -> Kind {
        self.shape.vertices[vertex.index()].kind
    }
}

/// Each vertex has an operation of its own, so that its index is its number.
fn op(kind: Kind, number: usize) -> Op {
    let name = format!("{kind:?} {number}");
    match kind {
        Kind::Local => Op::Source(SourceOp::Local(LocalSource { name })),
        Kind::Image => {
            let digest = Digest::of(name.as_bytes());
            Op::Source(SourceOp::Image(ImageSource {
                reference: name,
                manifest: digest,
                chain_id: digest,
                layers: None,
            }))
        }
        Kind::Step | Kind::Parity => Op::Exec(ExecOp::new(vec![name])),
    }
}

impl Steps for Scene<'_> {
    fn local_key(&self, vertex: VertexIndex, slot: usize) -> Option<Key> {
        let files = self.now.files[vertex.index()];
        let key = KeyHasher::new("files").u64(files.into()).u64(slot as u64).finish();
        Some(key).filter(|_| !self.now.unreadable.contains(&vertex.index()))
    }

    fn run(&self, vertex: VertexIndex, inputs: &[Option<Key>]) -> Option<Key> {
        let number = vertex.index();
        if self.now.failing.contains(&number) {
            return None;
        }
        let mut hasher = KeyHasher::new("made");
        hasher.u64(number as u64).u64(self.now.outside[number].into());
        let keys: Vec<Key> = (0..)
            .zip(inputs)
            .map(|(slot, input)| input.or_else(|| self.local_key(vertex, slot)).unwrap())
            .collect();
        match self.kind(vertex) {
            Kind::Parity => {
                hasher.bool(keys.iter().map(|key| key.as_bytes()[0]).fold(0, u8::wrapping_add) % 2 == 1)
            }
            _ => hasher.add(&keys),
        };
        Some(hasher.finish())
    }
}

/// The same three tries, by plain recursion, one vertex after the other.
struct Naive<'a> {
    scene: &'a Scene<'a>,
    cache: &'a mut Cache,
    outputs: HashMap<VertexIndex, Option<Key>>,
    probed: BTreeSet<VertexIndex>,
    ran: BTreeSet<VertexIndex>,
}

impl Naive<'_> {
    /// The definition key, and whether it may find a result; `None` if something that it is made of cannot be read.
    fn definition(&self, vertex: VertexIndex) -> Option<(Key, bool)> {
        let mut may_find = !self.scene.now.uncached[vertex.index()];
        let mut keys = Vec::new();
        for (slot, input) in self.scene.graph.inputs(vertex).iter().enumerate() {
            if self.scene.kind(input.vertex) == Kind::Local {
                keys.push(self.scene.local_key(vertex, slot)?);
                continue;
            }
            let (key, input_may_find) = self.definition(input.vertex)?;
            keys.push(key);
            may_find &= input_may_find;
        }
        Some((key::definition(&self.scene.graph.vertex(vertex).op_key, &keys), may_find))
    }

    fn make(&mut self, vertex: VertexIndex) -> Option<Key> {
        if let Some(output) = self.outputs.get(&vertex) {
            return *output;
        }
        let output = self.make_anew(vertex);
        self.outputs.insert(vertex, output);
        output
    }

    fn make_anew(&mut self, vertex: VertexIndex) -> Option<Key> {
        let definition = self.definition(vertex);
        if let Some((definition, true)) = definition {
            self.probed.insert(vertex);
            if let Some(found) = self.cache.get(&definition) {
                return Some(*found);
            }
        }
        let (mut outputs, mut keys) = (Vec::new(), Vec::new());
        for (slot, input) in self.scene.graph.inputs(vertex).iter().enumerate() {
            if self.scene.kind(input.vertex) == Kind::Local {
                outputs.push(None);
                keys.push(self.scene.local_key(vertex, slot));
            } else {
                let output = self.make(input.vertex);
                outputs.push(output);
                keys.push(output);
            }
        }
        let (definition, _) = definition?;
        let keys: Vec<Key> = keys.into_iter().collect::<Option<_>>()?;
        let content = key::content(&self.scene.graph.vertex(vertex).op_key, &keys);
        // Without inputs both keys say the same, and the first has been tried.
        let try_content = !keys.is_empty() && !self.scene.now.uncached[vertex.index()];
        let found = self.cache.get(&content).copied().filter(|_| try_content);
        if found.is_none() {
            self.ran.insert(vertex);
        }
        let output = found.or_else(|| self.scene.run(vertex, &outputs))?;
        self.cache.extend([(definition, output), (content, output)]);
        Some(output)
    }
}

/// What the naive evaluator did.
struct NaiveSolve {
    /// By target.
    made: Vec<Option<Key>>,
    probed: BTreeSet<VertexIndex>,
    ran: BTreeSet<VertexIndex>,
}

/// Solves naively, with all that does not depend on what fails.
fn naively(scene: &Scene<'_>, cache: &mut Cache) -> NaiveSolve {
    let (probed, ran) = (BTreeSet::new(), BTreeSet::new());
    let mut naive = Naive { scene, cache, outputs: HashMap::new(), probed, ran };
    let made = scene.targets.iter().map(|target| naive.make(*target)).collect();
    NaiveSolve { made, probed: naive.probed, ran: naive.ran }
}

/// Forgets part of the cache, the same part for equal caches.
fn collect(cache: &mut Cache, parts: u8) {
    cache.retain(|key, _| key.as_bytes()[7] % 16 >= parts);
}

/// Has builds run one after the other on one cache, each in several orders.
fn agree_with_the_naive_evaluator(
    shape: &Shape,
    builds: &[Circumstances],
    seeds: [u64; 3],
    solve: impl Fn(&Scene<'_>, &mut Cache, u64) -> Solve,
) -> Result<(), TestCaseError> {
    let mut cache = Cache::new();
    for now in builds {
        collect(&mut cache, now.collected);
        let scene = Scene::new(shape, now);
        let mut naive_cache = cache.clone();
        let naive = naively(&scene, &mut naive_cache);
        for seed in seeds {
            let mut cache = cache.clone();
            let solve = solve(&scene, &mut cache, seed);
            prop_assert_eq!(
                (&solve.made, &solve.probed, &solve.ran),
                (&naive.made, &naive.probed, &naive.ran)
            );
            prop_assert_eq!(&cache, &naive_cache);
        }
        cache = naive_cache;
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(2000))]

    /// Builds in changing circumstances, each in several orders: what runs and what comes out is as the
    /// naive evaluator says, whatever the order.
    #[test]
    fn any_order_gives_what_the_naive_evaluator_gives(
        shape in shapes(),
        builds in prop::collection::vec(circumstances(2, 0.1, 0), 1..4),
        seeds in prop::array::uniform3(any::<u64>()),
    ) {
        agree_with_the_naive_evaluator(&shape, &builds, seeds, |scene, cache, seed| scene.solve(cache, seed))?;
    }

    /// Builds that keep going after failures make, look up and run exactly what the naive evaluator does, which
    /// tries everything; what was made is kept, and nothing else.
    #[test]
    fn keeping_going_does_all_that_does_not_depend_on_a_failure(
        shape in shapes(),
        builds in prop::collection::vec(circumstances(2, 0.1, 3), 1..4),
        seeds in prop::array::uniform3(any::<u64>()),
    ) {
        agree_with_the_naive_evaluator(&shape, &builds, seeds, |scene, cache, seed| scene.solve_all(cache, seed))?;
    }

    /// A build that ends with the first failure does nothing that one which keeps going would not do.
    #[test]
    fn failing_fast_does_a_part_of_the_same(
        shape in shapes(), now in circumstances(0, 0.1, 3), seed in any::<u64>(),
    ) {
        let scene = Scene::new(&shape, &now);
        let (fast, all) = (scene.solve(&mut Cache::new(), seed), scene.solve_all(&mut Cache::new(), seed));
        prop_assert!(fast.ran.is_subset(&all.ran) && fast.probed.is_subset(&all.probed));
    }

    /// If steps leave the same for the same inputs, no history of builds, failures, builds without cache
    /// and collected results makes a build give anything else than one from nothing.
    #[test]
    fn no_history_gives_a_wrong_result(
        shape in shapes(),
        builds in prop::collection::vec((circumstances(0, 0.1, 3), any::<u64>()), 1..6),
    ) {
        let mut cache = Cache::new();
        for (now, seed) in &builds {
            collect(&mut cache, now.collected);
            let scene = Scene::new(&shape, now);
            if let Some(outputs) = scene.solve(&mut cache, *seed).outputs {
                let never_failing = now.healthy();
                let from_nothing = Scene::new(&shape, &never_failing).solve(&mut Cache::new(), 0);
                prop_assert_eq!(Some(outputs), from_nothing.outputs);
            }
        }
    }

    /// A build without cache sees the outside as it is now, wherever its vertices stand in the graph.
    #[test]
    fn a_build_without_cache_is_as_one_from_nothing(
        shape in shapes(),
        before in prop::collection::vec(circumstances(2, 0.0, 0), 1..3),
        now in circumstances(2, 1.0, 0),
        seed in any::<u64>(),
    ) {
        let mut cache = Cache::new();
        for earlier in &before {
            Scene::new(&shape, earlier).solve(&mut cache, seed);
        }
        let scene = Scene::new(&shape, &now);
        let solve = scene.solve(&mut cache, seed);
        prop_assert!(solve.probed.is_empty());
        prop_assert_eq!(solve.outputs, scene.solve(&mut Cache::new(), seed).outputs);
    }

    /// What was built before is found at the targets, and nothing below them is touched.
    #[test]
    fn a_second_build_runs_nothing(
        shape in shapes(), now in circumstances(2, 0.0, 0), seeds in any::<[u64; 2]>(),
    ) {
        let (scene, mut cache) = (Scene::new(&shape, &now), Cache::new());
        let first = scene.solve(&mut cache, seeds[0]);
        let second = scene.solve(&mut cache, seeds[1]);
        prop_assert_eq!(first.outputs, second.outputs);
        prop_assert!(second.ran.is_empty());
        prop_assert_eq!(second.probed, scene.targets.iter().copied().collect());
    }

    /// A failed build keeps what it made: the next one runs only what had not run, and gives the same as if
    /// nothing had failed.
    #[test]
    fn a_failure_costs_nothing_that_was_made(
        shape in shapes(), now in circumstances(0, 0.0, 3), seeds in any::<[u64; 2]>(),
    ) {
        let mut cache = Cache::new();
        let failed = Scene::new(&shape, &now).solve(&mut cache, seeds[0]);
        let healthy = now.healthy();
        let scene = Scene::new(&shape, &healthy);
        let repaired = scene.solve(&mut cache, seeds[1]);
        for vertex in failed.ran.intersection(&repaired.ran) {
            prop_assert!(now.failing.contains(&vertex.index()));
        }
        prop_assert_eq!(repaired.outputs, scene.solve(&mut Cache::new(), 0).outputs);
    }
}
