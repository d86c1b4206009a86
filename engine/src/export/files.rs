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
use crate::assemble::Built;
use crate::error::EngineError;
use crate::request::Destination;

/// Copies the root filesystems below `directory`: of several platforms, each into a directory of its own.
pub(super) fn directories(
    engine: &Engine,
    lease: &Lease,
    built: &Built,
    below: &Path,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    for image in &built.images {
        if built.is_index() {
            directory(engine, lease, image.root, &below.join(directory_name(&image.platform)), cancel)?;
        } else {
            directory(engine, lease, image.root, below, cancel)?;
        }
    }
    Ok(())
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
    engine: &Engine,
    lease: &Lease,
    built: &Built,
    epoch: Option<Timestamp>,
    destination: &Destination,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let merged = engine.store.scratch(lease)?;
    directories(engine, lease, built, merged.path(), cancel)?;
    let source = LayerSource::TwoTrees { lower: None, upper: merged.path() };
    let options = DiffOptions { clamp_mtime: epoch.map(Timestamp::as_second) };
    archive::to(destination, |out| {
        write_layer(source, options, out, cancel)?;
        Ok(())
    })
}
