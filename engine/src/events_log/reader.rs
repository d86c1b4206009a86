//! Reading the events of a store, and following them.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use base::time::Clock;
use runner::logs::{LogReader, Record, Selection, Watch};
use sys::path_error::PathError;

use super::{Event, Line};
use crate::Engine;
use crate::error::EngineError;
use crate::following::{Follow, Ready};

/// How long nothing has to happen until it is looked whether something has. The kernel tells of everything; this only
/// bounds the wait.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Which events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventsRequest {
    /// Those from then on; without it those that happen from now on, or before `until`.
    pub since: Option<Timestamp>,
    /// Those up to then; without it, they never end.
    pub until: Option<Timestamp>,
}

/// Events in the order in which they were written down.
pub struct Events {
    clock: Arc<dyn Clock>,
    directory: PathBuf,
    reader: LogReader,
    watch: Watch,
    until: Option<Timestamp>,
}

impl Engine {
    /// Opens the log of events.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn events(&self, request: &EventsRequest) -> Result<Events, EngineError> {
        let directory = self.event_log().directory;
        // What nobody has written to yet can be watched, too.
        sys::fs::create_dir_all(&directory, 0o700)?;
        let watch = Watch::new(&directory)?;
        let is_history = request.until.is_some_and(|until| until <= self.clock.now());
        let tail = (request.since.is_none() && !is_history).then_some(0);
        let selection = Selection { tail, since: request.since, until: request.until };
        let reader = LogReader::open(&directory, selection)?;
        Ok(Events { clock: Arc::clone(&self.clock), directory, reader, watch, until: request.until })
    }
}

impl Follow for Events {
    type Item = Event;

    fn ready(&mut self) -> Result<Ready<Event>, EngineError> {
        // In this order: what was written before the end of the time is read after it.
        let left = match self.until {
            None => PATIENCE,
            Some(until) => Duration::try_from(until.duration_since(self.clock.now())).unwrap_or_default(),
        };
        while let Some(record) = self.reader.read()? {
            if let Some(event) = event(record) {
                return Ok(Ready::One(event));
            }
        }
        Ok(if left.is_zero() || self.reader.is_done() {
            Ready::Over
        } else {
            Ready::Later(left.min(PATIENCE))
        })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.as_fd())
    }

    fn wait(&self, time: Duration) -> Result<(), EngineError> {
        self.watch.wait(time).map_err(|error| PathError::new("watch", &self.directory, error))?;
        Ok(())
    }
}

/// The event that a record tells of; `None` for one that a later version may have written.
fn event(record: Record) -> Option<Event> {
    let Line { kind, action, id, attributes } = serde_json::from_str(&record.text).ok()?;
    Some(Event { kind, action, id, attributes, time: record.time })
}
