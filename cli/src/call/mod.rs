//! `lap build --call`: what was typed, and what is printed.

use std::process::ExitCode;
use std::sync::Arc;

use base::CancelToken;
use engine::Engine;
use engine::call::{json, text};
use engine::request::BuildRequest;

use crate::error::{CliError, FAILED};
use crate::render::Renderer;
use crate::terminal::print;

/// What is asked about the Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Check,
    Outline,
    Targets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// `--call=METHOD[,format=FORMAT][,ignorestatus]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Nothing for a build.
    pub(crate) question: Option<Question>,
    format: Format,
    /// Succeed whatever is found.
    ignore_status: bool,
}

/// The names of the methods. Docker has `lint` as another name of `check`.
const METHODS: [(&str, Option<Question>); 5] = [
    ("build", None),
    ("check", Some(Question::Check)),
    ("lint", Some(Question::Check)),
    ("outline", Some(Question::Outline)),
    ("targets", Some(Question::Targets)),
];
const OPTIONS: [&str; 2] = ["format", "ignorestatus"];
const FORMATS: [&str; 2] = ["text", "json"];

/// Reads the value of `--call`; `--check` is `--call=check`.
pub(crate) fn parse(text: Option<&str>, check: bool) -> Result<Call, CliError> {
    let mut call = Call { question: None, format: Format::Text, ignore_status: false };
    let mut fields = text.unwrap_or("build").split(',');
    let name = fields.next().unwrap_or_default();
    let known = METHODS.iter().find(|(known, _)| *known == name);
    call.question = known.ok_or_else(|| unknown("method of --call", name, &METHODS.map(|(name, _)| name)))?.1;
    for field in fields {
        match field.split_once('=').unwrap_or((field, "true")) {
            ("format", "text") => call.format = Format::Text,
            ("format", "json") => call.format = Format::Json,
            ("format", other) => return Err(unknown("format of --call", other, &FORMATS)),
            ("ignorestatus", value) => call.ignore_status = base::boolean::parse(value) == Some(true),
            (other, _) => return Err(unknown("option of --call", other, &OPTIONS)),
        }
    }
    if check && !matches!(call.question, None | Some(Question::Check)) {
        let hint = "--check is --call=check: give one of them";
        return Err(CliError::usage(format!("--check and --call={name} exclude each other"), hint));
    }
    if check {
        call.question = Some(Question::Check);
    }
    Ok(call)
}

fn unknown(what: &str, typed: &str, known: &[&str]) -> CliError {
    let hint = match engine::call::nearest(typed, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known are {}", known.join(", ")),
    };
    CliError::usage(format!("there is no {what} \"{typed}\""), &hint)
}

/// Asks the engine and prints what it says.
pub(crate) fn ask(
    call: Call,
    question: Question,
    engine: &Engine,
    request: &BuildRequest,
    renderer: &Arc<dyn Renderer>,
    cancel: &CancelToken,
) -> Result<ExitCode, CliError> {
    let failed = |error| CliError::build(&error, &[]);
    let status = match question {
        Question::Check => {
            let result = engine.check(request, renderer.clone(), cancel);
            renderer.finish();
            let report = result.map_err(failed)?;
            match call.format {
                Format::Json => print(&json::check(&report)),
                Format::Text => {
                    print(&text::check(&report));
                    if let Some(error) = &report.error {
                        return Err(CliError::build(&error.error, &[]));
                    }
                }
            }
            if report.findings.is_empty() && report.error.is_none() { 0 } else { FAILED }
        }
        Question::Outline => {
            let result = engine.outline(request, renderer.clone());
            renderer.finish();
            let report = result.map_err(failed)?;
            print(&if call.format == Format::Json { json::outline(&report) } else { text::outline(&report) });
            0
        }
        Question::Targets => {
            let result = engine.targets(request, renderer.clone());
            renderer.finish();
            let report = result.map_err(failed)?;
            print(&if call.format == Format::Json { json::targets(&report) } else { text::targets(&report) });
            0
        }
    };
    Ok(ExitCode::from(if call.ignore_status { 0 } else { status }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<Question>, Format, bool) {
        let call = parse(Some(text), false).unwrap();
        (call.question, call.format, call.ignore_status)
    }

    #[test]
    fn forms_of_call() {
        assert_eq!(parsed("build"), (None, Format::Text, false));
        assert_eq!(parsed("lint,format=json"), (Some(Question::Check), Format::Json, false));
        assert_eq!(parsed("outline,format=text,ignorestatus"), (Some(Question::Outline), Format::Text, true));
        assert_eq!(parse(None, true).unwrap().question, Some(Question::Check));
        assert_eq!(parse(Some("check,format=json"), true).unwrap().format, Format::Json);
        for wrong in ["", "chek", "check,format=xml", "check,colour=red"] {
            assert!(parse(Some(wrong), false).is_err(), "{wrong}");
        }
        assert!(parse(Some("targets"), true).is_err());
    }
}
