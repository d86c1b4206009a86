//! Large graphs. A planner that did more than a little work for each vertex and edge would not end here.

use base::{Key, KeyHasher, Platform};
use llb::{ExecOp, Graph, GraphBuilder, Input, LocalSource, Metadata, Op, SourceOp, VertexIndex};

use crate::drive::{Cache, Solve, Steps, solve, solve_all};

struct Plain;

impl Steps for Plain {
    fn local_key(&self, vertex: VertexIndex, _slot: usize) -> Option<Key> {
        Some(KeyHasher::new("files").u64(vertex.index() as u64).finish())
    }

    fn run(&self, vertex: VertexIndex, _inputs: &[Option<Key>]) -> Option<Key> {
        Some(KeyHasher::new("made").u64(vertex.index() as u64).finish())
    }
}

/// A graph in the making, of steps that are all different.
#[derive(Default)]
struct Plan {
    builder: GraphBuilder,
    steps: usize,
    uncached: bool,
}

impl Plan {
    fn step(&mut self, inputs: &[Input]) -> Input {
        self.steps += 1;
        let op = Op::Exec(ExecOp::new(vec![self.steps.to_string()]));
        let metadata = Metadata { ignore_cache: self.uncached, ..Metadata::default() };
        self.builder.add(op, &Platform::new("linux", "amd64", ""), inputs, metadata)
    }

    fn local(&mut self) -> Input {
        let op = Op::Source(SourceOp::Local(LocalSource { name: "context".to_owned() }));
        self.builder.add(op, &Platform::new("linux", "amd64", ""), &[], Metadata::default())
    }

    fn finish(self) -> Graph {
        self.builder.finish().unwrap()
    }
}

/// Solves twice: everything runs once, then nothing.
fn check_twice(graph: &Graph, targets: &[VertexIndex], steps: usize) -> Solve {
    let mut cache = Cache::new();
    let first = solve(graph, targets, &Plain, &mut cache, 1);
    assert_eq!(first.ran.len(), steps);
    let second = solve(graph, targets, &Plain, &mut cache, 2);
    assert!(second.ran.is_empty());
    assert_eq!(first.outputs, second.outputs);
    second
}

#[test]
fn a_chain_of_ten_thousand() {
    let mut plan = Plan::default();
    let mut top = plan.step(&[]);
    for _ in 1..10_000 {
        top = plan.step(&[top]);
    }
    let second = check_twice(&plan.finish(), &[top.vertex], 10_000);
    assert_eq!(second.events, 1, "only the target is looked up");
}

#[test]
fn a_chain_of_ten_thousand_without_cache() {
    let mut plan = Plan { uncached: true, ..Plan::default() };
    let mut top = plan.step(&[]);
    for _ in 1..10_000 {
        top = plan.step(&[top]);
    }
    let solve = solve(&plan.finish(), &[top.vertex], &Plain, &mut Cache::new(), 1);
    assert_eq!((solve.ran.len(), solve.probed.len()), (10_000, 0));
}

#[test]
fn a_hundred_thousand_in_layers_that_each_read_the_context() {
    let mut plan = Plan::default();
    let context = plan.local();
    let mut layer: Vec<Input> = (0..100).map(|_| plan.step(&[context])).collect();
    for _ in 1..1000 {
        layer = (0..100).map(|at| plan.step(&[layer[at], layer[(at + 1) % 100], context])).collect();
    }
    let targets: Vec<VertexIndex> = layer.iter().map(|input| input.vertex).collect();
    let second = check_twice(&plan.finish(), &targets, 100_000);
    assert_eq!(second.events, 100_000 + 100, "one scan for each vertex, one look-up for each target");
}

#[test]
fn a_hundred_thousand_inputs_of_one_vertex() {
    let mut plan = Plan::default();
    let inputs: Vec<Input> = (0..100_000).map(|_| plan.step(&[])).collect();
    let top = plan.step(&inputs);
    check_twice(&plan.finish(), &[top.vertex], 100_001);
}

#[test]
fn a_hundred_thousand_consumers_of_one_vertex_all_targets() {
    let mut plan = Plan::default();
    let context = plan.local();
    let base = plan.step(&[context]);
    let targets: Vec<VertexIndex> = (0..100_000).map(|_| plan.step(&[base, context]).vertex).collect();
    check_twice(&plan.finish(), &targets, 100_001);
}

/// Steps of which one fails, by its index.
struct Failing(usize);

impl Steps for Failing {
    fn local_key(&self, vertex: VertexIndex, slot: usize) -> Option<Key> {
        Plain.local_key(vertex, slot)
    }

    fn run(&self, vertex: VertexIndex, inputs: &[Option<Key>]) -> Option<Key> {
        if vertex.index() == self.0 { None } else { Plain.run(vertex, inputs) }
    }
}

#[test]
fn a_chain_of_ten_thousand_whose_first_step_fails() {
    let mut plan = Plan::default();
    let first = plan.step(&[]);
    let mut top = first;
    for _ in 1..10_000 {
        top = plan.step(&[top]);
    }
    let steps = Failing(first.vertex.index());
    let solve = solve_all(&plan.finish(), &[top.vertex], &steps, &mut Cache::new(), 1);
    assert_eq!((solve.ran.len(), solve.made), (1, vec![None]));
}

#[test]
fn one_failure_under_a_hundred_thousand_targets() {
    let mut plan = Plan::default();
    let base = plan.step(&[]);
    let targets: Vec<VertexIndex> = (0..100_000).map(|_| plan.step(&[base]).vertex).collect();
    let steps = Failing(base.vertex.index());
    let solve = solve_all(&plan.finish(), &targets, &steps, &mut Cache::new(), 1);
    assert_eq!((solve.ran.len(), solve.made.iter().flatten().count()), (1, 0));
}

#[test]
fn one_failure_among_a_hundred_thousand_inputs() {
    let mut plan = Plan::default();
    let inputs: Vec<Input> = (0..100_000).map(|_| plan.step(&[])).collect();
    let top = plan.step(&inputs);
    let steps = Failing(inputs[500].vertex.index());
    let solve = solve_all(&plan.finish(), &[top.vertex], &steps, &mut Cache::new(), 1);
    assert_eq!((solve.ran.len(), solve.made), (100_000, vec![None]), "all but the top");
}
