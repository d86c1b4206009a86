//! Why something could not be written into a layer. Paths are those inside the image.

use std::path::{Path, PathBuf};

use base::{Fault, Faulty};
use sys::path_error::PathError;

use crate::tree::{Entry, TreeError};

/// Why something could not be written into a layer.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] PathError),
    /// The merged view could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A path leads through something that is no directory, or a directory was to take its place.
    #[error("cannot create directory \"/{}\": \"/{}\" exists and is not a directory", path.display(), existing.display())]
    NotADirectory {
        /// What was to be created.
        path: PathBuf,
        /// What is in the way.
        existing: PathBuf,
    },
    /// A file was to take the place of a directory.
    #[error("cannot replace directory \"/{}\" with a file", .0.display())]
    OverDirectory(PathBuf),
    /// The directory that is to hold a new entry, or the file to link, does not exist.
    #[error("\"/{}\" does not exist", .0.strip_prefix("/").unwrap_or(.0).display())]
    Missing(PathBuf),
    /// The root directory was to be removed or replaced.
    #[error("the root directory cannot be removed or replaced")]
    Root,
    /// A character device with the number 0:0, which is how overlayfs spells "removed".
    #[error("cannot create \"{}\": a layer cannot hold a character device with the number 0:0", .0.display())]
    WhiteoutDevice(PathBuf),
}

impl WriteError {
    pub(crate) fn not_a_directory(path: &Path, existing: &Entry) -> Self {
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        Self::NotADirectory { path, existing: existing.path().to_owned() }
    }
}

impl Faulty for WriteError {
    fn fault(&self) -> Fault {
        match self {
            // Names in the store are ours: when one is missing, the store is damaged, not the input.
            Self::File(error) => match error.fault() {
                Fault::Input => Fault::Environment,
                other => other,
            },
            Self::Tree(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}
