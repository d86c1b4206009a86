//! What a build says while it runs.
//!
//! Libraries emit [`Event`]s; only the outermost layer draws them. The set is closed and is a superset
//! of BuildKit's status stream, so that the same events feed a terminal, a log file and an API.

mod output;

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::time::Timestamp;

/// Which output of a process a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// How a vertex ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its result was found, nothing ran.
    Cached,
    /// It ran.
    Done,
    /// It failed; the text is one line for people.
    Failed(String),
    /// It was stopped before it ended.
    Cancelled,
}

/// A part of the user's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPlace {
    /// What messages call the text.
    pub name: String,
    /// Where the part begins: the line from 1, and the character in it from 0.
    pub start: (usize, usize),
    /// Where it ends, exclusively.
    pub end: (usize, usize),
    /// The whole text. It is not part of records.
    #[serde(skip)]
    pub text: Option<Arc<str>>,
}

/// One thing that happened. Vertices are named by a digest that is unique within a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A build began.
    BuildBegun {
        /// How its steps are isolated, and what is missing, in one line.
        isolation: String,
    },
    /// A vertex is part of the build.
    VertexDeclared {
        /// Its identity.
        vertex: Digest,
        /// Its name for people, as BuildKit prints it (`[stage 2/5] RUN make`).
        name: String,
        /// The vertices it waits for.
        inputs: Vec<Digest>,
    },
    /// A vertex is shown as part of a group.
    VertexGrouped {
        /// Which vertex.
        vertex: Digest,
        /// What tells the group from others.
        id: String,
        /// The name of the group.
        name: String,
        /// Whether a vertex of it is shown by itself if it is the only one.
        weak: bool,
    },
    /// Work on a vertex began.
    VertexStarted {
        /// Which vertex.
        vertex: Digest,
        /// When.
        at: Timestamp,
    },
    /// A vertex has to run, and why: what is not as it was in an earlier build.
    VertexExplained {
        /// Which vertex.
        vertex: Digest,
        /// One line.
        reason: String,
    },
    /// Work on a vertex ended.
    VertexCompleted {
        /// Which vertex.
        vertex: Digest,
        /// When.
        at: Timestamp,
        /// How.
        outcome: Outcome,
    },
    /// Progress of a part of a vertex, for example one layer of a pull.
    Status {
        /// The vertex it belongs to.
        vertex: Digest,
        /// What is in progress; unique within the vertex.
        id: String,
        /// Units done so far (bytes, unless `total` is zero).
        current: u64,
        /// Units in all; zero when unknown.
        total: u64,
        /// When this was true.
        at: Timestamp,
        /// Whether this part has ended.
        completed: bool,
    },
    /// Output of a process.
    Log {
        /// The vertex whose process wrote it.
        vertex: Digest,
        /// Which output.
        stream: Stream,
        /// The bytes as they came; not lines, not necessarily UTF-8.
        #[serde(with = "output")]
        data: Vec<u8>,
        /// When.
        at: Timestamp,
    },
    /// Something the user should know that stops nothing.
    Warning {
        /// The vertex it is about, if it is about one.
        vertex: Option<Digest>,
        /// A stable code, for example a build check's name.
        code: String,
        /// One line.
        message: String,
        /// Where in the user's text, drawn with an excerpt; empty when there is no place.
        excerpt: String,
        /// A page that explains it.
        url: Option<String>,
        /// The same place, for those who draw it themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<TextPlace>,
    },
}

/// Takes events. Implementations must be quick: they run on the thread that did the work.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Default, Clone, Copy)]
pub struct NullSink;

impl EventSink for NullSink {
    fn emit(&self, _event: Event) {}
}

/// Keeps every event, for tests and for records.
#[derive(Debug, Default)]
pub struct RecordingSink(Mutex<Vec<Event>>);

impl RecordingSink {
    /// All events so far, in the order they came.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventSink for RecordingSink {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

#[cfg(test)]
mod tests;
