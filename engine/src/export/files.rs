//! Results as files: root filesystems below a directory or in a tar, an OCI layout below a directory.

use std::path::Path;

use base::{CancelToken, Platform, Timestamp};
use snapshotter::apply::ApplyOptions;
use snapshotter::copy::CopyOptions;
use snapshotter::diff::{DiffOptions, LayerSource, write_layer};
use snapshotter::select::Selection;
use snapshotter::writer::{LayerWriter, WriterOptions};
use snapshotter::{Layering, Lease, SnapshotId, Tree};

use super::archive;
use crate::Engine;
use crate::assemble::{Assembly, Built};
use crate::attest::{self, Predicate};
use crate::error::EngineError;
use crate::request::Destination;

/// Copies the root filesystems below `directory`: of several platforms, each into a directory of its own. What is told of
/// them is in files beside.
pub(super) fn directories(
    assembly: &Assembly<'_>,
    built: &Built,
    told: &[Vec<Predicate>],
    below: &Path,
) -> Result<(), EngineError> {
    let Assembly { engine, lease, cancel, .. } = *assembly;
    for (number, image) in built.images.iter().enumerate() {
        let own;
        let place = if built.is_index() {
            own = below.join(directory_name(&image.platform));
            own.as_path()
        } else {
            below
        };
        directory(engine, lease, image.root, place, cancel)?;
        let told = told.get(number).map(Vec::as_slice).unwrap_or_default();
        for (name, content) in attest::files(told) {
            write_file(&place.join(&name), &content)?;
        }
    }
    Ok(())
}

/// Writes a file of its own, whatever was in its place. A link there is not followed.
fn write_file(path: &Path, content: &[u8]) -> Result<(), EngineError> {
    let durability = sys::fs::Durability::Cached;
    Ok(sys::fs::write_atomic(path, content, 0o644, durability)?)
}

/// `linux_arm64`, `linux_arm_v7`
fn directory_name(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// Copies the root filesystem into `directory`, which is made if missing and may hold files already.
fn directory(
    engine: &Engine,
    lease: &Lease,
    root: Option<SnapshotId>,
    directory: &Path,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let Some(root) = root else { return Ok(sys::fs::create_dir_all(directory, 0o755)?) };
    engine.store.hold(lease, root)?;
    copy(engine, &Tree::overlay(engine.store.view_dirs(root)?)?, directory, cancel)
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
    built: &Built,
    told: &[Vec<Predicate>],
    destination: &Destination,
) -> Result<(), EngineError> {
    let Assembly { engine, lease, request, cancel, .. } = *assembly;
    let merged = engine.store.scratch(lease)?;
    directories(assembly, built, told, merged.path())?;
    let source = LayerSource::TwoTrees { lower: None, upper: merged.path() };
    let options = DiffOptions { clamp_mtime: request.epoch.map(Timestamp::as_second) };
    archive::to(destination, |out| {
        write_layer(source, options, out, cancel)?;
        Ok(())
    })
}
