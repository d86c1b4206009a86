//! The native driver: every snapshot is a full copy of its parent. Needs nothing of the kernel, costs time
//! and, where the file system cannot share blocks, space.

use std::path::{Path, PathBuf};

use base::Mount;
use sys::fs::PathError;

use super::copy_tree::copy_tree;
use super::{DriverKind, SnapshotDriver};
use crate::apply::Layering;
use crate::diff::LayerSource;
use crate::layout::SnapshotDirs;

/// Copies the whole tree for every layer.
#[derive(Debug)]
pub(super) struct Native;

impl Native {
    /// The name that the store records.
    pub(super) const NAME: &str = "native";
}

impl SnapshotDriver for Native {
    fn kind(&self) -> DriverKind {
        DriverKind::Native
    }

    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn layering(&self, _has_parent: bool) -> Layering {
        Layering::Flat
    }

    fn view(&self, mut chain: Vec<PathBuf>) -> Vec<PathBuf> {
        chain.truncate(1);
        chain
    }

    fn create(&self, dirs: &SnapshotDirs, lower: &[PathBuf]) -> Result<(), PathError> {
        let fs = dirs.fs();
        sys::fs::create_dir(&fs, 0o755)?;
        match lower.first() {
            Some(parent) => copy_tree(parent, &fs),
            None => sys::rootdir::set_mode_of(sys::fs::open(&fs)?, &fs, 0o755),
        }
    }

    fn writable_mount(&self, dirs: &SnapshotDirs, _lower: &[PathBuf]) -> Result<Mount, PathError> {
        Ok(Mount::Bind { source: dirs.fs(), read_only: false })
    }

    fn read_only_mount(&self, view: Vec<PathBuf>) -> Mount {
        // A view of this driver is one directory.
        Mount::Bind { source: view.into_iter().next().unwrap_or_default(), read_only: true }
    }

    fn can_stack(&self, _below: &Path, _layers: &[PathBuf]) -> Result<bool, PathError> {
        Ok(false)
    }

    fn layer_source<'a>(&self, layer: &'a Path, lower: &'a [PathBuf]) -> LayerSource<'a> {
        LayerSource::TwoTrees { lower: lower.first().map(PathBuf::as_path), upper: layer }
    }
}
