//! Snapshots: layers of files, each on top of its parent.
//!
//! An *active* snapshot has an owner and can be written to. A *committed* one never changes and can be a
//! parent. The store does not mount: it says what to mount, and the runner does it in the container's own
//! namespace.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base::image::Descriptor;
use base::{Digest, Key, Mount, Timestamp};

use crate::apply::Layering;
use crate::cache::CacheWrite;
use crate::compress::Compression;
use crate::db::packed::{self, PackedLayer};
use crate::db::snapshots::ChainLink;
use crate::db::{self, leases, snapshots};
use crate::error::StoreError;
use crate::layer::{LayerBlob, LayerForm};
use crate::layout::SnapshotDirs;
use crate::lease::Lease;
use crate::mark::Node;
use crate::store::Store;

/// Names a snapshot within one store; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(i64);

impl SnapshotId {
    /// The id of a row.
    pub(crate) const fn from_row(row: i64) -> Self {
        Self(row)
    }

    /// The row of an id.
    pub(crate) const fn row(self) -> i64 {
        self.0
    }

    /// The id as a number, to be kept in a record of the store's user.
    pub const fn to_u64(self) -> u64 {
        self.0.cast_unsigned()
    }

    /// The id from [`to_u64`](Self::to_u64). Nothing says that the snapshot still exists.
    pub const fn from_u64(number: u64) -> Self {
        Self(number.cast_signed())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known about a committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The snapshot below it.
    pub parent: Option<SnapshotId>,
    /// When work on it began.
    pub created_at: Timestamp,
    /// Bytes of disk that its own layer takes, once counted.
    pub size: Option<u64>,
    /// The digest of its uncompressed layer, once computed.
    pub diff_id: Option<Digest>,
    /// The length of its uncompressed layer in bytes, once computed.
    pub diff_size: Option<u64>,
    /// The chain id of its layer and all below it (OCI image-spec, `config.md`), once known.
    pub chain_id: Option<Digest>,
    /// The content key of its whole tree, once recorded.
    pub content: Option<Key>,
}

/// What to record with a snapshot when it is committed.
#[derive(Debug, Clone, Default)]
pub struct CommitInfo {
    /// The digest and the length in bytes of the uncompressed layer, if known.
    pub diff: Option<(Digest, u64)>,
    /// The chain id, if known. [`ActiveSnapshot::commit`] returns the snapshot that has it already.
    pub chain_id: Option<Digest>,
    /// The content key of the whole tree, if known.
    pub content: Option<Key>,
    /// Bytes of disk that the layer takes, if known.
    pub size: Option<u64>,
    /// When work on it began, if that was elsewhere; else it was when it was prepared.
    pub created_at: Option<Timestamp>,
    /// The blob that the layer was unpacked from. Needs `diff`.
    pub original: Option<Descriptor>,
    /// Whether the layer hides everything below it.
    pub opaque: bool,
    /// Cache entries to write in the same transaction.
    pub cache: Vec<CacheWrite>,
}

impl Store {
    /// Begins a snapshot on top of `parent`, or of nothing. The parent is protected by `lease`.
    ///
    /// # Errors
    /// [`StoreError::NoSuchSnapshot`] when there is no committed snapshot `parent`.
    pub fn prepare(&self, lease: &Lease, parent: Option<SnapshotId>) -> Result<ActiveSnapshot, StoreError> {
        let driver = self.driver()?;
        let now = self.now_millis();
        let prepared = self.db().write("prepare a snapshot", |c| {
            let chain = parent.map(|id| snapshots::chain(c, id)).transpose()?;
            if chain.as_ref().is_some_and(Vec::is_empty) {
                return Ok(None);
            }
            if let Some(parent) = parent {
                leases::hold_snapshot(c, lease.id(), parent)?;
            }
            let id = snapshots::insert_active(c, parent, lease.id(), now)?;
            Ok(Some((id, chain.unwrap_or_default())))
        })?;
        let Some((id, chain)) = prepared else {
            return Err(parent.map_or(StoreError::Cancelled, |id| StoreError::NoSuchSnapshot { id }));
        };
        // From here on, dropping `active` takes everything back.
        let mut active = ActiveSnapshot {
            store: self.clone(),
            lease: lease.clone(),
            id,
            parent,
            fs: self.layout().snapshot(id).fs(),
            dirs: self.layout().snapshot(id),
            lower: Vec::new(),
            lower_names: driver.view(self.visible_names(&chain)),
            layering: driver.layering(parent.is_some()),
            packed: OnceLock::new(),
            committed: false,
        };
        lease.note_snapshot(parent.unwrap_or(id));
        active.lower = driver.view(self.visible(&chain)?);
        sys::fs::create_dir(&active.dirs.top, 0o700)?;
        driver.create(&active.dirs, &active.lower)?;
        Ok(active)
    }

