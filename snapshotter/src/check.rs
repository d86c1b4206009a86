//! Compares rows with files. Reports and repairs nothing; garbage is the collector's to remove.

use std::collections::HashSet;
use std::path::PathBuf;

use base::Digest;

use crate::db::{blobs, cache_mounts, snapshots};
use crate::error::StoreError;
use crate::layout::Layout;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// What does not fit together in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Committed snapshots without a directory: damage.
    pub lost_snapshots: Vec<SnapshotId>,
    /// Blobs without a file, or with one of the wrong length: damage.
    pub lost_blobs: Vec<Digest>,
    /// Cache mounts without a directory, by its name: lost, and made anew when they are used.
    pub lost_cache_mounts: Vec<String>,
    /// Files and directories without a row: garbage.
    pub without_row: Vec<PathBuf>,
    /// What processes left that are dead by now, and what is about to be deleted: garbage.
    pub leftovers: Vec<PathBuf>,
}

impl Findings {
    /// Whether everything that a row names is there.
    pub fn is_sound(&self) -> bool {
        self.lost_snapshots.is_empty() && self.lost_blobs.is_empty() && self.lost_cache_mounts.is_empty()
    }

    /// Whether there is neither damage nor garbage.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Compares rows with files. While other processes work on the store, files that are about to get a row
    /// may be reported as garbage; damage is never reported by mistake.
    pub fn check(&self) -> Result<Findings, StoreError> {
        let mut findings = Findings::default();
        self.check_snapshots(&mut findings)?;
        self.check_blobs(&mut findings)?;
        self.check_cache_mounts(&mut findings)?;
        self.check_leftovers(&mut findings)?;
        Ok(findings)
    }

    fn check_snapshots(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let names = sys::fs::list(&self.layout().snapshots())?;
        let rows = self.db().read("list snapshots", snapshots::all)?;
        for row in rows.iter().filter(|row| !row.active && !row.shares) {
            if !sys::fs::exists(&self.layout().snapshot(row.id).fs())?
                && self.db().read("look up a snapshot", |c| snapshots::is_committed(c, row.id))?
            {
                findings.lost_snapshots.push(row.id);
            }
        }
        let owners = rows.iter().filter(|row| !row.shares);
        let known: HashSet<String> = owners.map(|row| row.id.to_string()).collect();
        let unknown = names.iter().filter(|name| name.to_str().is_none_or(|name| !known.contains(name)));
        findings.without_row.extend(unknown.map(|name| self.layout().snapshots().join(name)));
        Ok(())
    }

    fn check_blobs(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let rows = self.db().read("list blobs", blobs::all)?;
        for (digest, size) in &rows {
            let is_whole = match sys::fs::metadata(&self.blob_path(digest)) {
                Ok(metadata) => metadata.len() == *size,
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error.into()),
            };
            if !is_whole && self.db().read("look up a blob", |c| blobs::size(c, digest))?.is_some() {
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

    fn check_cache_mounts(&self, findings: &mut Findings) -> Result<(), StoreError> {
        for row in self.db().read("list cache mounts", cache_mounts::all)? {
            let is_there = || self.db().read("look up cache mounts", |c| cache_mounts::of_id(c, &row.id));
            if !sys::fs::exists(&self.layout().cache_mount(&row.directory).fs())?
                && is_there()?.contains(&row.directory)
            {
                findings.lost_cache_mounts.push(row.directory);
            }
        }
        let unknown = self.unknown_cache_mounts()?.into_iter();
        findings.without_row.extend(unknown.map(|name| self.layout().cache_mounts().join(name)));
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
