//! Carries out a planner's actions one by one over a cache in memory, in an order that a seed decides.

use std::collections::{BTreeSet, HashMap};

use base::Key;
use llb::{Graph, VertexIndex};
use solver::event::{Action, Event};
use solver::key;
use solver::planner::{Planner, State};

/// Definition and content keys of results; a result is its own content key.
pub(crate) type Cache = HashMap<Key, Key>;

/// What steps do.
pub(crate) trait Steps {
    /// The content key of what `vertex` selects from the local directory in `slot`; `None` if it cannot be read.
    fn local_key(&self, vertex: VertexIndex, slot: usize) -> Option<Key>;
    /// What `vertex` leaves when run over `inputs`; `None` if it fails.
    fn run(&self, vertex: VertexIndex, inputs: &[Option<Key>]) -> Option<Key>;
}

/// What happened in a solve.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Solve {
    /// By target; `None` if something failed.
    pub(crate) outputs: Option<Vec<Key>>,
    /// By target, as far as they were made.
    pub(crate) made: Vec<Option<Key>>,
    /// Looked up by definition.
    pub(crate) probed: BTreeSet<VertexIndex>,
    pub(crate) ran: BTreeSet<VertexIndex>,
    pub(crate) events: usize,
}

/// Solves to the end. Checks at each event that states only move forward, and at the end that the planner
/// did not stall.
pub(crate) fn solve<S: Steps>(
    graph: &Graph,
    targets: &[VertexIndex],
    steps: &S,
    cache: &mut Cache,
    seed: u64,
) -> Solve {
    drive(graph, Planner::new(graph, targets), targets, steps, cache, seed, false)
}

/// The same with all that does not depend on what failed.
pub(crate) fn solve_all<S: Steps>(
    graph: &Graph,
    targets: &[VertexIndex],
    steps: &S,
    cache: &mut Cache,
    seed: u64,
) -> Solve {
    drive(graph, Planner::new(graph, targets).keep_going(), targets, steps, cache, seed, true)
}

fn drive<S: Steps>(
    graph: &Graph,
    mut planner: Planner<Key>,
    targets: &[VertexIndex],
    steps: &S,
    cache: &mut Cache,
    mut seed: u64,
    keep_going: bool,
) -> Solve {
    let mut outstanding = planner.start();
    let (mut probed, mut ran, mut failed, mut events) = (BTreeSet::new(), BTreeSet::new(), false, 0);
    while !outstanding.is_empty() {
        let action = outstanding.swap_remove(next(&mut seed) as usize % outstanding.len());
        match action {
            Action::Probe { vertex, .. } => assert!(probed.insert(vertex), "looked up twice"),
            Action::Execute { vertex, .. } => assert!(ran.insert(vertex), "ran twice"),
            _ => {}
        }
        let event = carry_out(graph, &planner, steps, cache, action);
        failed |= matches!(event, Event::Failed { .. });
        let vertex = event.vertex();
        let before = rank(planner.state(vertex));
        let actions = planner.handle(event);
        events += 1;
        assert!(rank(planner.state(vertex)) >= before, "{vertex:?} went back to {:?}", planner.state(vertex));
        assert!(!failed || keep_going || actions.is_empty(), "more to do after a failure");
        outstanding.extend(actions);
    }
    let made: Vec<Option<Key>> = targets.iter().map(|target| planner.output(*target)).collect();
    let outputs: Option<Vec<Key>> = made.iter().copied().collect();
    assert!(failed || outputs.is_some(), "nothing is left to do, but a target has no result");
    assert!((failed && !keep_going) || planner.needs_are_settled());
    if !failed || keep_going {
        for target in targets {
            assert_eq!(planner.waits_for(*target), [], "{target:?} still waits");
        }
    }
    Solve { outputs: if failed { None } else { outputs }, made, probed, ran, events }
}

fn carry_out<S: Steps>(
    graph: &Graph,
    planner: &Planner<Key>,
    steps: &S,
    cache: &mut Cache,
    action: Action,
) -> Event<Key> {
    match action {
        Action::LocalKey { vertex, slot } => {
            let key = steps.local_key(vertex, slot);
            key.map_or(Event::Failed { vertex }, |key| Event::LocalKey { vertex, slot, key })
        }
        Action::Probe { vertex, key } => Event::Probed { vertex, found: cache.get(&key).copied() },
        Action::ProbeContent { vertex, lookup } => {
            let slots = planner.local_keys(vertex).iter().zip(planner.input_outputs(vertex));
            let inputs: Vec<Key> = slots.map(|(local, output)| local.or(output).unwrap()).collect();
            let content = key::content(&graph.vertex(vertex).op_key, &inputs);
            let found = if lookup { cache.get(&content).copied() } else { None };
            if let Some(output) = found {
                cache.insert(planner.definition(vertex).unwrap(), output);
            }
            Event::ContentProbed { vertex, inputs, found }
        }
        Action::Execute { vertex, definition, content } => {
            match steps.run(vertex, &planner.input_outputs(vertex)) {
                Some(output) => {
                    cache.extend([(definition, output), (content, output)]);
                    Event::Executed { vertex, output, reused: false }
                }
                None => Event::Failed { vertex },
            }
        }
    }
}

/// How far along a state is.
fn rank(state: &State<Key>) -> usize {
    match state {
        State::Local | State::Unkeyed => 0,
        State::Keyed => 1,
        State::Probing => 2,
        State::Missing => 3,
        State::ProbingContent => 4,
        State::Running => 5,
        State::Done { .. } | State::Failed | State::Blocked => 6,
    }
}

/// Knuth's linear congruential generator (MMIX); the high bits are the better ones.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}
