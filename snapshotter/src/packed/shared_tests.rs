//! Copies that share what other packed layers hold: what is written, who is kept for whose sake, and what becomes of them when one
//! is damaged, converted or lost.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use base::{CancelToken, Digest, Timestamp};
use testkit::Tree as Files;
use testkit::mounted;

use super::convert::{ConvertTo, Converted, Kept};
use crate::copy::CopyOptions;
use crate::error::StoreError;
use crate::gc::Policy;
use crate::select::{Selection, SourcePattern};
use crate::snapshot::{ActiveSnapshot, CommitInfo, SnapshotId};
use crate::stat_cache::StatCache;
use crate::store::{Options, Store};
use crate::test_support::{TestStore, key};
use crate::tree_fixture::Stars;
use crate::writer::{LayerWriter, WriterOptions};
use crate::{CacheValue, Compression, StoredForm, Tree};

/// How long each file of the context is.
const LENGTH: usize = 10_000;

fn cancel() -> CancelToken {
    CancelToken::new()
}

/// A store that packs copies, and a context of 20 files.
struct Shared {
    test: TestStore,
    context: PathBuf,
}

impl Shared {
    /// `None`, with a note, where the kernel cannot mount packed layers.
    #[allow(clippy::disallowed_macros, reason = "a test says why it is skipped")]
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { layer_form: StoredForm::Packed, ..Options::default() };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        if let Some(obstacle) = store.packing_obstacle().unwrap() {
            println!("skipped: {obstacle}");
            return None;
        }
        let lease = store.lease("test").unwrap();
        let context = dir.path().join("context");
        fs::create_dir(&context).unwrap();
        let shared = Self { test: TestStore { store, lease, dir }, context };
        (0..20).for_each(|number| shared.change(number, "first"));
        Some(shared)
    }

    fn change(&self, file: usize, text: &str) {
        let content = format!("{file} {text} ").repeat(LENGTH).into_bytes();
        fs::write(self.context.join(file.to_string()), &content[..LENGTH]).unwrap();
    }

    /// A copy of the context that is not committed.
    fn copying(&self) -> ActiveSnapshot {
        let active = self.test.store.prepare(&self.test.lease, None).unwrap();
        self.fill(&active, "/app/");
        active
    }

    /// Copies the context into a layer.
    fn fill(&self, active: &ActiveSnapshot, destination: &str) {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let options = WriterOptions { full_copy: false, userxattr: false, time };
        let below = active.parent().map(|_| Tree::overlay(active.lower_dirs()).unwrap());
        let writer = LayerWriter::new(active.layer_dir(), below.as_ref(), options).unwrap();
        let source = Tree::directory(&self.context, None).unwrap();
        let patterns = [SourcePattern::of_copy(".")];
        let selection = Selection::resolve(&source, &patterns, None, &Stars).unwrap();
        // Nothing is too young to be remembered.
        let late = Timestamp::from_second(9_999_999_999).unwrap();
        let cache = StatCache::load(&self.test.dir.path().join("stat-cache"), late);
        let options = CopyOptions {
            destination: std::path::Path::new(destination),
            stat_cache: Some(&cache),
            ..CopyOptions::as_it_is()
        };
        // What the key is made of is known before.
        crate::content_key::content_key(&source, &selection, &key_options(), Some(&cache), &cancel())
            .unwrap();
        active.copy_alone(&writer, &source, &selection, &options, &cancel()).unwrap();
    }

    fn copy_onto(&self, parent: Option<SnapshotId>, destination: &str) -> SnapshotId {
        let active = self.test.store.prepare(&self.test.lease, parent).unwrap();
        self.fill(&active, destination);
        active.commit(CommitInfo::default()).unwrap()
    }

    fn copy(&self) -> SnapshotId {
        self.copying().commit(CommitInfo::default()).unwrap()
    }

    fn tar(&self, layer: SnapshotId) -> PathBuf {
        self.test.store.layout().snapshot(layer).tar()
    }

    fn size(&self, layer: SnapshotId) -> u64 {
        fs::metadata(self.tar(layer)).unwrap().len()
    }

    fn parts(&self, layer: SnapshotId) -> Vec<SnapshotId> {
        let all = self.test.store.db().read("list parts", crate::db::packed::all_parts).unwrap();
        all.into_iter().filter(|(id, _)| *id == layer).map(|(_, part)| part).collect()
    }

    fn reopened(&self, layer_form: StoredForm) -> Store {
        Store::open(&self.test.root(), Options { layer_form, ..Options::default() }).unwrap()
    }

    /// Keeps a layer, and nothing else that the test held.
    fn keep_only(&mut self, layer: SnapshotId) {
        let value = CacheValue { snapshot: Some(layer), ..Default::default() };
        self.test.store.cache_put(&key(1), value).unwrap();
        self.test.release();
        self.test.store.gc(Policy::KEEP_CACHE).unwrap();
    }
}

