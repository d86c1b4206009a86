//! `Control/Status`: what a build says while it runs, in BuildKit's words.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use base::event::{Event, EventSink, Outcome, Stream, TextPlace};
use base::{Digest, Timestamp};
use bollard_buildkit_proto::google::protobuf;
use tokio::sync::watch;
use tonic::Status;

use crate::proto::control::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use crate::proto::pb;

/// How much output of a build's steps is kept for those who listen later or slowly, in bytes.
const KEPT_OUTPUT: usize = 4 << 20;

/// How much text goes with the warnings of a build, in bytes.
const MOST_TEXT: usize = 1 << 20;

/// How lines of a warning begin that say what to do.
const HELP: &str = "help: ";

/// What a build has said so far, for any number of listeners, also such that come later.
pub(crate) struct StatusLog {
    said: Mutex<Said>,
    /// How many messages there are, and whether there will be no more.
    state: watch::Sender<(usize, bool)>,
    /// Who hears everything instead, as it is.
    instead: Option<Arc<dyn EventSink>>,
}

/// What a build has said, and what has to be remembered of it to say more.
#[derive(Default)]
pub(crate) struct Said {
    messages: Vec<Arc<StatusResponse>>,
    /// Which of them have output of steps, and how many bytes.
    outputs: VecDeque<(usize, usize)>,
    /// Bytes of output in all of them.
    output: usize,
    /// The vertices as they are now: each message about one has all of it.
    vertices: HashMap<Digest, Vertex>,
    /// When the parts of vertices began.
    parts: HashMap<(Digest, String), protobuf::Timestamp>,
    /// Where warnings go that are about no step.
    first: Option<Digest>,
    warnings: usize,
    /// Bytes of text that went with them.
    texts: usize,
}

impl Default for StatusLog {
    fn default() -> Self {
        Self { said: Mutex::default(), state: watch::Sender::new((0, false)), instead: None }
    }
}

impl StatusLog {
    /// One that keeps nothing: for builds of this process.
    pub(crate) fn instead(sink: Arc<dyn EventSink>) -> Self {
        Self { instead: Some(sink), ..Self::default() }
    }

    /// Tells listeners that there is nothing more to come.
    pub(crate) fn close(&self) {
        self.state.send_modify(|(_, closed)| *closed = true);
    }

    /// What has been said from message `from` on; `None` when there will be no more. Waits for something.
    pub(crate) async fn next(&self, from: usize) -> Option<Vec<Arc<StatusResponse>>> {
        let mut state = self.state.subscribe();
        // It cannot end before us, as we hold the log.
        let (count, _) = *state.wait_for(|(count, closed)| *count > from || *closed).await.ok()?;
        if count <= from {
            return None;
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Some(said.messages[from..].to_vec())
    }

    /// Everything that was said and is kept.
    pub(crate) fn said(&self) -> Vec<Arc<StatusResponse>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).messages.clone()
    }

    /// How many bytes of output are kept.
    pub(crate) fn output(&self) -> usize {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).output
    }

    /// The steps as they are now, in the order in which they began.
    pub(crate) fn vertices(&self) -> Vec<Vertex> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Vertex> = said.vertices.values().cloned().collect();
        drop(said);
        let began = |vertex: &Vertex| vertex.started.map(|at| (at.seconds, at.nanos));
        all.sort_by(|a, b| (began(a), &a.digest).cmp(&(began(b), &b.digest)));
        all
    }

    /// Counts of a build's steps: all, completed ones, those that were found, and warnings.
    pub(crate) fn counts(&self) -> (usize, usize, usize, usize) {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let completed = said.vertices.values().filter(|vertex| vertex.completed.is_some()).count();
        let cached = said.vertices.values().filter(|vertex| vertex.cached).count();
        (said.vertices.len(), completed, cached, said.warnings)
    }
}

impl StatusLog {
    /// Passes a warning of the client on to everybody who listens.
    pub(crate) fn warn(&self, warning: VertexWarning) {
        if let Some(sink) = &self.instead {
            return sink.emit(of_warning(warning));
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.warnings += 1;
        let count = said.say(StatusResponse { warnings: vec![warning], ..StatusResponse::default() });
        drop(said);
        self.tell(count);
    }

    /// Wakes listeners. Of two who tell at once, the one with less may be the later.
    fn tell(&self, count: usize) {
        self.state.send_modify(|state| state.0 = state.0.max(count));
    }
}

impl EventSink for StatusLog {
    fn emit(&self, event: Event) {
        if let Some(sink) = &self.instead {
            return sink.emit(event);
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(message) = said.message(event) else { return };
        let count = said.say(message);
        drop(said);
        self.tell(count);
    }
}

impl Said {
    /// Adds a message, and answers how many there are. Of more output than is kept the oldest is forgotten: who listens has it,
    /// and the record of the build has all.
    fn say(&mut self, message: StatusResponse) -> usize {
        let bytes: usize = message.logs.iter().map(|log| log.msg.len()).sum();
        if bytes > 0 {
            self.output += bytes;
            self.outputs.push_back((self.messages.len(), bytes));
        }
        self.messages.push(Arc::new(message));
        while self.output > KEPT_OUTPUT && self.outputs.len() > 1 {
            let Some((oldest, bytes)) = self.outputs.pop_front() else { break };
            self.output -= bytes;
            self.messages[oldest] = Arc::default();
        }
        self.messages.len()
    }

