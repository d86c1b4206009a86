//! Random trees: unpacking a layer, writing it and unpacking it again changes nothing, and the difference of
//! two trees leads from one to the other.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "tests say why they are skipped")]

mod common;
mod random_tree;

use std::path::Path;

use base::CancelToken;
use common::{OVERLAY, Sandbox, Tar, describe, is_root, layer_of, layer_over, without_directory_times};
use proptest::prelude::*;
use random_tree::{archive, tree};
use snapshotter::apply::{ApplyOptions, Layering};
use snapshotter::diff::{DiffError, DiffOptions, DiffStats, LayerSource, write_layer};
use snapshotter::tar_entry::{Entry, Kind, Mtime};

/// The layer that leads from one tree to the other.
fn difference(lower: Option<&Path>, upper: &Path) -> (Vec<u8>, DiffStats) {
    let mut layer = Vec::new();
    let source = LayerSource::TwoTrees { lower, upper };
    let stats = write_layer(source, DiffOptions::default(), &mut layer, &CancelToken::new()).unwrap();
    (layer, stats)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unpacking_writing_and_unpacking_again_is_the_identity(tree in tree(true)) {
        prop_assume!(is_root());
        let (first, second) = (Sandbox::new(), Sandbox::new());
        first.unpack(&archive(&tree), OVERLAY).unwrap();
        let layer = layer_of(&first.root());
        second.unpack(&layer, OVERLAY).unwrap();
        prop_assert_eq!(describe(&second.root()), describe(&first.root()));
        prop_assert!(layer_of(&second.root()) == layer, "the second layer has other bytes");
    }

    #[test]
    fn the_difference_of_two_trees_leads_from_one_to_the_other(lower in tree(false), upper in tree(false)) {
        prop_assume!(is_root());
        let (from, to, changed) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
        from.unpack(&archive(&lower), Layering::Flat).unwrap();
        changed.unpack(&archive(&lower), Layering::Flat).unwrap();
        to.unpack(&archive(&upper), Layering::Flat).unwrap();
        let (layer, _) = difference(Some(&from.root()), &to.root());
        changed.unpack(&layer, Layering::Flat).unwrap();
        let expected = without_directory_times(describe(&to.root()));
        prop_assert_eq!(without_directory_times(describe(&changed.root())), expected);
    }

    /// What is the same below is left out of the layer, and is there all the same.
    #[test]
    fn a_layer_that_knows_what_is_below_makes_the_same_tree(base in tree(false), change in tree(true)) {
        prop_assume!(is_root());
        let (lower, upper, flat, again) = (Sandbox::new(), Sandbox::new(), Sandbox::new(), Sandbox::new());
        for sandbox in [&lower, &flat, &again] {
            sandbox.unpack(&archive(&base), Layering::Flat).unwrap();
        }
        let options = ApplyOptions { lower: vec![lower.root()], ..ApplyOptions::new(OVERLAY) };
        upper.apply(&archive(&change), &options).unwrap();
        flat.unpack(&archive(&change), Layering::Flat).unwrap();
        let layer = layer_over(&[lower.root()], &upper.root());
        prop_assert!(layer.len() <= layer_of(&upper.root()).len());
        again.unpack(&layer, Layering::Flat).unwrap();
        let expected = without_directory_times(describe(&flat.root()));
        prop_assert_eq!(without_directory_times(describe(&again.root())), expected);
    }

    #[test]
    fn a_tree_does_not_differ_from_its_copy(tree in tree(false)) {
        prop_assume!(is_root());
        let (from, to) = (Sandbox::new(), Sandbox::new());
        from.unpack(&archive(&tree), Layering::Flat).unwrap();
        to.unpack(&archive(&tree), Layering::Flat).unwrap();
        let (_, stats) = difference(Some(&from.root()), &to.root());
        prop_assert_eq!(stats, DiffStats::default());
        let (all, _) = difference(None, &to.root());
        prop_assert!(all == layer_of(&to.root()), "without a lower tree everything is new");
    }
}

#[test]
fn a_new_name_of_an_old_file_brings_the_old_name_along() {
    if !is_root() {
        return;
    }
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let base = Tar::new().dir("d").dir("d/e").file("d/e/old", "content").file("z", "");
    from.unpack(&base.bytes(), Layering::Flat).unwrap();
    let base = Tar::new().dir("d").dir("d/e").file("d/e/old", "content").file("z", "");
    to.unpack(&base.hard_link("new", "d/e/old").bytes(), Layering::Flat).unwrap();
    let (layer, stats) = difference(Some(&from.root()), &to.root());
    from.unpack(&layer, Layering::Flat).unwrap();
    assert_eq!(describe(&from.root())[Path::new("new")].first_name, Path::new("d/e/old"));
    assert_eq!(stats.entries, 4, "d, d/e, d/e/old and new");
}

