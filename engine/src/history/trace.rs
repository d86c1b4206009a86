//! A build as a trace: the JSON form that Chrome's tracing page and Perfetto read (Trace Event Format, complete
//! events).

use std::time::Duration;

use base::Timestamp;
use serde_json::{Value, json};

use super::read::BuildDetails;

/// The trace of a build, times in microseconds since it began. Work that overlaps is on different lanes. Empty while
/// the build runs.
pub fn trace(build: &BuildDetails) -> Value {
    let Some(document) = &build.document else { return json!({"traceEvents": []}) };
    let steps = build.steps.iter().filter_map(|step| {
        let (started, ended) = (step.document.started?, step.document.ended?);
        let outcome = serde_json::to_value(step.document.outcome).unwrap_or_default();
        Some((
            step.name.as_str(),
            started,
            ended,
            json!({"outcome": outcome, "why": step.reasons, "usage": step.document.usage}),
        ))
    });
    let other =
        document.other.iter().map(|other| (other.name.as_str(), other.started, other.ended, json!({})));
    let mut spans: Vec<(&str, Timestamp, Timestamp, Value)> = other.chain(steps).collect();
    spans.sort_by_key(|(_, started, ended, _)| (*started, *ended));

    let since = |at: Timestamp| {
        Duration::try_from(at.duration_since(document.started)).unwrap_or_default().as_micros()
    };
    // When each lane is free again.
    let mut lanes: Vec<Timestamp> = Vec::new();
    let mut events = Vec::new();
    for (name, started, ended, args) in spans {
        let lane = match lanes.iter().position(|free| *free <= started) {
            Some(lane) => lane,
            None => {
                lanes.push(started);
                lanes.len() - 1
            }
        };
        lanes[lane] = ended;
        let (at, length) = (since(started), since(ended).saturating_sub(since(started)));
        events.push(json!({
            "name": name, "cat": "build", "ph": "X", "pid": 1, "tid": lane + 1, "ts": at, "dur": length, "args": args,
        }));
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"build": document.id}})
}
