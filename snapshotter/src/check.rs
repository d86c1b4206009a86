//! Compares rows with files. Checking reports and changes nothing; repairing forgets what is damaged, and
//! leaves garbage to the collector.

mod content;
mod images;
mod repair;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use base::Digest;
use sys::lock::{FileLock, LockMode};

use crate::db::packed::{self, PackedLayer};
use crate::db::{blobs, cache_mounts, snapshots};
use crate::error::StoreError;
use crate::held_dir::Owners;
use crate::layout::Layout;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// What does not fit together in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Committed snapshots without a directory, or without the files of a packed layer: damage. [`Store::verify`] also
    /// finds those whose files are others. Repairing makes the files again if their blob is there.
    pub lost_snapshots: Vec<SnapshotId>,
    /// Snapshots that stand on a lost one, on a row that is gone, or use the layer of such a one: damage.
    pub orphaned_snapshots: Vec<SnapshotId>,
    /// Blobs without a file, or with one of the wrong length: damage.
    pub lost_blobs: Vec<Digest>,
    /// Blobs whose content is not what their digest says: damage. Found by [`Store::verify`].
    pub wrong_blobs: Vec<Digest>,
    /// Names of images without their documents, or with a layer that is damaged in every form: damage.
    /// Found by [`Store::verify`].
    pub incomplete_images: Vec<String>,
    /// Cache mounts without a directory, by its name: lost, and made anew when they are used.
    pub lost_cache_mounts: Vec<String>,
    /// Volumes whose row was lost, with the database: repairing lists them again.
    pub unlisted_volumes: Vec<PathBuf>,
    /// Files and directories without a row: garbage.
    pub without_row: Vec<PathBuf>,
    /// What processes left that are dead by now, and what is about to be deleted: garbage.
    pub leftovers: Vec<PathBuf>,
}

impl Findings {
    /// Whether everything that a row names is there.
    pub fn is_sound(&self) -> bool {
        let garbage = Self {
            without_row: self.without_row.clone(),
            leftovers: self.leftovers.clone(),
            ..Self::default()
        };
        *self == garbage
    }

    /// Whether there is neither damage nor garbage.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Compares rows with files. Other processes may work on the store meanwhile: what they are about to
    /// record is not reported.
    pub fn check(&self) -> Result<Findings, StoreError> {
        let mut findings = Findings::default();
        self.check_snapshots(&mut findings)?;
        self.check_blobs(&mut findings)?;
        self.check_cache_mounts(&mut findings)?;
        findings.unlisted_volumes = self.unlisted_volumes()?;
        self.check_leftovers(&mut findings)?;
        Ok(findings)
    }

    fn check_snapshots(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let names = sys::fs::list(&self.layout().snapshots())?;
        let rows = self.db().read("list snapshots", snapshots::all)?;
        let packed = self.db().read("list packed layers", packed::all)?;
        let packed: HashMap<SnapshotId, PackedLayer> = packed.into_iter().collect();
        for row in rows.iter().filter(|row| !row.active && row.layer.is_none()) {
            let is_there = match packed.get(&row.id) {
                Some(files) => self.has_packed_files(row.id, files)?,
                None => sys::fs::exists(&self.layout().snapshot(row.id).fs())?,
            };
            if !is_there && self.db().read("look up a snapshot", |c| snapshots::is_committed(c, row.id))? {
                findings.lost_snapshots.push(row.id);
            }
        }
        findings.orphaned_snapshots = orphans(&rows, &findings.lost_snapshots);
        let owners = rows.iter().filter(|row| row.layer.is_none());
        let known: HashSet<String> = owners.map(|row| row.id.to_string()).collect();
        let unknown = names.iter().filter(|name| name.to_str().is_none_or(|name| !known.contains(name)));
        findings.without_row.extend(unknown.map(|name| self.layout().snapshots().join(name)));
        Ok(())
    }

    fn check_blobs(&self, findings: &mut Findings) -> Result<(), StoreError> {
        // Nobody is between giving a blob its name and recording its row.
        let _excluded = FileLock::acquire(&self.layout().blobs_lock(), LockMode::Exclusive)?;
        let rows = self.db().read("list blobs", blobs::all)?;
        for (digest, size) in &rows {
            if !self.has_length(digest, *size)?
                && self.db().read("look up a blob", |c| blobs::size(c, digest))?.is_some()
            {
                findings.lost_blobs.push(*digest);
            }
        }
        let known: HashSet<PathBuf> = rows.iter().map(|(digest, _)| self.blob_path(digest)).collect();
        for directory in sys::fs::list(&self.layout().blobs())? {
            let directory = self.layout().blobs().join(directory);
            let files = sys::fs::list(&directory)?.into_iter().map(|name| directory.join(name));
            findings.without_row.extend(files.filter(|path| !known.contains(path)));
        }
        Ok(())
    }

    /// Whether a blob's file is there, and of this length.
    fn has_length(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        match sys::fs::metadata(&self.blob_path(digest)) {
            Ok(metadata) => Ok(metadata.len() == size),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn check_cache_mounts(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for row in self.db().read("list cache mounts", cache_mounts::all)? {
            let is_there = || self.db().read("look up cache mounts", |c| cache_mounts::of_id(c, &row.id));
            if !sys::fs::exists(&self.layout().cache_mount(&row.directory).fs())?
                && is_there()?.contains(&row.directory)
            {
                findings.lost_cache_mounts.push(row.directory);
            }
        }
        for owners in Owners::ALL {
            findings.without_row.extend(self.garbage_of(owners)?);
        }
        Ok(())
    }

    fn check_leftovers(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for name in sys::fs::list(&self.layout().leases())? {
            if !self.is_lease_live(&name.to_string_lossy())? {
                findings.leftovers.push(self.layout().leases().join(name));
            }
        }
        for name in sys::fs::list(&self.layout().ingests())? {
            if !self.is_lease_live(Layout::ingest_owner(&name.to_string_lossy()))? {
                findings.leftovers.push(self.layout().ingests().join(name));
            }
        }
        let trash = self.layout().trash();
        findings.leftovers.extend(sys::fs::list(&trash)?.into_iter().map(|name| trash.join(name)));
        Ok(())
    }
}

/// The snapshots that need one of `lost`, or one without a row, directly or not.
fn orphans(rows: &[snapshots::Listed], lost: &[SnapshotId]) -> Vec<SnapshotId> {
    let known: HashSet<SnapshotId> = rows.iter().map(|row| row.id).collect();
    let lost: HashSet<SnapshotId> = lost.iter().copied().collect();
    let mut orphans = HashSet::new();
    // A row names only smaller ids, so one pass in their order finds all.
    for row in rows {
        let is_gone = |id: &SnapshotId| lost.contains(id) || orphans.contains(id) || !known.contains(id);
        if !lost.contains(&row.id) && row.needs().any(|id| is_gone(&id)) {
            orphans.insert(row.id);
        }
    }
    let mut orphans: Vec<SnapshotId> = orphans.into_iter().collect();
    orphans.sort_unstable();
    orphans
}

#[cfg(test)]
mod tests;
