//! The log of a build: a file of events, which holds everything that steps wrote.
//!
//! It begins in memory. When the first step runs it becomes a zstd stream in the build's directory, which is
//! flushed whenever a step ends, so that the log of a build that is killed reaches as far as its last step did. The
//! log of a build in which nothing ran is small, and goes into the build's row.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use base::event::Event;

use crate::error::EngineError;

/// The file in the build's directory.
pub(super) const FILE: &str = "events";

/// Quick, and good enough for logs.
const LEVEL: i32 = 1;

/// More than this of what a build says is not kept, in bytes.
pub(super) const LONGEST: u64 = 8 << 30;

/// No event is longer, in bytes. What is comes from nobody's build.
const LONGEST_EVENT: u64 = 16 << 20;

/// More than this is not kept in memory, in bytes.
const BUFFER: usize = 64 * 1024;

/// With more than this in memory, who adds something waits for whoever writes, in bytes.
const MOST_WAITING: usize = 8 << 20;

/// Takes the events of one build.
///
/// Steps that add something do not wait for the disk: one of them writes, and takes what the others added meanwhile.
#[derive(Default)]
pub(crate) struct EventLog {
    /// Held for moments only.
    pending: Mutex<Pending>,
    /// Held by whoever writes.
    file: Mutex<LogFile>,
}

/// What is not written yet.
#[derive(Default)]
struct Pending {
    buffer: Vec<u8>,
    /// A step has ended: all of this is to be found on the disk.
    flush: bool,
    /// How much was added in all.
    added: u64,
    /// Whether there is a file, in which no write has failed.
    is_open: bool,
    has_failed: bool,
}

impl Pending {
    /// Whether it is time to write.
    fn is_due(&self) -> bool {
        self.is_open && (self.flush || self.buffer.len() > BUFFER)
    }
}

#[derive(Default)]
struct LogFile {
    stream: Option<zstd::Encoder<'static, File>>,
    /// The first error; nothing is written after it.
    failed: Option<std::io::Error>,
}

impl EventLog {
    /// Takes an event.
    pub(crate) fn add(&self, event: &Event) {
        let mut line = super::to_json(event);
        line.push(b'\n');
        let mut pending = self.pending();
        pending.added += line.len() as u64;
        if pending.has_failed || pending.added > LONGEST {
            return;
        }
        pending.buffer.extend_from_slice(&line);
        pending.flush |= matches!(event, Event::VertexCompleted { .. });
        let has_to_wait = pending.is_open && pending.buffer.len() > MOST_WAITING;
        drop(pending);
        if has_to_wait {
            self.write_pending(&mut self.file());
        }
        self.write_if_due();
    }

    /// Writes what is due, unless somebody does so already: they look again when they are done.
    fn write_if_due(&self) {
        while self.pending().is_due() {
            match self.file.try_lock() {
                Ok(mut file) => self.write_pending(&mut file),
                Err(TryLockError::Poisoned(file)) => self.write_pending(&mut file.into_inner()),
                Err(TryLockError::WouldBlock) => return,
            }
        }
    }

    fn write_pending(&self, file: &mut LogFile) {
        let mut pending = self.pending();
        let (bytes, flush) = (std::mem::take(&mut pending.buffer), std::mem::take(&mut pending.flush));
        drop(pending);
        if let Err(error) = file.write(&bytes, flush) {
            file.failed = Some(error);
            let mut pending = self.pending();
            (pending.is_open, pending.has_failed) = (false, true);
        }
    }

    /// From now on the log is in the file of `directory`. To be called once.
    pub(super) fn open(&self, directory: &Path) {
        let opened = File::create_new(directory.join(FILE)).and_then(|file| zstd::Encoder::new(file, LEVEL));
        let is_open = opened.is_ok();
        match opened {
            Ok(stream) => self.file().stream = Some(stream),
            Err(error) => self.file().failed = Some(error),
        }
        let mut pending = self.pending();
        (pending.is_open, pending.has_failed) = (is_open, !is_open);
    }

