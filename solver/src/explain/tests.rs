//! What differs between two builds, and which step was which.

use std::cell::RefCell;

use base::{FileChange, FileDifference, Key};
use llb::Aspect;
use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

fn aspect(name: &str, value: &str) -> Aspect {
    Aspect { name: name.to_owned(), value: value.to_owned(), shown: None }
}

/// A step of the stage "s" that runs `command` on the result of the step before it.
fn run(place: usize, command: &str) -> StepFacts {
    let inputs = place.checked_sub(1).map(InputFacts::Step).into_iter().collect();
    StepFacts {
        name: format!("[s {place}/9] RUN {command}"),
        stage: "s".to_owned(),
        aspects: vec![aspect("command", command)],
        inputs,
    }
}

fn chain(commands: &[&str]) -> Vec<StepFacts> {
    commands.iter().enumerate().map(|(place, command)| run(place, command)).collect()
}

/// Keys as a build has them in which everything was there: a definition is what it is made of.
fn found(steps: &[StepFacts]) -> Vec<StepKeys> {
    let mut text = String::new();
    let keys = |step: &StepFacts| {
        text.push_str(&step.aspects[0].value);
        text.push('\n');
        let definition = Some(base::KeyHasher::new("test").str(&text).finish());
        StepKeys { definition, inputs: vec![None; step.inputs.len()], not_asked: false, end: StepEnd::Result }
    };
    steps.iter().map(keys).collect()
}

fn before(commands: &[&str]) -> Before {
    let steps = chain(commands);
    Before { keys: found(&steps), steps }
}

fn explained(now: &[&str], was: Before, step: usize) -> Vec<Reason> {
    let steps = chain(now);
    let keys = found(&steps);
    let comparison = Comparison::new(&steps, was);
    comparison.explain(Now { steps: &steps, keys: &|step| keys[step].clone() }, step, &|_, _| None)
}

#[test]
fn a_changed_command_is_named_with_what_it_was() {
    let reasons = explained(&["a", "b2", "c"], before(&["a", "b", "c"]), 1);
    let [Reason::Aspects { changes }] = &reasons[..] else { panic!("{reasons:?}") };
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to_string(), "command changed from \"b\" to \"b2\"");
}

#[test]
fn what_follows_a_changed_step_points_at_it() {
    let reasons = explained(&["a", "b2", "c"], before(&["a", "b", "c"]), 2);
    assert_eq!(reasons, [Reason::Input { step: 1, changes: vec![] }]);
}

#[test]
fn an_inserted_step_is_new_and_what_follows_is_what_it_was() {
    let now = ["a", "new", "b", "c"];
    assert_eq!(explained(&now, before(&["a", "b", "c"]), 1), [Reason::NeverBuilt]);
    assert_eq!(explained(&now, before(&["a", "b", "c"]), 2), [Reason::Input { step: 1, changes: vec![] }]);
}

#[test]
fn nothing_that_differs_means_that_it_was_removed_or_never_ended() {
    assert_eq!(explained(&["a", "b"], before(&["a", "b"]), 1), [Reason::Removed { at: None }]);
    for (end, reason) in [(StepEnd::NoResult, Reason::Failed), (StepEnd::NotReached, Reason::NotReached)] {
        let mut was = before(&["a", "b"]);
        was.keys[1].end = end;
        assert_eq!(explained(&["a", "b"], was, 1), [reason]);
    }
}

#[test]
fn a_cache_that_was_not_asked_comes_first() {
    let steps = chain(&["a", "b2"]);
    let mut keys = found(&steps);
    keys[1].not_asked = true;
    let comparison = Comparison::new(&steps, before(&["a", "b"]));
    let now = Now { steps: &steps, keys: &|step| keys[step].clone() };
    let reasons = comparison.explain(now, 1, &|_, _| None);
    assert!(matches!(reasons[..], [Reason::NotAsked, Reason::Aspects { .. }]), "{reasons:?}");
}