    /// The directories that make up the tree of a committed snapshot, topmost first, for a merged view in
    /// user space. The paths are good in this process, for as long as it has the store open.
    pub fn view_dirs(&self, id: SnapshotId) -> Result<Vec<PathBuf>, StoreError> {
        let chain = self.read_chain(id)?;
        Ok(self.driver()?.view(self.visible(&chain)?))
    }

    /// Where those directories are, for people and for what outlives this process. A packed layer has none: see
    /// [`base::mount`].
    pub fn layer_dirs(&self, id: SnapshotId) -> Result<Vec<PathBuf>, StoreError> {
        let chain = self.read_chain(id)?;
        Ok(self.driver()?.view(self.visible_names(&chain)))
    }

    /// What to mount to see a committed snapshot without being able to write to it. It is protected by
    /// `lease` from then on.
    pub fn mount_read_only(&self, lease: &Lease, id: SnapshotId) -> Result<Mount, StoreError> {
        self.hold(lease, id)?;
        self.read_only_view(id)
    }

    /// The same for whoever protects it otherwise.
    pub fn read_only_view(&self, id: SnapshotId) -> Result<Mount, StoreError> {
        let chain = self.read_chain(id)?;
        // Whoever mounts it looks at no digests.
        self.visible(&chain)?;
        let driver = self.driver()?;
        Ok(driver.read_only_mount(driver.view(self.visible_names(&chain))))
    }

    /// The length in bytes of the uncompressed layer on top of the snapshot with this chain id, if both are
    /// known.
    pub fn layer_size(&self, chain_id: &Digest) -> Result<Option<u64>, StoreError> {
        let size = self.db().read_consistently("look up the size of a layer", |c| {
            let Some(id) = snapshots::by_chain_id(c, chain_id)? else { return Ok(None) };
            Ok(snapshots::info(c, id)?.and_then(|info| info.diff_size))
        })?;
        Ok(size)
    }

    /// The snapshots that `id` consists of, the base first, `id` last.
    pub fn chain(&self, id: SnapshotId) -> Result<Vec<SnapshotId>, StoreError> {
        Ok(self.read_chain(id)?.iter().rev().map(|link| link.id).collect())
    }

    /// The same, all of them protected by `lease` from then on.
    pub fn hold_chain(&self, lease: &Lease, id: SnapshotId) -> Result<Vec<SnapshotId>, StoreError> {
        self.hold(lease, id)?;
        let chain = self.chain(id)?;
        // Whoever holds a snapshot holds all below it: no row is needed for those.
        chain.iter().for_each(|below| lease.note_snapshot(*below));
        Ok(chain)
    }

    /// What is known about a committed snapshot.
    pub fn snapshot_info(&self, id: SnapshotId) -> Result<SnapshotInfo, StoreError> {
        let info = self.db().read("look up a snapshot", |c| snapshots::info(c, id))?;
        info.ok_or(StoreError::NoSuchSnapshot { id })
    }

    /// Protects a committed snapshot, and all below it, by `lease`.
    pub fn hold(&self, lease: &Lease, id: SnapshotId) -> Result<(), StoreError> {
        if lease.holds(Node::Snapshot(id)) {
            return Ok(());
        }
        let found = self.db().write("hold a snapshot", |c| {
            let found = snapshots::is_committed(c, id)?;
            if found {
                leases::hold_snapshot(c, lease.id(), id)?;
            }
            Ok(found)
        })?;
        if !found {
            return Err(StoreError::NoSuchSnapshot { id });
        }
        lease.note_snapshot(id);
        Ok(())
    }

    /// The committed snapshot whose layers have this chain id. Nothing protects it: it may be gone when it is used.
    pub fn find_chain_id(&self, chain_id: &Digest) -> Result<Option<SnapshotId>, StoreError> {
        Ok(self.db().read("look up a chain id", |c| snapshots::by_chain_id(c, chain_id))?)
    }

    /// The committed snapshot whose layers have this chain id, protected by `lease` from then on.
    pub fn snapshot_by_chain_id(
        &self,
        lease: &Lease,
        chain_id: &Digest,
    ) -> Result<Option<SnapshotId>, StoreError> {
        const OPERATION: &str = "look up a chain id";
        let found = self.db().read(OPERATION, |c| snapshots::by_chain_id(c, chain_id))?;
        if found.is_none_or(|id| lease.holds(Node::Snapshot(id))) {
            return Ok(found);
        }
        let found = self.db().write(OPERATION, |c| {
            let found = snapshots::by_chain_id(c, chain_id)?;
            found.map(|id| leases::hold_snapshot(c, lease.id(), id).map(|()| id)).transpose()
        })?;
        if let Some(id) = found {
            lease.note_snapshot(id);
        }
        Ok(found)
    }

