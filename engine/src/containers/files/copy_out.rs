//! Files out of a container.

use std::io::Write;
use std::path::{Path, PathBuf};

use base::CancelToken;
use snapshotter::Tree;
use snapshotter::pack::PackOptions;
use snapshotter::tree::{Entry, Follow};
use sys::rootdir::RootDir;

use super::transfer::{Copied, From, To, owners};
use super::{CopyRequest, FilesError, Opened};
use crate::Engine;
use crate::error::EngineError;
use crate::request::Destination;

/// How many links a destination may lead through.
const MAX_LINKS: usize = 40;

/// What a path of a container leads to.
pub(super) struct Found {
    pub(super) top: Entry,
    /// Its name for a copy; empty if only what is in it is meant.
    pub(super) name: PathBuf,
    /// Its own name, also where it was named by a link.
    pub(super) own_name: PathBuf,
}

/// Whether a path says that it is a directory.
pub(super) fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || is_content(path) || path == ".." || path.ends_with("/..")
}

/// Whether a path means what is in a directory.
pub(super) fn is_content(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

impl Engine {
    /// Copies a file or directory of a container to a path of the host, as `docker cp` does: into a directory that is
    /// there, else to that path. The copies belong to the caller and give nobody rights, unless owners are kept.
    ///
    /// # Errors
    /// There is no such container or file, or the two do not fit.
    pub fn copy_out(
        &self,
        request: &CopyRequest,
        destination: &str,
        cancel: &CancelToken,
    ) -> Result<Copied, EngineError> {
        let opened = self.open_files(&request.container)?;
        let copied = self.copy_found(&opened, request, destination, cancel);
        let copied = opened.close(copied)?;
        self.tell_of_container(&request.container, "archive-path", []);
        Ok(copied)
    }

    fn copy_found(
        &self,
        opened: &Opened,
        request: &CopyRequest,
        destination: &str,
        cancel: &CancelToken,
    ) -> Result<Copied, EngineError> {
        let tree = opened.tree()?;
        let Found { top, name, .. } = opened.find(&tree, request)?;
        let (root, name) = place(destination, top.is_dir(), &name, &request.path)?;
        let enter = |path: &Path| opened.is_shown(path);
        let options = PackOptions { plain: !request.archive, enter: &enter };
        let from = From { tree: &tree, top: &top, name: &name, options };
        let to =
            To { root: &root, below: Path::new(""), ownership: owners(request.archive), replaces: false };
        self.transfer(&from, &to, cancel)
    }

    /// Writes a file or directory of a container as a tar stream.
    ///
    /// # Errors
    /// There is no such container or file, or the stream cannot be written.
    pub fn copy_out_as_archive(
        &self,
        request: &CopyRequest,
        out: &Destination,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let opened = self.open_files(&request.container)?;
        let written = opened.tree().and_then(|tree| {
            let Found { top, name, own_name } = opened.find(&tree, request)?;
            let name = match () {
                () if name.as_os_str().is_empty() => Path::new("."),
                () if request.follow => &own_name,
                () => &name,
            };
            let enter = |path: &Path| opened.is_shown(path);
            let options = PackOptions { plain: false, enter: &enter };
            let from = From { tree: &tree, top: &top, name, options };
            crate::export::archive::to(out, |out: &mut dyn Write| {
                from.write(out, cancel).map_err(FilesError::from)?;
                Ok(())
            })
        });
        opened.close(written)?;
        self.tell_of_container(&request.container, "archive-path", []);
        Ok(())
    }
}

impl Opened {
    pub(super) fn find(&self, tree: &Tree, request: &CopyRequest) -> Result<Found, EngineError> {
        let CopyRequest { container, path, .. } = request;
        if path.is_empty() {
            return Err(FilesError::EmptyPath(container.clone()).into());
        }
        let is_directory = asserts_directory(path);
        let follow = if request.follow || is_directory { Follow::Last } else { Follow::NoLast };
        let not_found = || FilesError::NotFound { path: path.clone(), container: container.clone() };
        let top =
            tree.lookup(path, follow)?.filter(|top| !self.is_kernels(top.path())).ok_or_else(not_found)?;
        if is_directory && !top.is_dir() {
            return Err(FilesError::NotADirectory(path.clone()).into());
        }
        let own_name = PathBuf::from(top.name());
        let name = if is_content(path) {
            PathBuf::new()
        } else {
            Path::new(path).file_name().map_or(own_name.clone(), PathBuf::from)
        };
        Ok(Found { top, name, own_name })
    }
}

/// The directory of the host that a copy is made in, and the name of what is copied there.
fn place(
    destination: &str,
    is_directory: bool,
    name: &Path,
    source_path: &str,
) -> Result<(RootDir, PathBuf), EngineError> {
    let mut path = PathBuf::from(destination);
    for _ in 0..MAX_LINKS {
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Ok((RootDir::open(&path)?, name.to_owned())),
            Ok(found) => {
                let text = || path.display().to_string();
                if is_directory {
                    let (source_path, destination) = (source_path.to_owned(), text());
                    return Err(FilesError::DirectoryOntoFile { source_path, destination }.into());
                }
                if !found.is_file() {
                    return Err(FilesError::NotAFile(path).into());
                }
                let path = path.canonicalize().map_err(|error| file_error("resolve", &path, error))?;
                return beside(&path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory && !is_around_missing(&path) => {
                return Err(FilesError::NotADirectory(destination.to_owned()).into());
            }
            Err(_) => match std::fs::read_link(&path) {
                // A link to what is not there: that is made.
                Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
                Err(_) if asserts_directory(destination) && !is_directory => {
                    return Err(FilesError::NoDirectory(destination.to_owned()).into());
                }
                Err(_) => return beside(&path),
            },
        }
    }
    let error = std::io::Error::other("too many levels of symbolic links");
    Err(file_error("resolve", Path::new(destination), error))
}

fn is_around_missing(path: &Path) -> bool {
    path.parent().is_some_and(|around| !around.as_os_str().is_empty() && !around.is_dir())
}

/// The directory around a path, and the path's name in it.
fn beside(path: &Path) -> Result<(RootDir, PathBuf), EngineError> {
    let around = match path.parent() {
        Some(around) if !around.as_os_str().is_empty() => around,
        _ => Path::new("."),
    };
    let name = path.file_name().map(PathBuf::from).filter(|_| around.is_dir());
    let name = name.ok_or_else(|| FilesError::NoParent(around.to_owned()))?;
    Ok((RootDir::open(around)?, name))
}

fn file_error(operation: &'static str, path: &Path, error: std::io::Error) -> EngineError {
    sys::path_error::PathError::new(operation, path, error).into()
}
