//! Stores with packed layers: reading, mounting, exporting, damage and repair, and the way back to directories.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use base::CancelToken;
use base::image::{Descriptor, media_type};
use testkit::mounted;

use super::*;
use crate::diff::PathChangeKind;
use crate::gc::Policy;
use crate::snapshot::CommitInfo;
use crate::store::Options;
use crate::tar_entry::{Entry, Kind};
use crate::tar_write::Writer;
use crate::test_support::TestStore;
use crate::{Compression, DriverKind, LayerForm, Tree};

fn cancel() -> CancelToken {
    CancelToken::new()
}

/// A store that packs layers, or `None`, with a note, where the kernel cannot mount them.
#[allow(clippy::disallowed_macros, reason = "a test says why it is skipped")]
pub(super) fn packing() -> Option<TestStore> {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"), StoredForm::Packed);
    if let Some(obstacle) = store.packing_obstacle().unwrap() {
        println!("skipped: {obstacle}");
        return None;
    }
    let lease = store.lease("test").unwrap();
    Some(TestStore { store, lease, dir })
}

pub(super) fn open(root: &Path, layer_form: StoredForm) -> Store {
    Store::open(root, Options { layer_form, ..Options::default() }).unwrap()
}

/// An archive of files with what they hold, in directories of their own.
pub(super) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in files {
        let kind = if path.ends_with('/') { Kind::Directory } else { Kind::File };
        let entry = Entry { mode: 0o755, size: content.len() as u64, ..Entry::new(kind, *path) };
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// What the registry has: the archive, compressed.
pub(super) fn compressed(test: &TestStore, plain: &[u8]) -> (Descriptor, Digest) {
    let mut out = Vec::new();
    let mut encoder = crate::compress::LayerEncoder::new(&mut out, Compression::GZIP).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap();
    let blob = test.store.put_blob(&test.lease, &out).unwrap();
    (Descriptor::new(media_type::OCI_LAYER_GZIP, blob.digest, blob.size), Digest::of(plain))
}

pub(super) fn pull(test: &TestStore, parent: Option<SnapshotId>, plain: &[u8]) -> SnapshotId {
    let (layer, diff_id) = compressed(test, plain);
    test.store.apply_layer(&test.lease, parent, &layer, Some(&diff_id), &cancel()).unwrap()
}

fn base_layer() -> Vec<u8> {
    archive(&[("etc/", ""), ("etc/motd", "hello"), ("bin/", ""), ("bin/tool", "tool"), ("gone", "x")])
}

fn top_layer() -> Vec<u8> {
    archive(&[
        ("etc/", ""),
        ("etc/motd", "changed"),
        (".wh.gone", ""),
        ("bin/.wh..wh..opq", ""),
        ("bin/new", "n"),
    ])
}

fn read(store: &Store, id: SnapshotId, path: &str) -> Option<String> {
    let tree = Tree::overlay(store.view_dirs(id).unwrap()).unwrap();
    let entry = tree.lookup(path, crate::tree::Follow::NoLast).unwrap()?;
    Some(String::from_utf8(tree.read(&entry, 1 << 20).unwrap()).unwrap())
}

fn files_of(test: &TestStore, id: SnapshotId) -> Vec<String> {
    let entries = fs::read_dir(test.store.layout().snapshot(id).top).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn pulled_layers_are_two_files_and_read_as_ever() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    let top = pull(&test, Some(base), &top_layer());
    assert_eq!(files_of(&test, base), ["contents", "index", "tar"]);
    assert_eq!(files_of(&test, top), ["contents", "index", "tar"]);
    assert_eq!(fs::read(test.store.layout().snapshot(top).tar()).unwrap(), top_layer());
    let read = |path| read(&test.store, top, path);
    assert_eq!(read("etc/motd").as_deref(), Some("changed"));
    assert_eq!(read("bin/new").as_deref(), Some("n"));
    assert_eq!((read("gone"), read("bin/tool")), (None, None));
    let changes = test.store.changed_paths(top, &cancel()).unwrap();
    let deleted = changes.iter().filter(|change| change.kind == PathChangeKind::Deleted).count();
    assert!(deleted > 0 && changes.iter().any(|change| change.path.ends_with("etc/motd")), "{changes:?}");
    assert!(test.store.verify(&cancel()).unwrap().is_clean());
    test.assert_nothing_left();
}

#[test]
fn containers_see_packed_layers_and_write_on_top() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    let only = test.store.mount_read_only(&test.lease, base).unwrap();
    mounted::with(&only, |root| {
        assert_eq!(fs::read(root.join("etc/motd")).unwrap(), b"hello");
        fs::write(root.join("etc/motd"), "x").unwrap_err();
    });
    let step = test.store.prepare(&test.lease, Some(base)).unwrap();
    mounted::with(&step.mount().unwrap(), |root| {
        fs::write(root.join("etc/motd"), "step").unwrap();
        fs::remove_file(root.join("gone")).unwrap();
        fs::rename(root.join("bin/tool"), root.join("bin/moved")).unwrap();
    });
    let step = step.commit(CommitInfo::default()).unwrap();
    let top = pull(&test, Some(step), &top_layer());
    assert_eq!(files_of(&test, step), ["fs"]);
    assert_eq!(read(&test.store, step, "bin/moved").as_deref(), Some("tool"));
    let view = test.store.mount_read_only(&test.lease, top).unwrap();
    assert!(!format!("{view:?}").contains("/proc/"), "others cannot use our descriptors: {view:?}");
    mounted::with(&view, |root| {
        assert_eq!(fs::read(root.join("etc/motd")).unwrap(), b"changed");
        assert_eq!(fs::read_dir(root.join("bin")).unwrap().count(), 1);
    });
    test.assert_nothing_left();
}

