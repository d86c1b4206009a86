//! `opentelemetry.proto.collector.trace.v1.TraceService`: where clients tell of what they do, as spans. They are kept with the build of
//! the same trace, beside a span for each of its steps (`BuildHistoryRecord.trace`).
//!
//! Source: OpenTelemetry, `trace.proto` and `trace_service.proto`; W3C, "Trace Context". What is kept is what BuildKit keeps: one JSON
//! document per span and line, as Go's `tracetest.SpanStub` is written.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Digest, Timestamp};
use bollard_buildkit_proto::google::protobuf;
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::builds::{Build, Builds};
use crate::proto::control::Vertex;

/// The type of what is kept.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.buildkit.otlp.json.v0";

/// The header that says which trace a call is part of.
const PARENT: &str = "traceparent";

/// The most that is kept of what a client tells of one build, in bytes.
const MOST: usize = 4 << 20;

/// How long spans of a build that is over are waited for before they are written.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, PartialEq, prost::Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "11")]
    events: Vec<SpanEvent>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanEvent {
    #[prost(fixed64, tag = "1")]
    time: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// Of the kinds of values, those that are no lists.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Truth(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
    #[prost(double, tag = "4")]
    Fraction(f64),
}

/// A trace that a build is part of, and the span of the call that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    id: [u8; 16],
    parent: [u8; 8],
}

impl Trace {
    /// The trace that a call is part of.
    pub(crate) fn of(headers: &MetadataMap) -> Option<Self> {
        Self::parse(headers.get(PARENT)?.to_str().ok()?)
    }

    /// `VERSION-TRACE-SPAN-FLAGS`
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (_version, id, parent, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let trace = Self { id: bytes(id)?, parent: bytes(parent)? };
        (trace.id != [0; 16]).then_some(trace)
    }
}

fn bytes<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    if text.len() != 2 * LENGTH || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A point in time as Go writes it.
fn time(nanoseconds: u64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default().to_string()
}

fn context(trace: &[u8], span: &[u8]) -> Value {
    json!({ "TraceID": hex(trace), "SpanID": hex(span), "TraceFlags": "01", "TraceState": "", "Remote": false })
}

fn attributes(all: &[KeyValue]) -> Value {
    let one = |KeyValue { key, value }: &KeyValue| {
        let value = match value.as_ref()?.kind.as_ref()? {
            Kind::Text(text) => json!({ "Type": "STRING", "Value": text }),
            Kind::Truth(truth) => json!({ "Type": "BOOL", "Value": truth }),
            Kind::Number(number) => json!({ "Type": "INT64", "Value": number }),
            Kind::Fraction(fraction) => json!({ "Type": "FLOAT64", "Value": fraction }),
        };
        Some(json!({ "Key": key, "Value": value }))
    };
    all.iter().filter_map(one).collect()
}

/// A span as it is kept.
fn kept(span: &Span, resource: &[KeyValue], scope: &Scope) -> Value {
    let event = |event: &SpanEvent| json!({ "Name": event.name, "Attributes": attributes(&event.attributes), "DroppedAttributeCount": 0, "Time": time(event.time) });
    let status = span.status.clone().unwrap_or_default();
    let code = match status.code {
        1 => "Ok",
        2 => "Error",
        _ => "Unset",
    };
    json!({
        "Name": span.name,
        "SpanContext": context(&span.trace_id, &span.span_id),
        "Parent": context(if span.parent_span_id.is_empty() { &[0; 16] } else { span.trace_id.as_slice() }, padded(&span.parent_span_id)),
        "SpanKind": span.kind,
        "StartTime": time(span.start),
        "EndTime": time(span.end),
        "Attributes": attributes(&span.attributes),
        "Events": span.events.iter().map(event).collect::<Vec<_>>(),
        "Links": null,
        "Status": { "Code": code, "Description": status.message },
        "DroppedAttributes": 0,
        "DroppedEvents": 0,
        "DroppedLinks": 0,
        "ChildSpanCount": 0,
        "Resource": attributes(resource),
        "InstrumentationLibrary": { "Name": scope.name, "Version": scope.version, "SchemaURL": "" },
    })
}

/// The id of a span, which is nothing for none.
fn padded(id: &[u8]) -> &[u8] {
    if id.is_empty() { &[0; 8] } else { id }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// The steps of a build as spans, below the one that asked for it.
pub(crate) fn of_steps(trace: Trace, vertices: &[Vertex]) -> String {
    let nanoseconds = |at: &protobuf::Timestamp| {
        u64::try_from(at.seconds).unwrap_or(0).saturating_mul(1_000_000_000)
            + u64::try_from(at.nanos).unwrap_or(0)
    };
    let text = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { kind: Some(Kind::Text(text.to_owned())) }),
    };
    let scope = Scope { name: "lapstrake".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let resource = [text("service.name", "lapstrake")];
    let one = |vertex: &Vertex| {
        let (start, end) = (vertex.started.as_ref()?, vertex.completed.as_ref()?);
        let id = Digest::of([&trace.id, vertex.digest.as_bytes()].concat().as_slice()).hex();
        let cached = AnyValue { kind: Some(Kind::Truth(vertex.cached)) };
        let span = Span {
            trace_id: trace.id.to_vec(),
            span_id: bytes::<8>(id.get(..16)?)?.to_vec(),
            parent_span_id: trace.parent.to_vec(),
            name: vertex.name.clone(),
            kind: 1,
            start: nanoseconds(start),
            end: nanoseconds(end),
            attributes: vec![
                text("vertex", &vertex.digest),
                KeyValue { key: "cached".to_owned(), value: Some(cached) },
            ],
            status: (!vertex.error.is_empty()).then(|| SpanStatus { message: vertex.error.clone(), code: 2 }),
            ..Span::default()
        };
        Some(line(&kept(&span, &resource, &scope)))
    };
    vertices.iter().filter_map(one).collect()
}

