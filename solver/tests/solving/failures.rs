//! Failures and cancels in solves with real threads: what runs when a solve keeps going, and thousands of random
//! graphs with random failures and a cancel at a random moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use base::CancelToken;
use llb::{Graph, Input};
use solver::{Limits, Schedule, SolveError};

use crate::world::{GENEROUS, Plan, Record, World};

const KEEP_GOING: Schedule = Schedule { limits: GENEROUS, keep_going: true };

fn build_all(world: &World, graph: &Graph, targets: &[Input]) -> Record {
    world.build_with(graph, targets, KEEP_GOING, &CancelToken::new(), &|_, _| {})
}

/// The names of the vertices that failed, in the order of the alphabet, by their errors.
fn failed(record: &Record) -> Vec<String> {
    let Some(Err(SolveError::Failed { first, others })) = &record.result else {
        panic!("no failure: {:?}", record.result);
    };
    let errors = std::iter::once(first).chain(others).map(|failure| failure.error.clone());
    let mut names: Vec<String> = errors.map(|error| error.replace(" failed", "")).collect();
    names.sort_unstable();
    names
}

#[test]
fn keeping_going_runs_what_does_not_depend_on_the_failed_step_and_tells_all_failures() {
    let mut plan = Plan::default();
    let (bad, good, worse) = (plan.run("bad", &[]), plan.run("good", &[]), plan.run("worse", &[]));
    let above_bad = plan.run("above bad", &[bad]);
    let above_good = plan.run("above good", &[good]);
    let top = plan.run("top", &[above_bad, above_good, worse]);
    let graph = plan.finish();
    let mut world = World::default();
    world.set_failing("bad", true);
    world.set_failing("worse", true);

    let record = build_all(&world, &graph, &[top]);
    assert_eq!(record.ran(), ["above good", "bad", "good", "worse"]);
    assert_eq!(failed(&record), ["bad", "worse"]);
    let told = |event: &str| record.events.iter().any(|told| told == event);
    assert!(told("failed bad") && told("failed worse") && told("done above good"));
    assert!(!record.events.iter().any(|event| event.ends_with(" top") || event.ends_with("above bad")));

    // What was made stays, so the next build runs the rest.
    world.set_failing("bad", false);
    world.set_failing("worse", false);
    assert_eq!(build_all(&world, &graph, &[top]).ran(), ["above bad", "bad", "top", "worse"]);
}

#[test]
fn one_target_of_two_fails_and_the_other_is_made() {
    let mut plan = Plan::default();
    let (bad, good) = (plan.run("bad", &[]), plan.run("good", &[]));
    let graph = plan.finish();
    let mut world = World::default();
    world.set_failing("bad", true);
    let limits = Limits { process: 1, files: 1, network: 1 };
    let schedule = Schedule { limits, keep_going: true };
    let record = world.build_with(&graph, &[bad, good], schedule, &CancelToken::new(), &|_, _| {});
    assert_eq!((record.ran(), failed(&record)), (vec!["bad", "good"], vec!["bad".to_owned()]));
    assert_eq!(world.build(&graph, &[good]).ran(), [""; 0]);
}

#[test]
fn what_is_found_above_a_failure_is_as_good_as_ever() {
    let mut plan = Plan::default();
    let below = plan.run("below", &[]);
    let found = plan.run("found", &[below]);
    let broken = plan.run("broken", &[below]);
    let (shared, apart) = (plan.run("shared", &[found]), plan.run("apart", &[broken]));
    let graph = plan.finish();
    let mut world = World::default();
    world.build(&graph, &[found]);
    world.set_failing("broken", true);
    let record = build_all(&world, &graph, &[shared, apart]);
    assert_eq!((record.ran(), failed(&record)), (vec!["broken", "shared"], vec!["broken".to_owned()]));
}

#[test]
fn a_look_up_that_fails_is_a_failure_of_its_vertex_alone() {
    let mut plan = Plan::default();
    let (bad, known, fresh) = (plan.run("bad", &[]), plan.run("known", &[]), plan.run("new", &[]));
    let graph = plan.finish();
    let mut world = World::default();
    world.build(&graph, &[known]);
    world.set_lookup_fails("bad");
    let record = build_all(&world, &graph, &[bad, known, fresh]);
    assert_eq!((record.ran(), failed(&record)), (vec!["new"], vec!["bad".to_owned()]));
    // What was found is told as soon as it is settled what has to be made, and not only at the end.
    assert!(record.position("cached known") < record.position("start new"), "{:?}", record.events);
}

#[test]
fn files_that_cannot_be_read_leave_the_other_inputs_to_be_made() {
    let mut plan = Plan::default();
    let context = plan.local("context");
    let (base, other) = (plan.run("base", &[]), plan.run("other", &[]));
    let copy = plan.run("copy", &[base, context]);
    let top = plan.run("top", &[copy, other]);
    let graph = plan.finish();
    let world = World::default();
    let record = build_all(&world, &graph, &[top]);
    assert_eq!((record.ran(), record.scanned.as_slice()), (vec!["base", "other"], &["copy".to_owned()][..]));
    assert!(matches!(&record.result, Some(Err(SolveError::Failed { others, .. })) if others.is_empty()));
}

#[test]
fn cancelling_ends_a_solve_that_keeps_going() {
    let mut plan = Plan::default();
    let (bad, good) = (plan.run("bad", &[]), plan.run("good", &[]));
    let graph = plan.finish();
    let mut world = World::default();
    world.set_failing("bad", true);
    let cancel = CancelToken::new();
    let limits = Limits { process: 1, files: 1, network: 1 };
    let schedule = Schedule { limits, keep_going: true };
    let record = world.build_with(&graph, &[bad, good], schedule, &cancel, &|_, _| cancel.cancel());
    assert!(matches!(record.result, Some(Err(SolveError::Cancelled))), "{:?}", record.result);
    assert_eq!(record.ran.len(), 1);
}

