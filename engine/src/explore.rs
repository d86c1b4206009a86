//! `lap image explore`: the layers of an image, read from the store, for [`analysis`].

mod analysis;

use std::collections::HashSet;
use std::io::Read as _;

use base::{CancelToken, Digest};
use snapshotter::diff::PathChangeKind;
use snapshotter::tree::{Entry, Follow};
use snapshotter::{Lease, SnapshotId, Tree};
use sys::path_error::{PathContext as _, PathError};
use sys::stat::Kind;

pub use self::analysis::{
    Effect, Exploration, ExploredFile, ExploredLayer, FileKind, LayerChange, LayerFile, LayerInput, Waste,
    analyse,
};
use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;

/// Bytes that are compared at once.
const PIECE: usize = 64 << 10;

/// An image with what its layers do.
#[derive(Debug, Clone)]
pub struct ExploredImage {
    /// Its id.
    pub id: Digest,
    /// What its layers do.
    pub exploration: Exploration,
}

impl Engine {
    /// Looks at what every layer of an image does. Layers that are not unpacked become so.
    ///
    /// # Errors
    /// There is no such image, or its files cannot be read.
    pub fn explore(&self, name: &str, cancel: &CancelToken) -> Result<ExploredImage, EngineError> {
        let lease = self.store.lease("explore")?;
        let image = self.find_and_hold(&lease, name)?.image;
        let steps = instructions(&image);
        let mut inputs = Vec::new();
        let mut below = None;
        for ((index, diff_id), created_by) in image.config.rootfs.diff_ids.iter().enumerate().zip(steps) {
            let snapshot = self.layer_snapshot(&lease, &image, index, below, cancel)?;
            let changes = self.layer_changes(snapshot, below, cancel)?;
            inputs.push(LayerInput { created_by, diff_id: diff_id.to_string(), changes });
            below = Some(snapshot);
        }
        Ok(ExploredImage { id: image.id(), exploration: analyse(inputs) })
    }

    /// The snapshot of one layer on top of those below it.
    fn layer_snapshot(
        &self,
        lease: &Lease,
        image: &Image,
        index: usize,
        below: Option<SnapshotId>,
        cancel: &CancelToken,
    ) -> Result<SnapshotId, EngineError> {
        cancel.check().map_err(EngineError::from)?;
        let diff_ids = &image.config.rootfs.diff_ids;
        if let Some(chain) = base::image::chain_id(&diff_ids[..=index])
            && let Some(snapshot) = self.store.snapshot_by_chain_id(lease, &chain)?
        {
            return Ok(snapshot);
        }
        let layer = image.manifest.layers.get(index).ok_or_else(|| EngineError::Inconsistent {
            image: image.id().to_string(),
            reason: format!("it has no layer {}", index + 1),
        })?;
        Ok(self.store.apply_layer(lease, below, layer, Some(&diff_ids[index]), cancel)?)
    }

    /// What a layer does, with what each path was before.
    fn layer_changes(
        &self,
        id: SnapshotId,
        below: Option<SnapshotId>,
        cancel: &CancelToken,
    ) -> Result<Vec<LayerChange>, EngineError> {
        let tree = |id| Ok::<_, EngineError>(Tree::overlay(self.store.view_dirs(id)?)?);
        let now = tree(id)?;
        let before = below.map(tree).transpose()?;
        let mut sides = Sides { now, before, seen: HashSet::new() };
        let mut changes = Vec::new();
        for change in self.store.changed_paths(id, cancel)? {
            cancel.check().map_err(EngineError::from)?;
            let path = change.path.to_string_lossy().into_owned();
            match change.kind {
                PathChangeKind::Deleted => changes.push(LayerChange::Delete(path)),
                PathChangeKind::Added | PathChangeKind::Changed => {
                    changes.extend(sides.file(&change.path)?.map(|file| LayerChange::Put(path, file)));
                }
            }
        }
        Ok(changes)
    }
}

/// The tree with a layer, and the one without it.
struct Sides {
    now: Tree,
    before: Option<Tree>,
    /// Files with several names that were counted.
    seen: HashSet<u64>,
}

impl Sides {
    fn file(&mut self, path: &std::path::Path) -> Result<Option<LayerFile>, EngineError> {
        // The root is no file of the layer.
        let Some(entry) = self.now.lookup(path, Follow::NoLast)?.filter(|entry| entry.path() == path) else {
            return Ok(None);
        };
        let stat = entry.stat();
        let kind = match entry.kind() {
            Kind::Directory => FileKind::Directory,
            Kind::File => FileKind::File,
            Kind::Symlink => FileKind::Link,
            _ => FileKind::Special,
        };
        let counted = kind == FileKind::File && (stat.links <= 1 || self.seen.insert(stat.inode));
        Ok(Some(LayerFile {
            kind,
            bytes: if counted { stat.size } else { 0 },
            mode: stat.mode & 0o7777,
            same_content: kind == FileKind::File && self.is_same(&entry)?,
        }))
    }

    /// Whether a regular file holds what it held before.
    fn is_same(&self, entry: &Entry) -> Result<bool, EngineError> {
        let Some(before) = &self.before else { return Ok(false) };
        let old = before.lookup(entry.path(), Follow::NoLast)?;
        let old = old.filter(|old| old.path() == entry.path() && old.kind() == Kind::File);
        let Some(old) = old.filter(|old| old.stat().size == entry.stat().size) else { return Ok(false) };
        let (mut a, mut b) = (before.open(&old)?, self.now.open(entry)?);
        let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
        let path = entry.path();
        loop {
            let length = a.read(&mut left).at("read", path)?;
            if length == 0 {
                return Ok(true);
            }
            match b.read_exact(&mut right[..length]) {
                Ok(()) if left[..length] == right[..length] => {}
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(PathError::new("read", path, error).into()),
            }
        }
    }
}

/// The instruction of each layer, the lowest first; empty where the history tells of fewer.
fn instructions(image: &Image) -> impl Iterator<Item = String> + use<> {
    let steps: Vec<String> = image
        .config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created_by.clone())
        .collect();
    steps.into_iter().chain(std::iter::repeat(String::new()))
}
