//! What a step takes from its inputs, and the content keys of that.

use std::path::Path;
use std::sync::Arc;

use base::{CancelToken, FileChange, FileDifference, Key};
use llb::{CopyAction, FileAction, FileOp, Op, SourceOp, VertexIndex};
use parser::glob::Pattern;
use parser::ignore::IgnoreFile;
use snapshotter::Tree;
use snapshotter::content_key::{KeyOptions, Modes, listed_content_key};
use snapshotter::copy::CopyError;
use snapshotter::select::{BadPattern, PatternLanguage, SelectError, Selection, SourcePattern};
use snapshotter::stat_cache::StatCache;
use snapshotter::tree::Filter;

use super::{BuildOps, StepResult};
use crate::context::IgnoreRules;
use crate::error::{EngineError, StepError};
use crate::history::file_changes;
use crate::request::ContextModes;

/// Where a copy reads from.
pub(super) enum Source<'a> {
    /// The build context, what is remembered of its files, and which modes they have.
    Context(&'a Tree, Option<&'a StatCache>, Modes),
    /// Another filesystem.
    Filesystem(Tree),
}

impl Source<'_> {
    pub(super) fn tree(&self) -> &Tree {
        match self {
            Self::Context(tree, ..) => tree,
            Self::Filesystem(tree) => tree,
        }
    }

    pub(super) fn stat_cache(&self) -> Option<&StatCache> {
        match self {
            Self::Context(_, cache, _) => *cache,
            Self::Filesystem(_) => None,
        }
    }

    /// Which modes the files have.
    pub(super) fn modes(&self) -> Modes {
        match self {
            Self::Context(.., modes) => *modes,
            Self::Filesystem(_) => Modes::Own,
        }
    }

    /// What of the files that are copied is part of a key. Files of a context belong to nobody in particular.
    pub(super) fn key_options(&self) -> KeyOptions {
        let owner = matches!(self, Self::Filesystem(_));
        KeyOptions { owner, xattrs: true, modes: self.modes(), itself: false }
    }

    /// The same for what is mounted. The context's own directory is not one of its files.
    fn mount_key_options(&self, selector: &str) -> KeyOptions {
        let is_root = selector.trim_matches('/').is_empty();
        let itself = !(is_root && matches!(self, Self::Context(..)));
        KeyOptions { itself, ..self.key_options() }
    }
}