    /// An event as a message.
    pub(crate) fn message(&mut self, event: Event) -> Option<StatusResponse> {
        match event {
            Event::BuildBegun { .. } => None,
            Event::VertexDeclared { vertex, name, inputs } => {
                self.first.get_or_insert(vertex);
                // Inputs are told before those who use them. A directory of the client is none: it is a step of ours.
                let inputs = inputs.iter().filter(|input| self.vertices.contains_key(*input));
                let inputs = inputs.map(ToString::to_string).collect();
                let declared = Vertex { digest: vertex.to_string(), name, inputs, ..Vertex::default() };
                self.vertices.insert(vertex, declared.clone());
                Some(of_vertex(declared))
            }
            Event::VertexGrouped { vertex, id, name, weak } => {
                let group = pb::ProgressGroup { id, name, weak };
                self.change(vertex, |known| known.progress_group = Some(group))
            }
            Event::VertexStarted { vertex, at } => {
                self.change(vertex, |known| known.started = Some(timestamp(at)))
            }
            Event::VertexExplained { vertex, reason } => {
                let began = self.vertices.get(&vertex).and_then(|known| known.started);
                let now = Some(began.unwrap_or_else(|| timestamp(engine::now())));
                let status = VertexStatus {
                    id: reason,
                    vertex: vertex.to_string(),
                    timestamp: now,
                    started: now,
                    completed: now,
                    ..VertexStatus::default()
                };
                Some(StatusResponse { statuses: vec![status], ..StatusResponse::default() })
            }
            Event::VertexCompleted { vertex, at, outcome } => self.change(vertex, |known| {
                let at = Some(timestamp(at));
                known.started = known.started.take().or(at);
                known.completed = at;
                match outcome {
                    Outcome::Cached => known.cached = true,
                    Outcome::Done => {}
                    Outcome::Failed(why) => known.error = why,
                    Outcome::Cancelled => known.error = "context canceled".to_owned(),
                }
            }),
            Event::Status { vertex, id, current, total, at, completed } => {
                let at = timestamp(at);
                let key = (vertex, id.clone());
                let started = *self.parts.entry(key.clone()).or_insert(at);
                if completed {
                    self.parts.remove(&key);
                }
                let status = VertexStatus {
                    id,
                    vertex: vertex.to_string(),
                    current: i64::try_from(current).unwrap_or(i64::MAX),
                    total: i64::try_from(total).unwrap_or(i64::MAX),
                    timestamp: Some(at),
                    started: Some(started),
                    completed: completed.then_some(at),
                    ..VertexStatus::default()
                };
                Some(StatusResponse { statuses: vec![status], ..StatusResponse::default() })
            }
            Event::Log { vertex, stream, data, at } => {
                let stream = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                let vertex = vertex.to_string();
                let log = VertexLog { vertex, timestamp: Some(timestamp(at)), stream, msg: data };
                Some(StatusResponse { logs: vec![log], ..StatusResponse::default() })
            }
            Event::Warning { vertex, code, message, excerpt, url, place } => {
                self.warnings += 1;
                let vertex = vertex.or(self.first).map(|vertex| vertex.to_string()).unwrap_or_default();
                let url = url.unwrap_or_default();
                let info = place.as_ref().and_then(|place| self.info(place));
                // Who has the text draws the lines, and wants to know what to do.
                let detail = excerpt.lines().filter(|line| info.is_none() || line.starts_with(HELP));
                let mut warning = VertexWarning {
                    vertex,
                    level: 1,
                    short: format!("{code}: {message}").into_bytes(),
                    detail: detail.map(|line| line.as_bytes().to_vec()).collect(),
                    url,
                    info,
                    ranges: place.iter().map(range).collect(),
                };
                if let Some(place) = place {
                    warning.short.extend_from_slice(format!(" (line {})", place.start.0).as_bytes());
                }
                Some(StatusResponse { warnings: vec![warning], ..StatusResponse::default() })
            }
        }
    }

