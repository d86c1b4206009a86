//! `--format`: Go's templates over JSON documents, as Docker takes them.
//!
//! The language is that of the crate `gtmpl-ng`, which limits how deep a template may nest and how much it may print.
//! Added here are Docker's functions ([`functions`]), what is a struct and what a map ([`value`]), and Docker's words
//! for what is wrong ([`words`]).

mod functions;
mod nesting;
mod value;
mod words;

use gtmpl_ng::{Context, Limits};
use serde_json::Value;

use crate::error::CliError;

/// What a bad template of `inspect` ends with, as in Docker.
pub(crate) const BAD_TEMPLATE: u8 = 64;

/// The most that a template may print, in bytes. The steps of a build of a hundred thousand take tens of MiB as JSON.
const LARGEST: usize = 256 << 20;

/// A template that has been read.
pub(crate) struct Template {
    engine: gtmpl_ng::Template,
    text: String,
}

/// What documents say of a field that they do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They are lines of a list, of a type of their own.
    Field,
    /// They are JSON whose keys are looked up, as `inspect` has it.
    Key,
}

impl Template {
    /// Reads a template. The word `json` alone prints the whole value.
    ///
    /// # Errors
    /// The text is no template.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        Self::with_functions(text, &functions::OF_VALUES)
    }

    /// Reads a template that is filled with the titles of columns: what shapes values leaves them alone.
    ///
    /// # Errors
    /// As for [`Template::parse`].
    pub(crate) fn parse_for_titles(text: &str) -> Result<Self, CliError> {
        Self::with_functions(text, &functions::OF_TITLES)
    }

    fn with_functions(text: &str, functions: &[(&str, gtmpl_ng::Func)]) -> Result<Self, CliError> {
        let text = if text == "json" { "{{json .}}" } else { text };
        let text = functions::calls_of_label(text);
        if nesting::is_too_deep(&text) {
            return Err(words::of_nesting());
        }
        let limits = Limits::default().with_output_bytes(LARGEST).with_function_output(LARGEST);
        let mut engine = gtmpl_ng::Template::with_limits(limits);
        engine.add_funcs(functions);
        engine.parse(text.as_str()).map_err(|error| words::of_parsing(&error, &text))?;
        Ok(Self { engine, text })
    }

    /// Fills the template with a document.
    ///
    /// # Errors
    /// The template asks for what the document does not have, or a function cannot do what it is asked.
    pub(crate) fn fill(&self, document: &Value, missing: Missing) -> Result<String, CliError> {
        let context = Context::from(value::of_document(document));
        self.engine.render(&context).map_err(|error| words::of_filling(&error, &self.text, missing))
    }
}

/// Fills a template with one document that is no line of a list.
///
/// # Errors
/// As for [`Template::parse`] and [`Template::fill`].
pub(crate) fn fill(template: &str, document: &Value) -> Result<String, CliError> {
    Template::parse(template).map_err(|error| error.with_code(BAD_TEMPLATE))?.fill(document, Missing::Key)
}

#[cfg(test)]
mod tests;
