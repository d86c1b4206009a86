//! A fast matcher for the usual patterns of `.dockerignore`.
//!
//! Nearly all patterns are names with `*` and `?` between slashes, and `**` as a name of its own. They can
//! be compared name by name, most of them without an automaton: a thousand times a scan asks in vain
//! whether `**/*.log` matches. Other patterns (`a**b`, classes, escapes) are left to `crate::glob`.

use crate::glob::{BadPattern, Dialect, Outcome, Program};

/// A pattern, compiled.
#[derive(Debug, Clone)]
pub(crate) struct ComponentPattern {
    /// Runs of names between `**`. The first begins at the root unless `starts_anywhere`; each other one
    /// begins anywhere behind the one before.
    runs: Vec<Vec<Name>>,
    starts_anywhere: bool,
    /// Ends in `**`: at least one more name follows.
    needs_more: bool,
}

/// A pattern for one name.
#[derive(Debug, Clone)]
enum Name {
    Any,
    Literal(Vec<u8>),
    /// One star with text around it.
    Around(Vec<u8>, Vec<u8>),
    Other(Program),
}

impl Name {
    fn compile(pattern: &str) -> Result<Self, BadPattern> {
        let has_question_mark = pattern.contains('?');
        Ok(match pattern.split_once('*') {
            _ if has_question_mark => Name::Other(Program::compile(pattern, Dialect::Match)?),
            None => Name::Literal(pattern.into()),
            Some(("", "")) => Name::Any,
            Some((before, after)) if !after.contains('*') => Name::Around(before.into(), after.into()),
            Some(_) => Name::Other(Program::compile(pattern, Dialect::Match)?),
        })
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Name::Any => true,
            Name::Literal(literal) => name == literal.as_slice(),
            Name::Around(before, after) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
            Name::Other(program) => program.run(name) == Outcome::Whole,
        }
    }
}

impl ComponentPattern {
    /// Compiles a cleaned pattern, or `None` if it needs the automaton.
    pub(crate) fn compile(pattern: &str) -> Result<Option<Self>, BadPattern> {
        let is_double_star = |name: &str| name == "**";
        let is_usual = |name: &str| is_double_star(name) || !name.contains("**");
        if pattern.contains(['[', ']', '\\']) || !pattern.split('/').all(is_usual) {
            return Ok(None);
        }
        let mut runs = vec![Vec::new()];
        for name in pattern.split('/') {
            match runs.last_mut() {
                Some(run) if !is_double_star(name) => run.push(Name::compile(name)?),
                _ => runs.push(Vec::new()),
            }
        }
        let starts_anywhere = runs.first().is_some_and(Vec::is_empty);
        let needs_more = runs.last().is_some_and(Vec::is_empty);
        runs.retain(|run| !run.is_empty());
        Ok(Some(Self { runs, starts_anywhere, needs_more }))
    }

    /// Whether the path with these names, or one of its parents, matches.
    pub(crate) fn matches(&self, names: &[&[u8]]) -> bool {
        let mut rest = names;
        for (index, run) in self.runs.iter().enumerate() {
            let Some(latest) = rest.len().checked_sub(run.len()) else { return false };
            let latest = if index == 0 && !self.starts_anywhere { 0 } else { latest };
            let begins_at =
                |start: &usize| run.iter().zip(&rest[*start..]).all(|(name, found)| name.matches(found));
            // The earliest place leaves the most names for the runs that follow.
            let Some(start) = (0..=latest).find(begins_at) else { return false };
            rest = &rest[start + run.len()..];
        }
        !self.needs_more || !rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, path: &str, expected: bool) {
        let pattern = ComponentPattern::compile(pattern).unwrap().expect("a usual pattern");
        let names: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
        assert_eq!(pattern.matches(&names), expected, "{path}");
    }

    #[test]
    fn names_and_double_stars() {
        check("a/b", "a/b/c", true);
        check("a/b", "a", false);
        check("a/*.rs", "a/x.rs", true);
        check("a/x*x", "a/x", false);
        check("**/b", "b", true);
        check("**/b/c", "b/b/c/d", true);
        check("a/**/b", "a/b", true);
        check("a/**/b", "b/a/b", false);
        check("a/**", "a", false);
        check("a/**", "a/b", true);
        check("**", "a", true);
        check("**/**", "a", true);
        check("a?c/**/*/d", "abc/x/d", true);
    }

    #[test]
    fn other_patterns_are_declined() {
        for pattern in ["a**b", "**.log", "[ab]", r"a\*", "a/***"] {
            assert!(ComponentPattern::compile(pattern).unwrap().is_none(), "{pattern}");
        }
    }
}