#[test]
fn same_size_and_time_with_other_content_is_seen_when_the_time_is_whole_seconds() {
    if !is_root() {
        return;
    }
    let (from, to) = (Sandbox::new(), Sandbox::new());
    from.unpack(&Tar::new().file("a", "one").file("b", "same").bytes(), Layering::Flat).unwrap();
    to.unpack(&Tar::new().file("a", "two").file("b", "same").bytes(), Layering::Flat).unwrap();
    let (_, stats) = difference(Some(&from.root()), &to.root());
    assert_eq!((stats.entries, stats.bytes), (1, 3));
}

#[test]
fn times_are_clamped_and_cut_to_seconds() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut tar = Tar::new();
    for (name, seconds) in [("old", 100), ("new", 2000)] {
        let mut entry = Entry::new(Kind::File, name);
        entry.mtime = Mtime { seconds, nanos: 7 };
        tar = tar.entry(&entry, b"");
    }
    sandbox.unpack(&tar.bytes(), OVERLAY).unwrap();
    let mut layer = Vec::new();
    let source = LayerSource::Overlay { upper: &sandbox.root(), lower: &[], userxattr: false };
    write_layer(source, DiffOptions { clamp_mtime: Some(1000) }, &mut layer, &CancelToken::new()).unwrap();
    let mut reader = snapshotter::tar_read::Reader::new(layer.as_slice());
    let mut times = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        times.push((entry.path, entry.mtime));
    }
    let at = |seconds| Mtime { seconds, nanos: 0 };
    assert_eq!(times, [(b"new".to_vec(), at(1000)), (b"old".to_vec(), at(100))]);
}

fn failure(upper: &Path) -> DiffError {
    let source = LayerSource::Overlay { upper, lower: &[], userxattr: false };
    write_layer(source, DiffOptions::default(), std::io::sink(), &CancelToken::new()).unwrap_err()
}

#[test]
fn what_a_layer_cannot_say_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".wh.file"), "").unwrap();
    let error = failure(directory.path());
    assert!(matches!(&error, DiffError::Reserved { path } if path == Path::new(".wh.file")), "{error:?}");
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.unpack(&Tar::new().file("d/big", "").bytes(), OVERLAY).unwrap();
    let file = std::fs::File::open(sandbox.root().join("d/big")).unwrap();
    rustix::fs::fsetxattr(&file, "trusted.overlay.metacopy", b"", rustix::fs::XattrFlags::empty()).unwrap();
    let error = failure(&sandbox.root());
    assert!(matches!(&error, DiffError::Incomplete { path, .. } if path == Path::new("d/big")), "{error:?}");
}

#[test]
fn sockets_and_attributes_of_the_host_are_left_out() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.unpack(&Tar::new().dir("d").file("d/.wh..wh..opq", "").bytes(), OVERLAY).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(sandbox.root().join("d/socket")).unwrap();
    let mut layer = Vec::new();
    let source = LayerSource::Overlay { upper: &sandbox.root(), lower: &[], userxattr: false };
    let stats = write_layer(source, DiffOptions::default(), &mut layer, &CancelToken::new()).unwrap();
    assert_eq!((stats.entries, stats.whiteouts, stats.skipped_sockets), (1, 1, 1));
    let text = String::from_utf8_lossy(&layer);
    assert!(!text.contains("overlay") && !text.contains("socket"), "{text}");
    assert!(text.contains("d/.wh..wh..opq"));
}

#[test]
fn whiteouts_in_the_form_of_attributes_are_read() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.unpack(&Tar::new().dir("d").file("d/gone", "").file("d/empty", "").bytes(), OVERLAY).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        let file = std::fs::File::open(sandbox.root().join(path)).unwrap();
        rustix::fs::fsetxattr(&file, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("d", "user.overlay.opaque", b"x");
    set("d/gone", "user.overlay.whiteout", b"");
    let names = |userxattr| {
        let mut layer = Vec::new();
        let source = LayerSource::Overlay { upper: &sandbox.root(), lower: &[], userxattr };
        write_layer(source, DiffOptions::default(), &mut layer, &CancelToken::new()).unwrap();
        let mut reader = snapshotter::tar_read::Reader::new(layer.as_slice());
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push(String::from_utf8(entry.path).unwrap());
        }
        names
    };
    assert_eq!(names(true), ["d/", "d/empty", "d/.wh.gone"]);
    // Without `userxattr`, attributes of users mean nothing to overlayfs.
    assert_eq!(names(false), ["d/", "d/empty", "d/gone"]);
}

#[test]
fn a_cancelled_layer_says_so() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let cancel = CancelToken::new();
    cancel.cancel();
    let source = LayerSource::Overlay { upper: directory.path(), lower: &[], userxattr: false };
    let result = write_layer(source, DiffOptions::default(), std::io::sink(), &cancel);
    assert!(matches!(result, Err(DiffError::Cancelled)), "{result:?}");
}
