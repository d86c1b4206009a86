//! Directories that hold a result and nothing else (`mode=delete`): what is there besides is removed once the result has been written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use snapshotter::Tree;
use snapshotter::tree::Entry;

use super::files::{Results, directory_name, told_name};
use crate::assemble::Assembly;
use crate::attest;
use crate::error::EngineError;
use crate::request::{BuildRequest, ContextSource};

/// Refuses a directory that has what nobody wants to lose: all files of the machine, or the build context.
pub(super) fn check(directory: &Path, request: &BuildRequest) -> Result<(), EngineError> {
    let refused = |what| Err(EngineError::WouldRemove { directory: directory.to_owned(), what });
    let resolved = |path: &Path| std::fs::canonicalize(path).ok();
    // One that is not there has nothing.
    let Some(place) = resolved(directory) else { return Ok(()) };
    if place.parent().is_none() {
        return refused("all files of this machine");
    }
    match &request.context {
        ContextSource::Directory(context)
            if resolved(context).is_some_and(|path| path.starts_with(&place)) =>
        {
            refused("the build context")
        }
        _ => Ok(()),
    }
}

/// Removes what is not of the results, which have been written.
pub(super) fn make(
    assembly: &Assembly<'_>,
    (built, told, options): Results<'_>,
    directory: &Path,
) -> Result<(), EngineError> {
    let is_split = options.split.unwrap_or(built.is_index());
    let mut kept = BTreeSet::new();
    for (number, image) in built.images.iter().enumerate() {
        let below = match is_split {
            true => PathBuf::from(directory_name(&image.platform)),
            false => PathBuf::new(),
        };
        kept.insert(below.clone());
        if let Some(root) = image.root {
            let tree = Tree::overlay(assembly.engine.store.view_dirs(root)?)?;
            keep(&tree, &tree.root()?, &below, &mut kept)?;
        }
        for (name, _) in attest::files(told.get(number).map(Vec::as_slice).unwrap_or_default()) {
            kept.insert(below.join(told_name(&name, &image.platform, (built, is_split, options))));
        }
    }
    remove_others(directory, Path::new(""), &kept)
}

fn keep(
    tree: &Tree,
    directory: &Entry,
    below: &Path,
    kept: &mut BTreeSet<PathBuf>,
) -> Result<(), EngineError> {
    for entry in tree.read_dir(directory)? {
        kept.insert(below.join(entry.path()));
        if entry.is_dir() {
            keep(tree, &entry, below, kept)?;
        }
    }
    Ok(())
}

/// Removes what is in a directory and not among `kept`. Links are not followed.
fn remove_others(root: &Path, below: &Path, kept: &BTreeSet<PathBuf>) -> Result<(), EngineError> {
    let directory = root.join(below);
    let failed = |source| EngineError::from(sys::path_error::PathError::new("read", &directory, source));
    for entry in std::fs::read_dir(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = below.join(entry.file_name());
        let is_directory = entry.file_type().map_err(failed)?.is_dir();
        match (kept.contains(&path), is_directory) {
            (true, true) => remove_others(root, &path, kept)?,
            (true, false) => {}
            (false, true) => drop(sys::fs::remove_tree(&root.join(&path))?),
            (false, false) => drop(sys::fs::remove_file(&root.join(&path))?),
        }
    }
    Ok(())
}
