//! The layer store: blobs, snapshots, apply, diff, compression, images, leases.

pub mod apply;
pub mod archive;
pub mod compress;
pub mod diff;
pub mod tar_entry;
pub mod tar_read;
pub mod tar_write;
