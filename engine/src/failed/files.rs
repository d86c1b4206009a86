//! Files of a failed step: copies of them outside of the store. Everything is read through the merged view in user
//! space, where links lead nowhere else.

use std::path::{Path, PathBuf};

use base::CancelToken;
use base::event::Event;
use snapshotter::copy::CopyOptions;
pub use snapshotter::diff::{PathChange, PathChangeKind};
use snapshotter::mode_change::ModeChange;
use snapshotter::select::{SelectError, Selection, SourcePattern};
use snapshotter::tree::Follow;
use snapshotter::writer::{LayerWriter, WriterOptions};
use snapshotter::{SnapshotId, Tree};

use super::KeptStep;
use crate::Engine;
use crate::error::EngineError;
use crate::ops::DockerPatterns;
use crate::remote::Fetcher;

/// What a copy for the caller may not bring along: programs that give whoever starts them other rights.
const WITHOUT_RIGHTS: &str = "ug-s";

/// `--output-on-failure`: files of a failed step that the caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureOutput {
    /// A file or directory in it, with wildcards; `None` is every file that the step made or changed.
    pub path: Option<String>,
    /// Where to.
    pub destination: PathBuf,
}

impl Engine {
    /// Copies a file or directory of a failed step out, as `docker cp` does: into a destination that is a directory,
    /// else to it. The copies belong to the caller.
    ///
    /// # Errors
    /// There is no such build, nothing is kept of it, it has no such file, or it cannot be copied.
    pub fn copy_failed(
        &self,
        build: Option<&str>,
        path: &str,
        destination: &Path,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let opened = self.open_failed(build)?;
        let tree = self.tree_of(opened.root)?;
        let pattern = SourcePattern { allow_wildcard: false, ..SourcePattern::of_copy(path) };
        let selection = Selection::resolve(&tree, &[pattern], None, &DockerPatterns)?;
        let entry = tree.lookup(path, Follow::Last)?;
        let is_directory = entry.as_ref().is_some_and(snapshotter::tree::Entry::is_dir);
        // A directory is copied with its name into one that is there.
        let name = Path::new(path).file_name().filter(|_| is_directory && destination.is_dir());
        let destination = name.map_or(destination.to_owned(), |name| destination.join(name));
        self.copy_to(&tree, &selection, &destination, cancel)
    }

    fn copy_to(
        &self,
        tree: &Tree,
        selection: &Selection,
        destination: &Path,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        // The writer stays below the directory that it is given.
        let text = destination.as_os_str().as_encoded_bytes();
        let into = destination.is_dir() || text.ends_with(b"/");
        let (below, name) = match destination.file_name().filter(|_| !into) {
            Some(name) => (destination.parent().unwrap_or(Path::new("")), PathBuf::from(name)),
            None => (destination, PathBuf::new()),
        };
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        sys::fs::create_dir_all(below, 0o755)?;
        let options = WriterOptions { full_copy: true, userxattr: false, time: self.clock.now() };
        let writer = LayerWriter::new(below, None, options)?;
        let chmod: ModeChange = WITHOUT_RIGHTS.parse()?;
        let owner = sys::rootdir::own_ids();
        let to = Path::new("/").join(name);
        let options = CopyOptions {
            destination: &to,
            dest_is_dir: into,
            chown: Some(owner),
            parent_owner: owner,
            chmod: Some(&chmod),
            xattrs: false,
            ..CopyOptions::as_it_is()
        };
        snapshotter::copy::copy(&writer, tree, selection, &options, cancel)?;
        Ok(())
    }

    /// Every file that a step made or changed, below its own directories.
    fn changed_files(
        &self,
        root: SnapshotId,
        cancel: &CancelToken,
    ) -> Result<Vec<SourcePattern>, EngineError> {
        let tree = self.tree_of(root)?;
        let mut patterns = Vec::new();
        for change in self.store.changed_paths(root, cancel)? {
            let found = tree.lookup(&change.path, Follow::NoLast)?.filter(|found| !found.is_dir());
            if let (Some(_), Some(path)) = (found, change.path.to_str()) {
                patterns.push(SourcePattern {
                    allow_wildcard: false,
                    follow_last: false,
                    ..SourcePattern::of_copy_parents(path)
                });
            }
        }
        Ok(patterns)
    }

    fn write_output(
        &self,
        root: SnapshotId,
        output: &FailureOutput,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let tree = self.tree_of(root)?;
        let (patterns, destination) = match &output.path {
            Some(path) => (
                vec![SourcePattern { allow_no_match: false, ..SourcePattern::of_copy(path) }],
                output.destination.clone(),
            ),
            // The slash makes it a directory.
            None => (self.changed_files(root, cancel)?, output.destination.join("")),
        };
        let selection = Selection::resolve(&tree, &patterns, None, &DockerPatterns)?;
        self.copy_to(&tree, &selection, &destination, cancel)
    }
}

/// Copies what the caller wants of a failed step. What is missing or cannot be copied is told as a warning: the build
/// has failed already, and that is what counts.
pub(crate) fn export_on_failure(fetcher: &Fetcher<'_>, kept: &KeptStep, outputs: &[FailureOutput]) {
    let Fetcher { engine, progress, cancel, .. } = *fetcher;
    for output in outputs {
        let message = match engine.write_output(kept.root, output, cancel) {
            Ok(()) => continue,
            Err(EngineError::Select(SelectError::NotFound { pattern, .. })) => {
                format!("{}: the failed step left no {pattern}", kept.step)
            }
            Err(error) => format!("{}: {error}", output.destination.display()),
        };
        let (code, excerpt) = ("OutputOnFailure".to_owned(), String::new());
        progress.emit(Event::Warning { vertex: None, code, message, excerpt, url: None, place: None });
    }
}