impl BuildOps<'_> {
    /// The content key of what `vertex` selects from files of the caller.
    pub(super) fn local_selection_key(
        &self,
        vertex: VertexIndex,
        slot: usize,
        cancel: &CancelToken,
    ) -> Result<Key, StepError> {
        let source = self.local(vertex, slot)?;
        self.selection_key(vertex, slot, &source, cancel).map_err(or_changed)
    }

    /// What is not as it was when the content key of a selection of the context was made. Empty when nobody can tell: what
    /// was changed has been changed back, or it was more than a listing has.
    pub(super) fn context_changes(
        &self,
        vertex: VertexIndex,
        slot: usize,
        before: &Key,
        cancel: &CancelToken,
    ) -> Vec<FileChange> {
        let now = self.local_selection_key(vertex, slot, cancel).ok();
        now.and_then(|now| file_changes(&self.engine.store, before, &now)).unwrap_or_default()
    }

    /// The content key of what `vertex` uses of a result: all of it, or what a copy or a mount selects.
    pub(super) fn input_key(
        &self,
        vertex: VertexIndex,
        slot: usize,
        input: StepResult,
        cancel: &CancelToken,
    ) -> Result<Key, StepError> {
        let uses_all = match &self.graph.vertex(vertex).op {
            Op::File(file) => file.has_base && slot == 0,
            Op::Exec(exec) => exec.has_root && slot == 0,
            Op::Merge | Op::Diff | Op::Source(_) => true,
        };
        if uses_all {
            return Ok(input.content());
        }
        let input = self.sharing.here(input, cancel)?;
        let source = Source::Filesystem(self.tree(input.snapshot)?);
        self.selection_key(vertex, slot, &source, cancel)
    }

    /// The files of the caller in an input slot.
    pub(super) fn local(&self, vertex: VertexIndex, slot: usize) -> Result<Source<'_>, StepError> {
        let input = self.graph.inputs(vertex).get(slot).map(|input| &self.graph.vertex(input.vertex).op);
        let Some(Op::Source(SourceOp::Local(local))) = input else { return Err(self.no_selection(vertex)) };
        let context = self.contexts.get(&local.name)?;
        let modes = match self.request.context_modes {
            ContextModes::Keep => Modes::Own,
            ContextModes::Git => Modes::Git,
        };
        Ok(Source::Context(&context.tree, context.stat_cache.as_ref(), modes))
    }

    fn selection_key(
        &self,
        vertex: VertexIndex,
        slot: usize,
        source: &Source<'_>,
        cancel: &CancelToken,
    ) -> Result<Key, StepError> {
        let (selection, options) = match &self.graph.vertex(vertex).op {
            Op::File(file) => match copy_from(file, slot) {
                Some(copy) => (self.select(copy, source)?, source.key_options()),
                None if is_for_owners(file, slot) => {
                    (resolve(source, &files_of_users(), None)?, source.key_options())
                }
                None => return Err(self.no_selection(vertex)),
            },
            Op::Exec(exec) => {
                let mount = u32::try_from(slot).ok().and_then(|slot| exec.mount_of(slot));
                let mount = mount.ok_or_else(|| self.no_selection(vertex))?;
                let pattern =
                    SourcePattern { allow_wildcard: false, ..SourcePattern::of_copy(mount.selector()) };
                (resolve(source, &[pattern], None)?, source.mount_key_options(mount.selector()))
            }
            Op::Merge | Op::Diff | Op::Source(_) => return Err(self.no_selection(vertex)),
        };
        Ok(self.listed_key(source, &selection, &options, cancel)?)
    }

    /// The content key of a selection. The files behind it are kept for explanations, once for each key.
    fn listed_key(
        &self,
        source: &Source<'_>,
        selection: &Selection,
        options: &KeyOptions,
        cancel: &CancelToken,
    ) -> Result<Key, EngineError> {
        let recorder = self.progress.recorder();
        let wanted = |key: &Key| recorder.is_some_and(|recorder| recorder.wants_listing(key));
        let cache = source.stat_cache();
        let listed = listed_content_key(source.tree(), selection, options, cache, &wanted, cancel)?;
        if let (Some(recorder), Some(listing)) = (recorder, &listed.listing) {
            recorder.keep_listing(&listed.key, listing);
        }
        Ok(listed.key)
    }

    pub(super) fn no_selection(&self, vertex: VertexIndex) -> StepError {
        StepError::NoSelection(self.graph.vertex(vertex).metadata.name.clone())
    }

    /// Resolves the sources of a copy. Says what is missing, where, and why it may be.
    pub(super) fn select(&self, copy: &CopyAction, source: &Source<'_>) -> Result<Selection, StepError> {
        let pattern = |text: &String| SourcePattern {
            allow_wildcard: copy.allow_wildcards,
            allow_no_match: copy.rules.allow_no_match,
            follow_last: copy.rules.follow_links,
            parents: copy.parents,
            ..SourcePattern::of_copy(text)
        };
        let patterns: Vec<SourcePattern> = copy.sources.iter().map(pattern).collect();
        resolve(source, &patterns, filter(copy)?)
    }
}

/// Whether owners are looked up in an input.
fn is_for_owners(file: &FileOp, slot: usize) -> bool {
    file.actions.iter().flat_map(FileAction::owner_slots).any(|owner| owner as usize == slot)
}

/// The files that say which numbers names of owners are.
fn files_of_users() -> [SourcePattern; 2] {
    ["/etc/passwd", "/etc/group"].map(|path| SourcePattern {
        allow_no_match: true,
        allow_wildcard: true,
        ..SourcePattern::of_copy(path)
    })
}

fn resolve(
    source: &Source<'_>,
    patterns: &[SourcePattern],
    excludes: Option<Arc<dyn Filter>>,
) -> Result<Selection, StepError> {
    Selection::resolve(source.tree(), patterns, excludes, &DockerPatterns).map_err(|error| match error {
        SelectError::NotFound { pattern, excluded_by_filter, similar } => {
            let in_context = matches!(source, Source::Context(..));
            not_found(&pattern, in_context, excluded_by_filter, &similar)
        }
        error => StepError::Engine(error.into()),
    })
}

