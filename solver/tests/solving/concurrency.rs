//! Work at the same time: limits, failures, cancellation, panics. Order is forced by barriers and channels.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use crate::world::{GENEROUS, Plan, Record, World};
use base::CancelToken;
use crossbeam_channel::bounded;
use llb::{Graph, Input};
use solver::{Limits, SolveError};

const CROWD: usize = 9;

/// `CROWD` steps of one kind under a `top` that needs them all.
fn crowd(add: fn(&mut Plan, usize) -> Input) -> (Graph, Input) {
    let mut plan = Plan::default();
    let members: Vec<Input> = (0..CROWD).map(|number| add(&mut plan, number)).collect();
    let top = plan.run("top", &members);
    (plan.finish(), top)
}

/// Builds with steps that only go on in threes, and gives the most that ran at once by the record.
fn in_threes(graph: &Graph, target: Input, limits: Limits) -> usize {
    let barrier = Barrier::new(3);
    let record = World::default().build_with(graph, &[target], limits, &CancelToken::new(), &|name, _| {
        if name != "top" {
            barrier.wait();
        }
    });
    assert_eq!(record.ran.len(), CROWD + 1);
    most_at_once(&record)
}

/// Starts are told before a thread begins and ends after it has ended, both by the scheduling thread.
fn most_at_once(record: &Record) -> usize {
    let (mut now, mut most) = (0usize, 0);
    for event in &record.events {
        if event.starts_with("start ") {
            now += 1;
        } else {
            now -= 1;
        }
        most = most.max(now);
    }
    most
}

#[test]
fn processes_run_up_to_their_limit_and_no_further() {
    let (graph, top) = crowd(|plan, number| plan.run(&format!("step {number}"), &[]));
    assert_eq!(in_threes(&graph, top, Limits { process: 3, files: 1, network: 1 }), 3);
}

#[test]
fn images_run_up_to_the_limit_of_the_network_and_no_further() {
    let (graph, top) = crowd(|plan, number| plan.image(&format!("image {number}")));
    assert_eq!(in_threes(&graph, top, Limits { process: 1, files: 1, network: 3 }), 3);
}

#[test]
fn file_operations_run_up_to_their_limit_and_no_further() {
    let mut plan = Plan::default();
    let mut members = Vec::new();
    for number in 0..CROWD {
        // The same operation over other inputs. The inputs are in the cache, so only file operations run.
        let below = plan.image(&format!("image {number}"));
        members.push((below, plan.files(&format!("files {number}"), &[below])));
    }
    let (images, files): (Vec<Input>, Vec<Input>) = members.into_iter().unzip();
    let top = plan.run("top", &files);
    let graph = plan.finish();
    let world = World::default();
    world.build(&graph, &images);
    let barrier = Barrier::new(3);
    let limits = Limits { process: 1, files: 3, network: 1 };
    let record = world.build_with(&graph, &[top], limits, &CancelToken::new(), &|name, _| {
        if name != "top" {
            barrier.wait();
        }
    });
    assert_eq!(record.ran.len(), CROWD + 1);
    let ops_only: Vec<String> = record.events.iter().filter(|e| !e.starts_with("cached")).cloned().collect();
    assert_eq!(most_at_once(&Record { events: ops_only, ..Record::default() }), 3);
}

#[test]
fn a_limit_of_nothing_is_a_limit_of_one() {
    let (graph, top) = crowd(|plan, number| plan.run(&format!("step {number}"), &[]));
    let limits = Limits { process: 0, files: 0, network: 0 };
    let record = World::default().build_with(&graph, &[top], limits, &CancelToken::new(), &|_, _| {});
    assert_eq!((record.ran.len(), most_at_once(&record)), (CROWD + 1, 1));
}

#[test]
fn the_longest_way_starts_first() {
    let mut plan = Plan::default();
    let short = plan.run("short", &[]);
    let mut long = plan.run("long 0", &[]);
    for number in 1..4 {
        long = plan.run(&format!("long {number}"), &[long]);
    }
    let top = plan.run("top", &[short, long]);
    let limits = Limits { process: 1, files: 1, network: 1 };
    let none = CancelToken::new();
    let graph = plan.finish();
    let record = World::default().build_with(&graph, &[top], limits, &none, &|_, _| {});
    assert_eq!(record.ran[0], "long 0");

    // What a step cost before counts more than how many there are.
    let mut world = World::default();
    for (name, cost) in [("short", 900), ("long 0", 10), ("long 1", 10), ("long 2", 10), ("long 3", 10)] {
        world.set_cost(name, cost);
    }
    let record = world.build_with(&graph, &[top], limits, &none, &|_, _| {});
    assert_eq!(record.ran[0], "short");
}

