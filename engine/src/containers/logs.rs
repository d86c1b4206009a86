//! Reading the logs of containers.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use runner::logs::{LogReader, Record, Selection, Watch};
use runner::shim::State;
use sys::path_error::PathError;

use crate::Engine;
use crate::error::EngineError;
use crate::following::{Follow, Ready};

/// How long a follower waits at most before it looks whether the container still runs: one that is killed with
/// its supervisor changes no file.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often is looked where nothing tells of changes.
const UNWATCHED: Duration = Duration::from_millis(200);

/// Which logs are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogsRequest {
    /// Of which container.
    pub container: String,
    /// Which records.
    pub selection: Selection,
    /// Go on until the container has ended.
    pub follow: bool,
}

/// The records of a container's log.
pub struct Logs {
    directory: PathBuf,
    reader: LogReader,
    follow: bool,
    /// Tells when there is more; none where the machine watches too much already.
    watch: Option<Watch>,
}

impl Engine {
    /// Opens the log of a container.
    ///
    /// # Errors
    /// There is no such container, it keeps no log, or the log cannot be read.
    pub fn logs(&self, request: &LogsRequest) -> Result<Logs, EngineError> {
        let container = self.container(&request.container)?;
        if !container.document.log.has_files() {
            return Err(EngineError::NoLog(container.name));
        }
        let directory = self.store.container_path(&container.id);
        let watch = if request.follow { Watch::new(&directory).ok() } else { None };
        let reader = LogReader::open(&directory, request.selection)?;
        Ok(Logs { directory, reader, follow: request.follow, watch })
    }
}

impl Follow for Logs {
    type Item = Record;

    fn ready(&mut self) -> Result<Ready<Record>, EngineError> {
        if let Some(record) = self.reader.read()? {
            return Ok(Ready::One(record));
        }
        // In this order: what is written before the end is read after it.
        let ended = !self.is_live();
        Ok(match self.reader.read()? {
            Some(record) => Ready::One(record),
            None if ended || self.reader.is_done() => Ready::Over,
            None => Ready::Later(if self.watch.is_some() { PATIENCE } else { UNWATCHED }),
        })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.as_fd())
    }

    fn wait(&self, time: Duration) -> Result<(), EngineError> {
        let Some(watch) = &self.watch else {
            super::remove::pause();
            return Ok(());
        };
        watch.wait(time).map_err(|error| PathError::new("watch", &self.directory, error))?;
        Ok(())
    }
}

impl Logs {
    /// Whether the container may still write. One that is gone does not.
    fn is_live(&self) -> bool {
        self.follow && State::read(&self.directory).is_ok_and(|state| state.status.is_live())
    }
}
