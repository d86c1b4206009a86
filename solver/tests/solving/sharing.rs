//! Builds at the same time over one world: what they share runs once, and goes on as long as one of them wants it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;

use base::CancelToken;
use crossbeam_channel::unbounded;
use llb::{Graph, Input};
use solver::SolveError;

use crate::concurrency::wait_for;
use crate::world::{GENEROUS, Plan, Record, World};

/// One step over another.
fn pair() -> (Graph, Input) {
    let mut plan = Plan::default();
    let below = plan.run("below", &[]);
    let top = plan.run("top", &[below]);
    (plan.finish(), top)
}

/// Two builds of [`pair`], each with its token. The one that runs `below` goes on with `then` when the other waits.
fn two_builds(
    world: &mut World,
    tokens: [&CancelToken; 2],
    then: impl Fn(usize, &CancelToken) + Sync,
) -> [Record; 2] {
    let (waits, is_waiting) = unbounded();
    world.tell_waits(waits);
    let (graph, top) = pair();
    let build = |which: usize| {
        world.build_with(&graph, &[top], GENEROUS, tokens[which], &|name, cancel| {
            if name == "below" {
                assert_eq!(is_waiting.recv().unwrap(), "below");
                then(which, cancel);
            }
        })
    };
    scope(|scope| {
        let other = scope.spawn(|| build(1));
        [build(0), other.join().unwrap()]
    })
}

/// How often each step ran in all of these builds.
fn runs(records: &[Record]) -> BTreeMap<&str, usize> {
    let mut runs = BTreeMap::new();
    for name in records.iter().flat_map(Record::ran) {
        *runs.entry(name).or_default() += 1;
    }
    runs
}

#[test]
fn a_step_that_two_builds_need_runs_once() {
    let (first, second) = (CancelToken::new(), CancelToken::new());
    let records = two_builds(&mut World::default(), [&first, &second], |_, _| {});
    assert_eq!(runs(&records), BTreeMap::from([("below", 1), ("top", 1)]));
    assert_eq!(records[0].outputs(), records[1].outputs());
}

#[test]
fn a_step_goes_on_when_the_build_that_runs_it_is_cancelled() {
    let tokens = [CancelToken::new(), CancelToken::new()];
    let records = two_builds(&mut World::default(), [&tokens[0], &tokens[1]], |which, cancel| {
        tokens[which].cancel();
        assert!(!cancel.is_cancelled(), "the other build still wants it");
    });
    let (cancelled, whole) = if tokens[0].is_cancelled() { (0, 1) } else { (1, 0) };
    assert!(matches!(records[cancelled].result, Some(Err(SolveError::Cancelled))));
    assert_eq!(records[cancelled].ran(), ["below"]);
    assert_eq!(records[whole].outputs().len(), 1);
    assert_eq!(records[whole].ran(), ["top"]);
}

#[test]
fn a_step_that_nobody_wants_any_more_is_cancelled() {
    let tokens = [CancelToken::new(), CancelToken::new()];
    let mut world = World::default();
    let records = two_builds(&mut world, [&tokens[0], &tokens[1]], |which, cancel| {
        tokens[1 - which].cancel();
        assert!(!cancel.is_cancelled(), "its own build still wants it");
        tokens[which].cancel();
        wait_for(cancel);
    });
    assert_eq!(runs(&records), BTreeMap::from([("below", 1)]));
    let (graph, top) = pair();
    assert_eq!(world.build(&graph, &[top]).ran(), ["below", "top"]);
}

#[test]
fn whoever_waited_for_a_failure_tries_itself() {
    let mut world = World::default();
    world.set_failing("below", true);
    let (waits, is_waiting) = unbounded();
    world.tell_waits(waits);
    let (graph, top) = pair();
    let tries = AtomicUsize::new(0);
    let build = || {
        world.build_with(&graph, &[top], GENEROUS, &CancelToken::new(), &|_, _| {
            // The second one tries when nobody is left to wait for it.
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                is_waiting.recv().unwrap();
            }
        })
    };
    let records = scope(|scope| {
        let other = scope.spawn(build);
        [build(), other.join().unwrap()]
    });
    assert_eq!(runs(&records), BTreeMap::from([("below", 2)]));
    for record in records {
        assert!(matches!(record.result, Some(Err(SolveError::Failed { .. }))), "{record:?}");
    }
}

/// Steps in layers; which of them a build has, and what they need, follows from `seed`.
fn layers(seed: u64) -> (Graph, Vec<Input>) {
    let mut plan = Plan::default();
    let mut below: Vec<Input> = Vec::new();
    for layer in 0..4_u64 {
        let steps = (0..3_u64).map(|step| {
            let chosen = |input: usize| (seed >> (layer * 9 + step * 3 + input as u64)) & 1 == 1;
            let inputs: Vec<Input> = below
                .iter()
                .enumerate()
                .filter(|(input, _)| chosen(*input))
                .map(|(_, input)| *input)
                .collect();
            plan.run(&format!("{layer}.{step}"), &inputs)
        });
        below = steps.collect();
    }
    (plan.finish(), below)
}

#[test]
fn nothing_runs_twice_in_any_number_of_builds() {
    for seed in 0..50_u64 {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let world = World::default();
        // Half of the builds have the same graph, half another one with common parts.
        let graphs = [layers(seed), layers(seed ^ (seed >> 40 << 20))];
        let cancelled = CancelToken::new();
        let build = |which: usize| {
            let (graph, targets) = &graphs[which % 2];
            let token = if which == 3 { cancelled.clone() } else { CancelToken::new() };
            world.build_with(graph, targets, GENEROUS, &token, &|name, _| {
                if name == format!("{}.{}", seed % 4, seed % 3) {
                    cancelled.cancel();
                }
            })
        };
        let records = scope(|scope| {
            let others: Vec<_> = (1..4).map(|which| scope.spawn(move || build(which))).collect();
            let mut records = vec![build(0)];
            records.extend(others.into_iter().map(|other| other.join().unwrap()));
            records
        });
        for (which, record) in records.iter().enumerate().take(3) {
            let alone = World::default().build(&graphs[which % 2].0, &graphs[which % 2].1);
            assert_eq!(record.outputs(), alone.outputs(), "seed {seed}");
        }
        assert_eq!(world.most_often_made(), 1, "seed {seed}");
    }
}