/// A file of a context that is gone since its directory was read is a change of the context.
pub(super) fn or_changed(error: StepError) -> StepError {
    let tree = match &error {
        StepError::Engine(EngineError::Tree(tree) | EngineError::Copy(CopyError::Source(tree))) => tree,
        _ => return error,
    };
    let removed =
        |path: &Path| FileChange { path: path.display().to_string(), what: FileDifference::Removed };
    match tree.vanished().map(removed) {
        Some(file) => StepError::Changed { files: vec![file] },
        None => error,
    }
}

/// What is left out: all that no pattern includes, and what `--exclude` names. The patterns are those of an ignore file.
fn filter(copy: &CopyAction) -> Result<Option<Arc<dyn Filter>>, StepError> {
    let mut patterns = Vec::new();
    if !copy.rules.includes.is_empty() {
        patterns.push("**".to_owned());
        patterns.extend(copy.rules.includes.iter().map(|pattern| format!("!{pattern}")));
    }
    patterns.extend(copy.excludes.iter().cloned());
    if patterns.is_empty() {
        return Ok(None);
    }
    let rules = IgnoreFile::from_patterns(patterns.iter().map(String::as_str)).map_err(|source| {
        let pattern = patterns.join(" ");
        StepError::Engine(SelectError::BadPattern { pattern, source: source.into() }.into())
    })?;
    Ok(Some(Arc::new(IgnoreRules(rules))))
}

/// The patterns of Dockerfiles, as the store asks for them.
pub(crate) struct DockerPatterns;

impl PatternLanguage for DockerPatterns {
    fn matches_name(&self, pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(name))
    }

    fn only(&self, pattern: &str) -> Result<Arc<dyn Filter>, BadPattern> {
        let exception = format!("!{pattern}");
        Ok(Arc::new(IgnoreRules(IgnoreFile::from_patterns(["**", &exception])?)))
    }
}

/// The copy that reads from `slot`; the frontend makes one for each source.
fn copy_from(file: &FileOp, slot: usize) -> Option<&CopyAction> {
    file.actions.iter().find_map(|action| match action {
        FileAction::Copy(copy) if copy.input as usize == slot => Some(copy),
        _ => None,
    })
}

fn not_found(pattern: &str, in_context: bool, excluded: bool, similar: &[String]) -> StepError {
    let place = if in_context { " in the build context" } else { " in the stage or image it is copied from" };
    let leaves = Path::new(pattern).components().any(|part| part == std::path::Component::ParentDir);
    let hint = if excluded {
        "a rule of the .dockerignore file excludes it".to_owned()
    } else if let [first, ..] = similar {
        format!("did you mean \"{first}\"?")
    } else if in_context && leaves {
        "a build cannot use files outside its context; build from a directory above, or copy the file in"
            .to_owned()
    } else if in_context {
        "paths are relative to the context directory, wherever the Dockerfile is".to_owned()
    } else {
        String::new()
    };
    StepError::NotFound { pattern: pattern.to_owned(), place: place.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn hint(pattern: &str, in_context: bool, excluded: bool, similar: &[&str]) -> String {
        let similar: Vec<String> = similar.iter().map(|name| (*name).to_owned()).collect();
        match not_found(pattern, in_context, excluded, &similar) {
            StepError::NotFound { hint, .. } => hint,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_pattern_for_whole_paths_leaves_out_the_others() {
        let only = DockerPatterns.only("lib/**/*.[ch]").unwrap();
        let excludes = |path: &str| {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            only.directory(Path::new(dir)).excludes(OsStr::new(name))
        };
        for path in ["lib/a.c", "lib/x/y/a.h", "lib/dir.c/below"] {
            assert!(!excludes(path), "{path}");
        }
        for path in ["a.c", "lib", "lib/x", "lib/a.rs"] {
            assert!(excludes(path), "{path}");
        }
        assert!(!only.prunes(Path::new("lib")) && !only.prunes(Path::new("lib/x")));
        assert!(only.prunes(Path::new("src")) && only.prunes(Path::new("library")));
        assert!(DockerPatterns.only("lib/[").is_err());
    }

    #[test]
    fn advice_names_the_likeliest_reason() {
        assert!(hint("a", true, true, &["b"]).contains(".dockerignore"));
        assert_eq!(hint("raal", true, false, &["real"]), "did you mean \"real\"?");
        assert!(hint("../x", true, false, &[]).contains("outside its context"));
        assert!(hint("x", true, false, &[]).contains("relative to the context"));
        assert_eq!(hint("x", false, false, &[]), "");
    }
}
