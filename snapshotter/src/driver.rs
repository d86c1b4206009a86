//! Drivers: how a layer on top of other layers becomes a directory tree.
//!
//! A driver knows directories and says what to mount. It knows nothing of rows, tar or images, and mounts
//! nothing itself except to find out whether it works here.

mod copy_tree;
mod native;
mod overlay;

use std::fmt;
use std::path::{Path, PathBuf};

use base::Mount;
use sys::fs::PathError;

use crate::apply::Layering;
use crate::diff::LayerSource;
use crate::layout::SnapshotDirs;

use native::Native;
use overlay::Overlay;

/// The ways to lay a snapshot over its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// Layers hold changes, and overlayfs merges them.
    Overlay,
    /// Every layer is a full copy of its parent with the changes made. Works everywhere.
    Native,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay => "overlay",
            Self::Native => "native",
        })
    }
}

/// What a driver does. `lower` are the layer directories below a snapshot as [`view`](Self::view) gives
/// them, topmost first; without a parent there are none.
pub(crate) trait SnapshotDriver: Send + Sync {
    /// Which of the two it is.
    fn kind(&self) -> DriverKind;

    /// The name under which the store records it. Directories made under one name can only be used
    /// under the same name.
    fn name(&self) -> &'static str;

    /// Whether deletions are recorded in a layer directory or carried out in it.
    fn layering(&self, has_parent: bool) -> Layering;

    /// The directories to merge, topmost first, given all layer directories of a snapshot.
    fn view(&self, chain: Vec<PathBuf>) -> Vec<PathBuf>;

    /// Makes the layer directory of a new snapshot.
    fn create(&self, dirs: &SnapshotDirs, lower: &[PathBuf]) -> Result<(), PathError>;

    /// What to mount to write to a new snapshot.
    fn writable_mount(&self, dirs: &SnapshotDirs, lower: &[PathBuf]) -> Result<Mount, PathError>;

    /// What to mount to read a snapshot that consists of `view`.
    fn read_only_mount(&self, view: Vec<PathBuf>) -> Mount;

    /// Whether `layers`, made on top of something else or of nothing, can be put on top of `below` as they
    /// are. `below` is the topmost layer directory there.
    fn can_stack(&self, below: &Path, layers: &[PathBuf]) -> Result<bool, PathError>;

    /// Where the changes of a layer directory to what is below it are read from.
    fn layer_source<'a>(&self, layer: &'a Path, lower: &'a [PathBuf]) -> LayerSource<'a>;
}

/// A driver that was chosen.
pub(crate) type Driver = Box<dyn SnapshotDriver>;

/// The driver recorded under `name`.
pub(crate) fn from_name(name: &str) -> Option<Driver> {
    let overlay = Overlay::NAMES.iter().find(|(known, _)| *known == name);
    match overlay {
        Some((_, userxattr)) => Some(Box::new(Overlay { userxattr: *userxattr })),
        None if name == Native::NAME => Some(Box::new(Native)),
        None => None,
    }
}

/// The native driver.
pub(crate) fn native() -> Driver {
    Box::new(Native)
}

/// The overlay driver, if overlayfs works below `scratch`, a path that does not exist and is gone again
/// afterwards.
pub(crate) fn probe_overlay(scratch: &Path) -> Result<Driver, PathError> {
    overlay::probe(scratch).map(|overlay| Box::new(overlay) as Driver)
}

/// What a file holds that is in `layer`, read through an overlay on top of it whose own directories are made in `scratch`.
pub(crate) fn read_through_overlay(layer: &Path, file: &str, scratch: &Path) -> Result<Vec<u8>, PathError> {
    overlay::read_through(layer, file, scratch)
}
