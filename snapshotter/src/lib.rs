//! The layer store: blobs, snapshots, images and the build cache below one directory, for any number of
//! processes at once, none of which has to be alive for another to work.
//!
//! SQLite keeps the rows, plain files the blobs, directories the layers. **Rows decide, files follow**:
//! content is written aside and complete before a row names it, and a file without a row is garbage. What
//! is in use is protected by a [`Lease`], a locked file that the kernel frees when its owner dies.
//!
//! This crate starts no process and mounts nothing but packed layers, which nobody else sees: it says what to mount, and
//! reads and writes layers in user space. It does not speak to registries, and does not know what a build is.

pub mod apply;
pub mod archive;
mod batch;
mod blob;
mod build;
mod cache;
mod cache_mount;
mod check;
mod claim;
mod client_build;
pub mod compress;
mod container;
mod content_hash;
pub mod content_key;
pub mod copy;
mod db;
pub mod diff;
mod difference;
mod digest_thread;
mod driver;
mod erofs;
mod error;
mod failed_step;
mod gc;
mod hard_links;
mod held_dir;
mod hint;
mod image;
mod last_use;
mod layer;
mod layout;
mod lease;
pub mod listing;
mod mark;
mod merge;
mod merkle;
pub mod mode_change;
mod network;
pub mod pack;
mod packed;
mod received;
mod record;
mod root;
mod scan;
mod scratch;
pub mod select;
mod snapshot;
pub mod stat_cache;
mod store;
pub mod tar_entry;
pub mod tar_read;
pub mod tar_write;
#[cfg(test)]
mod test_support;
pub mod tree;
#[cfg(test)]
mod tree_fixture;
#[cfg(test)]
mod tree_seen;
mod usage;
mod volume;
mod wait;
mod window;
mod write_back;
pub mod writer;

pub use apply::Layering;
pub use blob::{Arriving, ArrivingReader, BlobInfo, BlobWriter, Expected};
pub use build::{BuildContent, BuildRecord, BuildStatus};
pub use cache::{CacheValue, CacheWrite, KeyValue};
pub use cache_mount::{CacheMount, CacheMountInfo, CacheMountRequest, CacheSeed, Sharing};
pub use check::Findings;
pub use claim::Claim;
pub use client_build::{Attachment, ClientBuild};
pub use compress::Compression;
pub use container::{ContainerRecord, NewContainer, UnfinishedContainer};
pub use db::DbError;
pub use driver::DriverKind;
pub use error::StoreError;
pub use failed_step::FailedPart;
pub use gc::{Collection, Freed, Policy, SpaceLimits};
pub use held_dir::HeldDir;
pub use hint::HintKind;
pub use image::{ImageRecord, MAX_DOCUMENT};
pub use layer::{LayerBlob, LayerForm, SharedLayer};
pub use lease::{Lease, LeaseNote};
pub use network::NetworkRecord;
pub use packed::{ConvertTo, Converted, Kept, PackingObstacle, StoredForm};
pub use received::ReceivedDir;
pub use record::{CacheUsage, FilterError, RecordFilter, RecordKind};
pub use scratch::ScratchDir;
pub use snapshot::{ActiveSnapshot, CommitInfo, SnapshotId, SnapshotInfo};
pub use store::{Options, Store};
pub use tree::Tree;
pub use usage::{ImageUsage, Usage, UsageDetails, UsagePart, disk_usage};
pub use volume::{HeldVolumes, NewVolume, Volume};