fn key_options() -> crate::merkle::KeyOptions {
    crate::merkle::KeyOptions { owner: false, xattrs: true, modes: crate::merkle::Modes::Own, itself: false }
}

fn files_of(shared: &Shared, layer: SnapshotId) -> Vec<String> {
    let top = shared.test.store.layout().snapshot(layer).top;
    let names = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn seen(store: &Store, layer: SnapshotId) -> Files {
    mounted::with(&store.read_only_view(layer).unwrap(), Files::of_dir)
}

#[test]
fn what_a_layer_holds_is_not_written_again() {
    let Some(shared) = Shared::new() else { return };
    let first = shared.copy();
    assert!(shared.size(first) > 20 * LENGTH as u64 && shared.parts(first).is_empty());
    shared.change(7, "second");
    let second = shared.copy();
    assert_eq!(shared.parts(second), [first]);
    // The file, its headers, and those of the directory that has another time now.
    assert!(shared.size(second) < 2 * LENGTH as u64, "{}", shared.size(second));
    let before = seen(&shared.test.store, first);
    let after = seen(&shared.test.store, second);
    assert_ne!(before, after);
    // A store of directories makes the same of the same.
    let plain = shared.reopened(StoredForm::Dir);
    let layer =
        |store: &Store| store.layer(&shared.test.lease, second, Compression::None, &cancel()).unwrap();
    let packed = layer(&shared.test.store);
    let mut blob = shared.test.store.open_blob(&packed.descriptor.digest).unwrap();
    let archive = std::io::read_to_string(&mut blob);
    assert_eq!(Digest::of(archive.unwrap().as_bytes()), packed.diff_id);
    assert!(shared.test.store.verify(&cancel()).unwrap().is_clean());
    assert_eq!(seen(&plain, second), after);
    assert_eq!(layer(&plain).diff_id, packed.diff_id);
    drop(plain);
    shared.test.assert_nothing_left();
}

#[test]
fn layers_are_kept_for_those_who_share_them() {
    let Some(mut shared) = Shared::new() else { return };
    let first = shared.copy();
    shared.change(7, "second");
    let second = shared.copy();
    let after = seen(&shared.test.store, second);
    shared.keep_only(second);
    assert!(shared.tar(first).exists(), "the second needs it");
    assert_eq!(seen(&shared.reopened(StoredForm::Packed), second), after);
    shared.test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(!shared.tar(first).exists() && !shared.tar(second).exists());
    shared.test.assert_nothing_left();
}

#[test]
fn few_layers_are_needed_however_many_copies_there_were() {
    let Some(shared) = Shared::new() else { return };
    shared.copy();
    for round in 0..12 {
        shared.change(round, "changed");
        let layer = shared.copy();
        let parts = shared.parts(layer);
        assert!((1..=sys::erofs::MAX_PARTS).contains(&parts.len()), "{round}: {parts:?}");
        // All that one of them needs is needed.
        for part in &parts {
            assert!(shared.parts(*part).iter().all(|its| parts.contains(its)));
        }
        let files = seen(&shared.test.store, layer);
        assert_eq!(files.paths().count(), 21, "{round}");
        assert!(shared.size(layer) <= (round as u64 + 3) * (LENGTH as u64 + 1024), "{}", shared.size(layer));
    }
    assert!(shared.test.store.verify(&cancel()).unwrap().is_clean());
    // Another context of this size shares nothing, and keeps nobody.
    (0..20).for_each(|number| shared.change(number, "other"));
    assert!(shared.parts(shared.copy()).is_empty());
    shared.test.assert_nothing_left();
}

#[test]
fn an_archive_stays_while_others_need_it_whatever_its_layer_becomes() {
    for by_collection in [false, true] {
        let Some(mut shared) = Shared::new() else { return };
        let mut layers = vec![shared.copy()];
        for number in 7..10 {
            shared.change(number, "changed");
            layers.push(shared.copy());
        }
        let [first, second, .., last] = layers[..] else { unreachable!() };
        assert_eq!(shared.parts(last), layers[..3]);
        let before: Vec<_> = layers.iter().map(|layer| seen(&shared.test.store, *layer)).collect();
        // The lowest first, as all layers are converted.
        for layer in [first, second] {
            let converted = shared.test.store.convert_layer(layer, ConvertTo::Dir, &cancel()).unwrap();
            assert!(matches!(converted, Converted::Done));
            assert_eq!(files_of(&shared, layer), ["fs", "tar"]);
            let kept = shared.test.store.convert_layer(layer, ConvertTo::Packed, &cancel()).unwrap();
            assert!(matches!(kept, Converted::Kept(Kept::Part)), "{kept:?}");
        }
        for (layer, before) in layers.iter().zip(&before) {
            assert_eq!(&seen(&shared.reopened(StoredForm::Packed), *layer), before);
        }
        assert!(shared.test.store.verify(&cancel()).unwrap().is_clean());
        if by_collection {
            shared.keep_only(second);
            assert_eq!(files_of(&shared, second), ["fs"]);
            assert!(!shared.tar(last).exists() && !shared.tar(first).exists());
        } else {
            let plain = shared.reopened(StoredForm::Dir);
            for (layer, before) in layers.iter().zip(&before).rev() {
                assert_eq!(&seen(&plain, *layer), before);
            }
            for layer in layers {
                assert_eq!(files_of(&shared, layer), ["fs"]);
            }
        }
        shared.test.assert_nothing_left();
    }
}

#[test]
fn a_layer_may_share_with_one_that_it_is_on_top_of() {
    let Some(shared) = Shared::new() else { return };
    let first = shared.copy();
    shared.change(7, "second");
    let second = shared.copy_onto(Some(first), "/other/");
    assert_eq!(shared.parts(second), [first]);
    let before = seen(&shared.test.store, second);
    let plain = shared.reopened(StoredForm::Dir);
    assert_eq!(seen(&plain, second), before);
    for layer in [first, second] {
        assert_eq!(files_of(&shared, layer), ["fs"]);
    }
}

#[test]
fn layers_share_with_older_ones_only() {
    let Some(mut shared) = Shared::new() else { return };
    // One is begun, another one is done before it.
    let begun = shared.test.store.prepare(&shared.test.lease, None).unwrap();
    shared.copy();
    shared.fill(&begun, "/app/");
    let older = begun.commit(CommitInfo::default()).unwrap();
    assert!(shared.parts(older).is_empty());
    shared.test.release();
    shared.test.store.gc(Policy::DROP_CACHE).unwrap();
    shared.test.assert_nothing_left();
}

#[test]
fn a_layer_that_changes_its_form_meanwhile_is_not_relied_on() {
    let Some(shared) = Shared::new() else { return };
    let first = shared.copy();
    shared.change(7, "second");
    let active = shared.copying();
    shared.test.store.convert_layer(first, ConvertTo::Dir, &cancel()).unwrap();
    let error = active.commit(CommitInfo::default()).unwrap_err();
    assert!(matches!(error, StoreError::LayerConverted { layer } if layer == first), "{error}");
    assert!(shared.parts(shared.copy()).is_empty());
    shared.test.assert_nothing_left();
}

#[test]
fn damage_to_what_is_shared_is_found_before_use() {
    let change = |path: &std::path::Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"!", file.metadata().unwrap().len() / 2).unwrap();
    };
    for damaged in ["first", "own", "pieces", "list gone"] {
        let Some(shared) = Shared::new() else { return };
        let first = shared.copy();
        shared.change(7, "second");
        let second = shared.copy();
        let dirs = shared.test.store.layout().snapshot(second);
        match damaged {
            "first" => change(&shared.tar(first)),
            "own" => change(&dirs.tar()),
            "pieces" => change(&dirs.pieces()),
            _ => fs::remove_file(dirs.pieces()).unwrap(),
        }
        let other = shared.reopened(StoredForm::Auto);
        let error = other.view_dirs(second).unwrap_err();
        assert!(matches!(error, StoreError::PackedDamaged { .. }), "{damaged}: {error}");
        let findings = other.verify(&cancel()).unwrap();
        let lost = if damaged == "first" { vec![first, second] } else { vec![second] };
        assert_eq!(findings.lost_snapshots, lost, "{damaged}");
        other.repair(&findings, &cancel()).unwrap();
        assert!(other.verify(&cancel()).unwrap().is_sound(), "{damaged}");
        assert_eq!(seen(&other, shared.copy()).paths().count(), 21, "{damaged}");
    }
}