/// What a client tells of its build.
#[derive(Default)]
pub(crate) struct Said {
    /// Spans, as lines of JSON.
    text: String,
    /// Whether somebody will add them to what is kept.
    is_awaited: bool,
}

/// The service.
#[derive(Clone)]
pub(crate) struct TraceService(pub(crate) Arc<Builds>);

impl NamedService for TraceService {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl TraceService {
    /// Takes spans. Those of traces that no build is part of are nobody's.
    async fn export(self, request: Request<ExportRequest>) -> Result<Response<ExportResponse>, Status> {
        let mut by_trace: BTreeMap<[u8; 16], String> = BTreeMap::new();
        for ResourceSpans { resource, scopes } in &request.get_ref().resources {
            let resource =
                resource.as_ref().map(|resource| resource.attributes.as_slice()).unwrap_or_default();
            for ScopeSpans { scope, spans } in scopes {
                let scope = scope.clone().unwrap_or_default();
                for span in spans {
                    let Ok(id) = <[u8; 16]>::try_from(span.trace_id.as_slice()) else { continue };
                    by_trace.entry(id).or_default().push_str(&line(&kept(span, resource, &scope)));
                }
            }
        }
        for (id, spans) in by_trace {
            for build in self.0.of_trace(&id) {
                self.add(build, &spans);
            }
        }
        Ok(Response::new(ExportResponse {}))
    }

    /// Adds spans to a build, and in a moment to what is kept of it if it is over: many clients may end at once, and none waits for
    /// that.
    fn add(&self, build: Arc<Build>, spans: &str) {
        {
            let mut said = build.spans.lock().unwrap_or_else(PoisonError::into_inner);
            if said.text.len() + spans.len() > MOST {
                return;
            }
            said.text.push_str(spans);
            if std::mem::replace(&mut said.is_awaited, true) {
                return;
            }
        }
        let builds = Arc::clone(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(PAUSE).await;
            build.spans.lock().unwrap_or_else(PoisonError::into_inner).is_awaited = false;
            let is_over = build.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let Some(id) = build.remembered_as().filter(|_| is_over) else { return };
            // A trace is worth less than whatever goes wrong with it.
            let keep = move || builds.engine.keep_trace(&id, MEDIA_TYPE, &content(&build));
            let _ = tokio::task::spawn_blocking(keep).await;
        });
    }
}

/// All that is kept of the trace of a build.
pub(crate) fn content(build: &Build) -> Vec<u8> {
    let Some(trace) = build.trace else { return Vec::new() };
    let own = of_steps(trace, &build.status.vertices());
    let said = build.spans.lock().unwrap_or_else(PoisonError::into_inner);
    [own.as_bytes(), said.text.as_bytes()].concat()
}

impl Builds {
    /// The builds that are part of a trace, and that run or have ended a moment ago.
    fn of_trace(&self, id: &[u8; 16]) -> Vec<Arc<Build>> {
        let is_it =
            |build: &Arc<Build>| !build.request.internal && build.trace.is_some_and(|trace| trace.id == *id);
        let mut found: Vec<Arc<Build>> = self.running().into_iter().filter(is_it).collect();
        for build in self.ended() {
            if is_it(&build) && !found.iter().any(|known| Arc::ptr_eq(known, &build)) {
                found.push(build);
            }
        }
        found
    }
}

impl Service<http::Request<Body>> for TraceService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ours = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("Export") => {
                    let method = service_fn(move |request| ours.clone().export(request));
                    Grpc::new(ProstCodec::default()).unary(method, request).await
                }
                _ => Status::unimplemented("spans are exported").into_http(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_those_of_the_header() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::parse(text).unwrap();
        assert_eq!((hex(&trace.id), hex(&trace.parent)), (text[3..35].to_owned(), text[36..52].to_owned()));
        for wrong in ["", "00-4bf9-00f0-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "é"]
        {
            assert_eq!(Trace::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn steps_become_spans_below_their_call() {
        let trace = Trace { id: [1; 16], parent: [2; 8] };
        let at = |seconds| Some(protobuf::Timestamp { seconds, nanos: 5 });
        let vertex = Vertex {
            digest: "sha256:00".to_owned(),
            name: "[1/2] RUN make".to_owned(),
            started: at(10),
            completed: at(12),
            error: "exit code: 7".to_owned(),
            ..Vertex::default()
        };
        let unstarted = Vertex { name: "never".to_owned(), ..Vertex::default() };
        let text = of_steps(trace, &[vertex, unstarted]);
        let span: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(
            (span["Name"].as_str(), span["Parent"]["SpanID"].as_str()),
            (Some("[1/2] RUN make"), Some("0202020202020202"))
        );
        assert_eq!(
            (span["Status"]["Code"].as_str(), span["EndTime"].as_str()),
            (Some("Error"), Some("1970-01-01T00:00:12.000000005Z"))
        );
    }
}
