//! Which vertices are looked up and which run, counted exactly.

use crate::world::{Plan, World};
use base::Key;
use llb::{Graph, Input, Metadata, Op, SourceOp};
use solver::WaitGraph;
use solver::planner::Planner;

/// `base ── install ── copy ── make`, where `copy` also takes files from the context.
fn line() -> (Graph, Input) {
    let mut plan = Plan::default();
    let (context, base) = (plan.local("context"), plan.image("base"));
    let install = plan.run("install", &[base]);
    let copy = plan.run("copy", &[install, context]);
    let make = plan.run("make", &[copy]);
    (plan.finish(), make)
}

fn world_with(files: &[(&str, &str)]) -> World {
    let mut world = World::default();
    for (vertex, content) in files {
        world.set_files(vertex, content);
    }
    world
}

#[test]
fn a_cold_build_runs_everything_once_inputs_first() {
    let (graph, target) = line();
    let record = world_with(&[("copy", "1")]).build(&graph, &[target]);
    assert_eq!(record.ran, ["base", "install", "copy", "make"]);
    assert_eq!(record.scanned, ["copy"]);
    let by_definition = ["make", "copy", "install", "base"];
    let by_content = ["install", "copy", "make"];
    assert_eq!(record.looked_up, [&by_definition[..], &by_content[..]].concat());
}

#[test]
fn a_second_build_looks_up_the_target_and_nothing_else() {
    let (graph, target) = line();
    let world = world_with(&[("copy", "1")]);
    let first = world.build(&graph, &[target]);
    let second = world.build(&graph, &[target]);
    assert_eq!(second.ran, [""; 0]);
    assert_eq!(second.looked_up, ["make"]);
    assert_eq!(second.keyed, ["base", "install", "copy", "make"], "each once, inputs first");
    assert_eq!(second.events, ["cached base", "cached install", "cached copy", "cached make"]);
    assert_eq!(first.outputs(), second.outputs());
}

#[test]
fn changed_files_run_what_depends_on_them_and_the_old_files_hit_again() {
    let (graph, target) = line();
    let mut world = world_with(&[("copy", "1")]);
    let first = world.build(&graph, &[target]);
    world.set_files("copy", "2");
    let changed = world.build(&graph, &[target]);
    assert_eq!(changed.ran, ["copy", "make"]);
    assert_eq!(changed.events[..2], ["cached base", "cached install"]);
    assert_ne!(first.outputs(), changed.outputs());
    world.set_files("copy", "1");
    let back = world.build(&graph, &[target]);
    assert_eq!(back.ran, [""; 0]);
    assert_eq!(first.outputs(), back.outputs());
}

#[test]
fn a_step_that_leaves_the_same_stops_the_rebuild_there() {
    let (graph, target) = line();
    let mut world = world_with(&[("copy", "1")]);
    world.set_result("copy", "same");
    world.build(&graph, &[target]);
    world.set_files("copy", "2");
    let changed = world.build(&graph, &[target]);
    assert_eq!(changed.ran, ["copy"]);
    assert!(changed.position("done copy") < changed.position("cached make"));
    let again = world.build(&graph, &[target]);
    assert_eq!(again.looked_up, ["make"], "the hit by content is saved under the definition");
}

/// `base ── fetch ── use ── pack`; `fetch` ignores the cache if `uncached`.
fn fetching(uncached: bool) -> (Graph, Input) {
    let mut plan = Plan::default();
    let base = plan.image("base");
    let fetch = if uncached { plan.run_uncached("fetch", &[base]) } else { plan.run("fetch", &[base]) };
    let used = plan.run("use", &[fetch]);
    let pack = plan.run("pack", &[used]);
    (plan.finish(), pack)
}

