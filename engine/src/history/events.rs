//! Events as lines of JSON, and back: what is kept of all that a build said.

use base::event::{Event, Outcome, Stream};
use base::{Digest, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

/// One event. The names are short because there are many.
#[derive(Serialize, Deserialize)]
#[serde(tag = "e", rename_all = "snake_case")]
enum Line {
    Begun {
        isolation: String,
    },
    Declared {
        v: Digest,
        name: String,
        inputs: Vec<Digest>,
    },
    Started {
        v: Digest,
        at: Timestamp,
    },
    Why {
        v: Digest,
        reason: String,
    },
    Completed {
        v: Digest,
        at: Timestamp,
        outcome: LineOutcome,
    },
    Status {
        v: Digest,
        id: String,
        current: u64,
        total: u64,
        at: Timestamp,
        completed: bool,
    },
    Log {
        v: Digest,
        fd: u8,
        at: Timestamp,
        text: String,
    },
    /// What is no text.
    LogBytes {
        v: Digest,
        fd: u8,
        at: Timestamp,
        base64: String,
    },
    Warning {
        v: Option<Digest>,
        code: String,
        message: String,
        excerpt: String,
        url: Option<String>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LineOutcome {
    Cached,
    Done,
    Failed(String),
    Canceled,
}

/// The line of an event, with its end.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(&Line::of(event)).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The event of a line; `None` for what is none.
pub(super) fn decode(line: &[u8]) -> Option<Event> {
    serde_json::from_slice::<Line>(line).ok()?.event()
}

impl Line {
    fn of(event: &Event) -> Self {
        match event.clone() {
            Event::BuildBegun { isolation } => Self::Begun { isolation },
            Event::VertexDeclared { vertex, name, inputs } => Self::Declared { v: vertex, name, inputs },
            Event::VertexStarted { vertex, at } => Self::Started { v: vertex, at },
            Event::VertexExplained { vertex, reason } => Self::Why { v: vertex, reason },
            Event::VertexCompleted { vertex, at, outcome } => {
                Self::Completed { v: vertex, at, outcome: LineOutcome::of(outcome) }
            }
            Event::Status { vertex, id, current, total, at, completed } => {
                Self::Status { v: vertex, id, current, total, at, completed }
            }
            Event::Log { vertex, stream, data, at } => {
                let fd = match stream {
                    Stream::Stdout => 1,
                    Stream::Stderr => 2,
                };
                match String::from_utf8(data) {
                    Ok(text) => Self::Log { v: vertex, fd, at, text },
                    Err(error) => {
                        Self::LogBytes { v: vertex, fd, at, base64: BASE64.encode(error.as_bytes()) }
                    }
                }
            }
            Event::Warning { vertex, code, message, excerpt, url } => {
                Self::Warning { v: vertex, code, message, excerpt, url }
            }
        }
    }

    fn event(self) -> Option<Event> {
        let log = |vertex, fd, at, data| {
            let stream = if fd == 2 { Stream::Stderr } else { Stream::Stdout };
            Event::Log { vertex, stream, data, at }
        };
        Some(match self {
            Self::Begun { isolation } => Event::BuildBegun { isolation },
            Self::Declared { v, name, inputs } => Event::VertexDeclared { vertex: v, name, inputs },
            Self::Started { v, at } => Event::VertexStarted { vertex: v, at },
            Self::Why { v, reason } => Event::VertexExplained { vertex: v, reason },
            Self::Completed { v, at, outcome } => {
                Event::VertexCompleted { vertex: v, at, outcome: outcome.outcome() }
            }
            Self::Status { v, id, current, total, at, completed } => {
                Event::Status { vertex: v, id, current, total, at, completed }
            }
            Self::Log { v, fd, at, text } => log(v, fd, at, text.into_bytes()),
            Self::LogBytes { v, fd, at, base64 } => log(v, fd, at, BASE64.decode(base64).ok()?),
            Self::Warning { v, code, message, excerpt, url } => {
                Event::Warning { vertex: v, code, message, excerpt, url }
            }
        })
    }
}

impl LineOutcome {
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Cached => Self::Cached,
            Outcome::Done => Self::Done,
            Outcome::Failed(message) => Self::Failed(message),
            Outcome::Cancelled => Self::Canceled,
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Cached => Outcome::Cached,
            Self::Done => Outcome::Done,
            Self::Failed(message) => Outcome::Failed(message),
            Self::Canceled => Outcome::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_back_as_it_was() {
        let (vertex, at) = (Digest::of(b"v"), Timestamp::from_millisecond(1_700_000_000_123).unwrap());
        let log = |data: &[u8]| Event::Log { vertex, stream: Stream::Stderr, data: data.to_vec(), at };
        let completed = |outcome| Event::VertexCompleted { vertex, at, outcome };
        let text = |text: &str| text.to_owned();
        let events = [
            Event::BuildBegun { isolation: text("namespaces") },
            Event::VertexDeclared { vertex, name: text("[1/2] RUN x"), inputs: vec![Digest::of(b"i")] },
            Event::VertexStarted { vertex, at },
            Event::VertexExplained { vertex, reason: text("a changed") },
            completed(Outcome::Cached),
            completed(Outcome::Done),
            completed(Outcome::Failed(text("exit code: 1"))),
            completed(Outcome::Cancelled),
            Event::Status { vertex, id: text("layer"), current: 1, total: 2, at, completed: true },
            log(b"a line\nand \"half"),
            log(&[0xff, 0, b'\n', 0x80]),
            Event::Warning {
                vertex: None,
                code: text("C"),
                message: text("m"),
                excerpt: text("e"),
                url: None,
            },
        ];
        for event in events {
            let line = encode(&event);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
            assert_eq!(decode(&line), Some(event));
        }
        assert_eq!(decode(b"{\"e\":\"log\"}"), None);
    }
}
