//! Raw progress: BuildKit's `SolveStatus` messages, one JSON document a line.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use base::Timestamp;
use base::event::{Event, EventSink, Outcome, Stream, TextPlace};
use base64::Engine as _;
use serde_json::{Value, json};

use super::Renderer;
use super::model::{FailedStep, Model};

/// Writes JSON lines.
pub(crate) struct RawJsonRenderer(Mutex<(Model, Box<dyn Write + Send>)>);

impl RawJsonRenderer {
    pub(crate) fn new(out: Box<dyn Write + Send>) -> Self {
        Self(Mutex::new((Model::default(), out)))
    }
}

impl EventSink for RawJsonRenderer {
    fn emit(&self, event: Event) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (model, out) = &mut *guard;
        model.apply(&event);
        if let Event::Log { vertex, data, .. } = &event
            && let Some(step) = model.step(vertex)
        {
            step.log(data);
        }
        let Some(message) = message(&event, model) else { return };
        // A closed standard error must not stop a build.
        let _ = writeln!(out, "{message}");
    }
}

impl Renderer for RawJsonRenderer {
    fn finish(&self) {
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).1.flush();
    }

    fn failed_steps(&self) -> Vec<FailedStep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.failed()
    }
}

/// The document for an event; BuildKit has none for the beginning.
fn message(event: &Event, model: &mut Model) -> Option<Value> {
    Some(match event {
        Event::BuildBegun { .. } => return None,
        Event::VertexDeclared { vertex, name, inputs } => {
            json!({"vertexes": [{"digest": vertex, "name": name, "inputs": inputs}]})
        }
        Event::VertexGrouped { vertex, id, name, weak } => {
            let step = model.step(vertex).map(|step| step.name.clone());
            json!({"vertexes": [{"digest": vertex, "name": step, "progressGroup": {"id": id, "name": name, "weak": weak}}]})
        }
        Event::VertexStarted { vertex, at } => {
            let name = model.step(vertex).map(|step| step.name.clone());
            json!({"vertexes": [{"digest": vertex, "name": name, "started": at}]})
        }
        Event::VertexCompleted { vertex, at, outcome } => completed(vertex, *at, outcome, model),
        Event::Status { vertex, id, current, total, at, completed } => {
            let ended = completed.then_some(at);
            json!({"statuses": [{"id": id, "vertex": vertex, "current": current, "total": total, "timestamp": at, "completed": ended}]})
        }
        Event::Log { vertex, stream, data, at } => {
            let stream = match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            let data = base64::engine::general_purpose::STANDARD.encode(data);
            json!({"logs": [{"vertex": vertex, "stream": stream, "data": data, "timestamp": at}]})
        }
        // A member that BuildKit does not have, and that its readers pass over.
        Event::VertexExplained { vertex, reason } => {
            json!({"reasons": [{"vertex": vertex, "reason": reason}]})
        }
        Event::Warning { vertex, code, message, excerpt, url, place } => {
            let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
            let mut warning = json!({
                "vertex": vertex,
                "level": 1,
                "short": encode(&format!("{code}: {message}")),
                "detail": [encode(excerpt)],
                "url": url,
            });
            if let Some(TextPlace { name, start, end, text }) = place {
                let position =
                    |(line, character): &(usize, usize)| json!({"line": line, "character": character});
                warning["sourceInfo"] = json!({"filename": name, "language": "Dockerfile"});
                if let Some(text) = text {
                    warning["sourceInfo"]["data"] = encode(text).into();
                }
                warning["range"] = json!([{"start": position(start), "end": position(end)}]);
            }
            json!({"warnings": [warning]})
        }
    })
}

fn completed(vertex: &base::Digest, at: Timestamp, outcome: &Outcome, model: &mut Model) -> Value {
    let step = model.step(vertex);
    let started = step.as_ref().and_then(|step| step.started).unwrap_or(at);
    let name = step.map(|step| step.name.clone());
    let mut value = json!({"digest": vertex, "name": name, "started": started, "completed": at});
    match outcome {
        Outcome::Cached => value["cached"] = true.into(),
        Outcome::Done => {}
        Outcome::Failed(error) => value["error"] = error.clone().into(),
        Outcome::Cancelled => value["error"] = "context canceled".into(),
    }
    json!({"vertexes": [value]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Digest;

    #[test]
    fn a_cached_vertex_has_both_times() {
        let mut model = Model::default();
        let vertex = Digest::of(b"v");
        model.apply(&Event::VertexDeclared { vertex, name: "n".to_owned(), inputs: vec![] });
        let at = Timestamp::from_second(5).unwrap();
        let value =
            message(&Event::VertexCompleted { vertex, at, outcome: Outcome::Cached }, &mut model).unwrap();
        let vertex = &value["vertexes"][0];
        assert_eq!(vertex["name"], "n");
        assert_eq!(vertex["cached"], true);
        assert_eq!(vertex["started"], vertex["completed"]);
    }
}
