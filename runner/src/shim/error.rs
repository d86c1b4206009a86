//! What can go wrong between a supervisor and those who ask it for something.

use std::io;
use std::path::PathBuf;

use base::{Fault, Faulty};
use sys::path_error::PathError;

use crate::error::RunError;

/// Why a container could not be supervised, or its supervisor not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// A file of the container's directory failed.
    #[error(transparent)]
    File(#[from] PathError),
    /// A file of the container's directory is not what it should be.
    #[error("{} is damaged", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// In what way.
        #[source]
        source: serde_json::Error,
    },
    /// Somebody else supervises the container.
    #[error("the container of {} is being used by another process", directory.display())]
    Busy {
        /// Its directory.
        directory: PathBuf,
    },
    /// A system call of ours failed.
    #[error("cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Nobody takes the container's log.
    #[error("failed to initialize logging driver: {driver}")]
    Log {
        /// The driver.
        driver: &'static str,
        /// Why there is nobody.
        #[source]
        source: io::Error,
    },
    /// The other end sent what is no message.
    #[error("the supervisor of the container has sent something that is no answer")]
    Malformed,
    /// The other end has gone before it answered.
    #[error("the supervisor of the container has ended without an answer")]
    Gone,
    /// The supervisor could not do what it was asked for.
    #[error("{message}")]
    Refused {
        /// Its words.
        message: String,
        /// The exit code that stands for the failure, as `docker run` has them.
        code: u8,
    },
    /// The container could not be started or followed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ShimError {
    /// A system call that failed.
    pub(crate) fn system<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::System { operation, source: source.into() }
    }

    /// The exit code that stands for this error, as `docker run` has them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Run(error) => u8::try_from(error.exit_code()).unwrap_or(125),
            _ => 125,
        }
    }
}

impl Faulty for ShimError {
    fn fault(&self) -> Fault {
        match self {
            Self::File(error) => error.fault(),
            Self::Run(error) => error.fault(),
            Self::System { source, .. } => base::fault::of_io(source),
            Self::Log { .. } => Fault::Environment,
            Self::Document { .. } | Self::Gone => Fault::Environment,
            Self::Malformed => Fault::Bug,
            Self::Busy { .. } | Self::Refused { .. } => Fault::Input,
        }
    }
}
