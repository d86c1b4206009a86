//! Build checks that need more than the text: values of variables, base images, or the rules of the
//! context's ignore file. They are made while a Dockerfile is lowered, where these are known.
//!
//! Names and messages are BuildKit's; `parser::lint` has the table of all checks and makes the others.

mod copy;
mod expose;
mod from;
mod variables;

use std::cell::RefCell;
use std::collections::HashSet;

use parser::ast::Dockerfile;
use parser::lint::{self, CheckOptions};
use parser::span::Span;
use parser::{Diagnostic, suggest};

/// Most names that are compared with one that is not known.
const MOST_NAMES: usize = 1000;

/// Collects what checks find.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: RefCell<Vec<Diagnostic>>,
    seen: RefCell<HashSet<(Span, String)>>,
}

impl Findings {
    fn add(&self, check: &'static str, span: Span, message: String, help: impl Into<Option<String>>) {
        let finding = Diagnostic::warning(check, span, message);
        let finding = match help.into() {
            Some(help) => finding.with_help(help),
            None => finding,
        };
        // A word may be expanded for several purposes; it is still wrong only once.
        if self.seen.borrow_mut().insert((span, finding.message.clone())) {
            self.all.borrow_mut().push(finding);
        }
    }

    /// How many there are, for [`Self::move_to`].
    pub(crate) fn count(&self) -> usize {
        self.all.borrow().len()
    }

    /// Gives the findings after the first `count` another place: those in an ONBUILD trigger, whose own
    /// places are not in this file.
    pub(crate) fn move_to(&self, span: Span, count: usize) {
        for finding in self.all.borrow_mut().iter_mut().skip(count) {
            finding.span = span;
        }
    }

    /// The findings that `options` and comments in the file allow, in the order of the file.
    pub(crate) fn allowed(self, file: &Dockerfile, options: &CheckOptions) -> Vec<Diagnostic> {
        let mut findings = self.all.into_inner();
        lint::filter(file, options, &mut findings);
        // What is true of several platforms is told once.
        let order = |finding: &Diagnostic| (finding.span.start, finding.span.end, finding.message.clone());
        findings.sort_by_cached_key(order);
        findings.dedup();
        findings
    }
}

/// ` (did you mean NAME?)`, if a known name is near.
fn suggestion<'a>(sign: &str, typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = suggest::nearest(typed, known.into_iter().take(MOST_NAMES));
    near.map_or_else(String::new, |near| format!(" (did you mean {sign}{near}?)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_kept_once_and_can_be_moved() {
        let findings = Findings::default();
        let undefined = |start| {
            findings.undefined_variables(&["x".to_owned()], &Default::default(), Span::new(start, start + 2));
        };
        undefined(5);
        undefined(5);
        assert_eq!(findings.count(), 1);
        undefined(0);
        findings.move_to(Span::new(7, 9), 1);
        let all = findings.allowed(&Dockerfile::default(), &CheckOptions::default());
        assert_eq!(all.iter().map(|finding| finding.span.start).collect::<Vec<_>>(), [5, 7]);
    }
}