#[test]
fn a_copy_that_is_whole_is_not_forgotten_with_what_it_shares() {
    let Some(shared) = Shared::new() else { return };
    fs::write(shared.context.join("last"), vec![b'x'; LENGTH]).unwrap();
    let first = shared.copy();
    fs::write(shared.context.join("last"), vec![b'y'; LENGTH]).unwrap();
    let second = shared.copy();
    assert_eq!(shared.parts(second), [first]);
    let before = seen(&shared.test.store, second);
    // What the second one does not use.
    let tar = fs::File::options().write(true).open(shared.tar(first)).unwrap();
    tar.write_all_at(b"!", tar.metadata().unwrap().len() - 3000).unwrap();
    let other = shared.reopened(StoredForm::Auto);
    let findings = other.verify(&cancel()).unwrap();
    assert_eq!(findings.lost_snapshots, [first]);
    other.repair(&findings, &cancel()).unwrap();
    assert!(other.verify(&cancel()).unwrap().is_clean());
    assert_eq!(seen(&other, second), before);
}

#[test]
fn a_damaged_list_of_contents_only_means_that_nothing_is_shared() {
    for damage in ["changed", "gone"] {
        let Some(shared) = Shared::new() else { return };
        let first = shared.copy();
        let contents = shared.test.store.layout().snapshot(first).contents();
        match damage {
            "changed" => {
                let file = fs::File::options().write(true).open(&contents).unwrap();
                file.write_all_at(b"!", 300).unwrap();
            }
            _ => fs::remove_file(&contents).unwrap(),
        }
        shared.change(7, "second");
        let second = shared.copy();
        assert!(shared.parts(second).is_empty(), "{damage}");
        assert_eq!(seen(&shared.test.store, second).paths().count(), 21);
        assert!(shared.test.store.verify(&cancel()).unwrap().is_clean());
    }
}

#[test]
fn who_shares_with_a_layer_that_a_power_failure_took_is_lost_with_it() {
    let Some(shared) = Shared::new() else { return };
    let first = shared.copy();
    shared.change(7, "second");
    let second = shared.copy();
    let rows = |sql: &'static str| shared.test.store.db().write("test", move |c| c.execute(sql, [])).unwrap();
    // The second one reached the disk, the first did not; then the machine started again.
    assert_eq!(rows("UPDATE snapshots SET synced = (id = (SELECT max(id) FROM snapshots))"), 2);
    rows("UPDATE settings SET value = 'another boot' WHERE name = 'boot'");
    let other = shared.reopened(StoredForm::Packed);
    for layer in [first, second] {
        assert!(matches!(other.view_dirs(layer), Err(StoreError::NoSuchSnapshot { .. })));
    }
}
