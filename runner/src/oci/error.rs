//! What can go wrong with a command of the runtime. Callers match some of the words: they stay.

use std::io;
use std::path::PathBuf;

use base::{Fault, Faulty};
use sys::path_error::PathError;

use super::record::Status;
use crate::cgroup::CgroupError;
use crate::error::{RequestError, RunError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// No container has this id.
    #[error("container \"{id}\" does not exist")]
    Unknown {
        /// The id.
        id: String,
    },
    /// A container has this id already.
    #[error("container with id \"{id}\" already exists; delete it or take another id")]
    Exists {
        /// The id.
        id: String,
    },
    /// The id cannot be one.
    #[error("invalid container id \"{id}\": use letters, digits, \"_\", \"+\", \"-\" and \".\"")]
    Id {
        /// As it was given.
        id: String,
    },
    /// The container is doing something that the command does not go with.
    #[error("container \"{id}\" cannot be {operation}: it is {}", status.name())]
    Status {
        /// The container.
        id: String,
        /// What it is doing.
        status: Status,
        /// What was to be done with it.
        operation: &'static str,
    },
    /// There is no process to signal.
    #[error("container not running: \"{id}\" has ended")]
    NotRunning {
        /// The container.
        id: String,
    },
    /// The bundle's configuration is no JSON of a spec.
    #[error("cannot read the configuration {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration asks for something impossible, or has too little.
    #[error("the configuration {} {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as "has no process".
        problem: String,
    },
    /// A container's record is damaged.
    #[error("the record {} cannot be used; delete the container with --force", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A process cannot be reached.
    #[error("cannot reach process {pid} of container \"{id}\"")]
    Process {
        /// The container.
        id: String,
        /// Its number on the host.
        pid: u32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A hook failed.
    #[error("the {kind} hook {} {problem}", path.display())]
    Hook {
        /// Which kind.
        kind: &'static str,
        /// Its program.
        path: PathBuf,
        /// What it did, as "exited with 1: no".
        problem: String,
    },
    /// The terminal could not be handed over.
    #[error("cannot hand the terminal over at the socket {}", path.display())]
    Console {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A terminal is asked for and nobody takes it, or the other way round.
    #[error("{problem}")]
    Terminal {
        /// What does not fit.
        problem: &'static str,
    },
    /// A path cannot be made absolute.
    #[error("cannot use the path {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The process could not be started.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The spec cannot be carried out.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The control group cannot be used.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// A file of the container cannot be used.
    #[error(transparent)]
    File(#[from] PathError),
}

impl Faulty for OciError {
    fn fault(&self) -> Fault {
        match self {
            Self::Process { .. } | Self::Console { .. } | Self::Path { .. } => Fault::Environment,
            Self::Run(error) => error.fault(),
            Self::Request(error) => error.fault(),
            Self::Group(error) => error.fault(),
            Self::File(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}