#[test]
fn the_forms_have_the_same_digests() {
    let (Some(packed), Some(plain)) = (packing(), TestStore::overlay()) else { return };
    let snapshots = [&packed, &plain].map(|test| {
        let base = pull(test, None, &base_layer());
        let top = pull(test, Some(base), &top_layer());
        (base, top)
    });
    for (of_packed, of_plain) in [(snapshots[0].0, snapshots[1].0), (snapshots[0].1, snapshots[1].1)] {
        let [one, other] =
            [packed.store.snapshot_info(of_packed), plain.store.snapshot_info(of_plain)].map(Result::unwrap);
        assert_eq!(
            (one.diff_id, one.diff_size, one.chain_id),
            (other.diff_id, other.diff_size, other.chain_id)
        );
        let key = |test: &TestStore, id| {
            let tree = Tree::overlay(test.store.view_dirs(id).unwrap()).unwrap();
            let root = tree.root().unwrap();
            let below: Vec<_> = tree
                .read_dir(&root)
                .unwrap()
                .into_iter()
                .map(|entry| {
                    (
                        entry.path().to_owned(),
                        entry.stat().mode,
                        entry.stat().mtime,
                        tree.xattrs(&entry).unwrap(),
                    )
                })
                .collect();
            below
        };
        assert_eq!(key(&packed, of_packed), key(&plain, of_plain));
    }
    // The archive is the layer, also where its blob is not there any more.
    let layer = packed.store.known_diff(snapshots[0].1);
    let lease = packed.store.lease("other").unwrap();
    let (descriptor, _) = compressed(&packed, &top_layer());
    fs::remove_file(packed.store.blob_path(&descriptor.digest)).unwrap();
    packed.store.db().write("forget", |c| crate::db::blobs::delete(c, &descriptor.digest)).unwrap();
    let form = LayerForm::from(Compression::None);
    let again = packed.store.layer(&lease, snapshots[0].1, form, &cancel()).unwrap();
    assert_eq!(again.diff_id, layer);
    assert_eq!(again.descriptor.digest, layer);
}

impl Store {
    fn known_diff(&self, id: SnapshotId) -> Digest {
        self.snapshot_info(id).unwrap().diff_id.unwrap()
    }
}

/// Something that may happen to a file between two uses.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 4] = [
    ("cut short", |path| File::options().write(true).open(path).unwrap().set_len(700).unwrap()),
    ("changed in place", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"!", file.metadata().unwrap().size() / 2).unwrap();
    }),
    ("another file", |path| {
        let size = fs::metadata(path).unwrap().len();
        fs::remove_file(path).unwrap();
        fs::write(path, vec![7; size as usize]).unwrap();
    }),
    ("gone", |path| fs::remove_file(path).unwrap()),
];

#[test]
fn damaged_files_are_found_before_use_and_made_again() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    let top = pull(&test, Some(base), &top_layer());
    let dirs = test.store.layout().snapshot(top);
    for path in [dirs.tar(), dirs.index()] {
        for (what, damage) in DAMAGES {
            let whole = fs::read(&path).unwrap();
            damage(&path);
            let other = open(&test.root(), StoredForm::Auto);
            assert_eq!(read(&other, top, "etc/motd").as_deref(), Some("changed"), "{path:?} was {what}");
            assert!(fs::read(&path).unwrap() == whole, "{path:?} was {what}");
            assert!(other.verify(&cancel()).unwrap().is_sound());
        }
    }
    test.assert_nothing_left();
}

