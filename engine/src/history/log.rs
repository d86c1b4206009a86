//! The log of a build: a file of events, which holds everything that steps wrote.
//!
//! It begins in memory. When the first step runs it becomes a zstd stream in the build's directory, which is
//! flushed whenever a step ends, so that the log of a build that is killed reaches as far as its last step did. The
//! log of a build in which nothing ran is small, and goes into the build's row.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base::event::Event;

use crate::error::EngineError;

/// The file in the build's directory.
pub(super) const FILE: &str = "events";

/// Quick, and good enough for logs.
const LEVEL: i32 = 1;

/// More than this of what a build says is not kept, in bytes.
const LONGEST: u64 = 8 << 30;

/// Takes the events of one build.
#[derive(Default)]
pub(crate) struct EventLog(Mutex<State>);

#[derive(Default)]
struct State {
    /// What was not given to `stream`.
    buffer: Vec<u8>,
    stream: Option<zstd::Encoder<'static, File>>,
    written: u64,
    /// The first error; nothing is written after it.
    failed: Option<std::io::Error>,
}

/// More than this is not kept in memory, in bytes.
const BUFFER: usize = 64 * 1024;

impl EventLog {
    /// Takes an event.
    pub(crate) fn add(&self, event: &Event) {
        let mut line = super::to_json(event);
        line.push(b'\n');
        let mut state = self.lock();
        state.written += line.len() as u64;
        if state.failed.is_some() || state.written > LONGEST {
            return;
        }
        state.buffer.extend_from_slice(&line);
        let is_end = matches!(event, Event::VertexCompleted { .. });
        if state.stream.is_some() && (is_end || state.buffer.len() > BUFFER) {
            state.pass(is_end);
        }
    }

    /// From now on the log is in the file of `directory`.
    pub(super) fn open(&self, directory: &Path) {
        let mut state = self.lock();
        if state.stream.is_some() {
            return;
        }
        let opened = File::create_new(directory.join(FILE)).and_then(|file| zstd::Encoder::new(file, LEVEL));
        match opened {
            Ok(stream) => state.stream = Some(stream),
            Err(error) => state.failed = Some(error),
        }
    }

    /// What there is of a log that was never opened.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().buffer)
    }

    /// Writes what is left. Nothing may be added afterwards.
    pub(super) fn finish(&self, directory: &Path) -> Result<(), EngineError> {
        let path = directory.join(FILE);
        let failed = |source| EngineError::from(sys::path_error::PathError::new("write", &path, source));
        let mut state = self.lock();
        state.pass(false);
        if let Some(error) = state.failed.take() {
            return Err(failed(error));
        }
        match state.stream.take() {
            Some(stream) => stream.finish().map(drop).map_err(failed),
            None => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the buffer to the stream, if there is one.
    fn pass(&mut self, flush: bool) {
        let Some(stream) = &mut self.stream else { return };
        let passed =
            stream.write_all(&self.buffer).and_then(|()| if flush { stream.flush() } else { Ok(()) });
        self.buffer.clear();
        if let Err(error) = passed {
            self.failed = Some(error);
        }
    }
}

/// The events of a build's log, one after another. Those of a build that runs, or was killed, end early.
pub struct Events {
    lines: Box<dyn BufRead + Send>,
}

impl Events {
    /// The events of a log that is not in a file.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { lines: Box::new(std::io::Cursor::new(bytes)) }
    }

    pub(super) fn open(directory: &Path) -> Result<Self, EngineError> {
        let path: PathBuf = directory.join(FILE);
        let file = match sys::fs::open(&path) {
            Ok(file) => file,
            // It ran nothing yet.
            Err(error) if error.is_not_found() => return Ok(Self::of(Vec::new())),
            Err(error) => return Err(error.into()),
        };
        let decoder = zstd::Decoder::new(file)
            .map_err(|source| sys::path_error::PathError::new("read", &path, source))?;
        Ok(Self { lines: Box::new(BufReader::new(decoder)) })
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let mut line = Vec::new();
            // A stream that was cut off fails in the middle of a line, which is no event.
            let read = (&mut self.lines).take(1 << 30).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return None;
            }
            if let Ok(event) = serde_json::from_slice(&line) {
                return Some(event);
            }
        }
    }
}
