//! Layers that are pulled and share what others hold: that they are the same layers all the same, who shares with whom, and what becomes of them
//! when something is damaged.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use base::{CancelToken, Digest};
use proptest::prelude::*;
use testkit::Tree as Files;
use testkit::mounted;

use super::convert::{ConvertTo, Converted};
use super::tests::{compressed, open, packing, pull};
use crate::error::StoreError;
use crate::gc::Policy;
use crate::snapshot::SnapshotId;
use crate::store::Store;
use crate::tar_entry::{Entry, Kind, Mtime};
use crate::tar_write::Writer;
use crate::test_support::TestStore;
use crate::{CacheValue, Compression, StoredForm};

/// How many files a layer of these tests has, and how long each is.
const FILES: usize = 20;
const LENGTH: usize = 10_000;

fn cancel() -> CancelToken {
    CancelToken::new()
}

/// A file of an archive: its path, what it holds, and its time.
type Made = (String, Vec<u8>, i64);

fn file(path: &str, text: &str) -> Made {
    (path.to_owned(), format!("{text} ").repeat(LENGTH).into_bytes()[..LENGTH].to_vec(), 1_700_000_000)
}

fn first() -> Vec<Made> {
    (0..FILES).map(|number| file(&format!("app/{number}"), &number.to_string())).collect()
}

/// The first one with another file of the same length.
fn second() -> Vec<Made> {
    let mut files = first();
    files[7] = file("app/7", "other");
    files
}