#[test]
fn a_damaged_layer_without_its_blob_is_never_served() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    let (descriptor, _) = compressed(&test, &base_layer());
    test.store.db().write("forget", |c| crate::db::blobs::delete(c, &descriptor.digest)).unwrap();
    fs::remove_file(test.store.blob_path(&descriptor.digest)).unwrap();
    let tar = test.store.layout().snapshot(base).tar();
    DAMAGES[1].1(&tar);
    let other = open(&test.root(), StoredForm::Auto);
    for refused in [
        other.view_dirs(base).map(drop),
        other.read_only_view(base).map(drop),
        other.prepare(&test.lease, Some(base)).map(drop),
        other.layer(&test.lease, base, Compression::None, &cancel()).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, StoreError::PackedDamaged { .. }), "{error}");
        assert!(error.to_string().contains("lap store check --repair"), "{error}");
    }
    let findings = other.verify(&cancel()).unwrap();
    assert_eq!(findings.lost_snapshots, [base]);
    other.repair(&findings, &cancel()).unwrap();
    assert!(other.find_chain_id(&Digest::of(&base_layer())).unwrap().is_none());
    assert_eq!(read(&other, pull(&test, None, &base_layer()), "etc/motd").as_deref(), Some("hello"));
}

#[test]
fn repairing_makes_files_again_rather_than_forgetting_them() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    let child = test.snapshot(Some(base), "child");
    DAMAGES[0].1(&test.store.layout().snapshot(base).index());
    let findings = test.store.check().unwrap();
    assert_eq!(
        (findings.lost_snapshots.clone(), findings.orphaned_snapshots.clone()),
        (vec![base], vec![child])
    );
    test.store.repair(&findings, &cancel()).unwrap();
    assert!(test.store.verify(&cancel()).unwrap().is_sound());
    let other = open(&test.root(), StoredForm::Auto);
    assert_eq!(read(&other, child, "etc/motd").as_deref(), Some("hello"));
}

#[test]
fn packed_layers_become_directories_where_those_are_wanted() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    let top = pull(&test, Some(base), &top_layer());
    let mounted = test.store.view_dirs(top).unwrap();
    let plain = open(&test.root(), StoredForm::Dir);
    assert_eq!(read(&plain, top, "etc/motd").as_deref(), Some("changed"));
    assert_eq!(read(&plain, top, "gone"), None);
    assert_eq!((files_of(&test, base), files_of(&test, top)), (vec!["fs".to_owned()], vec!["fs".to_owned()]));
    // Who has it mounted goes on reading it.
    assert_eq!(fs::read(mounted[0].join("etc/motd")).unwrap(), b"changed");
    let view = test.store.mount_read_only(&test.lease, top).unwrap();
    mounted::with(&view, |root| assert_eq!(fs::read(root.join("bin/new")).unwrap(), b"n"));
    assert!(plain.verify(&cancel()).unwrap().is_clean());
    drop(plain);
    test.assert_nothing_left();
}

#[test]
fn what_cannot_stay_packed_is_unpacked() {
    let Some(test) = packing() else { return };
    let mut writer = Writer::new(Vec::new());
    let link = Entry { link: b"real".to_vec(), ..Entry::new(Kind::Symlink, "link") };
    for entry in [Entry::new(Kind::Directory, "real/"), link, Entry::new(Kind::Fifo, "link/pipe")] {
        writer.append(&entry, &mut io::empty()).unwrap();
    }
    let odd = pull(&test, None, &writer.finish().unwrap());
    assert_eq!(files_of(&test, odd), ["fs"]);
    assert!(test.store.layout().snapshot(odd).fs().join("real/pipe").exists());
    let bad = archive(&[("../out", "")]);
    let (layer, diff_id) = compressed(&test, &bad);
    let error = test.store.apply_layer(&test.lease, None, &layer, Some(&diff_id), &cancel()).unwrap_err();
    assert!(matches!(error, StoreError::Apply { .. }), "{error}");
    test.assert_nothing_left();
}

#[test]
fn mounts_of_removed_layers_are_given_back() {
    let Some(mut test) = packing() else { return };
    let base = pull(&test, None, &base_layer());
    test.store.view_dirs(base).unwrap();
    assert_eq!(test.store.packed().lock().len(), 1);
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(test.store.packed().lock().is_empty());
}

#[test]
fn stacked_merges_share_packed_layers() {
    let Some(test) = packing() else { return };
    let base = pull(&test, None, &archive(&[("base", "b")]));
    let other = pull(&test, None, &archive(&[("other", "o")]));
    let merged = test.store.merge(&test.lease, Some(base), other, None, &cancel()).unwrap();
    assert_eq!(read(&test.store, merged, "base").as_deref(), Some("b"));
    assert_eq!(read(&test.store, merged, "other").as_deref(), Some("o"));
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn only_stores_that_can_mount_pack() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { driver: Some(DriverKind::Native), layer_form: StoredForm::Packed, ..Options::default() };
    let store = Store::open(&dir.path().join("store"), options).unwrap();
    assert!(matches!(store.packing_obstacle().unwrap(), Some(PackingObstacle::Driver)));
    assert!(!store.packs_layers(u64::MAX).unwrap());
    let asked = open(&dir.path().join("store"), StoredForm::Auto);
    assert!(asked.packing_obstacle().unwrap().is_none() && !asked.packs_layers(u64::MAX).unwrap());
}
