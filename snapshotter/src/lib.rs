//! The layer store: blobs, snapshots, apply, diff, compression, images, leases.

pub mod apply;
pub mod archive;
mod batch;
pub mod compress;
mod content_hash;
pub mod content_key;
pub mod diff;
mod merkle;
mod scan;
pub mod select;
pub mod stat_cache;
pub mod tar_entry;
pub mod tar_read;
pub mod tar_write;
pub mod tree;
