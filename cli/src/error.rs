//! Errors as people see them, and the exit code that follows.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | the build or the command failed |
//! | 2 | the command line is wrong |
//! | 125 | `lap run` could not start the container |
//! | 126 | the container's command cannot be executed |
//! | 127 | the container's command was not found |
//! | 130 | interrupted |
//!
//! `lap run` returns the container's own code otherwise.

use std::process::ExitCode;

use base::{Fault, Faulty};
use docker::filters::FilterError;
use engine::error::{BuildError, EngineError, StepFailure};

use crate::render::FailedStep;
use crate::terminal::complain;

/// The command could not do what was asked.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// `lap run` could not start the container.
pub(crate) const RUN_FAILED: u8 = 125;
/// Ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error with everything needed to show it.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Shown before the message: an excerpt, the last lines of a step.
    detail: String,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    code: u8,
}

impl CliError {
    /// The command line is wrong.
    pub(crate) fn usage(message: String, hint: &str) -> Self {
        Self { detail: String::new(), message, causes: Vec::new(), hint: Some(hint.to_owned()), code: USAGE }
    }

    /// A plain failure.
    pub(crate) fn failed(message: String) -> Self {
        Self { detail: String::new(), message, causes: Vec::new(), hint: None, code: FAILED }
    }

    /// A failure with advice.
    pub(crate) fn failed_with_hint(message: String, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..Self::failed(message) }
    }

    /// An error of the engine.
    pub(crate) fn engine(error: &EngineError) -> Self {
        let code = if error.fault() == Fault::Cancelled { INTERRUPTED } else { FAILED };
        let hint = error.hint().or_else(|| report_hint(error.fault()));
        Self { detail: String::new(), message: error.to_string(), causes: causes(error), hint, code }
    }

    /// An error of a build. `failed` is what progress remembers of the steps that failed.
    pub(crate) fn build(error: &BuildError, failed: &[FailedStep]) -> Self {
        let code = if error.fault() == Fault::Cancelled { INTERRUPTED } else { FAILED };
        let mut detail = match error {
            BuildError::Steps(failures) => {
                failures.iter().map(|failure| failed_step(failure, failed)).collect()
            }
            _ => failed.first().map(last_lines).unwrap_or_default(),
        };
        detail.push_str(&error.excerpt());
        let hint = error.hint().or_else(|| report_hint(error.fault()));
        let debug =
            error.kept().map(|build| format!("lap debug {build} opens a shell where the step failed"));
        let hints: Vec<String> = hint.into_iter().chain(debug).collect();
        let hint = (!hints.is_empty()).then(|| hints.join("\n  hint: "));
        Self { detail, message: error.to_string(), causes: causes(error), hint, code }
    }

    /// The same error, with what it is about in front.
    pub(crate) fn about(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// What is wrong, in one line.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The same error with another exit code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Prints the error and gives its code.
    pub(crate) fn report(&self) -> ExitCode {
        let mut text = String::new();
        if !self.detail.is_empty() {
            text.push_str(self.detail.trim_end());
            text.push('\n');
        }
        text.push_str(&format!("ERROR: {}", self.message));
        for cause in &self.causes {
            text.push_str(&format!("\n  because: {cause}"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n  hint: {hint}"));
        }
        complain(&text);
        ExitCode::from(self.code)
    }
}

impl From<FilterError> for CliError {
    fn from(error: FilterError) -> Self {
        Self::usage(error.message, error.hint)
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        Self::engine(&error)
    }
}

/// The causes below an error, the nearest first, without what the text before says already.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.remove(0);
    texts
}

fn report_hint(fault: Fault) -> Option<String> {
    (fault == Fault::Bug)
        .then(|| "this is a defect of lapstrake; please report it with this message".to_owned())
}

/// One of several failures, as whole as a single one.
fn failed_step(failure: &StepFailure, failed: &[FailedStep]) -> String {
    let mut text = failed.iter().find(|step| step.name == failure.name).map(last_lines).unwrap_or_default();
    text.push_str(&failure.place.as_ref().map(|place| place.excerpt()).unwrap_or_default());
    text.push_str(&format!("ERROR: {}: {}\n", failure.name, failure.error));
    for cause in causes(&failure.error) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    if let Some(hint) = failure.error.hint() {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text + "\n"
}

/// The end of a failed step's output, framed as BuildKit frames it.
fn last_lines(step: &FailedStep) -> String {
    let mut text = format!("------\n > {}:\n", step.name);
    for line in &step.last_lines {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("------\n");
    text
}
