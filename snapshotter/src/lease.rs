//! Leases: what a live process uses is not collected.
//!
//! A lease is a locked file and the rows that name it. The kernel frees the lock when the process dies,
//! however it dies, and from then on the rows protect nothing. Ids are random and never used twice, so a
//! lease that was once seen dead stays dead.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base::Digest;
use sys::lock::FileLock;

use crate::db::leases;
use crate::error::StoreError;
use crate::mark::Node;
use crate::snapshot::SnapshotId;
use crate::store::{Store, new_name};

/// Protects everything created or used under it from the collector, until the last clone is dropped.
#[derive(Clone)]
pub struct Lease(Arc<Inner>);

struct Inner {
    store: Store,
    id: String,
    /// `None` only while being dropped.
    lock: Option<FileLock>,
    /// What this lease is known to protect, so that using a thing again needs no write.
    held: Mutex<HashSet<Node>>,
}

impl Store {
    /// A new lease. `purpose` is a note for people who look into the store (`lap build`).
    pub fn lease(&self, purpose: &str) -> Result<Lease, StoreError> {
        loop {
            let id = new_name()?;
            let Some(lock) = FileLock::create(&self.layout().lease(&id))? else { continue };
            lock.write_note(&format!("{} {purpose}\n", std::process::id()))?;
            let held = Mutex::new(HashSet::new());
            return Ok(Lease(Arc::new(Inner { store: self.clone(), id, lock: Some(lock), held })));
        }
    }

    /// What the owners of all live leases have noted of themselves.
    ///
    /// # Errors
    /// The directory of leases cannot be read.
    pub fn lease_notes(&self) -> Result<Vec<LeaseNote>, StoreError> {
        let mut notes = Vec::new();
        for name in sys::fs::list(&self.layout().leases())? {
            let path = self.layout().leases().join(name);
            if !FileLock::is_held(&path)? {
                continue;
            }
            match sys::fs::read(&path) {
                Ok(note) => notes.extend(LeaseNote::parse(&String::from_utf8_lossy(&note))),
                // Its owner has ended since.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(notes)
    }

    /// Whether the owner of this lease lives.
    pub(crate) fn is_lease_live(&self, id: &str) -> Result<bool, StoreError> {
        Ok(FileLock::is_held(&self.layout().lease(id))?)
    }
}

/// What the owner of a lease says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseNote {
    /// Its process id.
    pub process: u32,
    /// The purpose that it gave.
    pub purpose: String,
}

impl LeaseNote {
    /// `None` for a note that is not written yet.
    fn parse(text: &str) -> Option<Self> {
        let (process, purpose) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { process: process.parse().ok()?, purpose: purpose.to_owned() })
    }
}

impl Lease {
    /// The name of the lease, also of its file.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Whether the thing is known to be protected already.
    pub(crate) fn holds(&self, node: Node) -> bool {
        self.held().contains(&node)
    }

    /// Notes that rows protect `node` now.
    pub(crate) fn note(&self, node: Node) {
        self.held().insert(node);
    }

    /// Notes that rows protect the snapshot `id` now.
    pub(crate) fn note_snapshot(&self, id: SnapshotId) {
        self.note(Node::Snapshot(id));
    }

    /// Notes that rows protect the blob `digest` now.
    pub(crate) fn note_blob(&self, digest: Digest) {
        self.note(Node::Blob(digest));
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<Node>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    /// Ends the protection. Unfinished snapshots have a clone of the lease, so there is none any more. Whatever fails
    /// here is done by the next collection instead.
    fn drop(&mut self) {
        let wrote = !self.held.get_mut().unwrap_or_else(PoisonError::into_inner).is_empty();
        if wrote {
            let _ = self.store.db().write("release a lease", |c| leases::release(c, &self.id));
        }
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove();
        }
    }
}

#[cfg(test)]
mod tests;
