//! Dockerfile text to AST and diagnostics, word expansion, `.dockerignore`.
//!
//! Everything here is a pure function of its arguments: no files, no clock, no environment. Parsing is
//! total: any bytes give the best tree and a list of findings. Meaning (stages, scopes of variables, what
//! a path refers to) is not known here; that is the frontend's.
//!
//! The way of a text: `lines` joins physical lines to logical ones and takes out here-documents;
//! `instruction` turns each logical line into a node of [`ast`], with a pest grammar for its parts;
//! [`lint`] looks for what is allowed but unwise; [`word`] expands the words of a node when the frontend
//! knows the variables.

pub mod ast;
pub mod codes;
mod decode;
pub mod diagnostic;
mod directives;
mod duration;
mod flags;
pub mod glob;
mod grammar;
mod heredoc;
pub mod ignore;
mod instruction;
mod json_form;
mod lines;
pub mod lint;
mod mount;
mod pattern;
pub mod span;
pub mod suggest;
pub mod word;

use ast::Dockerfile;
pub use diagnostic::{Diagnostic, Level, SourceFile};
pub use directives::detect_syntax;
use lint::CheckOptions;

/// The result of [`parse`].
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The tree. What could not be understood is [`ast::InstructionKind::Invalid`].
    pub dockerfile: Dockerfile,
    /// Errors and warnings in the order of their places. Without an error, no instruction is invalid.
    pub diagnostics: Vec<Diagnostic>,
    /// The text that spans point into.
    pub text: String,
    /// The options of the `check` directive, or those given to [`parse_with_checks`]. The warnings that
    /// they switch off are gone already.
    pub checks: CheckOptions,
}

/// Parses a Dockerfile. Any bytes do; see [`Parsed::diagnostics`] for what is wrong with them.
///
/// ```
/// let parsed = parser::parse(b"FROM scratch\nCOPY a b /c/\n");
/// assert!(parsed.diagnostics.is_empty());
/// assert_eq!(parsed.dockerfile.instructions.len(), 2);
/// ```
pub fn parse(text: &[u8]) -> Parsed {
    parse_with_checks(text, None)
}

/// Parses a Dockerfile; `checks` replaces its `check` directive.
pub fn parse_with_checks(text: &[u8], checks: Option<CheckOptions>) -> Parsed {
    let mut diagnostics = Vec::new();
    let text = decode::decode(text, &mut diagnostics);
    let lines = lines::split(&text, &mut diagnostics);
    let escape = lines.directives.escape;
    let read = |mut line| instruction::read(&mut line, escape, &mut diagnostics);
    let instructions: Vec<_> = lines.logical.into_iter().filter_map(read).collect();
    if instructions.is_empty() {
        diagnostics.push(nothing_to_do(&text));
    }
    let dockerfile = Dockerfile { directives: lines.directives, instructions };
    lint::run(&dockerfile, &mut diagnostics);
    let checks = checks.unwrap_or_else(|| checks_of(&dockerfile, &mut diagnostics));
    lint::filter(&dockerfile, &checks, &mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    Parsed { dockerfile, diagnostics, text, checks }
}

/// The options of the `check` directive.
fn checks_of(dockerfile: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) -> CheckOptions {
    let Some(directive) = &dockerfile.directives.check else { return CheckOptions::default() };
    let options = CheckOptions::parse(&directive.text).unwrap_or_else(|error| {
        let found = Diagnostic::error("invalid-check", directive.span, error.to_string());
        diagnostics.push(found.with_suggestion(error.nearest()));
        CheckOptions::default()
    });
    for (name, near) in options.misspelt() {
        let message = format!("there is no build check {name:?}");
        diagnostics.push(
            Diagnostic::warning(lint::UNKNOWN_CHECK, directive.span, message).with_suggestion(Some(near)),
        );
    }
    options
}

fn nothing_to_do(text: &str) -> Diagnostic {
    let message =
        if text.is_empty() { "the Dockerfile is empty" } else { "the Dockerfile has no instructions" };
    let code = if text.is_empty() { "empty-file" } else { "no-instructions" };
    Diagnostic::error(code, span::Span::new(0, 0), message)
        .with_help("start with FROM and the name of a base image, or FROM scratch")
}