/// Blocks until `cancel` is cancelled.
pub(crate) fn wait_for(cancel: &CancelToken) {
    let (sender, receiver) = bounded(1);
    let _guard = cancel.on_cancel(move || {
        let _ = sender.send(());
    });
    receiver.recv().unwrap();
}

/// `top` over two independent steps, `slow` and `quick`.
fn fork() -> (Graph, Input) {
    let mut plan = Plan::default();
    let (slow, quick) = (plan.run("slow", &[]), plan.run("quick", &[]));
    let top = plan.run("top", &[slow, quick]);
    (plan.finish(), top)
}

#[test]
fn a_failure_cancels_the_others_and_is_told_once() {
    let (graph, top) = fork();
    let mut world = World::default();
    world.set_failing("quick", true);
    let barrier = Barrier::new(2);
    let record = world.build_with(&graph, &[top], GENEROUS, &CancelToken::new(), &|name, cancel| {
        barrier.wait();
        if name == "slow" {
            wait_for(cancel);
        }
    });
    assert_eq!(record.ran(), ["quick", "slow"]);
    assert!(record.position("failed quick") < record.position("cancelled slow"));
    assert_eq!(record.events.len(), 4, "nothing is told of top: {:?}", record.events);
    match record.result.unwrap() {
        Err(SolveError::Failed { first, others }) => {
            assert_eq!((first.error.as_str(), others.len()), ("quick failed", 0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_failures_at_once_are_one_failure_and_one_stopped_step() {
    let (graph, top) = fork();
    let mut world = World::default();
    world.set_failing("quick", true);
    world.set_failing("slow", true);
    let barrier = Barrier::new(2);
    let record = world.build_with(&graph, &[top], GENEROUS, &CancelToken::new(), &|_, _| {
        barrier.wait();
    });
    let count = |what: &str| record.events.iter().filter(|event| event.starts_with(what)).count();
    assert_eq!((count("start"), count("failed"), count("cancelled")), (2, 1, 1));
}

#[test]
fn cancelling_stops_what_runs_and_starts_nothing_more() {
    let (graph, top) = fork();
    let world = World::default();
    let cancel = CancelToken::new();
    let both_run = Barrier::new(3);
    let record = std::thread::scope(|scope| {
        scope.spawn(|| {
            both_run.wait();
            cancel.cancel();
        });
        world.build_with(&graph, &[top], GENEROUS, &cancel, &|_, cancel| {
            both_run.wait();
            wait_for(cancel);
        })
    });
    assert!(matches!(record.result, Some(Err(SolveError::Cancelled))));
    assert_eq!(record.ran(), ["quick", "slow"]);
    assert!(record.position("cancelled quick") >= 2 && record.position("cancelled slow") >= 2);
    assert_eq!(world.build(&graph, &[top]).ran(), ["quick", "slow", "top"]);
}

#[test]
fn a_solve_that_is_cancelled_before_it_begins_does_nothing() {
    let (graph, top) = fork();
    let cancel = CancelToken::new();
    cancel.cancel();
    let record = World::default().build_with(&graph, &[top], GENEROUS, &cancel, &|_, _| {});
    assert!(matches!(record.result, Some(Err(SolveError::Cancelled))));
    assert!(record.looked_up.is_empty() && record.events.is_empty());
}

#[test]
fn independent_steps_run_at_the_same_time() {
    let (graph, top) = fork();
    let meeting = Barrier::new(2);
    let met = AtomicUsize::new(0);
    World::default().build_with(&graph, &[top], GENEROUS, &CancelToken::new(), &|name, _| {
        if name != "top" {
            meeting.wait();
            met.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert_eq!(met.into_inner(), 2);
}

#[test]
fn a_panic_in_a_step_cancels_the_others_and_is_handed_on() {
    let (graph, top) = fork();
    let world = World::default();
    let barrier = Barrier::new(2);
    let stopped = Mutex::new(false);
    let solving = AssertUnwindSafe(|| {
        world.build_with(&graph, &[top], GENEROUS, &CancelToken::new(), &|name, cancel| {
            barrier.wait();
            assert_eq!(name, "slow", "quick panics here");
            wait_for(cancel);
            *stopped.lock().unwrap() = true;
        })
    });
    assert!(catch_unwind(solving).is_err());
    assert!(*stopped.lock().unwrap());
}
