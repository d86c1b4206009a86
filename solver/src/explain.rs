//! Why a step has to run: what differs between what it is now and what it was in an earlier build.
//!
//! A key cannot be taken apart, so this compares what keys are made of: the aspects of operations, the keys of
//! what they use of their inputs, and, through a function of the caller, the files behind such keys. Pure:
//! facts in, reasons out. `docs/design/0013` says what is compared with what.

mod matching;
mod reason;

use base::{FileChange, Key};
use llb::Aspect;
use serde::{Deserialize, Serialize};

pub use matching::{Matches, match_steps};
pub use reason::{AspectChange, Reason};

/// What a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFacts {
    /// As progress shows it: `[build 2/5] RUN make`.
    pub name: String,
    /// The stage, with the platform where a build has several.
    pub stage: String,
    /// Its operation, part by part.
    pub aspects: Vec<Aspect>,
    /// Its inputs by slot.
    pub inputs: Vec<InputFacts>,
}

impl StepFacts {
    /// The instruction's first word.
    pub(crate) fn keyword(&self) -> &str {
        let text = self.name.split_once("] ").map_or(self.name.as_str(), |(_, text)| text);
        text.split_whitespace().next().unwrap_or_default()
    }
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InputFacts {
    /// The result of another step, by its place in the list of steps.
    Step(usize),
    /// A directory of the caller, by its name.
    Directory(String),
}

/// What became of a step in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepEnd {
    /// It was not reached, or not needed and so not looked at.
    #[default]
    NotReached,
    /// A result was there: found, not needed because of one above it, or made.
    Result,
    /// It failed or was stopped.
    NoResult,
}

/// What a build knew of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepKeys {
    /// Its definition key.
    pub definition: Option<Key>,
    /// The content keys of what it uses of its inputs, by slot, as far as they were made.
    pub inputs: Vec<Option<Key>>,
    /// Whether the cache was not to be asked.
    pub not_asked: bool,
    /// How it ended.
    pub end: StepEnd,
}

impl StepKeys {
    fn input(&self, slot: usize) -> Option<Key> {
        self.inputs.get(slot).copied().flatten()
    }
}

/// The build that is explained.
#[derive(Clone, Copy)]
pub struct Now<'a> {
    /// What the steps are; inputs before those that use them.
    pub steps: &'a [StepFacts],
    /// What is known of one, by its place in the list.
    pub keys: &'a dyn Fn(usize) -> StepKeys,
}

/// An earlier build.
#[derive(Debug, Clone)]
pub struct Before {
    /// What the steps were; inputs before those that use them.
    pub steps: Vec<StepFacts>,
    /// What was known of them, in the same order.
    pub keys: Vec<StepKeys>,
}

/// How much an earlier build tells about a step. More is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It had no such step.
    Unknown,
    /// It ended before it came to it.
    NotReached,
    /// It had such a step, and no result of it.
    NoResult,
    /// It had a result of such a step.
    Similar,
    /// It had a result of the very same.
    Same,
}

/// An earlier build that is compared with.
pub struct Comparison {
    before: Before,
    matches: Matches,
}

/// Says how the files behind two content keys differ, if that is known.
pub type FileChanges<'a> = dyn Fn(&Key, &Key) -> Option<Vec<FileChange>> + 'a;

impl Comparison {
    /// Finds out which step was which. As many keys as steps are looked at.
    pub fn new(now: &[StepFacts], before: Before) -> Self {
        let matches = match_steps(now, &before.steps);
        Self { before, matches }
    }

    /// The earlier step that `step` was, by its place in the list.
    pub fn matched(&self, step: usize) -> Option<usize> {
        self.matches.of(step)
    }

    /// How much this says about `step`, whose keys are `now`.
    pub fn standing(&self, step: usize, now: &StepKeys) -> Standing {
        let Some(before) = self.before(step) else { return Standing::Unknown };
        match before.end {
            StepEnd::Result if now.definition.is_some() && now.definition == before.definition => {
                Standing::Same
            }
            StepEnd::Result => Standing::Similar,
            StepEnd::NoResult => Standing::NoResult,
            StepEnd::NotReached => Standing::NotReached,
        }
    }

    /// The reasons why `step` has no result to be found, the first difference first. Never empty.
    ///
    /// Where the reason is another step's result, only that is said: ask for that step next.
    pub fn explain(&self, now: Now<'_>, step: usize, files: &FileChanges<'_>) -> Vec<Reason> {
        let keys = (now.keys)(step);
        let mut reasons = Vec::new();
        if keys.not_asked {
            reasons.push(Reason::NotAsked);
        }
        let (Some(matched), Some(before)) = (self.matches.of(step), self.before(step)) else {
            reasons.push(Reason::NeverBuilt);
            return reasons;
        };
        let changes = reason::aspect_changes(&self.before.steps[matched].aspects, &now.steps[step].aspects);
        if !changes.is_empty() {
            reasons.push(Reason::Aspects { changes });
        }
        for slot in 0..now.steps[step].inputs.len() {
            reasons.extend(self.input(now, step, matched, slot, files));
        }
        if reasons.is_empty() {
            reasons.push(match before.end {
                StepEnd::Result => Reason::Removed { at: None },
                StepEnd::NoResult => Reason::Failed,
                StepEnd::NotReached => Reason::NotReached,
            });
        }
        reasons
    }

    /// What was known of the step that `step` was.
    fn before(&self, step: usize) -> Option<&StepKeys> {
        self.before.keys.get(self.matches.of(step)?)
    }

    fn input(
        &self,
        now: Now<'_>,
        step: usize,
        matched: usize,
        slot: usize,
        files: &FileChanges<'_>,
    ) -> Option<Reason> {
        let now_key = (now.keys)(step).input(slot);
        let before_key = self.before.keys.get(matched)?.input(slot);
        if now_key.is_some() && now_key == before_key {
            return None;
        }
        let changes =
            || now_key.zip(before_key).and_then(|(now, before)| files(&before, &now)).unwrap_or_default();
        match (&now.steps[step].inputs[slot], self.before.steps[matched].inputs.get(slot)?) {
            (InputFacts::Directory(_), _) if now_key.is_none() || before_key.is_none() => None,
            (InputFacts::Directory(name), _) => {
                Some(Reason::Files { directory: name.clone(), changes: changes() })
            }
            (InputFacts::Step(input), was) => {
                let differ = now_key.is_some() && before_key.is_some();
                let is_same =
                    matches!(was, InputFacts::Step(was) if self.is_same_definition(now, *input, *was));
                (differ || !is_same).then(|| Reason::Input { step: *input, changes: changes() })
            }
        }
    }

    fn is_same_definition(&self, now: Now<'_>, input: usize, was: usize) -> bool {
        let definition = (now.keys)(input).definition;
        definition.is_some()
            && self.before.keys.get(was).is_some_and(|before| before.definition == definition)
    }
}

#[cfg(test)]
mod tests;
