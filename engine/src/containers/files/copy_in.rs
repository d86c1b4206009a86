//! Files into a container.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use base::CancelToken;
use snapshotter::Tree;
use snapshotter::apply::{ApplyError, Ownership};
use snapshotter::pack::PackOptions;
use snapshotter::tree::{Entry, Follow};

use super::copy_out::{asserts_directory, is_content};
use super::transfer::{Copied, From, To, owners};
use super::{CopyRequest, FilesError, Opened};
use crate::Engine;
use crate::error::EngineError;

/// What is copied into a container.
pub enum Source {
    /// A file or directory of the host. A slash at the end says that it is a directory, `/.` that only what is in it is
    /// meant.
    Path(String),
    /// A tar archive, unpacked into a directory. Owners are those that it says.
    Archive(Box<dyn Read + Send>),
}

/// A file or directory of the host.
struct OnHost {
    tree: Tree,
    top: Entry,
    /// Its name for a copy; empty if only what is in it is meant.
    name: PathBuf,
}

impl Engine {
    /// Copies into a container, as `docker cp` does: into a directory that is there, else to that path. The copies belong to
    /// root there, unless owners are kept.
    ///
    /// # Errors
    /// There is no such container or file, the two do not fit, or the container may not write there.
    pub fn copy_in(
        &self,
        request: &CopyRequest,
        source: Source,
        cancel: &CancelToken,
    ) -> Result<Copied, EngineError> {
        let source = match source {
            Source::Path(path) => Ok(OnHost::open(&path, request.follow).map(|found| (found, path))?),
            Source::Archive(archive) => Err(archive),
        };
        let opened = self.open_files(&request.container)?;
        let copied = match source {
            Ok((found, path)) => self.copy_from_host(&opened, request, &found, &path, cancel),
            Err(archive) => self.unpack_into(&opened, request, archive, cancel),
        };
        let copied = opened.close(copied)?;
        self.tell_of_container(&request.container, "extract-to-dir", []);
        Ok(copied)
    }

    fn copy_from_host(
        &self,
        opened: &Opened,
        request: &CopyRequest,
        source: &OnHost,
        source_path: &str,
        cancel: &CancelToken,
    ) -> Result<Copied, EngineError> {
        let (below, name) = opened.place(request, source, source_path)?;
        let from = From {
            tree: &source.tree,
            top: &source.top,
            name: &name,
            options: PackOptions { plain: false, enter: &|_| true },
        };
        let ownership = owners(request.archive);
        let to = To { root: opened.files.root(), below: &below, ownership, replaces: false };
        self.transfer(&from, &to, cancel).map_err(|error| opened.explain(error, &below))
    }

    fn unpack_into(
        &self,
        opened: &Opened,
        request: &CopyRequest,
        archive: Box<dyn Read + Send>,
        cancel: &CancelToken,
    ) -> Result<Copied, EngineError> {
        let CopyRequest { container, path, .. } = request;
        let tree = opened.tree()?;
        let found = tree
            .lookup(path, Follow::Last)?
            .filter(|found| found.is_dir() && !opened.is_kernels(found.path()));
        let below = found.map(|found| found.path().to_owned());
        let below = below.ok_or_else(|| FilesError::MustBeDirectory {
            container: container.clone(),
            path: path.clone(),
        })?;
        let (uid, gid) = opened.user;
        let ownership = if request.own { Ownership::Of(uid, gid) } else { Ownership::FromArchive };
        let to = To { root: opened.files.root(), below: &below, ownership, replaces: request.replaces };
        self.unpack_archive(archive, &to, cancel).map_err(|error| opened.explain(error, &below))?;
        Ok(Copied::default())
    }
}

impl Opened {
    /// The directory of the container that a copy is made in, and the name of what is copied there.
    fn place(
        &self,
        request: &CopyRequest,
        source: &OnHost,
        source_path: &str,
    ) -> Result<(PathBuf, PathBuf), EngineError> {
        let CopyRequest { container, path, .. } = request;
        if path.is_empty() {
            return Err(FilesError::EmptyPath(container.clone()).into());
        }
        let not_found =
            |path: &str| FilesError::NotFound { path: path.to_owned(), container: container.clone() };
        let (found, real, missing) = self.tree()?.locate(path, Follow::Last)?;
        if self.is_kernels(&real) {
            return Err(not_found(path).into());
        }
        let split = || {
            let name = real.file_name().map(PathBuf::from).unwrap_or_default();
            (real.parent().unwrap_or(Path::new("")).to_owned(), name)
        };
        let source_path = source_path.to_owned();
        match found {
            Some(found) if found.is_dir() => Ok((real, source.name.clone())),
            Some(_) if source.top.is_dir() => {
                let destination = format!("{container}:{path}");
                Err(FilesError::DirectoryOntoFile { source_path, destination }.into())
            }
            Some(_) if asserts_directory(path) => Err(FilesError::NotADirectory(path.clone()).into()),
            Some(_) => Ok(split()),
            None if missing > 1 => {
                let around = Path::new(path).parent().filter(|around| !around.as_os_str().is_empty());
                Err(not_found(&around.map_or(path.clone(), |around| around.display().to_string())).into())
            }
            None if asserts_directory(path) && !source.top.is_dir() => {
                Err(FilesError::NoDirectory(path.clone()).into())
            }
            None => Ok(split()),
        }
    }

    /// Says of a refusal of the kernel what it is about.
    fn explain(&self, error: EngineError, below: &Path) -> EngineError {
        let read_only = |error: &ApplyError| match error {
            ApplyError::Io { source, .. } => source.kind() == std::io::ErrorKind::ReadOnlyFilesystem,
            _ => false,
        };
        match error {
            EngineError::Unpack(source) if read_only(&source) => {
                let what = if self.is_shown(below) { "mounted volume" } else { "container rootfs" };
                FilesError::ReadOnly { what, source: Box::new(source) }.into()
            }
            error => error,
        }
    }
}

impl OnHost {
    fn open(text: &str, follow: bool) -> Result<Self, EngineError> {
        let path = Path::new(text);
        let missing = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => EngineError::from(FilesError::NoSource(path.to_owned())),
            std::io::ErrorKind::NotADirectory => FilesError::NotADirectory(text.to_owned()).into(),
            _ => sys::path_error::PathError::new("look at", path, error).into(),
        };
        // A link without slash is copied as a link.
        let follow = follow || asserts_directory(text);
        let found = if follow { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
        let found = found.map_err(missing)?;
        if asserts_directory(text) && !found.is_dir() {
            return Err(FilesError::NotADirectory(text.to_owned()).into());
        }
        let real = if follow { path.canonicalize().map_err(missing)? } else { path.to_owned() };
        // What was named by a link keeps the name.
        let name = path.file_name().or(real.file_name()).map(PathBuf::from).unwrap_or_default();
        let name = if is_content(text) { PathBuf::new() } else { name };
        if found.is_dir() {
            let tree = Tree::directory(&real, None)?;
            let top = tree.root()?;
            return Ok(Self { tree, top, name });
        }
        let around = real.parent().filter(|around| !around.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let tree = Tree::directory(around, None)?;
        let file = real.file_name().unwrap_or(OsStr::new(""));
        let top = tree.lookup(file, Follow::NoLast)?.ok_or_else(|| FilesError::NoSource(path.to_owned()))?;
        Ok(Self { tree, top, name })
    }
}
