//! Why files of a container are not copied. The words are Docker's where it has some.

use std::path::PathBuf;

use base::{Fault, Faulty};

/// The words that Docker has for it, and that scripts look for.
const COULD_NOT_FIND: &str = "Could not find the file";

/// Why something is not done with the files of a container.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is no such file in it.
    #[error("{words} {path} in container {container}", words = COULD_NOT_FIND)]
    NotFound {
        /// The path, as it was given.
        path: String,
        /// The container, as it was named.
        container: String,
    },
    /// The path in the container is missing.
    #[error("the path in container {0} is empty")]
    EmptyPath(String),
    /// A file of the host is missing.
    #[error("lstat {}: no such file or directory", .0.display())]
    NoSource(PathBuf),
    /// A directory is to be copied onto something else.
    #[error("cannot copy directory {source_path}: {destination} is not a directory")]
    DirectoryOntoFile {
        /// The directory.
        source_path: String,
        /// What is there.
        destination: String,
    },
    /// A path that says it is a directory leads to something else.
    #[error("{0}: not a directory")]
    NotADirectory(String),
    /// A directory that a file is to be copied into is missing.
    #[error("{0}: no such directory")]
    NoDirectory(String),
    /// The directory around a destination is missing.
    #[error("invalid output path: directory \"{}\" does not exist", .0.display())]
    NoParent(PathBuf),
    /// A device or a pipe of the host, which a file would replace.
    #[error("invalid output path: \"{}\" is not a file or directory", .0.display())]
    NotAFile(PathBuf),
    /// An archive is unpacked into directories only.
    #[error("destination \"{container}:{path}\" must be a directory")]
    MustBeDirectory {
        /// The container, as it was named.
        container: String,
        /// The path, as it was given.
        path: String,
    },
    /// The container cannot write there.
    #[error("{what} is marked read-only")]
    ReadOnly {
        /// `container rootfs` or `mounted volume`
        what: &'static str,
        /// Why.
        #[source]
        source: Box<snapshotter::apply::ApplyError>,
    },
    /// The files could not be read or the archive not be written.
    #[error("cannot read the files")]
    Pack(#[from] snapshotter::pack::PackError),
    /// The container is between two runs.
    #[error("container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// No pipe or thread could be made to copy with.
    #[error("cannot copy: {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl FilesError {
    /// What the user may do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoParent(_) => Some("directories around the destination are not made; make them first"),
            Self::NoDirectory(_) => Some("leave the slash at its end out, or make the directory first"),
            _ => None,
        }
    }
}

impl Faulty for FilesError {
    fn fault(&self) -> Fault {
        match self {
            Self::Pack(error) => error.fault(),
            Self::System { source, .. } => base::fault::of_io(source),
            _ => Fault::Input,
        }
    }
}