    /// The links of a committed snapshot's chain, the topmost first.
    pub(crate) fn read_chain(&self, id: SnapshotId) -> Result<Vec<ChainLink>, StoreError> {
        let chain = self.db().read("read a chain of snapshots", |c| snapshots::chain(c, id))?;
        if chain.is_empty() { Err(StoreError::NoSuchSnapshot { id }) } else { Ok(chain) }
    }

    /// The layer directories of `chain`, topmost first, down to the first that hides what is below it. One
    /// that occurs twice is left out below, where it shows nothing: overlayfs refuses it (`ELOOP`).
    pub(crate) fn visible(&self, chain: &[ChainLink]) -> Result<Vec<PathBuf>, StoreError> {
        shown(chain).map(|link| self.link_root(link)).collect()
    }

    /// The same as names that others understand.
    pub(crate) fn visible_names(&self, chain: &[ChainLink]) -> Vec<PathBuf> {
        shown(chain).map(|link| self.layout().snapshot(link.layer).fs()).collect()
    }

    /// Where this process finds the layer of a link.
    pub(crate) fn link_root(&self, link: &ChainLink) -> Result<PathBuf, StoreError> {
        match link.packed {
            true => self.layer_root(link.layer),
            false => Ok(self.layout().snapshot(link.layer).fs()),
        }
    }
}

fn shown(chain: &[ChainLink]) -> impl Iterator<Item = &ChainLink> {
    let hidden = chain.iter().position(|link| link.opaque).map_or(chain.len(), |at| at + 1);
    let mut seen = HashSet::new();
    chain[..hidden].iter().filter(move |link| seen.insert(link.layer))
}

/// A snapshot being made. Dropping it without [`commit`](Self::commit) removes everything.
pub struct ActiveSnapshot {
    store: Store,
    lease: Lease,
    id: SnapshotId,
    parent: Option<SnapshotId>,
    dirs: SnapshotDirs,
    fs: PathBuf,
    /// For this process.
    lower: Vec<PathBuf>,
    /// For others.
    lower_names: Vec<PathBuf>,
    layering: Layering,
    /// The files that the layer consists of, instead of a directory.
    packed: OnceLock<Box<PackedFiles>>,
    committed: bool,
}

impl fmt::Debug for ActiveSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveSnapshot")
            .field("id", &self.id)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}

impl ActiveSnapshot {
    /// The id that it has now and after commit.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What it is on top of.
    pub fn parent(&self) -> Option<SnapshotId> {
        self.parent
    }

    /// The directory that holds this layer: written to directly, in the form that
    /// [`layering`](Self::layering) says.
    pub fn layer_dir(&self) -> &Path {
        &self.fs
    }

    /// The directories below the layer, topmost first; empty when there is no parent, or when the layer
    /// directory holds all of the parent.
    pub fn lower_dirs(&self) -> &[PathBuf] {
        if self.is_full_copy() { &[] } else { &self.lower }
    }

    /// Whether deletions are recorded in the layer directory or carried out in it.
    pub fn layering(&self) -> Layering {
        self.layering
    }

    /// Whether the layer directory holds the whole tree, not just the changes to the parent.
    pub fn is_full_copy(&self) -> bool {
        self.layering == Layering::Flat
    }

    /// The places of its files.
    pub(crate) fn dirs(&self) -> &SnapshotDirs {
        &self.dirs
    }

    /// Makes files the layer that were written in the place of its directory.
    pub(crate) fn set_packed(&self, files: PackedLayer, shared: Option<SharedWith>) {
        // They are written once: their names are taken then.
        let _ = self.packed.set(Box::new(PackedFiles { files, shared }));
    }

    /// Whether it is made of such files.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed.get().is_some()
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What to mount for a process to run in. Not to be mounted while the layer directory is written to
    /// directly.
    pub fn mount(&self) -> Result<Mount, StoreError> {
        Ok(self.store.driver()?.writable_mount(&self.dirs, &self.lower_names)?)
    }

