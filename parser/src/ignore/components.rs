//! The usual patterns of `.dockerignore`, as names between slashes.
//!
//! Nearly all patterns are names with `*` and `?` in them, and `**` as a name of its own. Such patterns are
//! matched name by name by [`super::automaton`]. Others (`a**b`, escapes, and classes that could match a
//! slash) are left to `crate::glob`.

use crate::glob::{BadPattern, Dialect, Outcome, Program, byte_mask};

/// A pattern, taken apart.
#[derive(Debug, Clone)]
pub(super) struct ComponentPattern {
    /// The names in order; at least one.
    pub(super) steps: Vec<Step>,
}

/// One name of a pattern.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Whether `**` stands before it: any number of other names may come first.
    pub(super) after_gap: bool,
    pub(super) name: Name,
}

/// A pattern for one name.
#[derive(Debug, Clone)]
pub(super) enum Name {
    Any,
    Literal(Vec<u8>),
    /// One star with text around it.
    Around(Vec<u8>, Vec<u8>),
    Other(Program),
}

impl Name {
    fn compile(pattern: &str) -> Result<Self, BadPattern> {
        let has_others = pattern.contains(['?', '[']);
        Ok(match pattern.split_once('*') {
            _ if has_others => Name::Other(Program::compile(pattern, Dialect::Match)?),
            None => Name::Literal(pattern.into()),
            Some(("", "")) => Name::Any,
            Some((before, after)) if !after.contains('*') => Name::Around(before.into(), after.into()),
            Some(_) => Name::Other(Program::compile(pattern, Dialect::Match)?),
        })
    }
}

/// Whether a name matches the pattern of [`Name::Other`].
pub(super) fn matches_other(program: &Program, name: &[u8]) -> bool {
    program.may_match(byte_mask(name)) && program.run(name) == Outcome::Whole
}

impl ComponentPattern {
    /// Takes a cleaned pattern apart, or gives `None` if it is not of the usual kind.
    pub(super) fn compile(pattern: &str) -> Result<Option<Self>, BadPattern> {
        let is_double_star = |name: &str| name == "**";
        let is_usual = |name: &str| is_double_star(name) || !name.contains("**") && has_plain_classes(name);
        if pattern.contains('\\') || !pattern.split('/').all(is_usual) {
            return Ok(None);
        }
        let mut steps = Vec::new();
        let mut after_gap = false;
        for name in pattern.split('/') {
            if is_double_star(name) {
                after_gap = true;
            } else {
                steps.push(Step { after_gap, name: Name::compile(name)? });
                after_gap = false;
            }
        }
        if after_gap {
            // `**` at the end: at least one more name.
            steps.push(Step { after_gap, name: Name::Any });
        }
        Ok(Some(Self { steps }))
    }
}

/// Whether all classes of a name, such as `[a-z0-9_]`, are of letters, digits and `_`: no range between
/// those has a slash in it.
fn has_plain_classes(name: &str) -> bool {
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((class, behind)) = after.split_once(']') else { return false };
        let is_plain = class.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if before.contains(']') || class.is_empty() || !is_plain {
            return false;
        }
        rest = behind;
    }
    !rest.contains(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_patterns_are_declined() {
        for pattern in ["a**b", "**.log", "[^ab]", "[a/b]", "[.-0]", "a]", r"a\*", "a/***"] {
            assert!(ComponentPattern::compile(pattern).unwrap().is_none(), "{pattern}");
        }
    }

    #[test]
    fn gaps_belong_to_the_name_behind_them() {
        let pattern = ComponentPattern::compile("a/**/**/b/**").unwrap().unwrap();
        let gaps: Vec<bool> = pattern.steps.iter().map(|step| step.after_gap).collect();
        assert_eq!(gaps, [false, true, true]);
    }
}
