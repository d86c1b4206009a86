//! Settings that are given for some steps only: a list of patterns with values, of which the last that fits counts.

use std::time::Duration;

use runner::TimeLimits;

/// `--timeout`, `--idle-timeout` and `--retry`. Not part of any key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepRules {
    /// How long a step may take, each attempt by itself.
    pub timeout: Vec<StepRule<Duration>>,
    /// How long a step may write nothing.
    pub idle_timeout: Vec<StepRule<Duration>>,
    /// How often a step that failed is tried again.
    pub retry: Vec<StepRule<u32>>,
}

/// A value for the steps that fit a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRule<T> {
    /// Which steps; `None` is all.
    pub pattern: Option<String>,
    /// The value for them.
    pub value: T,
}

impl StepRules {
    /// How long a step of `stage` that progress calls `name` may take.
    pub(crate) fn time_limits(&self, name: &str, stage: &str) -> TimeLimits {
        TimeLimits { total: last(&self.timeout, name, stage), idle: last(&self.idle_timeout, name, stage) }
    }

    /// How often it is tried again.
    pub(crate) fn retries(&self, name: &str, stage: &str) -> u32 {
        last(&self.retry, name, stage).unwrap_or(0)
    }
}

fn last<T: Copy>(rules: &[StepRule<T>], name: &str, stage: &str) -> Option<T> {
    let instruction = name.split_once("] ").map_or(name, |(_, instruction)| instruction);
    let fits = |rule: &&StepRule<T>| {
        rule.pattern
            .as_ref()
            .is_none_or(|pattern| [stage, instruction, name].iter().any(|text| matches(pattern, text)))
    };
    rules.iter().rev().find(fits).map(|rule| rule.value)
}

/// Whether the whole of `text` fits `pattern`, in which `*` is any text and `?` any character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Where the last star is, and how much of the text it takes so far. An earlier one never has to take more.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, read) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "[build 2/5] RUN make -j4 all";

    #[test]
    fn a_pattern_fits_the_whole_stage_instruction_or_name() {
        for fitting in
            ["build", "RUN make*", "*make*", "*", "b????", "RUN make -j? all", NAME, "RUN*all", "**l"]
        {
            assert!(fits(fitting), "{fitting}");
        }
        for other in ["make", "RUN make", "buil", "", "?", "RUN*al", "build?"] {
            assert!(!fits(other), "{other}");
        }
    }

    fn fits(pattern: &str) -> bool {
        let rule = StepRule { pattern: Some(pattern.to_owned()), value: () };
        last(&[rule], NAME, "build").is_some()
    }

    #[test]
    fn the_last_one_that_fits_counts() {
        let rule = |pattern: Option<&str>, value| StepRule { pattern: pattern.map(str::to_owned), value };
        let rules = [rule(None, 1), rule(Some("build"), 2), rule(Some("test"), 3)];
        assert_eq!(last(&rules, NAME, "build"), Some(2));
        assert_eq!(last(&rules, NAME, "other"), Some(1));
        assert_eq!(last(&rules[1..], NAME, "other"), None);
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        let pattern = "*a".repeat(50) + "b";
        assert!(!matches(&pattern, &"a".repeat(20_000)));
    }
}
