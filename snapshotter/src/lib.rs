//! The layer store: blobs, snapshots, apply, diff, compression, images, leases.