#[test]
fn a_vertex_without_cache_runs_always_and_what_it_makes_is_found_by_the_next_build() {
    let mut world = World::default();
    world.set_result("fetch", "old");
    let (graph, target) = fetching(false);
    let old = world.build(&graph, &[target]);
    world.set_result("fetch", "new");
    let (uncached, uncached_target) = fetching(true);
    let new = world.build(&uncached, &[uncached_target]);
    assert_eq!(new.ran, ["fetch", "use", "pack"]);
    assert!(!new.looked_up.contains(&"fetch".to_owned()));
    assert_ne!(old.outputs(), new.outputs());
    let normal = world.build(&graph, &[target]);
    assert_eq!(normal.looked_up, ["pack"]);
    assert_eq!(normal.outputs(), new.outputs());
}

#[test]
fn above_a_vertex_without_cache_only_content_hits() {
    let world = World::default();
    let (graph, target) = fetching(true);
    let first = world.build(&graph, &[target]);
    let second = world.build(&graph, &[target]);
    assert_eq!(second.ran, ["fetch"]);
    assert_eq!(second.looked_up, ["base", "use", "pack"], "no consumer is looked up by definition");
    assert_eq!(first.outputs(), second.outputs());
}

#[test]
fn a_failed_build_without_cache_saves_nothing_under_the_old_definitions_above() {
    let mut world = World::default();
    world.set_result("fetch", "old");
    let (graph, target) = fetching(false);
    let old = world.build(&graph, &[target]);
    world.set_result("fetch", "new");
    world.set_failing("use", true);
    let (uncached, uncached_target) = fetching(true);
    let failed = world.build(&uncached, &[uncached_target]);
    assert_eq!(failed.ran, ["fetch", "use"]);
    let normal = world.build(&graph, &[target]);
    assert_eq!(normal.outputs(), old.outputs());
}

#[test]
fn what_was_made_before_a_failure_is_kept() {
    let (graph, target) = fetching(false);
    let mut world = World::default();
    world.set_failing("use", true);
    let failed = world.build(&graph, &[target]);
    assert_eq!(failed.events[4..], ["start use", "failed use"]);
    world.set_failing("use", false);
    assert_eq!(world.build(&graph, &[target]).ran, ["use", "pack"]);
}

#[test]
fn what_another_process_makes_meanwhile_counts_as_cached_and_is_found_again() {
    let (graph, target) = fetching(false);
    let mut world = World::default();
    world.set_made_elsewhere("pack");
    let record = world.build(&graph, &[target]);
    assert_eq!(record.events[6..], ["start pack", "cached pack"]);
    assert_eq!(world.build(&graph, &[target]).looked_up, ["pack"]);
}

#[test]
fn the_same_vertex_twice_is_built_once() {
    let mut plan = Plan::default();
    let base = plan.image("base");
    let first = plan.run("same", &[base]);
    let metadata = Metadata { name: "other name".to_owned(), ..Metadata::default() };
    let platform = base::Platform::new("linux", "amd64", "");
    let second = plan.builder.add(crate::world::exec("same"), &platform, &[base], metadata);
    let both = plan.run("both", &[first, second, first]);
    let record = World::default().build(&plan.finish(), &[both]);
    assert_eq!(record.ran, ["base", "same", "both"]);
}

#[test]
fn targets_share_vertices_and_come_out_in_order() {
    let mut plan = Plan::default();
    let base = plan.image("base");
    let shared = plan.run("shared", &[base]);
    let (left, right) = (plan.run("left", &[shared]), plan.run("right", &[shared]));
    let graph = plan.finish();
    let world = World::default();
    let record = world.build(&graph, &[right, shared, left, right]);
    assert_eq!(record.ran(), ["base", "left", "right", "shared"]);
    let outputs = record.outputs();
    assert_eq!(outputs[0], outputs[3]);
    assert_eq!(world.build(&graph, &[left]).outputs(), &outputs[2..3]);
    assert_eq!(world.build(&graph, &[shared]).outputs(), &outputs[1..2]);
}

