//! Under which of its keys a segment is found.
//!
//! Each name costs as many requests as a record on its own, so most steps get none. A reader asks for the definition keys of all steps
//! of its build, the last ones first, and a step is found in the segment that any step below it leads to: it has the same key
//! only if all steps below it have. So what has to have a name is what nothing below it leads to; and what nothing is above,
//! because it is asked for first. A step that took longer than its name costs has one in any case, under its content key, too: that leads to
//! it even if everything below it is another.

use std::collections::HashSet;

use base::Key;

/// Steps that took so many milliseconds have names of their own. A name is two requests in the background, some milliseconds each.
const WORTH_A_NAME: u64 = 200;

/// A record that is to be found.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) key: Key,
    /// How long the step took, in milliseconds.
    pub(super) cost_ms: u64,
    /// The definition keys of the steps that it needs, if the key is the definition key of a step of this build.
    pub(super) below: Option<Vec<Key>>,
}

/// The steps of a segment, of which some get names.
pub(super) struct Names {
    /// Whether each gets a name.
    all: bool,
    /// What others of the segment need.
    needed: HashSet<Key>,
    /// What a name leads to by now.
    found: HashSet<Key>,
}

impl Names {
    /// Names for a segment with these steps; for `all` of them if others wait for each.
    pub(super) fn new(steps: &[Step], all: bool) -> Self {
        let needed = steps.iter().flat_map(|step| step.below.iter().flatten().copied()).collect();
        Self { all, needed, found: HashSet::new() }
    }

    /// Whether a step needs a name. Those below it were asked about before.
    pub(super) fn wants(&self, step: &Step) -> bool {
        let is_led_to = |below: &Vec<Key>| below.iter().any(|key| self.found.contains(key));
        let needs_one = |below: &Vec<Key>| !self.needed.contains(&step.key) || !is_led_to(below);
        self.all || step.cost_ms >= WORTH_A_NAME || step.below.as_ref().is_some_and(needs_one)
    }

    /// Notes that who asks for the steps of a build finds this one.
    pub(super) fn is_found(&mut self, step: &Step) {
        self.found.insert(step.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key::from_bytes([number; 32])
    }

    fn step(number: u8, cost_ms: u64, below: &[u8]) -> Step {
        Step { key: key(number), cost_ms, below: Some(below.iter().map(|below| key(*below)).collect()) }
    }

    /// The steps that get names, if those in `taken` are found elsewhere.
    fn named(steps: &[Step], all: bool, taken: &[u8]) -> Vec<u8> {
        let mut names = Names::new(steps, all);
        let mut named = Vec::new();
        for step in steps {
            let wants = names.wants(step);
            if wants {
                named.push(step.key.as_bytes()[0]);
            }
            if !wants || !taken.contains(&step.key.as_bytes()[0]) {
                names.is_found(step);
            }
        }
        named
    }

    #[test]
    fn the_first_and_the_last_of_a_chain_have_names() {
        let chain = [step(1, 5, &[]), step(2, 5, &[1]), step(3, 5, &[2]), step(4, 5, &[3])];
        assert_eq!(named(&chain, false, &[]), [1, 4]);
        assert_eq!(named(&chain, true, &[]), [1, 2, 3, 4]);
        // What another segment has under a name leads there, so the next one gets a name.
        assert_eq!(named(&chain, false, &[1]), [1, 2, 4]);
        assert_eq!(named(&chain, false, &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(named(&chain[1..], false, &[]), [2, 4], "what is below is in another segment");
    }

    #[test]
    fn steps_that_took_long_have_names_under_all_keys() {
        let content = |number, cost_ms| Step { key: key(number), cost_ms, below: None };
        let steps = [content(11, 5), step(1, 5, &[]), content(12, 200), step(2, 200, &[1]), step(3, 5, &[2])];
        assert_eq!(named(&steps, false, &[]), [1, 12, 2, 3]);
    }

    #[test]
    fn branches_begin_and_end_with_names() {
        let steps = [step(1, 5, &[]), step(2, 5, &[1]), step(3, 5, &[]), step(4, 5, &[2, 3])];
        assert_eq!(named(&steps, false, &[]), [1, 3, 4]);
        let two_targets = [step(1, 5, &[]), step(2, 5, &[1]), step(3, 5, &[1])];
        assert_eq!(named(&two_targets, false, &[]), [1, 2, 3]);
    }
}