/// Knuth's linear congruential generator (MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A random graph of steps, by name, with the names of their inputs.
struct RandomGraph {
    graph: Graph,
    inputs: BTreeMap<String, Vec<String>>,
    targets: Vec<Input>,
    target_names: Vec<String>,
}

impl RandomGraph {
    fn new(random: &mut Random) -> Self {
        let mut plan = Plan::default();
        let mut made: Vec<Input> = Vec::new();
        let mut inputs = BTreeMap::new();
        for number in 0..random.below(12) + 1 {
            let chosen: Vec<usize> = match number {
                0 => Vec::new(),
                _ => (0..random.below(4)).map(|_| random.below(number)).collect(),
            };
            let below: Vec<Input> = chosen.iter().map(|input| made[*input]).collect();
            made.push(plan.run(&format!("step {number}"), &below));
            inputs.insert(
                format!("step {number}"),
                chosen.iter().map(|input| format!("step {input}")).collect(),
            );
        }
        let chosen: Vec<usize> = (0..random.below(3) + 1).map(|_| random.below(made.len())).collect();
        let targets = chosen.iter().map(|target| made[*target]).collect();
        let target_names = chosen.iter().map(|target| format!("step {target}")).collect();
        Self { graph: plan.finish(), inputs, targets, target_names }
    }

    /// Everything that the targets need.
    fn needed(&self) -> BTreeSet<String> {
        let mut needed = BTreeSet::new();
        let mut pending = self.target_names.clone();
        while let Some(name) = pending.pop() {
            pending.extend(self.inputs[&name].iter().cloned());
            needed.insert(name);
        }
        needed
    }

    /// Whether nothing below the step fails.
    fn can_run(&self, name: &str, failing: &BTreeSet<String>) -> bool {
        self.inputs[name].iter().all(|input| !failing.contains(input) && self.can_run(input, failing))
    }
}

/// Solves of random graphs with random failures from an empty cache: what keeps going runs exactly what can run, what
/// fails fast a part of it, and afterwards the repaired build runs exactly what is left.
#[test]
fn random_failures() {
    for seed in 0..1500 {
        let mut random = Random(seed);
        let scene = RandomGraph::new(&mut random);
        let names: Vec<&String> = scene.inputs.keys().collect();
        let failing: BTreeSet<String> =
            (0..random.below(4)).map(|_| names[random.below(names.len())].clone()).collect();
        let runnable: BTreeSet<String> =
            scene.needed().into_iter().filter(|name| scene.can_run(name, &failing)).collect();
        let lost: Vec<String> = runnable.intersection(&failing).cloned().collect();
        for keep_going in [true, false] {
            let limits = Limits { process: random.below(4), files: 2, network: 1 };
            let mut world = World::default();
            failing.iter().for_each(|name| world.set_failing(name, true));
            let schedule = Schedule { limits, keep_going };
            let record =
                world.build_with(&scene.graph, &scene.targets, schedule, &CancelToken::new(), &|_, _| {});
            let ran: BTreeSet<String> = record.ran.iter().cloned().collect();
            assert_eq!(ran.len(), record.ran.len(), "seed {seed}: something ran twice");
            assert!(ran.is_subset(&runnable), "seed {seed}: {ran:?}");
            if lost.is_empty() {
                assert!(matches!(record.result, Some(Ok(_))), "seed {seed}: {:?}", record.result);
            } else if keep_going {
                assert_eq!((ran.clone(), failed(&record)), (runnable.clone(), lost.clone()), "seed {seed}");
            } else {
                assert_eq!(failed(&record).len(), 1, "seed {seed}");
            }
            let made: BTreeSet<String> = record.ended_well();
            failing.iter().for_each(|name| world.set_failing(name, false));
            let repaired = world.build(&scene.graph, &scene.targets);
            let again: BTreeSet<String> = repaired.ran.iter().cloned().collect();
            assert!(again.is_disjoint(&made), "seed {seed}: made twice: {again:?} and {made:?}");
            assert_eq!(repaired.outputs(), World::default().build(&scene.graph, &scene.targets).outputs());
        }
    }
}

/// A cancel while some step runs ends the solve; what was made is kept, and the next solve makes the rest.
#[test]
fn random_cancels() {
    for seed in 0..1500 {
        let mut random = Random(seed);
        let scene = RandomGraph::new(&mut random);
        let last = random.below(scene.needed().len()) + 1;
        let limits = Limits { process: random.below(4), files: 2, network: 1 };
        let schedule = Schedule { limits, keep_going: random.below(2) == 1 };
        let (world, cancel, begun) = (World::default(), CancelToken::new(), AtomicUsize::new(0));
        let record = world.build_with(&scene.graph, &scene.targets, schedule, &cancel, &|_, _| {
            if begun.fetch_add(1, Ordering::SeqCst) + 1 == last {
                cancel.cancel();
            }
        });
        assert!(
            matches!(record.result, Some(Err(SolveError::Cancelled))),
            "seed {seed}: {:?}",
            record.result
        );
        let made = record.ended_well();
        let rest = world.build(&scene.graph, &scene.targets);
        let again: BTreeSet<String> = rest.ran.iter().cloned().collect();
        assert!(again.is_disjoint(&made), "seed {seed}: made twice: {again:?} and {made:?}");
        assert_eq!(rest.outputs(), World::default().build(&scene.graph, &scene.targets).outputs());
    }
}