fn archive(files: &[Made]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer
        .append(&Entry { mode: 0o755, ..Entry::new(Kind::Directory, "app/") }, &mut std::io::empty())
        .unwrap();
    for (path, content, seconds) in files {
        let mtime = Mtime { seconds: *seconds, ..Mtime::default() };
        let entry =
            Entry { mode: 0o644, size: content.len() as u64, mtime, ..Entry::new(Kind::File, path.as_str()) };
        writer.append(&entry, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

fn tar(test: &TestStore, layer: SnapshotId) -> PathBuf {
    test.store.layout().snapshot(layer).tar()
}

fn size(test: &TestStore, layer: SnapshotId) -> u64 {
    fs::metadata(tar(test, layer)).unwrap().len()
}

fn parts(test: &TestStore, layer: SnapshotId) -> Vec<SnapshotId> {
    test.store.db().read("list parts", |c| crate::db::packed::parts_of(c, layer)).unwrap()
}

fn seen(store: &Store, layer: SnapshotId) -> Files {
    mounted::with(&store.read_only_view(layer).unwrap(), Files::of_dir)
}

fn bytes(store: &Store, layer: SnapshotId) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.packed_archive(layer).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// What a store of directories makes of an archive.
fn unpacked(plain: &[u8]) -> Files {
    let test = TestStore::overlay().unwrap();
    seen(&test.store, pull(&test, None, plain))
}

/// Forgets the blob that an archive came as.
fn forget_blob(test: &TestStore, plain: &[u8]) {
    let (descriptor, _) = compressed(test, plain);
    fs::remove_file(test.store.blob_path(&descriptor.digest)).unwrap();
    test.store.db().write("forget", |c| crate::db::blobs::delete(c, &descriptor.digest)).unwrap();
}

fn change(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"!", file.metadata().unwrap().len() / 2).unwrap();
}

#[test]
fn what_another_layer_holds_is_not_kept_twice() {
    let Some(test) = packing() else { return };
    let one = pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    assert_eq!(parts(&test, other), [one]);
    assert!(size(&test, other) < 2 * LENGTH as u64, "{}", size(&test, other));
    assert!(bytes(&test.store, other) == archive(&second()));
    assert_eq!(seen(&test.store, other), unpacked(&archive(&second())));
    // What both have is one file of the first, for the third too.
    let mut files = second();
    files[3] = file("app/3", "third");
    let third = pull(&test, None, &archive(&files));
    assert_eq!(parts(&test, third), [one, other]);
    assert!(size(&test, third) < 2 * LENGTH as u64, "{}", size(&test, third));
    assert_eq!(seen(&test.store, third), unpacked(&archive(&files)));
    assert!(test.store.verify(&cancel()).unwrap().is_clean());
    // In another form it is the same layer.
    let plain = open(&test.root(), StoredForm::Dir);
    assert_eq!(seen(&plain, other), unpacked(&archive(&second())));
    let layer = plain.layer(&test.lease, other, Compression::None, &cancel()).unwrap();
    assert_eq!(layer.diff_id, Digest::of(&archive(&second())));
    drop(plain);
    test.assert_nothing_left();
}

#[test]
fn files_are_the_same_by_what_they_hold() {
    let Some(test) = packing() else { return };
    let one = pull(&test, None, &archive(&first()));
    // Other times, other places, another order.
    let moved: Vec<Made> = first()
        .into_iter()
        .rev()
        .map(|(path, content, _)| (path.replace("app/", "app/v2/"), content, 5))
        .collect();
    let other = pull(&test, None, &archive(&moved));
    assert_eq!(parts(&test, other), [one]);
    assert!(size(&test, other) < FILES as u64 * 1024 + 4096, "only headers: {}", size(&test, other));
    assert!(bytes(&test.store, other) == archive(&moved));
    assert_eq!(seen(&test.store, other), unpacked(&archive(&moved)));
}

#[test]
fn what_is_not_alike_shares_nothing() {
    let Some(test) = packing() else { return };
    let other: Vec<Made> =
        (0..FILES).map(|number| file(&format!("lib/other-{number}"), &number.to_string())).collect();
    let one = pull(&test, None, &archive(&first()));
    let two = pull(&test, None, &archive(&other));
    for layer in [one, two] {
        assert!(parts(&test, layer).is_empty());
    }
    // Names and lengths are the same, and nothing else.
    let same: Vec<Made> = first().iter().map(|(path, ..)| file(path, "x")).collect();
    let three = pull(&test, None, &archive(&same));
    assert!(parts(&test, three).is_empty() && bytes(&test.store, three) == archive(&same));
    assert!(test.store.verify(&cancel()).unwrap().is_clean());
}

#[test]
fn padding_that_is_not_zero_is_kept_as_it_is() {
    let Some(test) = packing() else { return };
    let odd = |files: &[Made]| {
        let mut plain = archive(files);
        let content = files[5].1.as_slice();
        let at = plain.windows(LENGTH).position(|window| window == content).unwrap();
        plain[at + LENGTH] = b'!';
        plain
    };
    pull(&test, None, &odd(&first()));
    let other = pull(&test, None, &odd(&second()));
    assert_eq!(parts(&test, other).len(), 1);
    assert!(bytes(&test.store, other) == odd(&second()));
    let third = pull(&test, None, &archive(&second()));
    assert!(bytes(&test.store, third) == archive(&second()));
    assert_eq!(seen(&test.store, third), unpacked(&archive(&second())));
}

#[test]
fn damage_is_mended_wherever_it_is() {
    for damaged in ["own", "own gone", "pieces", "list gone", "index", "base", "base gone"] {
        let Some(test) = packing() else { return };
        let one = pull(&test, None, &archive(&first()));
        let other = pull(&test, None, &archive(&second()));
        let dirs = test.store.layout().snapshot(other);
        match damaged {
            "own" => change(&dirs.tar()),
            "own gone" => fs::remove_file(dirs.tar()).unwrap(),
            "pieces" => change(&dirs.pieces()),
            "list gone" => fs::remove_file(dirs.pieces()).unwrap(),
            "index" => change(&dirs.index()),
            "base" => change(&tar(&test, one)),
            _ => fs::remove_file(tar(&test, one)).unwrap(),
        }
        let again = open(&test.root(), StoredForm::Auto);
        assert_eq!(seen(&again, other), unpacked(&archive(&second())), "{damaged}");
        assert_eq!(seen(&again, one), unpacked(&archive(&first())), "{damaged}");
        assert!(bytes(&again, other) == archive(&second()), "{damaged}");
        assert!(again.verify(&cancel()).unwrap().is_clean(), "{damaged}");
        let still_shares = !matches!(damaged, "pieces" | "list gone");
        assert_eq!(parts(&test, other), if still_shares { vec![one] } else { vec![] }, "{damaged}");
        assert_eq!(dirs.pieces().exists(), still_shares, "{damaged}");
        // What was mended may be shared with.
        let mut files = second();
        files[3] = file("app/3", "third");
        let third = pull(&test, None, &archive(&files));
        assert!(!parts(&test, third).is_empty(), "{damaged}");
        assert_eq!(seen(&test.store, third), unpacked(&archive(&files)), "{damaged}");
        drop(again);
        test.assert_nothing_left();
    }
}

#[test]
fn whoever_is_killed_while_he_mends_leaves_what_can_be_mended() {
    type Step = fn(&TestStore, SnapshotId, &crate::layout::SnapshotDirs);
    // What a layer goes through whose pieces are not known any more.
    let steps: [Step; 5] = [
        |test, layer, _| {
            let change = |c: &rusqlite::Connection| {
                let row = crate::db::packed::get(c, layer)?.unwrap();
                let row = crate::db::packed::PackedLayer {
                    contents: None,
                    pieces: None,
                    checked: String::new(),
                    ..row
                };
                crate::db::packed::put(c, layer, &row)
            };
            test.store.db().write("test", change).unwrap();
        },
        |_, _, dirs| fs::remove_file(dirs.contents()).unwrap(),
        |_, _, dirs| fs::remove_file(dirs.index()).unwrap(),
        |_, _, dirs| fs::remove_file(dirs.pieces()).unwrap(),
        |_, _, dirs| {
            fs::remove_file(dirs.tar()).unwrap();
            fs::write(dirs.tar(), archive(&second())).unwrap();
        },
    ];
    for done in 0..=steps.len() {
        let Some(test) = packing() else { return };
        pull(&test, None, &archive(&first()));
        let other = pull(&test, None, &archive(&second()));
        let dirs = test.store.layout().snapshot(other);
        change(&dirs.pieces());
        steps[..done].iter().for_each(|step| step(&test, other, &dirs));
        let again = open(&test.root(), StoredForm::Auto);
        assert_eq!(seen(&again, other), unpacked(&archive(&second())), "{done}");
        assert!(again.verify(&cancel()).unwrap().is_clean(), "{done}");
        assert!(parts(&test, other).is_empty() && size(&test, other) as usize == archive(&second()).len());
        let mut files = second();
        files[3] = file("app/3", "third");
        let third = pull(&test, None, &archive(&files));
        assert_eq!(seen(&test.store, third), unpacked(&archive(&files)), "{done}");
        assert!(bytes(&test.store, third) == archive(&files), "{done}");
        drop(again);
        test.assert_nothing_left();
    }
}

#[test]
fn a_layer_is_its_own_when_what_it_shares_is_lost() {
    let Some(test) = packing() else { return };
    let one = pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    forget_blob(&test, &archive(&first()));
    change(&tar(&test, one));
    let again = open(&test.root(), StoredForm::Auto);
    assert!(matches!(again.read_only_view(one), Err(StoreError::PackedDamaged { .. })));
    assert_eq!(seen(&again, other), unpacked(&archive(&second())));
    assert!(parts(&test, other).is_empty());
    let findings = again.verify(&cancel()).unwrap();
    assert_eq!(findings.lost_snapshots, [one]);
    again.repair(&findings, &cancel()).unwrap();
    assert!(again.verify(&cancel()).unwrap().is_sound());
    assert_eq!(seen(&again, other), unpacked(&archive(&second())));
}

#[test]
fn what_others_hold_of_a_damaged_layer_is_never_moved() {
    let Some(test) = packing() else { return };
    pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    let mut files = second();
    files[3] = file("app/3", "third");
    let third = pull(&test, None, &archive(&files));
    // Where its pieces lie is not known any more, and the third has some of them.
    fs::remove_file(test.store.layout().snapshot(other).pieces()).unwrap();
    let again = open(&test.root(), StoredForm::Auto);
    assert!(matches!(again.read_only_view(other), Err(StoreError::PackedDamaged { .. })));
    assert_eq!(seen(&again, third), unpacked(&archive(&files)));
}

#[test]
fn a_list_of_pieces_is_believed_for_its_digest_only() {
    let Some(test) = packing() else { return };
    pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    let dirs = test.store.layout().snapshot(other);
    // It has as many bytes, and says that they lie somewhere else.
    let list = fs::read_to_string(dirs.pieces()).unwrap();
    let own = list.lines().rfind(|line| line.starts_with("0 ")).unwrap();
    let [_, offset, length] = own.split(' ').collect::<Vec<_>>()[..] else { unreachable!() };
    let moved = format!("0 {} {length}", offset.parse::<u64>().unwrap() + 512);
    fs::remove_file(dirs.pieces()).unwrap();
    fs::write(dirs.pieces(), list.replace(own, &moved)).unwrap();
    let again = open(&test.root(), StoredForm::Auto);
    assert_eq!(seen(&again, other), unpacked(&archive(&second())));
    let mut files = second();
    files[3] = file("app/3", "third");
    let third = pull(&test, None, &archive(&files));
    assert_eq!(seen(&test.store, third), unpacked(&archive(&files)));
    assert!(again.verify(&cancel()).unwrap().is_clean());
}

#[test]
fn who_is_whole_is_not_forgotten_with_what_it_shares() {
    let Some(test) = packing() else { return };
    let mut files = first();
    files.push(file("app/more", "more"));
    let one = pull(&test, None, &archive(&files));
    let other = pull(&test, None, &archive(&second()));
    assert_eq!(parts(&test, other), [one]);
    forget_blob(&test, &archive(&files));
    // What the other one does not use.
    let tar = fs::File::options().write(true).open(tar(&test, one)).unwrap();
    tar.write_all_at(b"!", tar.metadata().unwrap().len() - 3000).unwrap();
    let again = open(&test.root(), StoredForm::Auto);
    let findings = again.verify(&cancel()).unwrap();
    assert_eq!(findings.lost_snapshots, [one]);
    again.repair(&findings, &cancel()).unwrap();
    assert!(again.verify(&cancel()).unwrap().is_clean() && parts(&test, other).is_empty());
    assert_eq!(seen(&again, other), unpacked(&archive(&second())));
}

#[test]
fn who_was_mended_for_another_ones_sake_is_not_forgotten() {
    let Some(test) = packing() else { return };
    let one = pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    let mut files = second();
    files[3] = file("app/3", "third");
    let third = pull(&test, None, &archive(&files));
    assert_eq!(parts(&test, third), [one, other]);
    forget_blob(&test, &archive(&first()));
    change(&tar(&test, one));
    let again = open(&test.root(), StoredForm::Auto);
    let findings = again.verify(&cancel()).unwrap();
    again.repair(&findings, &cancel()).unwrap();
    assert!(again.verify(&cancel()).unwrap().is_clean());
    assert_eq!(seen(&again, other), unpacked(&archive(&second())));
    assert_eq!(seen(&again, third), unpacked(&archive(&files)));
}

#[test]
fn another_layer_that_is_damaged_is_only_not_shared_with() {
    let Some(test) = packing() else { return };
    let one = pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    change(&test.store.layout().snapshot(other).pieces());
    change(&test.store.layout().snapshot(one).index());
    let mut files = second();
    files[3] = file("app/3", "third");
    let third = pull(&test, None, &archive(&files));
    assert!(parts(&test, third).is_empty());
    assert_eq!(seen(&test.store, third), unpacked(&archive(&files)));
    let again = open(&test.root(), StoredForm::Auto);
    assert_eq!(seen(&again, other), unpacked(&archive(&second())));
}

#[test]
fn layers_are_kept_and_converted_like_those_of_copies() {
    let Some(mut test) = packing() else { return };
    let one = pull(&test, None, &archive(&first()));
    let other = pull(&test, None, &archive(&second()));
    let expected = unpacked(&archive(&second()));
    let converted = test.store.convert_layer(one, ConvertTo::Dir, &cancel()).unwrap();
    assert!(matches!(converted, Converted::Done) && tar(&test, one).exists());
    assert_eq!(seen(&open(&test.root(), StoredForm::Packed), other), expected);
    let value = CacheValue { snapshot: Some(other), ..Default::default() };
    test.store.cache_put(&crate::test_support::key(1), value).unwrap();
    test.release();
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert_eq!(seen(&open(&test.root(), StoredForm::Packed), other), expected);
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(!tar(&test, one).exists() && !tar(&test, other).exists());
    test.assert_nothing_left();
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    // Few different ones, of lengths around those of blocks.
    (0_u8..6, prop_oneof![Just(0_usize), Just(1), Just(511), Just(512), Just(513), Just(5000)])
        .prop_map(|(byte, length)| vec![byte; length])
}

fn files() -> impl Strategy<Value = Vec<Made>> {
    let one = (0_u8..40, content(), 0_i64..2)
        .prop_map(|(name, content, time)| (format!("app/{name}"), content, time));
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_layers_are_what_they_are_alone(
        base in files(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), content()), 0..4),
        more in files(),
    ) {
        let Some(test) = packing() else { return Ok(()) };
        let mut other = base.clone();
        for (at, content) in changes {
            if !other.is_empty() {
                let at = at.index(other.len());
                other[at].1 = content;
            }
        }
        for layer in [base, other, more] {
            let plain = archive(&layer);
            let id = pull(&test, None, &plain);
            prop_assert!(bytes(&test.store, id) == plain);
            prop_assert_eq!(seen(&test.store, id), unpacked(&plain));
        }
        prop_assert!(test.store.verify(&cancel()).unwrap().is_clean());
    }
}
