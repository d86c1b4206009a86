//! Which step of one build was which step of another.
//!
//! Within a stage, steps with equal aspects are matched in their order, then, between two matches, steps of
//! the same instruction in theirs. Takes little more than linear time, however long a stage is.

use std::collections::HashMap;

use super::StepFacts;

/// For each step now, the step that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches(Vec<Option<usize>>);

impl Matches {
    /// The earlier step that `step` was.
    pub fn of(&self, step: usize) -> Option<usize> {
        self.0.get(step).copied().flatten()
    }
}

/// Matches the steps of two builds, both with inputs before those that use them.
pub fn match_steps(now: &[StepFacts], before: &[StepFacts]) -> Matches {
    let mut matches = Matches(vec![None; now.len()]);
    let before_stages = by_stage(before);
    for (stage, now_steps) in by_stage(now) {
        let Some(before_steps) = before_stages.get(stage) else { continue };
        let mut pairing = Pairing { now, before, matches: &mut matches.0 };
        pairing.pair(&now_steps, before_steps);
    }
    match_the_rest(now, before, &mut matches);
    matches
}

fn by_stage(steps: &[StepFacts]) -> HashMap<&str, Vec<usize>> {
    let mut stages: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        stages.entry(&step.stage).or_default().push(index);
    }
    stages
}

/// A stage that was renamed, or moved: what is left is matched with what is equal anywhere.
fn match_the_rest(now: &[StepFacts], before: &[StepFacts], matches: &mut Matches) {
    let mut free: HashMap<Identity<'_>, Vec<usize>> = HashMap::new();
    let taken: Vec<usize> = matches.0.iter().copied().flatten().collect();
    let mut is_free = vec![true; before.len()];
    taken.into_iter().for_each(|index| is_free[index] = false);
    for index in (0..before.len()).rev().filter(|index| is_free[*index]) {
        free.entry(identity(&before[index])).or_default().push(index);
    }
    for (step, slot) in now.iter().zip(&mut matches.0).filter(|(_, slot)| slot.is_none()) {
        *slot = free.get_mut(&identity(step)).and_then(Vec::pop);
    }
}

/// Equal for steps with equal aspects.
type Identity<'a> = Vec<(&'a str, &'a str)>;

fn identity(step: &StepFacts) -> Identity<'_> {
    step.aspects.iter().map(|aspect| (aspect.name.as_str(), aspect.value.as_str())).collect()
}

struct Pairing<'a> {
    now: &'a [StepFacts],
    before: &'a [StepFacts],
    matches: &'a mut [Option<usize>],
}

impl Pairing<'_> {
    /// Matches the steps of one stage.
    fn pair(&mut self, mut now: &[usize], mut before: &[usize]) {
        while let ([n, now_rest @ ..], [b, before_rest @ ..]) = (now, before)
            && self.are_equal(*n, *b)
        {
            self.matches[*n] = Some(*b);
            (now, before) = (now_rest, before_rest);
        }
        while let ([now_rest @ .., n], [before_rest @ .., b]) = (now, before)
            && self.are_equal(*n, *b)
        {
            self.matches[*n] = Some(*b);
            (now, before) = (now_rest, before_rest);
        }
        let mut start = (0, 0);
        for (at_now, at_before) in self.anchors(now, before) {
            self.matches[now[at_now]] = Some(before[at_before]);
            self.pair_by_keyword(&now[start.0..at_now], &before[start.1..at_before]);
            start = (at_now + 1, at_before + 1);
        }
        self.pair_by_keyword(&now[start.0..], &before[start.1..]);
    }

    fn are_equal(&self, now: usize, before: usize) -> bool {
        self.now[now].aspects.len() == self.before[before].aspects.len()
            && identity(&self.now[now]) == identity(&self.before[before])
    }

    /// Positions of steps that are equal, rising in both lists, as many as can be. Steps that occur several times in a
    /// list are left to the keywords.
    fn anchors(&self, now: &[usize], before: &[usize]) -> Vec<(usize, usize)> {
        let unique_before = unique(self.before, before);
        let unique_now = unique(self.now, now);
        let mut pairs: Vec<(usize, usize)> = unique_now
            .iter()
            .filter_map(|(identity, at)| Some((*at, *unique_before.get(identity)?)))
            .collect();
        pairs.sort_unstable();
        longest_rising(&pairs)
    }

    /// Matches steps of the same instruction in their order.
    fn pair_by_keyword(&mut self, now: &[usize], before: &[usize]) {
        let mut waiting: HashMap<&str, Vec<usize>> = HashMap::new();
        for step in before.iter().rev() {
            waiting.entry(self.before[*step].keyword()).or_default().push(*step);
        }
        for step in now {
            self.matches[*step] = waiting.get_mut(self.now[*step].keyword()).and_then(Vec::pop);
        }
    }
}

/// The steps of a list that have no equal in it, with their positions.
fn unique<'a>(steps: &'a [StepFacts], list: &[usize]) -> HashMap<Identity<'a>, usize> {
    let mut positions: HashMap<Identity<'_>, Option<usize>> = HashMap::new();
    for (at, step) in list.iter().enumerate() {
        positions.entry(identity(&steps[*step])).and_modify(|at| *at = None).or_insert(Some(at));
    }
    positions.into_iter().filter_map(|(identity, at)| Some((identity, at?))).collect()
}

/// The longest part of `pairs`, sorted by the first, in which the second rises as well.
fn longest_rising(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For each length, the pair that ends a run of it with the smallest second; and before each pair, the one it follows.
    let mut ends: Vec<usize> = Vec::new();
    let mut follows: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, (_, second)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].1 < *second);
        follows.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(index) = at {
        run.push(pairs[index]);
        at = follows[index];
    }
    run.reverse();
    run
}