#[test]
fn what_no_target_uses_is_not_even_scanned() {
    let mut plan = Plan::default();
    let (context, base) = (plan.local("context"), plan.image("base"));
    plan.run("unused", &[base, context]);
    let target = plan.run("target", &[base]);
    let record = World::default().build(&plan.finish(), &[target]);
    assert_eq!(record.ran, ["base", "target"]);
    assert_eq!((record.scanned.len(), record.events.len()), (0, 4));
}

#[test]
fn files_that_cannot_be_read_fail_the_vertex_that_wants_them() {
    let (graph, target) = line();
    let record = World::default().build(&graph, &[target]);
    assert_eq!(record.events, ["failed copy"]);
    assert_eq!(record.ran, [""; 0]);
    assert_eq!(record.result.unwrap().unwrap_err().to_string(), "a build step failed");
}

#[test]
fn a_vertex_over_two_local_directories_waits_for_both() {
    let mut plan = Plan::default();
    let (one, two) = (plan.local("one"), plan.local("two"));
    let both = plan.files("both", &[one, two]);
    let record = world_with(&[("both", "1")]).build(&plan.finish(), &[both]);
    assert_eq!(record.scanned, ["both", "both"]);
    assert_eq!(record.events, ["start both", "done both"]);
}

#[test]
fn a_local_directory_as_target_is_refused_with_its_name() {
    let mut plan = Plan::default();
    let context = plan.local("context");
    let graph = plan.finish();
    assert!(matches!(graph.vertex(context.vertex).op, Op::Source(SourceOp::Local(_))));
    let record = World::default().build(&graph, &[context]);
    assert!(record.result.unwrap().unwrap_err().to_string().contains("\"context\": local directory"));
}

#[test]
fn a_stall_tells_what_waits_for_what_from_the_bottom_up() {
    let mut plan = Plan::default();
    let mut top = plan.run("step 0", &[]);
    for number in 1..60 {
        top = plan.run(&format!("step {number}"), &[top]);
    }
    let graph = plan.finish();
    let mut planner: Planner<Key> = Planner::new(&graph, &[top.vertex]);
    // Nobody carries out what the planner asks for.
    let actions = planner.start();
    let waiting = WaitGraph::of(&graph, &planner, &[top.vertex]);
    assert_eq!((actions.len(), waiting.vertices.len(), waiting.more), (1, 40, 20));
    assert_eq!((waiting.vertices[0].name.as_str(), waiting.vertices[0].state), ("step 0", "not asked for"));
    let text = waiting.to_string();
    assert!(text.contains("\"step 3\": not asked for, waits for \"step 2\""), "{text}");
    assert!(text.ends_with("and 20 more"), "{text}");
}

#[test]
fn no_targets_need_no_work() {
    let (graph, _) = line();
    let record = World::default().build(&graph, &[]);
    assert_eq!((record.looked_up.len(), record.outputs().len()), (0, 0));
}

#[test]
fn results_of_one_step_are_told_apart_and_found_again() {
    let mut plan = Plan::default();
    let bind = llb::BindMount { input: None, source: "/".to_owned(), writable: true, kept: true };
    let mount = llb::ExecMount { target: "/out".to_owned(), kind: llb::MountKind::Bind(bind) };
    let two = llb::ExecOp { mounts: vec![mount], ..llb::ExecOp::new(vec!["make".to_owned()]) };
    let made = plan.add(llb::Op::Exec(two), "make", &[], false);
    let second = llb::Input { output: 1, ..made };
    let (of_first, of_second) = (plan.files("of first", &[made]), plan.files("of second", &[second]));
    let both = plan.run("both", &[of_first, of_second]);
    let graph = plan.finish();
    let world = World::default();
    let record = world.build(&graph, &[of_first, of_second, both]);
    assert_eq!(record.ran(), ["both", "make", "of first", "of second"]);
    assert_ne!(record.outputs()[0], record.outputs()[1]);
    assert_eq!(world.build(&graph, &[of_first, of_second]).ran(), Vec::<String>::new());
}
