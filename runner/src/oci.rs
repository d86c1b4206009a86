//! An OCI runtime: containers that other programs (containerd, Podman, Docker) create, start and delete.
//!
//! Source: OCI runtime-spec 1.2 (`runtime.md`, `config.md`, `runtime-linux.md`); where that is silent, what
//! callers of Debian's `runc` and `crun` expect.
//!
//! A container is a directory below the runtime's root: its [`Record`](record::Record), and, until it is
//! started, the socket that its process waits at. Nothing of ours runs between two commands; whoever called
//! [`Runtime::create`] becomes the parent of the container's process when we end. What a container is doing is
//! never written down: it is asked of the kernel.

mod config;
mod console;
mod create;
pub mod error;
mod events;
mod exec;
pub mod features;
mod foreground;
mod hooks;
mod limits;
pub mod record;
mod signal;
mod update;

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use sys::ns::PidFd;

pub use self::config::default_spec;
pub use self::create::{CreateRequest, Created};
pub use self::error::OciError;
pub use self::events::{Event, process_table};
pub use self::exec::{ExecOptions, ExecProcess, ExecRequest};
pub use self::foreground::attend;
use self::record::{Record, Status};
pub use sys::spawn::inherited;

pub use crate::signal::parse as parse_signal;

pub use self::update::{limits_from_flags, limits_from_json};

/// The containers below one directory.
#[derive(Debug, Clone)]
pub struct Runtime {
    root: PathBuf,
}

/// What is known of a container.
#[derive(Debug)]
pub struct Known {
    /// What was written down when it was created.
    pub record: Record,
    /// What it is doing.
    pub status: Status,
}

impl Runtime {
    /// The runtime whose containers are below `root`, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn directory(&self, id: &str) -> Result<PathBuf, OciError> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    fn hold_socket(&self, id: &str) -> Result<PathBuf, OciError> {
        Ok(self.directory(id)?.join("start"))
    }

    /// The container `id` and what it is doing now.
    pub fn look_up(&self, id: &str) -> Result<Known, OciError> {
        let record =
            Record::read(&self.directory(id)?)?.ok_or_else(|| OciError::Unknown { id: id.to_owned() })?;
        let status = self.status(&record)?;
        Ok(Known { record, status })
    }

    /// All containers, by their ids.
    pub fn list(&self) -> Result<Vec<Known>, OciError> {
        if !sys::fs::exists(&self.root)? {
            return Ok(Vec::new());
        }
        let mut names = sys::fs::list(&self.root)?;
        names.sort();
        let mut known = Vec::new();
        for name in names {
            match self.look_up(&name.to_string_lossy()) {
                Ok(one) => known.push(one),
                // It is being made or has just been deleted, or it is something else.
                Err(OciError::Unknown { .. } | OciError::Id { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    fn status(&self, record: &Record) -> Result<Status, OciError> {
        if !record.is_alive()? {
            return Ok(Status::Stopped);
        }
        if sys::fs::exists(&self.hold_socket(&record.id)?)? {
            return Ok(Status::Created);
        }
        Ok(if record.group().is_frozen().unwrap_or(false) { Status::Paused } else { Status::Running })
    }

    /// Suspends or resumes all processes of a container.
    pub fn set_paused(&self, id: &str, paused: bool) -> Result<(), OciError> {
        let Known { record, status } = self.look_up(id)?;
        match (status, paused) {
            (Status::Running | Status::Created, true) => record.group().freeze()?,
            (Status::Paused, false) => record.group().thaw()?,
            (status, _) => {
                return Err(OciError::Status { id: id.to_owned(), status, operation: verb(paused) });
            }
        }
        Ok(())
    }

    /// The processes of a container by their numbers on the host.
    pub fn processes(&self, id: &str) -> Result<Vec<u32>, OciError> {
        Ok(self.look_up(id)?.record.group().processes()?)
    }
}

fn verb(paused: bool) -> &'static str {
    if paused { "paused" } else { "resumed" }
}

/// A descriptor of a container's first process, which is surely that one.
fn process_of(record: &Record) -> Result<Option<PidFd>, OciError> {
    let process = match PidFd::open(record.pid) {
        Ok(process) => process,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => return Ok(None),
        Err(source) => return Err(OciError::Process { id: record.id.clone(), pid: record.pid, source }),
    };
    // The number may have been given to another process; not any more while we hold the descriptor.
    Ok(record.is_alive()?.then_some(process))
}

/// Ids are names of directories, and callers use only these characters.
fn check_id(id: &str) -> Result<(), OciError> {
    let good = |character: char| character.is_ascii_alphanumeric() || "_+-.".contains(character);
    let is_name = !id.is_empty() && !matches!(id, "." | "..") && id.len() <= 255;
    match is_name && id.chars().all(good) {
        true => Ok(()),
        false => Err(OciError::Id { id: id.to_owned() }),
    }
}

/// A path that does not depend on the working directory.
fn absolute(path: &Path) -> Result<PathBuf, OciError> {
    std::path::absolute(path).map_err(|source| OciError::Path { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names() {
        for id in ["a", "A-1_b.c+d", &"f".repeat(64)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "../a", "a b", "é", &"f".repeat(256)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
