//! All usual patterns of an ignore file at once.
//!
//! Every name of every pattern is a *step*, numbered in the order of the rules. A set of steps is *waiting*
//! for the next name of a path; those that match it let the step behind them wait for the name after. The
//! last step of a rule that matches decides for the rule. Steps are found by the name itself, by how it
//! begins or by how it ends, so that the time for a name hardly depends on the number of rules.

use std::collections::HashMap;

use super::components::{ComponentPattern, Name, matches_other};
use crate::glob::Program;

const BITS: usize = u64::BITS as usize;

/// A set of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Steps(Vec<u64>);

impl Steps {
    fn insert(&mut self, step: usize) {
        let word = step / BITS;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (step % BITS);
    }

    fn has(&self, step: usize) -> bool {
        self.0.get(step / BITS).is_some_and(|word| word & (1 << (step % BITS)) != 0)
    }

    /// The steps that are in both sets.
    fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.0.iter().zip(&other.0).enumerate().flat_map(|(index, (a, b))| {
            let mut bits = a & b;
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits.checked_sub(1)?;
                Some(index * BITS + bit)
            })
        })
    }
}

/// The compiled patterns.
#[derive(Debug, Clone, Default)]
pub(super) struct Automaton {
    /// How many steps there are.
    count: usize,
    /// The first step of each rule.
    pub(super) start: Steps,
    /// Steps that go on waiting: `**` stands before them.
    after_gap: Steps,
    any: Steps,
    literal: HashMap<Vec<u8>, Vec<usize>>,
    prefixes: Affixes,
    suffixes: Affixes,
    other: Vec<(usize, Program)>,
    /// The rule of each step that is the last of one.
    decides: Vec<Option<usize>>,
}

/// Steps by a text at one end of their names, for each length of text.
#[derive(Debug, Clone, Default)]
struct Affixes(Vec<(usize, Texts)>);

type Texts = HashMap<Vec<u8>, Vec<Affix>>;

#[derive(Debug, Clone)]
struct Affix {
    step: usize,
    /// What the name must end with behind the text, for those that are found by how it begins.
    suffix: Vec<u8>,
}

impl Affixes {
    fn insert(&mut self, text: Vec<u8>, affix: Affix) {
        let length = text.len();
        let index = self.0.iter().position(|(known, _)| *known == length).unwrap_or_else(|| {
            self.0.push((length, HashMap::new()));
            self.0.len() - 1
        });
        self.0[index].1.entry(text).or_default().push(affix);
    }

    /// The steps whose text is `end_of` a name, with the length of the text.
    fn find<'a>(
        &'a self,
        end_of: impl Fn(usize) -> Option<&'a [u8]> + 'a,
    ) -> impl Iterator<Item = (usize, &'a Affix)> {
        let of_length = move |(length, texts): &'a (usize, Texts)| {
            let affixes = end_of(*length).and_then(|text| texts.get(text));
            affixes.into_iter().flatten().map(|affix| (*length, affix))
        };
        self.0.iter().flat_map(of_length)
    }
}

impl Automaton {
    /// Adds the pattern of a rule. Rules come in order.
    pub(super) fn add(&mut self, rule: usize, pattern: ComponentPattern) {
        self.start.insert(self.count);
        for step in pattern.steps {
            if step.after_gap {
                self.after_gap.insert(self.count);
            }
            self.add_name(step.name);
            self.decides.push(None);
            self.count += 1;
        }
        if let Some(last) = self.decides.last_mut() {
            *last = Some(rule);
        }
    }

    fn add_name(&mut self, name: Name) {
        let step = self.count;
        match name {
            Name::Any => self.any.insert(step),
            Name::Literal(text) => self.literal.entry(text).or_default().push(step),
            Name::Around(prefix, suffix) if prefix.is_empty() => {
                self.suffixes.insert(suffix, Affix { step, suffix: Vec::new() });
            }
            Name::Around(prefix, suffix) => self.prefixes.insert(prefix, Affix { step, suffix }),
            Name::Other(program) => self.other.push((step, program)),
        }
    }

    /// Calls `found` with every step of `waiting` that matches `name`.
    fn matching(&self, waiting: &Steps, name: &[u8], mut found: impl FnMut(usize)) {
        let mut found = |step: usize| {
            if waiting.has(step) {
                found(step);
            }
        };
        self.any.common(waiting).for_each(&mut found);
        self.literal.get(name).into_iter().flatten().copied().for_each(&mut found);
        for (length, affix) in self.prefixes.find(|length| name.get(..length)) {
            if name[length..].ends_with(&affix.suffix) {
                found(affix.step);
            }
        }
        let tail = |length: usize| name.get(name.len().checked_sub(length)?..);
        self.suffixes.find(tail).for_each(|(_, affix)| found(affix.step));
        for (step, program) in &self.other {
            if waiting.has(*step) && matches_other(program, name) {
                found(*step);
            }
        }
    }

    /// The last rule that ends with `name`.
    pub(super) fn decided(&self, waiting: &Steps, name: &[u8]) -> Option<usize> {
        let mut decided = None;
        self.matching(waiting, name, |step| decided = decided.max(self.decides[step]));
        decided
    }

    /// The last rule that ends with `name`, and the steps that wait for what is below it.
    pub(super) fn enter(&self, waiting: &Steps, name: &[u8]) -> (Option<usize>, Steps) {
        let mut decided = None;
        let mut below = Steps::default();
        self.matching(waiting, name, |step| match self.decides[step] {
            None => below.insert(step + 1),
            rule => decided = decided.max(rule),
        });
        self.after_gap.common(waiting).for_each(|step| below.insert(step));
        (decided, below)
    }
}
