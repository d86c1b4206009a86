//! What is known of a container, in a file that only its supervisor writes.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use base::Timestamp;
use serde::{Deserialize, Serialize};
use sys::fs::Durability;
use sys::lock::FileLock;
use sys::path_error::PathError;

use super::error::ShimError;
use super::health::Health;
use crate::cgroup::GroupDirectory;
use crate::network::endpoint::Endpoint;

/// What a container does. The names are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has never run.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended and waits to be started again.
    Restarting,
    /// It has ended.
    Exited,
}

impl Status {
    /// The name in Docker's documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }

    /// Whether somebody supervises the container.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// What it does.
    pub status: Status,
    /// Its first process as the supervisor saw it; 0 when there is none.
    pub pid: u32,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended.
    pub finished_at: Option<Timestamp>,
    /// How it last ended: its exit code, or 128 and the signal's number.
    pub exit_code: i32,
    /// Whether the kernel killed a process of it for lack of memory.
    pub out_of_memory: bool,
    /// Why it could not be started, or what else went wrong.
    pub error: String,
    /// How often it was started again.
    pub restart_count: u32,
    /// Its health, if it has a check.
    pub health: Option<Health>,
    /// What it has of its network, while it runs and if it has one of its own.
    #[serde(default)]
    pub network: Option<Endpoint>,
    /// What it has of further networks, while it runs.
    #[serde(default)]
    pub further_networks: Vec<Endpoint>,
    /// The directories of its control group, while it runs and if it has one.
    #[serde(default)]
    pub group: Vec<GroupDirectory>,
    /// Whether it ended, or is to end, because somebody asked for that; the end of the machine does not count.
    #[serde(default)]
    pub stopped: bool,
    /// Whether its supervisor was killed and could not even write this.
    #[serde(skip)]
    pub abandoned: bool,
}

impl State {
    /// Reads what is known of the container of `directory`; of one that was never started, nothing. One that
    /// ran when its supervisor was killed has ended with it.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn read(directory: &Path) -> Result<Self, ShimError> {
        // In this order: whoever lets go of the lock has written the state before.
        let supervised = Self::is_supervised(directory)?;
        let path = path(directory);
        let state = match sys::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Self>(&bytes)
                .map_err(|source| ShimError::Document { path, source })?,
            Err(error) if error.is_not_found() => Self::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(if supervised { state } else { state.without_supervisor() })
    }

    /// Whether somebody supervises the container of `directory`.
    ///
    /// # Errors
    /// The lock cannot be looked at.
    pub fn is_supervised(directory: &Path) -> Result<bool, PathError> {
        FileLock::is_held(&super::lock_path(directory))
    }

    /// The file as it is now, which is another one whenever something has changed. `None` of a container that was never
    /// started.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn file(directory: &Path) -> Result<Option<Metadata>, PathError> {
        match sys::fs::metadata(&path(directory)) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, directory: &Path) -> Result<(), ShimError> {
        let path = path(directory);
        let bytes =
            serde_json::to_vec(self).map_err(|source| ShimError::Document { path: path.clone(), source })?;
        Ok(sys::fs::write_atomic(&path, &bytes, 0o600, Durability::Cached)?)
    }

    fn without_supervisor(self) -> Self {
        if !self.status.is_live() {
            return self;
        }
        let exit_code = if self.status == Status::Restarting { self.exit_code } else { 128 + 9 };
        let error = "its supervisor was killed".to_owned();
        let (network, further_networks, group) = (None, Vec::new(), Vec::new());
        let status = Status::Exited;
        Self { status, pid: 0, exit_code, error, network, further_networks, group, abandoned: true, ..self }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("state.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::lock::LockMode;

    #[test]
    fn only_a_locked_container_runs() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), State::default());
        let running = State { status: Status::Running, pid: 7, ..State::default() };
        running.write(dir.path()).unwrap();
        let lock = FileLock::acquire(&crate::shim::lock_path(dir.path()), LockMode::Exclusive).unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), running);
        drop(lock);
        let dead = State::read(dir.path()).unwrap();
        assert_eq!((dead.status, dead.pid, dead.exit_code), (Status::Exited, 0, 137));
        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        assert!(State::read(dir.path()).unwrap_err().to_string().contains("state.json is damaged"));
    }
}
