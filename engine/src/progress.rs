//! Progress of work that is not a vertex of the graph: loading the Dockerfile, resolving, pulling,
//! exporting. Each is told as a vertex of its own, as BuildKit does.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use base::event::{Event, EventSink, Outcome, Stream};
use base::time::Clock;
use base::{Digest, Timestamp};

use crate::history::Recorder;
use crate::remote::patience::LastReceived;

/// Tells what happens, with the time.
#[derive(Clone)]
pub(crate) struct Progress {
    sink: Arc<dyn EventSink>,
    clock: Arc<dyn Clock>,
    begun: Timestamp,
    /// Takes down a build.
    recorder: Option<Arc<Recorder>>,
    /// Notes when something was told last.
    noting: Option<LastReceived>,
}

impl Progress {
    pub(crate) fn new(sink: Arc<dyn EventSink>, clock: Arc<dyn Clock>) -> Self {
        let begun = clock.now();
        Self { sink, clock, begun, recorder: None, noting: None }
    }

    /// The same for a build that is taken down.
    pub(crate) fn recorded(self, recorder: Arc<Recorder>) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// The same, which notes when it was told something of a transfer.
    pub(crate) fn noting(self, last: LastReceived) -> Self {
        Self { noting: Some(last), ..self }
    }

    /// The same for work that is no step of the recorded graph. The record has its events all the same.
    pub(crate) fn aside(&self) -> Self {
        Self { sink: Arc::new(Through(self.clone())), recorder: None, ..self.clone() }
    }

    /// Where events go, for those who tell them in whole.
    pub(crate) fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(Through(self.clone()))
    }

    /// When this began.
    pub(crate) fn begun(&self) -> Timestamp {
        self.begun
    }

    /// Who takes down the build, if somebody does.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_deref()
    }

    /// Sends an event as it is.
    pub(crate) fn emit(&self, event: Event) {
        if let Some(recorder) = &self.recorder {
            recorder.observe(&event);
        }
        self.sink.emit(event);
    }

    /// Warns of something that is about no step.
    pub(crate) fn warn(&self, code: &str, message: impl Into<String>) {
        let (code, message, excerpt) = (code.to_owned(), message.into(), String::new());
        self.emit(Event::Warning { vertex: None, code, message, excerpt, url: None, place: None });
    }

    pub(crate) fn declare(&self, vertex: Digest, name: &str, inputs: Vec<Digest>) {
        self.emit(Event::VertexDeclared { vertex, name: name.to_owned(), inputs });
    }

    pub(crate) fn start(&self, vertex: Digest) {
        self.emit(Event::VertexStarted { vertex, at: self.clock.now() });
    }

    pub(crate) fn complete(&self, vertex: Digest, outcome: Outcome) {
        self.emit(Event::VertexCompleted { vertex, at: self.clock.now(), outcome });
    }

    /// What a process wrote, and what of it is to be shown. The record of the build has all of it.
    pub(crate) fn log(&self, vertex: Digest, stream: Stream, data: &[u8], shown: &[u8]) {
        let log = |data: &[u8]| Event::Log { vertex, stream, data: data.to_vec(), at: self.clock.now() };
        let event = log(data);
        if let Some(recorder) = &self.recorder {
            recorder.log(&event);
        }
        if shown == data {
            self.sink.emit(event);
        } else if !shown.is_empty() {
            self.sink.emit(log(shown));
        }
    }

    pub(crate) fn status(&self, vertex: Digest, id: &str, current: u64, total: u64, completed: bool) {
        if let Some(last) = &self.noting {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        let at = self.clock.now();
        self.emit(Event::Status { vertex, id: id.to_owned(), current, total, at, completed });
    }

    /// Does `work`, which cannot fail, as a vertex called `name`.
    pub(crate) fn run<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let vertex = Digest::of(name.as_bytes());
        self.declare(vertex, name, Vec::new());
        self.start(vertex);
        let result = work();
        self.complete(vertex, Outcome::Done);
        result
    }

    /// Does `work` as a vertex called `name`.
    pub(crate) fn step<T, E: std::fmt::Display>(
        &self,
        name: &str,
        work: impl FnOnce(Digest) -> Result<T, E>,
    ) -> Result<T, E> {
        let vertex = Digest::of(name.as_bytes());
        self.declare(vertex, name, Vec::new());
        self.start(vertex);
        let result = work(vertex);
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.complete(vertex, outcome);
        result
    }
}

/// Passes events on as they are.
struct Through(Progress);

impl EventSink for Through {
    fn emit(&self, event: Event) {
        self.0.emit(event);
    }
}

/// A build that waits for a step which another build runs, and hears of it.
#[derive(Clone)]
pub(crate) struct Onlooker {
    progress: Progress,
    /// The step, as it is called there.
    vertex: Digest,
}

impl Onlooker {
    pub(crate) fn new(progress: &Progress, vertex: Digest) -> Self {
        Self { progress: progress.clone(), vertex }
    }

    /// Tells those who look at this build that it waits.
    pub(crate) fn waits(&self) {
        self.progress.status(self.vertex, "waiting for another build that runs this step", 0, 0, false);
    }

    /// Passes on what the step's process wrote.
    pub(crate) fn log(&self, stream: Stream, data: &[u8], shown: &[u8]) {
        self.progress.log(self.vertex, stream, data, shown);
    }
}
