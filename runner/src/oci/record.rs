//! What is written down of a container, and how it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::fs::Durability;

use super::error::OciError;
use crate::cgroup::{ControlGroup, GroupDirectory};

/// The version of the runtime-spec that we follow.
pub const OCI_VERSION: &str = "1.2.0";

/// The name of the record in a container's directory.
const FILE: &str = "record.json";

/// Everything that a later command has to know of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The directory that it was created from.
    pub bundle: PathBuf,
    /// Its root filesystem.
    pub rootfs: PathBuf,
    /// The number of its first process on the host.
    pub pid: u32,
    /// When that process was started, in the kernel's clock ticks since the machine was: numbers are used again,
    /// this pair is not.
    pub process_started: u64,
    /// When it was created (RFC 3339).
    pub created: String,
    /// Annotations of its spec.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its control group.
    pub group: Vec<GroupDirectory>,
    /// Whether its processes end with the first one: it has a process id namespace of its own.
    pub owns_processes: bool,
}

/// What a container is doing (runtime-spec, "State"; `paused` is everybody's addition).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its process waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// All its processes stand still.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// As the spec names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What `state` prints and hooks read (runtime-spec, "State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: &'a str,
    pid: u32,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    annotations: &'a BTreeMap<String, String>,
}

impl Record {
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, OciError> {
        let path = directory.join(FILE);
        let bytes = match sys::fs::read(&path) {
            Err(error) if error.is_not_found() => return Ok(None),
            bytes => bytes?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| OciError::Record { path, source })
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), OciError> {
        let path = directory.join(FILE);
        let bytes =
            serde_json::to_vec(self).map_err(|source| OciError::Record { path: path.clone(), source })?;
        Ok(sys::fs::write_atomic(&path, &bytes, 0o600, Durability::Cached)?)
    }

    /// Its control group.
    pub fn group(&self) -> ControlGroup {
        ControlGroup::open(self.group.clone())
    }

    /// Whether its first process is there, and more than a result that nobody has asked for.
    pub(super) fn is_alive(&self) -> Result<bool, OciError> {
        let process = Stat::of(self.pid)?;
        Ok(process.is_some_and(|stat| stat.started == self.process_started && !stat.is_over))
    }

    /// What is told of it.
    pub fn state<'a>(&'a self, status: &'a str) -> State<'a> {
        State {
            oci_version: OCI_VERSION,
            id: &self.id,
            status,
            pid: if status == Status::Stopped.name() { 0 } else { self.pid },
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            annotations: &self.annotations,
        }
    }
}

/// What `/proc/PID/stat` says of a process (`proc_pid_stat(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Field 22.
    pub(super) started: u64,
    is_over: bool,
}

impl Stat {
    /// `None` when there is no such process.
    pub(super) fn of(pid: u32) -> Result<Option<Self>, OciError> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        match sys::fs::read(&path) {
            Ok(text) => Ok(Self::parse(&String::from_utf8_lossy(&text))),
            Err(error) if error.is_not_found() => Ok(None),
            // It ended while it was read (ESRCH).
            Err(_) if !path.exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The name in parentheses may have anything in it, so the fields are counted from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let is_over = matches!(fields.next()?, "Z" | "X" | "x");
        Some(Self { started: fields.nth(18)?.parse().ok()?, is_over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_began() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(Stat::parse(line), Some(Stat { started: 4711, is_over: false }));
        assert!(Stat::parse(&line.replace(" S ", " Z ")).unwrap().is_over);
        assert!(Stat::of(std::process::id()).unwrap().is_some());
        assert_eq!(Stat::of(u32::MAX >> 1).unwrap(), None);
    }
}
