//! What a supervisor is to run, and how.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::fs::Durability;

use super::error::ShimError;
use super::health::HealthCheck;
use super::protocol::Update;
use super::restart::RestartPolicy;
use crate::logs::LogOptions;
use crate::request::{LimitConflict, Limits, RunRequest, TtySize};

/// How long a container has to end after it was asked to, in seconds, as in Docker.
pub(super) const STOP_TIMEOUT: i64 = 10;

/// A container, as far as supervising it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The process and its surroundings.
    pub request: RunRequest,
    /// Give it a terminal, of this size at first.
    pub terminal: Option<TtySize>,
    /// Give it an input that can be written to; else it reads nothing.
    pub open_stdin: bool,
    /// End the input with that of the first who is attached.
    pub stdin_once: bool,
    /// How its log is kept.
    pub log: LogOptions,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// How to find out whether it is well.
    pub health: Option<HealthCheck>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// How long it has then, in seconds; -1 is for ever, `None` is ten.
    pub stop_timeout: Option<i64>,
    /// Remove it when it has ended for good.
    pub remove: bool,
}

/// Why a container cannot be updated. The words are Docker's, but for the first letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpdateRefusal {
    /// It is to be started again although it goes at its end.
    #[error("restart policy cannot be updated because AutoRemove is enabled for the container")]
    RemovedAtEnd,
    /// Its limits would contradict each other.
    #[error(transparent)]
    Limits(#[from] LimitConflict),
}

impl Config {
    /// Reads what [`write`](Self::write) has written.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn read(directory: &Path) -> Result<Self, ShimError> {
        let path = path(directory);
        serde_json::from_slice(&sys::fs::read(&path)?).map_err(|source| ShimError::Document { path, source })
    }

    /// Whether [`write`](Self::write) was there.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub fn is_written(directory: &Path) -> Result<bool, ShimError> {
        Ok(sys::fs::exists(&path(directory))?)
    }

    /// The same container after an update, and what its control group is to be told.
    ///
    /// # Errors
    /// [`UpdateRefusal`].
    pub fn updated(&self, update: &Update) -> Result<(Self, Limits), UpdateRefusal> {
        if self.remove && update.restart.is_some_and(|policy| policy != RestartPolicy::No) {
            return Err(UpdateRefusal::RemovedAtEnd);
        }
        let (limits, told) = self.request.limits.changed(&update.limits)?;
        let mut config = self.clone();
        config.request.limits = limits;
        config.restart = update.restart.unwrap_or(self.restart);
        Ok((config, told))
    }

    /// Writes it into the container's directory.
    ///
    /// # Errors
    /// The file cannot be written, or a path is not UTF-8.
    pub fn write(&self, directory: &Path) -> Result<(), ShimError> {
        let path = path(directory);
        let bytes =
            serde_json::to_vec(self).map_err(|source| ShimError::Document { path: path.clone(), source })?;
        Ok(sys::fs::write_atomic(&path, &bytes, 0o600, Durability::Cached)?)
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("shim.json")
}
