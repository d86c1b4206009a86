//! Layers that get another form: what is the same, what stays as it is, and who is not disturbed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use base::image::{Descriptor, media_type};
use base::{CancelToken, Digest};
use testkit::{Tree as Files, mounted};

use super::convert::{ConvertTo, Converted, Kept};
use crate::gc::Policy;
use crate::snapshot::{CommitInfo, SnapshotId};
use crate::test_support::{TestStore, key};
use crate::{CacheValue, Compression, Store};

fn cancel() -> CancelToken {
    CancelToken::new()
}

/// A store of directories that could be packed, or `None`, with a note, where the kernel cannot mount them.
#[allow(clippy::disallowed_macros, reason = "a test says why it is skipped")]
fn packable() -> Option<TestStore> {
    let test = TestStore::overlay()?;
    match test.store.way().unwrap() {
        Err(obstacle) => println!("skipped: {obstacle}"),
        Ok(_) => return Some(test),
    }
    None
}

fn convert(store: &Store, layer: SnapshotId, to: ConvertTo) -> Converted {
    store.convert_layer(layer, to, &cancel()).unwrap()
}

/// Keeps a snapshot as the result of a step, so that it is no garbage.
fn remember(test: &TestStore, step: u8, snapshot: SnapshotId) {
    let value = CacheValue { snapshot: Some(snapshot), ..Default::default() };
    test.store.cache_put(&key(step), value).unwrap();
}

fn is_packed(test: &TestStore, layer: SnapshotId) -> bool {
    let dirs = test.store.layout().snapshot(layer);
    let files = [dirs.tar(), dirs.index()].map(|file| file.exists());
    assert!(files[0] == files[1] && files[0] != dirs.fs().exists(), "{files:?}");
    files[0]
}

/// A layer with what layers have: directories, links, modes, times to the nanosecond, and names that are gone.
fn write_base(test: &TestStore) -> SnapshotId {
    let active = test.store.prepare(&test.lease, None).unwrap();
    let root = active.layer_dir();
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::write(root.join("a/file"), "content").unwrap();
    fs::write(root.join("a/b/gone"), "x").unwrap();
    fs::hard_link(root.join("a/file"), root.join("a/b/hard")).unwrap();
    std::os::unix::fs::symlink("../file", root.join("a/b/link")).unwrap();
    fs::set_permissions(root.join("a/b/c"), fs::Permissions::from_mode(0o1770)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o751)).unwrap();
    active.commit(CommitInfo::default()).unwrap()
}

/// One on top, which was made through a mount: it repeats a file, changes one and removes one.
fn write_top(test: &TestStore, base: SnapshotId) -> SnapshotId {
    let active = test.store.prepare(&test.lease, Some(base)).unwrap();
    mounted::with(&active.mount().unwrap(), |root| {
        let file = root.join("a/b/link");
        let mode = fs::metadata(&file).unwrap().permissions();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&file, mode).unwrap();
        fs::remove_file(root.join("a/b/gone")).unwrap();
        fs::remove_dir(root.join("a/b/c")).unwrap();
        fs::create_dir(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/b/c/new"), "new").unwrap();
    });
    active.commit(CommitInfo::default()).unwrap()
}

/// What whoever mounts it sees, with times.
fn seen(test: &TestStore, id: SnapshotId) -> (Files, Vec<(i64, i64, u32)>) {
    let mount = test.store.read_only_view(id).unwrap();
    mounted::with(&mount, |root| {
        let times = ["", "a", "a/file", "a/b/link", "a/b/hard"].map(|path| {
            let is = fs::symlink_metadata(root.join(path)).unwrap();
            (is.mtime(), is.mtime_nsec(), is.mode())
        });
        (Files::of_dir(root), times.to_vec())
    })
}

fn layer_of(test: &TestStore, id: SnapshotId) -> Digest {
    let lease = test.store.lease("export").unwrap();
    test.store.layer(&lease, id, Compression::None, &cancel()).unwrap().diff_id
}

#[test]
fn a_layer_is_the_same_in_either_form() {
    let Some(mut test) = packable() else { return };
    let base = write_base(&test);
    let top = write_top(&test, base);
    remember(&test, 1, top);
    let before = seen(&test, top);
    // What the upper one would be, had nothing been converted; nobody has asked for its digest yet in this store.
    test.release();
    for layer in [base, top] {
        assert!(matches!(convert(&test.store, layer, ConvertTo::Packed), Converted::Done));
        assert!(is_packed(&test, layer));
        assert!(matches!(convert(&test.store, layer, ConvertTo::Packed), Converted::Already));
    }
    assert_eq!(seen(&test, top), before);
    let digests = [layer_of(&test, base), layer_of(&test, top)];
    assert_eq!(Digest::of(&fs::read(test.store.layout().snapshot(top).tar()).unwrap()), digests[1]);
    assert!(test.store.verify(&cancel()).unwrap().is_clean());
    for layer in [base, top] {
        assert!(matches!(convert(&test.store, layer, ConvertTo::Dir), Converted::Done));
        assert!(!is_packed(&test, layer));
        assert!(matches!(convert(&test.store, layer, ConvertTo::Dir), Converted::Already));
    }
    let after = seen(&test, top);
    assert_eq!(after.0, before.0);
    // All but the root, of which an archive says nothing, have their times to the nanosecond.
    assert_eq!(after.1[1..], before.1[1..]);
    assert_eq!([layer_of(&test, base), layer_of(&test, top)], digests);
    // Nor does the digest of what is on top depend on the form of what is below: made of directories again, it is the same.
    assert!(matches!(convert(&test.store, top, ConvertTo::Packed), Converted::Done));
    assert!(test.store.verify(&cancel()).unwrap().is_clean());
    test.assert_nothing_left();
}