    /// The text that a warning is about. All of it goes with each warning, so that is not done without end.
    fn info(&mut self, place: &TextPlace) -> Option<pb::SourceInfo> {
        let text = place.text.as_ref().filter(|text| self.texts + text.len() <= MOST_TEXT)?;
        self.texts += text.len();
        Some(pb::SourceInfo {
            filename: place.name.clone(),
            data: text.as_bytes().to_vec(),
            definition: None,
            language: "Dockerfile".to_owned(),
        })
    }

    fn change(&mut self, vertex: Digest, change: impl FnOnce(&mut Vertex)) -> Option<StatusResponse> {
        let known = self.vertices.entry(vertex).or_default();
        known.digest = vertex.to_string();
        change(known);
        Some(of_vertex(known.clone()))
    }
}

fn of_vertex(vertex: Vertex) -> StatusResponse {
    StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() }
}

/// A warning of a frontend, which begins with the name of a check if it is one of a check.
fn of_warning(warning: VertexWarning) -> Event {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let short = text(&warning.short);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(char::is_alphanumeric);
    let (code, message) = match short.split_once(": ") {
        Some((code, message)) if is_name(code) => (code.to_owned(), message.to_owned()),
        _ => ("Frontend".to_owned(), short),
    };
    let excerpt: Vec<String> = warning.detail.iter().map(|line| text(line)).collect();
    let url = Some(warning.url).filter(|url| !url.is_empty());
    let vertex = warning.vertex.parse().ok();
    Event::Warning { vertex, code, message, excerpt: excerpt.join("\n"), url, place: None }
}

/// A place as BuildKit has it.
fn range(place: &TextPlace) -> pb::Range {
    let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let position = |(line, character)| pb::Position { line: number(line), character: number(character) };
    pb::Range { start: Some(position(place.start)), end: Some(position(place.end)) }
}

/// A step that is the daemon's own, such as a transfer.
pub(crate) struct Step<'a> {
    log: &'a StatusLog,
    vertex: Digest,
}

impl<'a> Step<'a> {
    /// Begins a step. `unique` tells it from others of its name.
    pub(crate) fn begin(log: &'a StatusLog, name: &str, unique: &str) -> Self {
        let vertex = Digest::of(format!("{name}\n{unique}").as_bytes());
        log.emit(Event::VertexDeclared { vertex, name: name.to_owned(), inputs: Vec::new() });
        log.emit(Event::VertexStarted { vertex, at: engine::now() });
        Self { log, vertex }
    }

    /// Tells how many bytes a part of it has moved.
    pub(crate) fn tell(&self, part: &str, bytes: u64, completed: bool) {
        let (vertex, id, at) = (self.vertex, part.to_owned(), engine::now());
        self.log.emit(Event::Status { vertex, id, current: bytes, total: 0, at, completed });
    }

    /// Passes on what it writes.
    pub(crate) fn log(&self, stream: Stream, data: &[u8]) {
        let (vertex, data, at) = (self.vertex, data.to_vec(), engine::now());
        self.log.emit(Event::Log { vertex, stream, data, at });
    }

    /// Ends the step as `result` did.
    pub(crate) fn end<T>(self, result: Result<T, Status>) -> Result<T, Status> {
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(status) => Outcome::Failed(status.message().to_owned()),
        };
        self.log.emit(Event::VertexCompleted { vertex: self.vertex, at: engine::now(), outcome });
        result
    }
}

/// A time, as messages have it.
pub(crate) fn timestamp(time: Timestamp) -> protobuf::Timestamp {
    let nanoseconds = time.as_nanosecond();
    let second = 1_000_000_000;
    protobuf::Timestamp {
        seconds: i64::try_from(nanoseconds.div_euclid(second)).unwrap_or(0),
        nanos: i32::try_from(nanoseconds.rem_euclid(second)).unwrap_or(0),
    }
}

/// The time now as RFC 3339 has it, for headers.
pub(crate) fn now_text() -> String {
    engine::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_up_to_a_limit_and_everything_else_for_ever() {
        let log = StatusLog::default();
        let vertex = Digest::of(b"vertex");
        log.emit(Event::VertexDeclared { vertex, name: "step".to_owned(), inputs: Vec::new() });
        for _ in 0..10 {
            let (stream, data) = (Stream::Stdout, vec![b'x'; 1 << 20]);
            log.emit(Event::Log { vertex, stream, data, at: engine::now() });
        }
        log.close();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let messages = runtime.block_on(log.next(0)).unwrap();
        assert_eq!((messages.len(), messages[0].vertexes.len()), (11, 1));
        let bytes: usize = messages.iter().flat_map(|message| &message.logs).map(|log| log.msg.len()).sum();
        assert_eq!(bytes, KEPT_OUTPUT);
        assert!(runtime.block_on(log.next(messages.len())).is_none());
    }
}
