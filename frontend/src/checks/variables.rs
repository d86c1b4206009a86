//! Variables that nobody set.

use parser::span::Span;

use super::{Findings, suggestion};
use crate::args::Environment;

impl Findings {
    /// `UndefinedVar`: `names` are used at `span`, and not set. One that ARG declares without a value is
    /// the user's to give.
    pub(crate) fn undefined_variables(&self, names: &[String], environment: &Environment, span: Span) {
        for name in names.iter().filter(|name| !environment.knows(name) && is_variable(name)) {
            let near = suggestion("$", name, environment.names());
            let message = format!("Usage of undefined variable '${name}'{near}");
            self.add("UndefinedVar", span, message, None);
        }
    }
}

/// Whether ARG or ENV could set it: `$1`, `$@` and `$$` are a shell's own.
fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
