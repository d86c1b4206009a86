//! Choosing what COPY and ADD take from a tree: patterns to entries.
//!
//! A source is a path in the tree, with wildcards in its components if the caller allows them. Links in
//! the middle of a path are followed inside the tree; one in the last place is followed too, if asked for,
//! so that `COPY link /x` copies what the link leads to. A directory stands for what is in it, or with
//! `--parents` for what in it matches a pattern. Nothing is read here but directories and links.

mod parents;
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
    /// `COPY --parents`: what is taken keeps its path below the pivot, which is the first `/./` of the
    /// pattern or else the root. What follows the pivot is a pattern for whole paths, `**` included.
    pub parents: bool,
}

impl SourcePattern {
    /// A source as COPY and ADD mean it: wildcards, which may match nothing, and the last link followed.
    /// A path without wildcards must exist.
    pub fn of_copy(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            allow_wildcard: true,
            allow_no_match: true,
            follow_last: true,
            parents: false,
        }
    }

    /// A source as `COPY --parents` means it.
    pub fn of_copy_parents(pattern: impl Into<String>) -> Self {
        Self { parents: true, ..Self::of_copy(pattern) }
    }

    /// Whether this source may name nothing.
    fn may_be_empty(&self) -> bool {
        self.allow_no_match && if self.parents { parents::may_be_empty(self) } else { has_wildcard(self) }
    }
}

/// The language in which patterns are written, which is not known here.
pub trait PatternLanguage: Sync {
    /// Whether one name matches one component of a pattern (Go's `filepath.Match`).
    fn matches_name(&self, pattern: &str, name: &str) -> bool;

    /// A filter that excludes everything but the paths that match `pattern`, in which `**` is any number
    /// of directories, and what lies below them.
    ///
    /// # Errors
    /// `pattern` is not one.
    fn only(&self, pattern: &str) -> Result<Arc<dyn Filter>, BadPattern>;
}

/// Why a text is not a pattern, in the words of its language.
pub type BadPattern = Box<dyn std::error::Error + Send + Sync>;

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
    /// A source is not a pattern.
    #[error("\"{pattern}\" is not a pattern")]
    BadPattern {
        /// The source as it was given.
        pattern: String,
        /// What is wrong with it.
        source: BadPattern,
    },
}

impl Faulty for SelectError {
    fn fault(&self) -> Fault {
        match self {
            Self::Tree(error) => error.fault(),
            Self::NotFound { .. } | Self::BadPattern { .. } => Fault::Input,
        }
    }
}

/// One entry that was chosen.
#[derive(Clone)]
pub struct Selected {
    /// What will be copied; links in the last place are already followed.
    pub entry: Entry,
    /// The name it was chosen by, which a file keeps when it is copied into a directory.
    pub name: OsString,
    /// Of a directory: leaves out what is not to be taken, by paths relative to it.
    pub(crate) only: Option<Arc<dyn Filter>>,
}

/// What a copy takes, in the order of the sources.
#[derive(Clone)]
pub struct Selection {
    pub(crate) items: Vec<Selected>,
    pub(crate) excludes: Option<Arc<dyn Filter>>,
}

impl Selection {
    /// Resolves the sources in `tree`. `excludes` leaves out entries further; it sees paths relative to
    /// the chosen directory (with `parents`: the pivot), and the name of a chosen file.
    ///
    /// # Errors
    /// [`SelectError::NotFound`] for a source that names nothing and must, even if others do.
    pub fn resolve(
        tree: &Tree,
        sources: &[SourcePattern],
        excludes: Option<Arc<dyn Filter>>,
        language: &dyn PatternLanguage,
    ) -> Result<Self, SelectError> {
        let mut items = Vec::new();
        for source in sources {
            let found = find(tree, source, language)?;
            if found.is_empty() && !source.may_be_empty() {
                return Err(not_found(tree, source, language)?);
            }
            items.extend(found);
        }
        if let Some(excludes) = &excludes {
            let files = excludes.directory(Path::new(""));
            items.retain(|item| item.entry.is_dir() || !files.excludes(&item.name));
        }
        Ok(Self { items, excludes })
    }

    /// The entire tree.
    pub fn all(tree: &Tree) -> Result<Self, TreeError> {
        let entry = tree.root()?;
        Ok(Self { items: vec![Selected { entry, name: OsString::new(), only: None }], excludes: None })
    }

    /// What is in the directory at `path`, links followed; `None` when there is no directory.
    pub fn of_directory(tree: &Tree, path: &Path) -> Result<Option<Self>, TreeError> {
        let found = tree.lookup(path, Follow::Last)?.filter(Entry::is_dir);
        Ok(found.map(|entry| Self {
            items: vec![Selected { name: entry.name().to_owned(), entry, only: None }],
            excludes: None,
        }))
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

fn find(
    tree: &Tree,
    source: &SourcePattern,
    language: &dyn PatternLanguage,
) -> Result<Vec<Selected>, SelectError> {
    if source.parents {
        return parents::find(tree, source, language);
    }
    let follow = if source.follow_last { Follow::Last } else { Follow::NoLast };
    let mut found = Vec::new();
    for path in candidates(tree, source, language)? {
        if let Some(entry) = tree.lookup(&path, follow)? {
            let name = path.file_name().unwrap_or_default().to_owned();
            found.push(Selected { entry, name, only: None });
        }
    }
    Ok(found)
}

/// The paths that a source may mean, wildcards expanded; the last component may not exist.
fn candidates(
    tree: &Tree,
    source: &SourcePattern,
    language: &dyn PatternLanguage,
) -> Result<Vec<PathBuf>, TreeError> {
    let mut paths = vec![PathBuf::new()];
    for component in clean(Path::new(&source.pattern)) {
        let pattern = component.to_str().filter(|text| source.allow_wildcard && is_pattern(text));
        match pattern {
            None => paths.iter_mut().for_each(|path| path.push(&component)),
            Some(pattern) => {
                let mut expanded = Vec::new();
                for path in paths {
                    for name in matching_names(tree, &path, pattern, language)? {
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
    language: &dyn PatternLanguage,
) -> Result<Vec<OsString>, TreeError> {
    let Some(dir) = tree.lookup(path, Follow::Last)?.filter(Entry::is_dir) else { return Ok(Vec::new()) };
    let entries = tree.read_dir(&dir)?;
    let names = entries
        .iter()
        .map(Entry::name)
        .filter(|name| language.matches_name(pattern, &name.to_string_lossy()));
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

fn not_found(
    tree: &Tree,
    source: &SourcePattern,
    language: &dyn PatternLanguage,
) -> Result<SelectError, SelectError> {
    let excluded_by_filter = tree.is_filtered() && !find(&tree.unfiltered()?, source, language)?.is_empty();
    let similar = if has_wildcard(source) { Vec::new() } else { similar::names(tree, &source.pattern)? };
    Ok(SelectError::NotFound { pattern: source.pattern.clone(), excluded_by_filter, similar })
}

#[cfg(test)]
mod tests;
