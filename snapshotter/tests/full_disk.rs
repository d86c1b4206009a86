//! A store on a disk that is full.
//!
//! On its own in this file: a process that another test starts would, for a moment, keep deleted files open
//! and with them their space.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test says why it is skipped")]

use std::io::Write;

use base::{Digest, Fault, Faulty};
use snapshotter::{DriverKind, Expected, Options, Policy, Store};

/// A small file system of its own, unmounted when dropped.
struct TinyDisk {
    dir: tempfile::TempDir,
}

impl TinyDisk {
    /// `None`, with a note, where this process may not mount.
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, Some(options.as_c_str())) {
            Ok(()) => Some(Self { dir }),
            Err(error) => {
                println!("skipped: cannot mount a tmpfs (needs root): {error}");
                None
            }
        }
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_one_clear_error_and_the_store_stays_usable() {
    let Some(disk) = TinyDisk::new("6m") else { return };
    let root = disk.dir.path().join("store");
    let options = Options { driver: Some(DriverKind::Native), ..Options::default() };
    let store = Store::open(&root, options).unwrap();
    let lease = store.lease("test").unwrap();
    let big = vec![5; 16 << 20];

    let mut writer = store.ingest(&lease).unwrap();
    let error = writer.copy_from(&mut &big[..]).unwrap_err();
    assert_eq!(error.fault(), Fault::Environment);
    let text = error.to_string();
    assert!(text.contains("disk is full") && text.contains("/ingest/"), "{text}");
    drop(writer);

    let active = store.prepare(&lease, None).unwrap();
    assert!(std::fs::write(active.layer_dir().join("big"), &big).is_err());
    // The row cannot be removed without space for it: the files go first.
    drop(active);
    assert!(store.check().unwrap().is_clean());

    let filler = disk.dir.path().join("filler");
    assert!(std::fs::write(&filler, &big).is_err());
    let mut failed = None;
    for number in 0..200u8 {
        if let Err(error) = store.kv_put("bucket", &[number], &[0; 4000]) {
            failed = Some(error);
            break;
        }
    }
    let error = failed.expect("the database grows and so must fail");
    assert_eq!(error.fault(), Fault::Environment);
    assert!(error.to_string().contains("meta-v1.sqlite"), "{error}");

    std::fs::remove_file(&filler).unwrap();
    store.kv_put("bucket", b"k", b"v").unwrap();
    let expected = Expected { digest: Digest::of(b"small"), size: 5 };
    let mut writer = store.ingest(&lease).unwrap();
    writer.write_all(b"small").unwrap();
    writer.finish(Some(expected)).unwrap();
    drop(lease);
    drop(store);
    let store = Store::open(&root, Options::default()).unwrap();
    assert!(store.check().unwrap().is_sound());
    store.gc(Policy::DROP_CACHE).unwrap();
    assert!(store.check().unwrap().is_clean());
}

#[test]
fn a_collection_makes_room_on_a_full_disk() {
    let Some(disk) = TinyDisk::new("6m") else { return };
    let options = Options { driver: Some(DriverKind::Native), ..Options::default() };
    let store = Store::open(&disk.dir.path().join("store"), options).unwrap();
    let lease = store.lease("test").unwrap();
    store.put_blob(&lease, &vec![1; 1 << 20]).unwrap();
    drop(lease);
    // What a killed process leaves: a file whose lease is gone, and no space for anything else.
    let left = store.scratch_dir().join("dead-lease.0");
    assert!(std::fs::write(&left, vec![1; 16 << 20]).is_err());
    let freed = store.gc(Policy::DROP_CACHE).unwrap();
    assert_eq!(freed.blobs, 1);
    assert!(freed.bytes > 4 << 20, "{freed:?}");
    assert!(store.check().unwrap().is_clean());
}
