//! The error of a file operation: what was tried, and on which path.

use std::io;
use std::path::{Path, PathBuf};

use base::{Fault, Faulty};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}{}", path.display(), hint(source))]
pub struct PathError {
    /// What was tried, as a verb phrase that continues "cannot": `open`, `create directory`.
    pub operation: &'static str,
    /// On what: a path as the user may look it up, not necessarily the one given to the kernel.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What to do about a failure that is about the whole file system rather than this file.
pub fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => " (the disk is full; free some space and try again)",
        io::ErrorKind::QuotaExceeded => " (the disk quota is used up)",
        io::ErrorKind::ReadOnlyFilesystem => " (the file system is mounted read-only)",
        _ => "",
    }
}

impl PathError {
    /// An error of `operation` on `path`.
    pub fn new(operation: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// The kind of the underlying error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the file or a directory on the way to it does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

impl Faulty for PathError {
    fn fault(&self) -> Fault {
        base::fault::of_io(&self.source)
    }
}

/// Adds operation and path to the error of a `std`, rustix or nix call.
pub trait PathContext<T> {
    /// The same result, its error naming `operation` (a verb) and `path`.
    fn at(self, operation: &'static str, path: &Path) -> Result<T, PathError>;
}

impl<T, E: Into<io::Error>> PathContext<T> for Result<T, E> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, PathError> {
        self.map_err(|source| PathError::new(operation, path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_operation_and_path() {
        let error =
            std::fs::File::open("/nowhere/at/all").at("open", Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /nowhere/at/all");
        assert!(error.is_not_found());
        assert_eq!(error.fault(), Fault::Input);
        let full = PathError::new("write", "/x", io::ErrorKind::StorageFull);
        assert!(full.to_string().contains("the disk is full"), "{full}");
        assert_eq!(full.fault(), Fault::Environment);
    }
}
