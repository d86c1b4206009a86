//! The answers of calls as JSON, with the members of BuildKit's.
//!
//! Members that have nothing to say are left out, zeros among them, as in BuildKit.

use super::{CheckReport, Finding, Location, Need, OutlineReport, Position, Source, Span, TargetsReport};
use base64::Engine as _;
use serde_json::{Map, Value, json};

/// BuildKit's level of a warning that is shown.
const WARNING_LEVEL: u8 = 1;

/// What the checks found.
pub fn check(report: &CheckReport) -> String {
    let source = &report.source;
    let warnings: Vec<Value> = report.findings.iter().map(|finding| warning(finding, source)).collect();
    let mut document = object([
        ("warnings", Some(warnings.into())),
        (
            "sources",
            Some(json!([{"filename": source.name(), "language": "Dockerfile", "data": base64(source)}])),
        ),
    ]);
    if let Some(failed) = &report.error {
        let error = object([
            ("message", Some(message(&failed.error).into())),
            ("location", failed.span.map(|span| location(source, span))),
        ]);
        document["buildError"] = error;
    }
    pretty(&document)
}

fn warning(finding: &Finding, source: &Source) -> Value {
    object([
        ("ruleName", Some(finding.rule.into())),
        ("description", text(finding.description)),
        ("url", finding.url.clone().map(Value::from)),
        ("detail", text(&finding.detail)),
        ("level", Some(WARNING_LEVEL.into())),
        ("location", Some(location(source, finding.span))),
    ])
}

/// An error and its causes on one line.
fn message(error: &crate::error::BuildError) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        message.push_str(&format!(": {next}"));
        cause = next.source();
    }
    message
}

/// What a target takes.
pub fn outline(report: &OutlineReport) -> String {
    let source = &report.source;
    let outline = &report.outline;
    let args = outline.args.iter().map(|arg| {
        object([
            ("name", text(&arg.name)),
            ("description", arg.description.clone().map(Value::from)),
            ("value", arg.value.as_deref().and_then(text)),
            ("location", Some(location(source, arg.span))),
        ])
    });
    let needs = |needs: &[Need], key: &'static str| {
        let need = |need: &Need| {
            object([
                (key, text(&need.id)),
                ("required", need.is_required.then_some(true.into())),
                ("location", Some(location(source, need.span))),
            ])
        };
        some_array(needs.iter().map(need).collect())
    };
    pretty(&object([
        ("name", outline.name.clone().map(Value::from)),
        ("description", outline.description.clone().map(Value::from)),
        ("args", some_array(args.collect())),
        ("secrets", needs(&outline.secrets, "name")),
        ("ssh", needs(&outline.ssh, "name")),
        ("cache", needs(&outline.caches, "ID")),
        ("sources", Some(json!([base64(source)]))),
    ]))
}

/// Which targets there are.
pub fn targets(report: &TargetsReport) -> String {
    let source = &report.source;
    let target = |target: &super::Target| {
        object([
            ("name", target.name.clone().map(Value::from)),
            ("default", target.is_default.then_some(true.into())),
            ("description", target.description.clone().map(Value::from)),
            ("base", text(&target.base)),
            ("platform", target.platform.clone().map(Value::from)),
            ("location", Some(location(source, target.span))),
        ])
    };
    let targets: Vec<Value> = report.targets.iter().map(target).collect();
    pretty(&json!({"targets": targets, "sources": [base64(source)]}))
}

fn location(source: &Source, span: Span) -> Value {
    let Location { start, end } = source.location(span);
    json!({"ranges": [{"start": position(start), "end": position(end)}]})
}

fn position(position: Position) -> Value {
    let character = (position.character > 0).then(|| position.character.into());
    object([("line", Some(position.line.into())), ("character", character)])
}

/// An object of the members that have a value.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| text.into())
}

fn some_array(items: Vec<Value>) -> Option<Value> {
    (!items.is_empty()).then(|| items.into())
}

fn base64(source: &Source) -> String {
    base64::engine::general_purpose::STANDARD.encode(source.text())
}

/// Two blanks for each level, and a newline at the end.
fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}