#[test]
fn equal_contents_are_no_reason_whatever_made_them() {
    let (steps, mut was) = (chain(&["a2", "b"]), before(&["a", "b"]));
    let mut keys = found(&steps);
    (keys[1].inputs, was.keys[1].inputs) = (vec![Some(key(1))], vec![Some(key(1))]);
    let comparison = Comparison::new(&steps, was);
    let reasons =
        comparison.explain(Now { steps: &steps, keys: &|step| keys[step].clone() }, 1, &|_, _| None);
    assert_eq!(reasons, [Reason::Removed { at: None }]);
}

#[test]
fn files_of_a_directory_are_named_by_whoever_knows_them() {
    let copy = StepFacts { inputs: vec![InputFacts::Directory("context".to_owned())], ..run(0, "COPY . .") };
    let keys =
        |content| StepKeys { inputs: vec![Some(key(content))], end: StepEnd::Result, ..StepKeys::default() };
    let was = Before { steps: vec![copy.clone()], keys: vec![keys(1)] };
    let asked = RefCell::new(Vec::new());
    let files = |before: &Key, now: &Key| {
        asked.borrow_mut().push((*before, *now));
        Some(vec![FileChange { path: "package.json".to_owned(), what: FileDifference::Content }])
    };
    let comparison = Comparison::new(std::slice::from_ref(&copy), was);
    let now = Now { steps: &[copy], keys: &|_| keys(2) };
    let reasons = comparison.explain(now, 0, &files);
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0].to_string(), "package.json changed");
    assert_eq!(asked.into_inner(), [(key(1), key(2))]);
}

#[test]
fn a_standing_says_how_much_a_build_tells() {
    let steps = chain(&["a", "b2"]);
    let keys = found(&steps);
    let standing = |was: Before, step: usize| Comparison::new(&steps, was).standing(step, &keys[step]);
    assert_eq!(standing(before(&["a", "b"]), 0), Standing::Same);
    assert_eq!(standing(before(&["a", "b"]), 1), Standing::Similar);
    assert_eq!(standing(before(&["a"]), 1), Standing::Unknown);
    let mut failed = before(&["a", "b"]);
    failed.keys[1].end = StepEnd::NoResult;
    assert_eq!(standing(failed, 1), Standing::NoResult);
}

#[test]
fn many_changes_are_cut_in_the_short_text() {
    let change = |path: &str, what| FileChange { path: path.to_owned(), what };
    let changes = [
        change("a", FileDifference::Added),
        change("b", FileDifference::Removed),
        change("c", FileDifference::Mode { before: 0o644, now: 0o755 }),
        change("d", FileDifference::Owner { before: (0, 0), now: (1, 2) }),
        change("e", FileDifference::Added),
    ];
    let text = |count: usize| {
        Reason::Files { directory: "context".to_owned(), changes: changes[..count].to_vec() }.to_string()
    };
    assert_eq!(text(3), "a added, b removed, c mode 0644 -> 0755");
    assert_eq!(text(4), "a added, b removed, c mode 0644 -> 0755 and 1 more file");
    assert_eq!(text(5), "a added, b removed, c mode 0644 -> 0755 and 2 more files");
}

#[test]
fn a_stage_of_a_hundred_thousand_steps_is_matched_at_once() {
    let facts = |count: usize, first: usize| -> Vec<StepFacts> {
        (0..count)
            .map(|place| StepFacts { inputs: vec![], ..run(place, &format!("step {}", place + first)) })
            .collect()
    };
    let (now, was) = (facts(100_000, 0), facts(100_000, 10));
    let matches = match_steps(&now, &was);
    assert_eq!((matches.of(10), matches.of(99_999)), (Some(0), Some(99_989)));
}

proptest! {
    #[test]
    fn a_step_is_matched_once_and_in_order(now in commands(), was in commands()) {
        let (now_facts, was_facts) = (facts_of(&now), facts_of(&was));
        let matches = match_steps(&now_facts, &was_facts);
        let taken: Vec<usize> = (0..now.len()).filter_map(|step| matches.of(step)).collect();
        let mut unique = taken.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), taken.len());
        for (step, command) in now.iter().enumerate() {
            if now == was {
                prop_assert_eq!(matches.of(step), Some(step), "{}", command);
            }
        }
    }
}

fn commands() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-d]", 0..12)
}

fn facts_of(commands: &[String]) -> Vec<StepFacts> {
    chain(&commands.iter().map(String::as_str).collect::<Vec<_>>())
}
