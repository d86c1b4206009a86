//! Where everything in a store lies. No other file joins path pieces below the root.
//!
//! ```text
//! $ROOT/                             0700: layers hold set-user-ID files that must not be reachable
//!   store.lock                       shared by everyone who has the store open
//!   blobs.lock                       shared while a blob gets its name and row; exclusive while the
//!                                    collector takes away files without rows
//!   meta-v1.sqlite                   the rows
//!   leases/<id>                      locked while the owner lives
//!   claims/<key>                     locked while somebody computes <key>
//!   ingest/<lease>.<n>               blobs being written, and scratch directories
//!   partial-v1/<64 hex>              content that was not finished, by the digest that it is to have; locked
//!                                    while somebody writes to it
//!   trash/<id>.<n>                   trees and files being deleted
//!   blobs-v1/sha256/<2 hex>/<64 hex> content by digest
//!   stat-cache-v1/<key>              remembered hashes of context directories; may go at any time
//!   received-v1/<key>[.<n>]/{files,lock}
//!                                    copies of directories that clients send; `lock` is held while `files` is used
//!   cache-mounts-v1/<name>/{fs,lock} cache mounts; `lock` is held while `fs` is used
//!   volumes-v1/<name>/{data,lock,volume.json}
//!                                    volumes; `lock` is held while one is made, filled or removed; the note says
//!                                    what its row says
//!   containers-v1/<id>/               what runs a container; its `lock` is held by whoever makes, runs or
//!                                    removes it
//!   events-v1/                       what has happened, for `lap events`; the engine's, and may go at any time
//!   builds-v1/<id>/                  what is kept of a build; its `lock` is held while it runs
//!   graphs-v1/<key>                  the steps of build graphs, for explanations; may go at any time
//!   listings-v1/<key>                the files behind content keys, for explanations; may go at any time
//!   snapshots-v1/<id>/{fs,work}      layers; `work` is overlayfs's own and goes at commit; a snapshot
//!                                    that shares the layer of another has no directory
//!   snapshots-v1/<id>/{tar,index}    packed layers: the archive, and the image of its files ([`packed`](crate::packed))
//!   snapshots-v1/<id>/{pieces,contents}
//!                                    where the archive lies if others hold some of it, and what it holds
//! ```
//!
//! Formats carry a version in their name, so that a new format is a new directory. Names come from
//! digests, keys, row ids and our own counters; no text from outside ever becomes part of a path.

use std::path::{Path, PathBuf};

use base::{Digest, Key};
use sys::fs::PathError;

use crate::hint::HintKind;
use crate::snapshot::SnapshotId;

