//! What clients ask about a Dockerfile instead of having it built: `requestid` of the Dockerfile frontend.

use std::collections::HashMap;
use std::sync::Arc;

use base::CancelToken;
use base::event::EventSink;
use engine::Engine;
use engine::call::{json, text};
use engine::request::BuildRequest;
use serde_json::{Value, json};
use tonic::Status;

use crate::errors::{status_of, unsupported_question};

/// The version of all forms of answers.
const VERSION: &str = "1.0.0";

const OUTLINE: &str = "frontend.outline";
const TARGETS: &str = "frontend.targets";
const LINT: &str = "frontend.lint";
const DESCRIBE: &str = "frontend.subrequests.describe";

/// What is asked, and what that is.
const QUESTIONS: [(&str, &str); 4] = [
    (OUTLINE, "List all parameters current build target supports"),
    (TARGETS, "List all targets current build supports"),
    (LINT, "Lint a Dockerfile"),
    (DESCRIBE, "List available subrequest types"),
];

/// Whether `question` is one that is answered here.
///
/// # Errors
/// It is not.
pub(crate) fn check(question: &str) -> Result<(), Status> {
    let known = QUESTIONS.iter().any(|(known, _)| *known == question);
    if known { Ok(()) } else { Err(unsupported_question(question)) }
}

/// Answers a question about the Dockerfile of `request`, as metadata of a result.
///
/// # Errors
/// The Dockerfile cannot be read or understood.
pub(crate) fn answer(
    engine: &Engine,
    question: &str,
    request: &BuildRequest,
    events: Arc<dyn EventSink>,
    cancel: &CancelToken,
) -> Result<HashMap<String, Vec<u8>>, Status> {
    let failed = |error| status_of(&error);
    let mut status = None;
    let (json, text) = match question {
        OUTLINE => {
            let report = engine.outline(request, events).map_err(failed)?;
            (json::outline(&report), text::outline(&report))
        }
        TARGETS => {
            let report = engine.targets(request, events).map_err(failed)?;
            (json::targets(&report), text::targets(&report))
        }
        LINT => {
            let report = engine.check(request, events, cancel).map_err(failed)?;
            let is_clean = report.findings.is_empty() && report.error.is_none();
            status = Some(if is_clean { "0" } else { "1" });
            (json::check(&report), text::check(&report))
        }
        DESCRIBE => (descriptions(), described()),
        other => return Err(unsupported_question(other)),
    };
    let all = [("result.json", Some(json.as_str())), ("result.txt", Some(text.as_str()))];
    let all = all.into_iter().chain([("version", Some(VERSION)), ("result.statuscode", status)]);
    let present = all.filter_map(|(name, value)| Some((name.to_owned(), value?.as_bytes().to_vec())));
    Ok(present.collect())
}

fn descriptions() -> String {
    let named = |names: &[(&str, &str)]| -> Vec<Value> {
        names.iter().map(|(name, description)| json!({"name": name, "description": description})).collect()
    };
    let one = |(name, description): &(&str, &str)| {
        let has_target = matches!(*name, OUTLINE | LINT);
        let options: &[(&str, &str)] = if has_target { &[("target", "Target build stage")] } else { &[] };
        json!({
            "name": name,
            "version": VERSION,
            "type": "rpc",
            "description": description,
            "opts": named(options),
            "inputs": [],
            "metadata": named(&[("result.json", ""), ("result.txt", "")]),
            "refs": [],
        })
    };
    format!("{:#}", Value::from(QUESTIONS.iter().map(one).collect::<Vec<_>>()))
}

fn described() -> String {
    let row = |(name, description): &(&str, &str)| {
        let name = name.strip_prefix("frontend.").unwrap_or(name);
        vec![name.to_owned(), VERSION.to_owned(), (*description).to_owned()]
    };
    let rows: Vec<Vec<String>> = QUESTIONS.iter().map(row).collect();
    engine::table::render_narrow(&["NAME", "VERSION", "DESCRIPTION"], &rows)
}
