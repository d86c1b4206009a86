//! What can go wrong with a store, as its users see it.

use std::io;
use std::path::PathBuf;

use base::cancel::Cancelled;
use base::{Digest, Fault, Faulty};
use sys::fs::PathError;

use crate::apply::ApplyError;
use crate::compress::CompressError;
use crate::copy::CopyError;
use crate::db::DbError;
use crate::diff::DiffError;
use crate::driver::DriverKind;
use crate::snapshot::SnapshotId;

/// Why an operation on a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] PathError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A tree of the store could not be read.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    /// A layer could not be written.
    #[error(transparent)]
    Write(#[from] crate::writer::WriteError),
    /// Layers here are whole copies, in which nothing can be said to be gone.
    #[error(
        "the difference of two filesystems needs a store of overlay layers; this one keeps whole copies, because \
         overlayfs does not work here"
    )]
    NoWhiteouts,
    /// The root is not an absolute path.
    #[error("the store root {} is not an absolute path", path.display())]
    RelativeRoot {
        /// The root.
        path: PathBuf,
    },
    /// The root lies where locks and shared memory cannot be relied upon.
    #[error(
        "the store root {} is on a network file system ({kind}), which is not supported; \
         choose a local directory with --root or LAPSTRAKE_ROOT",
        path.display()
    )]
    NetworkFilesystem {
        /// The root.
        path: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// Layers cannot be packed here.
    #[error("layers cannot be packed here: {reason}")]
    CannotPack {
        /// What stands in the way.
        reason: String,
    },
    /// The store was made for another driver than the one asked for.
    #[error("the store {} uses the {recorded} driver and cannot be opened with {wanted}", root.display())]
    DriverMismatch {
        /// The store's root.
        root: PathBuf,
        /// The driver it was made for.
        recorded: DriverKind,
        /// The driver asked for.
        wanted: DriverKind,
    },
    /// The overlay driver was asked for where it does not work.
    #[error("overlay file systems cannot be mounted on the store {}", root.display())]
    OverlayUnavailable {
        /// The store's root.
        root: PathBuf,
        /// What failed.
        #[source]
        source: PathError,
    },
    /// The files of a packed layer are not what they were, and there is nothing to make them of again.
    #[error(
        "the packed layer {} is damaged, and its blob is not in the store; \
         `lap store check --repair` forgets it, and it is pulled or built again",
        path.display()
    )]
    PackedDamaged {
        /// The directory of its files.
        path: PathBuf,
    },
    /// A layer whose content was shared got another form meanwhile.
    #[error(
        "layer {layer}, which this one shares content with, got another form at the same time; try again"
    )]
    LayerConverted {
        /// Its snapshot.
        layer: SnapshotId,
    },
    /// The index of a packed layer could not be written.
    #[error("cannot write the index of the packed layer {}", path.display())]
    PackedIndex {
        /// The directory of its files.
        path: PathBuf,
        /// What failed.
        #[source]
        source: PathError,
    },
    /// The ingested content is not the expected content. Nothing of it was kept.
    #[error(
        "content does not match: expected {expected} of {expected_size} bytes, \
         got {actual} of {actual_size} bytes"
    )]
    BlobMismatch {
        /// The expected digest.
        expected: Digest,
        /// The expected length in bytes.
        expected_size: u64,
        /// The digest of what came.
        actual: Digest,
        /// How many bytes came.
        actual_size: u64,
    },
    /// What was to become a blob could not be read.
    #[error("cannot read the content to store")]
    Content {
        /// What its reader said.
        #[source]
        source: io::Error,
    },
    /// No such container.
    #[error("no such container: {id}")]
    NoSuchContainer {
        /// Its id.
        id: String,
    },
    /// Another container has the name.
    #[error("the container name \"{name}\" is already in use by container \"{id}\"")]
    ContainerNameTaken {
        /// The name.
        name: String,
        /// The id of the container that has it.
        id: String,
    },
    /// No such volume.
    #[error("no such volume: {name}")]
    NoSuchVolume {
        /// Its name.
        name: String,
    },
    /// Containers show the volume, or somebody makes one that will.
    #[error("volume {name} is in use by {}", users(containers))]
    VolumeInUse {
        /// Its name.
        name: String,
        /// The ids of the containers; none when it is just being filled.
        containers: Vec<String>,
    },
    /// No such network. The words are Docker's.
    #[error("network {network} not found")]
    NoSuchNetwork {
        /// Its id or name.
        network: String,
    },
    /// Another network has the name. The words are Docker's.
    #[error("network with name {name} already exists")]
    NetworkNameTaken {
        /// The name.
        name: String,
    },
    /// A new volume could not be filled with what the image has in its place.
    #[error("cannot copy what the image has at {path} into the volume {name}")]
    FillVolume {
        /// The volume.
        name: String,
        /// The directory of the image.
        path: String,
        /// Why.
        #[source]
        source: crate::copy::CopyError,
    },
    /// No such blob.
    #[error("blob {digest} is not in the store")]
    NoSuchBlob {
        /// Its digest.
        digest: Digest,
    },
    /// The blob's file does not have the length that its row says.
    #[error(
        "blob {digest} is damaged: {} has {actual} bytes instead of {expected}; remove the image and pull it again",
        path.display()
    )]
    BlobDamaged {
        /// Its digest.
        digest: Digest,
        /// Its file.
        path: PathBuf,
        /// The length it should have.
        expected: u64,
        /// The length it has.
        actual: u64,
    },
    /// A document is longer than anyone may make us read into memory.
    #[error("blob {digest} has {size} bytes, more than the {limit} allowed for a document of its kind")]
    BlobTooLarge {
        /// Its digest.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No committed snapshot has this id.
    #[error("snapshot {id} is not in the store")]
    NoSuchSnapshot {
        /// The id.
        id: SnapshotId,
    },
    /// The snapshot being made has disappeared under its owner.
    #[error("active snapshot {id} has been removed while it was in use")]
    SnapshotLost {
        /// The id.
        id: SnapshotId,
    },
    /// A manifest, index or config is not what the specification says.
    #[error("{kind} {digest} is not valid")]
    Document {
        /// What it should be.
        kind: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Indexes are nested deeper than any image needs.
    #[error("index {digest} is nested more than {limit} deep")]
    IndexTooDeep {
        /// The innermost one that was looked at.
        digest: Digest,
        /// How deep is allowed.
        limit: usize,
    },
    /// A descriptor's media type is not that of a manifest or an index.
    #[error("{digest} has the media type \"{media_type}\", which is neither a manifest nor an index")]
    NotAnImage {
        /// The digest.
        digest: Digest,
        /// The media type.
        media_type: String,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {layer} into {}{}", directory.display(), source.hint())]
    Apply {
        /// The layer blob.
        layer: Digest,
        /// Where its files were to go.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Box<ApplyError>,
    },
    /// The changes of a snapshot could not be written as a layer.
    #[error("cannot write the layer of snapshot {id}")]
    Diff {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        #[source]
        source: DiffError,
    },
    /// A layer could not be compressed.
    #[error("cannot compress the layer of snapshot {id}")]
    Compress {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        #[source]
        source: CompressError,
    },
    /// A layer could not be read from its blob to be compressed in another way, or the new blob not written.
    #[error("cannot write layer {layer} in another compression")]
    Convert {
        /// The blob that the layer came as.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A blob does not hold the layer that it was unpacked as.
    #[error("layer {layer} unpacks to {actual} instead of {expected}; remove the image and pull it again")]
    DiffIdMismatch {
        /// The blob.
        layer: Digest,
        /// The digest of the uncompressed layer.
        expected: Digest,
        /// What it unpacks to.
        actual: Digest,
    },
    /// What a cache mount should begin with is not a directory of the snapshot.
    #[error("\"{path}\" is not a directory of the stage or image that cache mount \"{id}\" begins with")]
    SeedNotFound {
        /// The id of the cache mount.
        id: String,
        /// The path in the snapshot.
        path: String,
    },
    /// What a cache mount begins with could not be copied.
    #[error("cannot fill cache mount \"{id}\"")]
    Seed {
        /// The id of the cache mount.
        id: String,
        /// Why.
        #[source]
        source: CopyError,
    },
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl StoreError {
    /// Whether it would have worked with more room on the disk.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File(error) => error.kind() == std::io::ErrorKind::StorageFull,
            Self::Database(error) => error.is_disk_full(),
            _ => false,
        }
    }
}

/// Containers for people, by their ids.
fn users(containers: &[String]) -> String {
    let short = |id: &String| id.chars().take(12).collect::<String>();
    match containers {
        [] => "a container that is being made".to_owned(),
        [one] => format!("container {}", short(one)),
        many => format!("containers {}", many.iter().map(short).collect::<Vec<_>>().join(", ")),
    }
}

impl From<Cancelled> for StoreError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Faulty for StoreError {
    fn fault(&self) -> Fault {
        match self {
            Self::File(error) => error.fault(),
            Self::Database(error) => error.fault(),
            Self::Apply { source, .. } => source.fault(),
            Self::Diff { source, .. } => source.fault(),
            Self::Compress { source, .. } => source.fault(),
            Self::Seed { source, .. } | Self::FillVolume { source, .. } => source.fault(),
            Self::Content { source } | Self::Convert { source, .. } => base::fault::of_io(source),
            Self::NetworkFilesystem { .. }
            | Self::CannotPack { .. }
            | Self::OverlayUnavailable { .. }
            | Self::BlobDamaged { .. }
            | Self::DiffIdMismatch { .. } => Fault::Environment,
            Self::SnapshotLost { .. } => Fault::Bug,
            Self::Cancelled => Fault::Cancelled,
            _ => Fault::Input,
        }
    }
}