/// The paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, an absolute path. Touches nothing.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Creates the directories that do not exist yet, the root included. Those that blobs are spread over
    /// come with the first blob in them.
    pub(crate) fn create(&self) -> Result<(), PathError> {
        sys::fs::create_dir_all(&self.root, 0o700)?;
        for dir in
            [self.leases(), self.claims(), self.ingests(), self.trash(), self.blobs(), self.snapshots()]
        {
            sys::fs::create_dir_all(&dir, 0o700)?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn store_lock(&self) -> PathBuf {
        self.root.join("store.lock")
    }

    pub(crate) fn blobs_lock(&self) -> PathBuf {
        self.root.join("blobs.lock")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("meta-v1.sqlite")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn lease(&self, id: &str) -> PathBuf {
        self.leases().join(id)
    }

    pub(crate) fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }

    pub(crate) fn claim(&self, key: &Key) -> PathBuf {
        self.claims().join(key.hex())
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn ingest(&self, lease: &str, number: u64) -> PathBuf {
        self.ingests().join(format!("{lease}.{number}"))
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial-v1")
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.hex())
    }

    /// The lease that owns an ingest file of this name.
    pub(crate) fn ingest_owner(name: &str) -> &str {
        name.split_once('.').map_or(name, |(lease, _)| lease)
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(crate) fn trashed(&self, lease: &str, number: u64) -> PathBuf {
        self.trash().join(format!("{lease}.{number}"))
    }

    /// The directory of all blobs, which holds up to 256 directories by the first byte of the digest.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs-v1/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.blobs();
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    pub(crate) fn stat_caches(&self) -> PathBuf {
        self.root.join("stat-cache-v1")
    }

    pub(crate) fn received(&self) -> PathBuf {
        self.root.join("received-v1")
    }

    pub(crate) fn cache_mounts(&self) -> PathBuf {
        self.root.join("cache-mounts-v1")
    }

    pub(crate) fn cache_mount(&self, name: &str) -> CacheMountDirs {
        CacheMountDirs { top: self.cache_mounts().join(name) }
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes-v1")
    }

    pub(crate) fn volume(&self, directory: &str) -> VolumeDirs {
        VolumeDirs { top: self.volumes().join(directory) }
    }

    pub(crate) fn builds(&self) -> PathBuf {
        self.root.join("builds-v1")
    }

    pub(crate) fn build(&self, id: &str) -> PathBuf {
        self.builds().join(id)
    }

    pub(crate) fn hints(&self, kind: HintKind) -> PathBuf {
        self.root.join(kind.directory())
    }

    pub(crate) fn hint(&self, kind: HintKind, key: &Key) -> PathBuf {
        self.hints(kind).join(key.hex())
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers-v1")
    }

    pub(crate) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    pub(crate) fn container_lock(&self, id: &str) -> PathBuf {
        self.container(id).join("lock")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots-v1")
    }

    pub(crate) fn snapshot(&self, id: SnapshotId) -> SnapshotDirs {
        SnapshotDirs { top: self.snapshots().join(id.to_string()) }
    }
}

/// The directory of one volume.
#[derive(Debug, Clone)]
pub(crate) struct VolumeDirs {
    /// The directory that holds the others.
    pub(crate) top: PathBuf,
}

impl VolumeDirs {
    /// What containers show.
    pub(crate) fn data(&self) -> PathBuf {
        self.top.join("data")
    }

    /// What is to become `data`.
    pub(crate) fn filling(&self) -> PathBuf {
        self.top.join("filling")
    }

    /// Held while the volume is made, filled or removed.
    pub(crate) fn lock(&self) -> PathBuf {
        self.top.join(crate::held_dir::LOCK)
    }

    /// What its row says, for the case that the database is lost.
    pub(crate) fn note(&self) -> PathBuf {
        self.top.join("volume.json")
    }
}

/// The directories of one snapshot.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotDirs {
    /// The directory that holds the others.
    pub(crate) top: PathBuf,
}

impl SnapshotDirs {
    /// The files of the layer.
    pub(crate) fn fs(&self) -> PathBuf {
        self.top.join("fs")
    }

    /// The archive of a packed layer.
    pub(crate) fn tar(&self) -> PathBuf {
        self.top.join(base::mount::PACKED_DATA)
    }

    /// What of that archive is mounted.
    pub(crate) fn index(&self) -> PathBuf {
        self.top.join(base::mount::PACKED_INDEX)
    }

    /// Where the pieces of the archive lie, if others have some.
    pub(crate) fn pieces(&self) -> PathBuf {
        self.top.join(base::mount::PACKED_PIECES)
    }

    /// What a packed layer holds.
    pub(crate) fn contents(&self) -> PathBuf {
        self.top.join("contents")
    }

    /// All files that a packed layer may have, the archive apart.
    pub(crate) fn beside_tar(&self) -> [PathBuf; 4] {
        [self.index(), self.pieces(), self.contents(), self.users()]
    }

    /// Who has a packed layer mounted.
    pub(crate) fn users(&self) -> PathBuf {
        self.top.join(base::mount::PACKED_USERS)
    }

    /// Where overlayfs works while the snapshot is active.
    pub(crate) fn work(&self) -> PathBuf {
        self.top.join("work")
    }
}

/// The paths of one cache mount.
#[derive(Debug, Clone)]
pub(crate) struct CacheMountDirs {
    /// The directory that holds the others.
    pub(crate) top: PathBuf,
}

impl CacheMountDirs {
    /// What its users see.
    pub(crate) fn fs(&self) -> PathBuf {
        self.top.join("fs")
    }

    /// The file that is locked by whoever uses it.
    pub(crate) fn lock(&self) -> PathBuf {
        self.top.join("lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_in_the_drawing() {
        let layout = Layout::new(Path::new("/r"));
        let digest = Digest::from_bytes([0xab; 32]);
        assert_eq!(layout.blob(&digest), Path::new("/r/blobs-v1/sha256/ab").join("ab".repeat(32)));
        assert_eq!(layout.snapshot(SnapshotId::from_row(7)).fs(), Path::new("/r/snapshots-v1/7/fs"));
        assert_eq!(Layout::ingest_owner("lease-id.12"), "lease-id");
    }

    #[test]
    fn creating_twice_is_fine_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("deep/root"));
        layout.create().unwrap();
        layout.create().unwrap();
        assert_eq!(std::fs::metadata(layout.root()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
