//! How much disk the store takes beside images, containers and the cache: what is being made or was left
//! behind, and what the store needs for itself.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sys::fs::PathError;
use sys::lock::FileLock;

use super::{UsagePart, disk_usage, reach};
use crate::container::ContainerRecord;
use crate::db::marks::Rows;
use crate::db::{packed, snapshots};
use crate::error::StoreError;
use crate::layout::Layout;
use crate::mark::Node;
use crate::store::Store;

impl Store {
    /// What a blob takes on disk, in place of its length.
    pub(crate) fn weigh_blobs(&self, rows: &mut Rows) -> Result<(), StoreError> {
        for (digest, size) in &mut rows.blobs {
            *size = own(&self.blob_path(digest))?;
        }
        Ok(())
    }

    /// What is being made, and what nothing needs any more. `counted` is what was counted elsewhere.
    pub(super) fn temporary(&self, rows: &Rows, counted: &HashSet<Node>) -> Result<UsagePart, StoreError> {
        let mut part = UsagePart::default();
        let held = reach(rows, &rows.held);
        let blobs = rows.blobs.keys().copied().map(Node::Blob);
        let snapshots = rows.snapshots.keys().copied().map(Node::Snapshot);
        for node in blobs.chain(snapshots).filter(|node| !counted.contains(node)) {
            part.add(rows.size(&node), held.contains(&node));
        }
        for (path, in_work) in self.unfinished()?.into_iter().chain(self.unnamed()?) {
            part.add(tree(&path)?, in_work);
        }
        Ok(part)
    }

    /// Snapshots and files that are being made, or were when their owner died, and what is being deleted.
    fn unfinished(&self) -> Result<Vec<(PathBuf, bool)>, StoreError> {
        let mut found = Vec::new();
        let rows = self.db().read("list snapshots", snapshots::all)?;
        for row in rows.iter().filter(|row| row.active && !row.of_container) {
            found.push((self.layout().snapshot(row.id).top, true));
        }
        for name in sys::fs::list(&self.layout().ingests())? {
            let live = self.is_lease_live(Layout::ingest_owner(&name.to_string_lossy()))?;
            found.push((self.layout().ingests().join(name), live));
        }
        let partials = self.layout().partials();
        if sys::fs::exists(&partials)? {
            for name in sys::fs::list(&partials)? {
                let path = partials.join(name);
                found.push((path.clone(), FileLock::is_held(&path)?));
            }
        }
        let trash = self.layout().trash();
        found.extend(sys::fs::list(&trash)?.into_iter().map(|name| (trash.join(name), false)));
        Ok(found)
    }

    /// Files and directories without a row.
    fn unnamed(&self) -> Result<Vec<(PathBuf, bool)>, StoreError> {
        let findings = self.check()?;
        Ok(findings.without_row.into_iter().map(|path| (path, false)).collect())
    }

    /// What containers wrote, and what is kept for running them.
    pub(super) fn container_bytes(&self, containers: &[ContainerRecord]) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for container in containers {
            bytes += tree(&self.layout().snapshot(container.snapshot).top)?;
            bytes += tree(&self.layout().container(&container.id))?;
        }
        Ok(bytes)
    }

    /// What is kept in volumes.
    pub(super) fn volumes_part(&self) -> Result<UsagePart, StoreError> {
        let mut part = UsagePart::default();
        for volume in self.volumes()? {
            part.add(self.volume_size(&volume)?, !self.volume_users(&volume.name)?.is_empty());
        }
        Ok(part)
    }

    /// What the store needs for itself: the database, locks, leases, who uses packed layers, and the directories that hold the
    /// rest.
    pub(super) fn metadata_bytes(&self) -> Result<u64, StoreError> {
        let layout = self.layout();
        let mut bytes = own(layout.root())?;
        for (layer, _) in self.db().read("list packed layers", packed::all)? {
            bytes += own(&layout.snapshot(layer).users())?;
        }
        for name in sys::fs::list(layout.root())? {
            let path = layout.root().join(name);
            let holds_objects = [
                layout.snapshots(),
                layout.cache_mounts(),
                layout.containers(),
                layout.volumes(),
                layout.ingests(),
                layout.partials(),
                layout.trash(),
            ];
            bytes += if path == layout.stat_caches() {
                let caches: u64 = self.stat_cache_files()?.iter().map(|file| file.bytes).sum();
                tree(&path)?.saturating_sub(caches)
            } else if path == layout.received() {
                let copies: u64 = self.received_dirs()?.iter().map(|dir| dir.bytes).sum();
                tree(&path)?.saturating_sub(copies)
            } else if layout.blobs().starts_with(&path) {
                own(&path)? + own(&layout.blobs())? + children(&layout.blobs())?
            } else if holds_objects.contains(&path) {
                own(&path)?
            } else {
                tree(&path)?
            };
        }
        Ok(bytes)
    }
}

impl UsagePart {
    fn add(&mut self, bytes: u64, in_work: bool) {
        self.total += 1;
        self.bytes += bytes;
        if in_work {
            self.active += 1;
        } else {
            self.reclaimable += bytes;
        }
    }
}

/// What the files and directories in a directory take, without what is in them.
fn children(directory: &Path) -> Result<u64, PathError> {
    sys::fs::list(directory)?.into_iter().map(|name| own(&directory.join(name))).sum()
}

/// What a file or directory takes, without what is in it. One that has gone meanwhile takes nothing.
pub(super) fn own(path: &Path) -> Result<u64, PathError> {
    match sys::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.blocks() * 512),
        Err(error) if error.is_not_found() => Ok(0),
        Err(error) => Err(error),
    }
}

/// What a file, or a directory with all in it, takes.
fn tree(path: &Path) -> Result<u64, PathError> {
    let is_directory = match sys::fs::metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.is_not_found() => return Ok(0),
        Err(error) => return Err(error),
    };
    match if is_directory { disk_usage(path) } else { own(path) } {
        Err(error) if error.is_not_found() => Ok(0),
        bytes => bytes,
    }
}
