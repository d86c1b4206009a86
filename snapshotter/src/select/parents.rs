//! Sources of `COPY --parents`: a place to start from, and a pattern for whole paths below it.
//!
//! The first `/./` of a source is its pivot. What is before it names directories like any other source,
//! the root if there is no pivot; what is after it is a pattern, in which `**` means any number of
//! directories. What matches keeps its path below the pivot. Links below the pivot are not followed.

use std::path::{Path, PathBuf};

use super::{PatternLanguage, SelectError, Selected, SourcePattern, clean, is_pattern};
use crate::tree::{Entry, Follow, Tree, TreeError};

/// A source taken apart at its pivot.
struct Pivoted {
    start: String,
    /// With `.` and `..` resolved; empty for everything.
    pattern: String,
}

impl Pivoted {
    fn new(source: &str) -> Self {
        let (start, pattern) = source.split_once("/./").unwrap_or(("", source));
        let pattern: PathBuf = clean(Path::new(pattern)).into_iter().collect();
        Self { start: start.to_owned(), pattern: pattern.to_string_lossy().into_owned() }
    }

    /// Whether the part after the pivot is a path that must exist.
    fn is_literal(&self) -> bool {
        !self.pattern.is_empty() && !is_pattern(&self.pattern)
    }
}

/// Whether a source may name nothing at all: no part of it is a path that must exist.
pub(super) fn may_be_empty(source: &SourcePattern) -> bool {
    let pivoted = Pivoted::new(&source.pattern);
    source.allow_wildcard && is_pattern(&pivoted.start) && !pivoted.is_literal()
}

/// The directories that a source starts from, each with a filter for what it takes of them. Where the
/// pattern is a plain path, only those that hold it.
pub(super) fn find(
    tree: &Tree,
    source: &SourcePattern,
    language: &dyn PatternLanguage,
) -> Result<Vec<Selected>, SelectError> {
    let pivoted = Pivoted::new(&source.pattern);
    let start = SourcePattern { pattern: pivoted.start.clone(), parents: false, ..source.clone() };
    let mut found = super::find(tree, &start, language)?;
    found.retain(|item| item.entry.is_dir());
    if pivoted.pattern.is_empty() {
        return Ok(found);
    }
    let only = language
        .only(&pivoted.pattern)
        .map_err(|cause| SelectError::BadPattern { pattern: source.pattern.clone(), source: cause })?;
    let mut chosen = Vec::with_capacity(found.len());
    for item in found {
        if !pivoted.is_literal() || holds(tree, &item.entry, &pivoted.pattern)? {
            chosen.push(Selected { only: Some(only.clone()), ..item });
        }
    }
    Ok(chosen)
}

/// Whether `path` leads to something below `dir` without a link on the way.
fn holds(tree: &Tree, dir: &Entry, path: &str) -> Result<bool, TreeError> {
    let path = dir.path().join(path);
    let found = tree.lookup(&path, Follow::NoLast)?;
    Ok(found.is_some_and(|entry| entry.path() == path))
}
