//! Choosing what COPY and ADD take from a tree: patterns to entries.
//!
//! A source is a path in the tree, with wildcards in its components if the caller allows them. Links in
//! the middle of a path are followed inside the tree; one in the last place is followed too, if asked for,
//! so that `COPY link /x` copies what the link leads to. A directory stands for what is in it. Nothing is
//! read here but directories and links.

mod similar;

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use base::{Fault, Faulty};

use crate::tree::{Entry, Filter, Follow, Tree, TreeError};

/// One source of a copy.
#[derive(Debug, Clone)]
pub struct SourcePattern {
    /// A path in the tree. A leading slash and `..` stop at the root.
    pub pattern: String,
    /// Whether `*`, `?`, `[…]` and `\` in its components mean something.
    pub allow_wildcard: bool,
    /// Whether a pattern with wildcards may match nothing.
    pub allow_no_match: bool,
    /// Whether a link in the last place stands for what it leads to.
    pub follow_last: bool,
}

impl SourcePattern {
    /// A source as COPY means it: wildcards, which must match something, and the last link followed.
    pub fn of_copy(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), allow_wildcard: true, allow_no_match: false, follow_last: true }
    }
}

/// Matches one name against one component of a pattern (Go's `filepath.Match`).
pub type Matcher<'a> = &'a (dyn Fn(&str, &str) -> bool + Sync);

/// Why a selection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A source names nothing. The caller knows what the tree is called and words the advice.
    #[error("\"{pattern}\" not found")]
    NotFound {
        /// The source as it was given.
        pattern: String,
        /// Whether it exists and is excluded by the tree's filter.
        excluded_by_filter: bool,
        /// Names in the same directory that look alike, the most alike first.
        similar: Vec<String>,
    },
}

impl Faulty for SelectError {
    fn fault(&self) -> Fault {
        match self {
            Self::Tree(error) => error.fault(),
            Self::NotFound { .. } => Fault::Input,
        }
    }
}

/// One entry that was chosen.
#[derive(Debug, Clone)]
pub struct Selected {
    /// What will be copied; links in the last place are already followed.
    pub entry: Entry,
    /// The name it was chosen by, which a file keeps when it is copied into a directory.
    pub name: OsString,
}

/// What a copy takes, in the order of the sources.
#[derive(Clone)]
pub struct Selection {
    pub(crate) items: Vec<Selected>,
    pub(crate) excludes: Option<Arc<dyn Filter>>,
}

impl Selection {
    /// Resolves the sources in `tree`. `excludes` leaves out entries further; it sees paths relative to
    /// the chosen directory, and the name of a chosen file.
    ///
    /// # Errors
    /// [`SelectError::NotFound`] for a source that names nothing, even if others do.
    pub fn resolve(
        tree: &Tree,
        sources: &[SourcePattern],
        excludes: Option<Arc<dyn Filter>>,
        matches: Matcher<'_>,
    ) -> Result<Self, SelectError> {
        let mut items = Vec::new();
        for source in sources {
            let found = find(tree, source, matches)?;
            if found.is_empty() && !(source.allow_no_match && has_wildcard(source)) {
                return Err(not_found(tree, source, matches)?);
            }
            items.extend(found);
        }
        if let Some(excludes) = &excludes {
            items.retain(|item| item.entry.is_dir() || !excludes.excludes(Path::new(&item.name), false));
        }
        Ok(Self { items, excludes })
    }

    /// The entire tree.
    pub fn all(tree: &Tree) -> Result<Self, TreeError> {
        let entry = tree.root()?;
        Ok(Self { items: vec![Selected { entry, name: OsString::new() }], excludes: None })
    }

    /// A selection for each chosen entry, in order.
    pub fn split(&self) -> Vec<Self> {
        let one = |item: &Selected| Self { items: vec![item.clone()], excludes: self.excludes.clone() };
        self.items.iter().map(one).collect()
    }

    /// What was chosen, in order.
    pub fn items(&self) -> &[Selected] {
        &self.items
    }
}

fn has_wildcard(source: &SourcePattern) -> bool {
    source.allow_wildcard && is_pattern(&source.pattern)
}

fn is_pattern(component: &str) -> bool {
    component.contains(['*', '?', '[', '\\'])
}

fn find(tree: &Tree, source: &SourcePattern, matches: Matcher<'_>) -> Result<Vec<Selected>, SelectError> {
    let follow = if source.follow_last { Follow::Last } else { Follow::NoLast };
    let mut found = Vec::new();
    for path in candidates(tree, source, matches)? {
        if let Some(entry) = tree.lookup(&path, follow)? {
            found.push(Selected { entry, name: path.file_name().unwrap_or_default().to_owned() });
        }
    }
    Ok(found)
}

/// The paths that a source may mean, wildcards expanded; the last component may not exist.
fn candidates(tree: &Tree, source: &SourcePattern, matches: Matcher<'_>) -> Result<Vec<PathBuf>, TreeError> {
    let mut paths = vec![PathBuf::new()];
    for component in clean(Path::new(&source.pattern)) {
        let pattern = component.to_str().filter(|text| source.allow_wildcard && is_pattern(text));
        match pattern {
            None => paths.iter_mut().for_each(|path| path.push(&component)),
            Some(pattern) => {
                let mut expanded = Vec::new();
                for path in paths {
                    for name in matching_names(tree, &path, pattern, matches)? {
                        expanded.push(path.join(name));
                    }
                }
                paths = expanded;
            }
        }
    }
    Ok(paths)
}

/// The names in the directory at `path` that match, sorted; none when there is no directory.
fn matching_names(
    tree: &Tree,
    path: &Path,
    pattern: &str,
    matches: Matcher<'_>,
) -> Result<Vec<OsString>, TreeError> {
    let Some(dir) = tree.lookup(path, Follow::Last)?.filter(Entry::is_dir) else { return Ok(Vec::new()) };
    let entries = tree.read_dir(&dir)?;
    let names = entries.iter().map(Entry::name).filter(|name| matches(pattern, &name.to_string_lossy()));
    Ok(names.map(OsStr::to_owned).collect())
}

/// The components of a path with `.` and `..` resolved by name, bounded by the root.
fn clean(path: &Path) -> Vec<OsString> {
    let mut components = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => components.push(name.to_owned()),
            Component::ParentDir => drop(components.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    components
}

fn not_found(tree: &Tree, source: &SourcePattern, matches: Matcher<'_>) -> Result<SelectError, SelectError> {
    let excluded_by_filter = tree.is_filtered() && !find(&tree.unfiltered()?, source, matches)?.is_empty();
    let similar = if has_wildcard(source) { Vec::new() } else { similar::names(tree, &source.pattern)? };
    Ok(SelectError::NotFound { pattern: source.pattern.clone(), excluded_by_filter, similar })
}

#[cfg(test)]
mod tests;
