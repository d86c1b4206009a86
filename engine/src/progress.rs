//! Progress of work that is not a vertex of the graph: loading the Dockerfile, resolving, pulling,
//! exporting. Each is told as a vertex of its own, as BuildKit does.

use std::sync::Arc;

use base::Digest;
use base::event::{Event, EventSink, Outcome};
use base::time::Clock;

/// Tells what happens, with the time.
#[derive(Clone)]
pub(crate) struct Progress {
    sink: Arc<dyn EventSink>,
    clock: Arc<dyn Clock>,
}

impl Progress {
    pub(crate) fn new(sink: Arc<dyn EventSink>, clock: Arc<dyn Clock>) -> Self {
        Self { sink, clock }
    }

    /// Sends an event as it is.
    pub(crate) fn emit(&self, event: Event) {
        self.sink.emit(event);
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

    pub(crate) fn log(&self, vertex: Digest, stream: base::event::Stream, data: &[u8]) {
        self.emit(Event::Log { vertex, stream, data: data.to_vec(), at: self.clock.now() });
    }

    pub(crate) fn status(&self, vertex: Digest, id: &str, current: u64, total: u64, completed: bool) {
        let at = self.clock.now();
        self.emit(Event::Status { vertex, id: id.to_owned(), current, total, at, completed });
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
