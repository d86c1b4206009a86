//! What a layer changes, as a list of paths: for people, not for an archive.

use std::path::{Path, PathBuf};

use base::CancelToken;
use sys::rootdir::RootDir;

use super::{Change, DiffError, Hidden, LayerSource, overlay, two_trees};
use crate::tree::{Follow, Tree};

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathChangeKind {
    /// It is new.
    Added,
    /// It is another, or something in it is.
    Changed,
    /// It is gone.
    Deleted,
}

/// One path that a layer changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathChange {
    /// Relative to the root.
    pub path: PathBuf,
    /// What became of it.
    pub kind: PathChangeKind,
}

/// The paths that a layer changes, in tree order. Directories on the way to a change are among them.
///
/// # Errors
/// Files cannot be read.
pub fn changed_paths(source: LayerSource<'_>, cancel: &CancelToken) -> Result<Vec<PathChange>, DiffError> {
    changed_paths_without(source, &Hidden::new(), cancel)
}

/// The same without some paths.
///
/// # Errors
/// As there.
pub fn changed_paths_without(
    source: LayerSource<'_>,
    hidden: &Hidden,
    cancel: &CancelToken,
) -> Result<Vec<PathChange>, DiffError> {
    let (changes, sides) = match source {
        LayerSource::Overlay { upper, lower, userxattr } => {
            let root = RootDir::open(upper)?;
            let changes = overlay::Changes::new(&root, lower, userxattr, hidden)?;
            let changes = changes.collect::<Result<Vec<_>, _>>()?;
            let all = std::iter::once(upper).chain(lower.iter().map(PathBuf::as_path));
            let below = if lower.is_empty() { None } else { Some(Tree::overlay(lower)?) };
            (changes, Sides { below, now: Tree::overlay(all)? })
        }
        LayerSource::TwoTrees { lower, upper } => {
            let below = lower.map(RootDir::open).transpose()?;
            let changes = two_trees::changes(below.as_ref(), &RootDir::open(upper)?, hidden, cancel)?;
            let below = lower.map(|lower| Tree::directory(lower, None)).transpose()?;
            (changes, Sides { below, now: Tree::directory(upper, None)? })
        }
    };
    let mut paths = Vec::new();
    for change in changes {
        cancel.check()?;
        sides.add(change, &mut paths)?;
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The trees that a layer leads from and to.
struct Sides {
    below: Option<Tree>,
    now: Tree,
}

impl Sides {
    fn add(&self, change: Change, paths: &mut Vec<PathChange>) -> Result<(), DiffError> {
        match change {
            Change::Present(path) => {
                let was_there = self.was_there(&path)?;
                let kind = if was_there { PathChangeKind::Changed } else { PathChangeKind::Added };
                paths.push(PathChange { path, kind });
            }
            // What was made and deleted again is marked as deleted, and was never there.
            Change::Deleted(path) if self.was_there(&path)? => {
                paths.push(PathChange { path, kind: PathChangeKind::Deleted });
            }
            Change::Deleted(_) => {}
            Change::Opaque(path) => self.add_hidden(&path, paths)?,
        }
        Ok(())
    }

    fn was_there(&self, path: &Path) -> Result<bool, DiffError> {
        let Some(below) = &self.below else { return Ok(false) };
        // A link on the way leads elsewhere.
        Ok(below.lookup(path, Follow::NoLast)?.is_some_and(|entry| entry.path() == path))
    }

    /// Adds the names that were in a directory and are no longer.
    fn add_hidden(&self, path: &Path, paths: &mut Vec<PathChange>) -> Result<(), DiffError> {
        let Some(below) = &self.below else { return Ok(()) };
        let Some(directory) = below.lookup(path, Follow::NoLast)?.filter(|entry| entry.is_dir()) else {
            return Ok(());
        };
        for entry in below.read_dir(&directory)? {
            if self.now.lookup(entry.path(), Follow::NoLast)?.is_none() {
                paths.push(PathChange { path: entry.path().to_owned(), kind: PathChangeKind::Deleted });
            }
        }
        Ok(())
    }
}