    /// Makes the snapshot immutable and visible to others, and returns its id. It is protected by the lease
    /// it was prepared under. Nothing may have it mounted or write to it any more.
    ///
    /// When [`CommitInfo::chain_id`] is that of another snapshot already, that one's id is returned and
    /// this one is removed, and no cache entries are written.
    pub fn commit(mut self, info: CommitInfo) -> Result<SnapshotId, StoreError> {
        if let Some(chain_id) = &info.chain_id
            && let Some(existing) = self.store.snapshot_by_chain_id(&self.lease, chain_id)?
        {
            return Ok(existing);
        }
        sys::fs::remove_tree(&self.dirs.work())?;
        if self.packed.get().is_some() {
            // Nobody is to take it for the layer.
            sys::fs::remove_tree(&self.dirs.fs())?;
        }
        let outcome = self.write_commit(&info)?;
        match outcome {
            Outcome::Committed => {
                self.committed = true;
                self.lease.note_snapshot(self.id);
                Ok(self.id)
            }
            Outcome::Exists(existing) => {
                self.lease.note_snapshot(existing);
                Ok(existing)
            }
            Outcome::Lost => Err(StoreError::SnapshotLost { id: self.id }),
            Outcome::BaseGone(layer) => Err(StoreError::LayerConverted { layer }),
        }
    }

    fn write_commit(&self, info: &CommitInfo) -> Result<Outcome, db::DbError> {
        let known = snapshots::Committed {
            opaque: info.opaque,
            size: info.size,
            diff: info.diff,
            chain_id: info.chain_id,
            content: info.content,
            created: info.created_at,
        };
        let now = self.store.now_millis();
        self.store.db().write("commit a snapshot", |c| {
            let existing = info.chain_id.map(|chain_id| snapshots::by_chain_id(c, &chain_id)).transpose()?;
            if let Some(existing) = existing.flatten() {
                leases::hold_snapshot(c, self.lease.id(), existing)?;
                return Ok(Outcome::Exists(existing));
            }
            if let Some(shared) = self.packed.get().and_then(|packed| packed.shared.as_ref()) {
                // While it is packed, all that it needs is there. If it was packed again and has the same list, it is the same
                // file again: the list says where in it everything lies.
                let now = packed::get(c, shared.layer)?.and_then(|now| now.contents);
                if now != Some(shared.contents) {
                    return Ok(Outcome::BaseGone(shared.layer));
                }
            }
            if !snapshots::commit(c, self.id, &known)? {
                return Ok(Outcome::Lost);
            }
            if let Some(packed) = self.packed.get() {
                let PackedFiles { files, shared } = &**packed;
                packed::put(c, self.id, files)?;
                packed::put_parts(c, self.id, shared.iter().flat_map(|shared| &shared.parts).copied())?;
                if info.diff.is_none() {
                    remember_archive(c, self.id, files)?;
                }
            }
            leases::hold_snapshot(c, self.lease.id(), self.id)?;
            if let (Some((diff_id, _)), Some(descriptor)) = (info.diff, info.original.clone()) {
                db::layers::put(c, self.id, db::layers::ORIGINAL, &LayerBlob { diff_id, descriptor })?;
            }
            info.cache.iter().try_for_each(|write| db::cache::apply(c, write, now))?;
            Ok(Outcome::Committed)
        })
    }
}

/// The archive of a packed layer that was made here is the layer, so its digest need not be computed.
pub(crate) fn remember_archive(
    connection: &rusqlite::Connection,
    id: SnapshotId,
    files: &PackedLayer,
) -> rusqlite::Result<()> {
    let form = LayerForm::from(Compression::None);
    let descriptor = Descriptor::new(form.media_type(), files.tar, files.tar_size);
    db::layers::put(connection, id, &form.name(), &LayerBlob { diff_id: files.tar, descriptor })?;
    snapshots::learn_diff_id(connection, id, &files.tar, files.tar_size)
}

/// The files of a packed layer that is being made.
struct PackedFiles {
    files: PackedLayer,
    shared: Option<SharedWith>,
}

/// A packed layer that another one shares content with.
pub(crate) struct SharedWith {
    pub(crate) layer: SnapshotId,
    /// The digest of its list of contents.
    pub(crate) contents: Digest,
    /// All layers whose archives are needed: what it needs, and itself.
    pub(crate) parts: Vec<SnapshotId>,
}

enum Outcome {
    /// The layer that this one shares with is not what it was.
    BaseGone(SnapshotId),
    Committed,
    Exists(SnapshotId),
    Lost,
}

impl Drop for ActiveSnapshot {
    /// Removes an uncommitted snapshot. An active row promises no files, so these may go although the row
    /// stays, as it does when the disk is full; it is removed when there is room again. Whatever fails
    /// here is done by the next collection instead.
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        let delete = || self.store.db().write("drop a snapshot", |c| snapshots::delete_active(c, self.id));
        let deleted = delete();
        let trash = self.store.layout().trashed(self.lease.id(), self.store.next_number());
        if sys::fs::rename(&self.dirs.top, &trash).is_ok() {
            let _ = sys::fs::remove_tree(&trash);
        }
        if deleted.is_err() {
            let _ = delete();
        }
    }
}

#[cfg(test)]
mod tests;