#[test]
fn a_file_that_is_repeated_is_found_to_be_on_packed_layers_too() {
    let Some(mut test) = packable() else { return };
    let base = write_base(&test);
    let tops = [write_top(&test, base), write_top(&test, base)];
    let plain = layer_of(&test, tops[0]);
    remember(&test, 1, tops[1]);
    test.release();
    assert!(matches!(convert(&test.store, base, ConvertTo::Packed), Converted::Done));
    let entries = |id| test.store.changed_paths(id, &cancel()).unwrap().len();
    assert_eq!(entries(tops[1]), {
        convert(&test.store, base, ConvertTo::Dir);
        entries(tops[1])
    });
    assert_ne!(plain, Digest::of(b""));
}

#[test]
fn a_pulled_layer_is_the_archive_that_it_came_as() {
    let Some(mut test) = packable() else { return };
    let mut writer = crate::tar_write::Writer::new(Vec::new());
    for name in ["b/", "a/"] {
        // No order that we would write.
        let entry = crate::tar_entry::Entry::new(crate::tar_entry::Kind::Directory, name);
        writer.append(&entry, &mut std::io::empty()).unwrap();
    }
    let plain = writer.finish().unwrap();
    let blob = test.store.put_blob(&test.lease, &plain).unwrap();
    let layer = Descriptor::new(media_type::OCI_LAYER, blob.digest, blob.size);
    let base = test.store.apply_layer(&test.lease, None, &layer, Some(&blob.digest), &cancel()).unwrap();
    remember(&test, 1, base);
    test.release();
    assert!(matches!(convert(&test.store, base, ConvertTo::Packed), Converted::Done));
    assert_eq!(fs::read(test.store.layout().snapshot(base).tar()).unwrap(), plain);
    convert(&test.store, base, ConvertTo::Dir);
    // Without that blob there is another archive of the same files, which is another layer.
    test.store.db().write("forget", |c| crate::db::blobs::delete(c, &blob.digest)).unwrap();
    fs::remove_file(test.store.blob_path(&blob.digest)).unwrap();
    let kept = convert(&test.store, base, ConvertTo::Packed);
    assert!(matches!(kept, Converted::Kept(Kept::Original { layer }) if layer == blob.digest), "{kept:?}");
    assert!(!is_packed(&test, base));
}

#[test]
fn what_an_archive_cannot_hold_stays_a_directory() {
    let Some(mut test) = packable() else { return };
    let active = test.store.prepare(&test.lease, None).unwrap();
    let socket = active.layer_dir().join("socket");
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let layer = active.commit(CommitInfo::default()).unwrap();
    let reserved = test.snapshot(None, ".wh.file");
    remember(&test, 1, layer);
    remember(&test, 2, reserved);
    test.release();
    assert!(matches!(convert(&test.store, layer, ConvertTo::Packed), Converted::Kept(Kept::Sockets)));
    assert!(matches!(convert(&test.store, reserved, ConvertTo::Packed), Converted::Kept(Kept::Archive(_))));
    assert!(!is_packed(&test, layer) && !is_packed(&test, reserved));
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(matches!(convert(&test.store, layer, ConvertTo::Packed), Converted::Gone | Converted::Already));
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn a_directory_stays_for_whoever_uses_it() {
    let Some(test) = packable() else { return };
    let base = write_base(&test);
    let top = test.snapshot(Some(base), "top");
    // The test's own lease holds both, as a build would.
    assert!(matches!(convert(&test.store, base, ConvertTo::Packed), Converted::Kept(Kept::Process)));
    assert!(!is_packed(&test, base));
    let other = test.reopened();
    let lease = other.lease("another build").unwrap();
    other.hold(&lease, top).unwrap();
    let mut test = test;
    test.release();
    assert!(matches!(convert(&test.store, base, ConvertTo::Packed), Converted::Kept(Kept::Process)));
    drop(lease);
    assert!(matches!(convert(&test.store, base, ConvertTo::Packed), Converted::Done));
    assert!(is_packed(&test, base));
    test.assert_nothing_left();
}

#[test]
fn an_old_form_that_was_left_goes_with_the_next_collection() {
    let Some(mut test) = packable() else { return };
    let base = write_base(&test);
    remember(&test, 1, base);
    test.release();
    let dirs = test.store.layout().snapshot(base);
    let left = |place: &str| {
        let place = test.store.scratch_dir().join(format!("dead-lease.{place}"));
        fs::create_dir(&place).unwrap();
        fs::write(place.join("layer"), base.to_string()).unwrap();
    };
    let collect = || {
        test.store.gc(Policy::KEEP_CACHE).unwrap();
        assert!(test.store.check().unwrap().is_clean(), "{:?}", test.store.check().unwrap());
    };
    // Killed before the row: the files are nobody's.
    fs::write(dirs.tar(), "half").unwrap();
    left("1");
    collect();
    assert!(!is_packed(&test, base));
    // Killed after it: the directory is.
    assert!(matches!(convert(&test.store, base, ConvertTo::Packed), Converted::Done));
    fs::create_dir(dirs.fs()).unwrap();
    left("2");
    let user = test.store.lease("user").unwrap();
    test.store.hold(&user, base).unwrap();
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(Path::new(&dirs.fs()).exists(), "somebody may have begun with it");
    drop(user);
    collect();
    assert!(is_packed(&test, base));
}