    /// What there is of a log that was never opened.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.pending().buffer)
    }

    /// Writes what is left. Nothing may be added afterwards.
    pub(super) fn finish(&self, directory: &Path) -> Result<(), EngineError> {
        let path = directory.join(FILE);
        let failed = |source| EngineError::from(sys::path_error::PathError::new("write", &path, source));
        let mut file = self.file();
        self.write_pending(&mut file);
        if let Some(error) = file.failed.take() {
            return Err(failed(error));
        }
        match file.stream.take() {
            Some(stream) => stream.finish().map(drop).map_err(failed),
            None => Ok(()),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, LogFile> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogFile {
    fn write(&mut self, bytes: &[u8], flush: bool) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        stream.write_all(bytes)?;
        if flush { stream.flush() } else { Ok(()) }
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

    /// The events of a log that is compressed as [`EventLog`] does it.
    pub(super) fn compressed(log: impl Read + Send + 'static) -> std::io::Result<Self> {
        // A part of the stream may become very long.
        let lines = zstd::Decoder::new(log)?.take(LONGEST);
        Ok(Self { lines: Box::new(BufReader::new(lines)) })
    }

    pub(super) fn open(directory: &Path) -> Result<Self, EngineError> {
        let path: PathBuf = directory.join(FILE);
        let file = match sys::fs::open(&path) {
            Ok(file) => file,
            // It ran nothing yet.
            Err(error) if error.is_not_found() => return Ok(Self::of(Vec::new())),
            Err(error) => return Err(error.into()),
        };
        Self::compressed(file).map_err(|source| sys::path_error::PathError::new("read", &path, source).into())
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let mut line = Vec::new();
            // A stream that was cut off fails in the middle of a line, which is no event.
            let read = (&mut self.lines).take(LONGEST_EVENT).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return None;
            }
            if let Ok(event) = serde_json::from_slice(&line) {
                return Some(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Digest;
    use base::event::Stream;

    use super::*;

    /// Text that each of `threads` writes `lines` of, with the number of the thread and the line.
    fn write(log: &EventLog, threads: usize, lines: usize) {
        let one = |thread: usize| {
            for line in 0..lines {
                let data = format!("{thread} {line}").into_bytes();
                let (vertex, at) = (Digest::of(b"x"), base::Timestamp::UNIX_EPOCH);
                log.add(&Event::Log { vertex, stream: Stream::Stdout, data, at });
                if line % 100 == 0 {
                    log.add(&Event::VertexCompleted { vertex, at, outcome: base::event::Outcome::Done });
                }
            }
        };
        std::thread::scope(|scope| {
            (0..threads).for_each(|thread| drop(scope.spawn(move || one(thread))));
        });
    }

    #[test]
    fn what_many_threads_say_is_all_there_and_in_the_order_of_each() {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::default();
        write(&log, 1, 10);
        log.open(directory.path());
        write(&log, 8, 2000);
        log.finish(directory.path()).unwrap();
        let mut next = [0; 8];
        let mut seen = 0;
        for event in Events::open(directory.path()).unwrap().skip(11) {
            let Event::Log { data, .. } = event else { continue };
            let text = String::from_utf8(data).unwrap();
            let (thread, line) = text.split_once(' ').unwrap();
            let thread: usize = thread.parse().unwrap();
            assert_eq!(line.parse::<usize>().unwrap(), next[thread]);
            next[thread] += 1;
            seen += 1;
        }
        assert_eq!(seen, 8 * 2000);
    }

    #[test]
    fn nobody_waits_for_a_slow_disk() {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::default();
        log.open(directory.path());
        // As if a write took for ever.
        let writing = log.file();
        write(&log, 2, 500);
        drop(writing);
        write(&log, 1, 1);
        assert!(log.pending().buffer.is_empty(), "the next one writes what the others left");
        log.finish(directory.path()).unwrap();
        assert_eq!(Events::open(directory.path()).unwrap().count(), 2 * 505 + 2);
    }
}
