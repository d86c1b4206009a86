//! Reads every blob and compares it with its digest.

use std::io::Read as _;

use base::digest::Digester;
use base::{CancelToken, Digest};
use sys::fs::PathContext as _;

use super::{Findings, orphans};
use crate::db::{blobs, snapshots};
use crate::error::StoreError;
use crate::store::Store;

/// How much of a blob is in memory at a time.
const BUFFER: usize = 1 << 20;

impl Store {
    /// [`check`](Self::check), and whether the content of every blob is what its digest says, and whether
    /// images have lost parts.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`].
    pub fn verify(&self, cancel: &CancelToken) -> Result<Findings, StoreError> {
        let mut findings = self.check()?;
        for (digest, _) in self.db().read("list blobs", blobs::all)? {
            if !findings.lost_blobs.contains(&digest) && !self.is_intact(&digest, cancel)? {
                findings.wrong_blobs.push(digest);
            }
        }
        let damaged = self.damaged_packed_layers(cancel)?;
        findings.lost_snapshots.extend(damaged);
        findings.lost_snapshots.sort_unstable();
        findings.lost_snapshots.dedup();
        let rows = self.db().read("list snapshots", snapshots::all)?;
        findings.orphaned_snapshots = orphans(&rows, &findings.lost_snapshots);
        findings.incomplete_images = self.incomplete_images(&findings)?;
        Ok(findings)
    }

    /// Whether a blob's file has the content that its name says. One that the collector took meanwhile is
    /// no damage.
    pub(super) fn is_intact(&self, digest: &Digest, cancel: &CancelToken) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        let mut file = match sys::fs::open(&path) {
            Err(error) if error.is_not_found() => return Ok(true),
            file => file?,
        };
        let mut digester = Digester::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            if cancel.is_cancelled() {
                return Err(StoreError::Cancelled);
            }
            match file.read(&mut buffer) {
                Ok(0) => return Ok(digester.finish() == *digest),
                Ok(length) => digester.update(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).at("read", &path)?,
            }
        }
    }
}
