//! Results as files: root filesystems below a directory or in a tar, an OCI layout below a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::{CancelToken, Platform, Timestamp};
use snapshotter::apply::ApplyOptions;
use snapshotter::copy::CopyOptions;
use snapshotter::diff::{DiffOptions, LayerSource, write_layer};
use snapshotter::select::Selection;
use snapshotter::tree::Entry;
use snapshotter::writer::{LayerWriter, WriterOptions};
use snapshotter::{Layering, Lease, Tree};

use super::archive;
use crate::Engine;
use crate::assemble::{Assembly, Built};
use crate::attest::{self, Predicate};
use crate::error::EngineError;
use crate::request::{Destination, FileOptions};

/// The results of a target, what is told of them, and how they are to lie.
pub(super) type Results<'a> = (&'a Built, &'a [Vec<Predicate>], &'a FileOptions);

/// Copies the root filesystems below `directory`: of several platforms, each into a directory of its own unless that is not
/// wanted. What is told of them is in files beside.
pub(super) fn directories(
    assembly: &Assembly<'_>,
    (built, told, options): Results<'_>,
    below: &Path,
) -> Result<(), EngineError> {
    let Assembly { engine, lease, cancel, .. } = *assembly;
    let is_split = options.split.unwrap_or(built.is_index());
    let mut written = BTreeMap::new();
    for (number, image) in built.images.iter().enumerate() {
        let own;
        let place = if is_split {
            own = below.join(directory_name(&image.platform));
            own.as_path()
        } else {
            below
        };
        let tree = match image.root {
            Some(root) => {
                engine.store.hold(lease, root)?;
                Some(Tree::overlay(engine.store.view_dirs(root)?)?)
            }
            None => None,
        };
        if let Some(tree) = tree.as_ref().filter(|_| !is_split && built.images.len() > 1) {
            meet(tree, &tree.root()?, &image.platform, &mut written)?;
        }
        match tree {
            Some(tree) => copy(engine, &tree, place, cancel)?,
            None => sys::fs::create_dir_all(place, 0o755)?,
        }
        let told = told.get(number).map(Vec::as_slice).unwrap_or_default();
        for (name, content) in attest::files(told) {
            let name = told_name(&name, &image.platform, (built, is_split, options));
            write_file(&place.join(name), &content)?;
        }
    }
    Ok(())
}

/// Notes the files of a platform that lie in one directory with those of others, and refuses one that is there already. The
/// words are BuildKit's.
fn meet(
    tree: &Tree,
    directory: &Entry,
    platform: &Platform,
    written: &mut BTreeMap<PathBuf, Platform>,
) -> Result<(), EngineError> {
    for entry in tree.read_dir(directory)? {
        if entry.is_dir() {
            meet(tree, &entry, platform, written)?;
        } else if let Some(other) = written.insert(entry.path().to_owned(), platform.clone()) {
            let path = entry.path().display().to_string();
            return Err(EngineError::Overwrites {
                path,
                other: other.to_string(),
                platform: platform.to_string(),
            });
        }
    }
    Ok(())
}

/// What a file is called that tells of a result.
pub(super) fn told_name(
    name: &str,
    platform: &Platform,
    (built, is_split, options): (&Built, bool, &FileOptions),
) -> String {
    let is_alone = is_split || built.images.len() == 1;
    let name = if is_alone { name.to_owned() } else { of_platform(name, platform) };
    format!("{}{name}", options.prefix)
}

/// `provenance.linux_amd64.json`
fn of_platform(name: &str, platform: &Platform) -> String {
    let platform = directory_name(platform);
    match name.rsplit_once('.') {
        Some((name, extension)) => format!("{name}.{platform}.{extension}"),
        None => format!("{name}.{platform}"),
    }
}

/// Writes a file of its own, whatever was in its place. A link there is not followed.
fn write_file(path: &Path, content: &[u8]) -> Result<(), EngineError> {
    let durability = sys::fs::Durability::Cached;
    Ok(sys::fs::write_atomic(path, content, 0o644, durability)?)
}

/// `linux_arm64`, `linux_arm_v7`
pub(super) fn directory_name(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// Copies what an archive holds into `directory`.
pub(super) fn unpacked(
    engine: &Engine,
    lease: &Lease,
    archive: &Path,
    directory: &Path,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let scratch = engine.store.scratch(lease)?;
    let options = ApplyOptions::new(Layering::Plain);
    snapshotter::archive::extract_archive(sys::fs::open(archive)?, scratch.path(), &options, cancel)?;
    copy(engine, &Tree::directory(scratch.path(), None)?, directory, cancel)
}

/// Copies a tree into `directory`, which is made if missing and may hold files already.
fn copy(engine: &Engine, tree: &Tree, directory: &Path, cancel: &CancelToken) -> Result<(), EngineError> {
    sys::fs::create_dir_all(directory, 0o755)?;
    let time = engine.clock.now();
    let writer =
        LayerWriter::new(directory, None, WriterOptions { full_copy: true, userxattr: false, time })?;
    snapshotter::copy::copy(&writer, tree, &Selection::all(tree)?, &CopyOptions::as_it_is(), cancel)?;
    Ok(())
}

/// Writes the root filesystems as a tar. The merged files are put together in the store first, because a
/// tar is written from one directory.
pub(super) fn tar(
    assembly: &Assembly<'_>,
    results: Results<'_>,
    destination: &Destination,
) -> Result<(), EngineError> {
    let Assembly { engine, lease, request, cancel, .. } = *assembly;
    let merged = engine.store.scratch(lease)?;
    directories(assembly, results, merged.path())?;
    let source = LayerSource::TwoTrees { lower: None, upper: merged.path() };
    let options = DiffOptions { clamp_mtime: request.epoch.map(Timestamp::as_second) };
    archive::to(destination, |out| {
        write_layer(source, options, out, cancel)?;
        Ok(())
    })
}
