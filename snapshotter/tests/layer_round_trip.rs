//! Random trees: unpacking a layer, writing it and unpacking it again changes nothing, and the difference of
//! two trees leads from one to the other.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "tests say why they are skipped")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base::CancelToken;
use common::{OVERLAY, Sandbox, Seen, Tar, describe, is_root, layer_of};
use proptest::prelude::*;
use snapshotter::apply::Layering;
use snapshotter::diff::{DiffError, DiffOptions, DiffStats, LayerSource, write_layer};
use snapshotter::tar_entry::{Entry, Kind, Mtime, Xattr};

/// A file of a random tree.
#[derive(Debug, Clone)]
enum Node {
    File {
        content: u8,
        length: usize,
    },
    Directory {
        opaque: bool,
        children: BTreeMap<Vec<u8>, (Node, Attributes)>,
    },
    Symlink(Vec<u8>),
    /// Another name of the file with this number, counted as they come, modulo how many there are.
    HardLink(usize),
    Special(Kind, (u32, u32)),
    Whiteout,
}

#[derive(Debug, Clone)]
struct Attributes {
    mode: u32,
    owner: (u32, u32),
    seconds: i64,
    nanos: u32,
    xattrs: Vec<Xattr>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-d]".prop_map(String::into_bytes),
        1 => Just(b"line\nbreak".to_vec()),
        1 => Just(b"\xff\xfe".to_vec()),
        1 => Just("ünï".as_bytes().to_vec()),
        1 => Just(b"a.wh.b".to_vec()),
        1 => Just(b" ".to_vec()),
        1 => Just(vec![b'n'; 120]),
        1 => Just(vec![b'm'; 255]),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let owner = prop_oneof![Just((0, 0)), Just((1000, 50)), Just((3_000_000_000, 2_097_152))];
    let xattrs = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|value| vec![Xattr { name: b"user.note".to_vec(), value }]),
    ];
    let seconds = prop_oneof![Just(0), Just(1_700_000_000), Just(-3), Just(9_000_000_000)];
    (0u32..0o10000, owner, seconds, prop_oneof![Just(0), Just(5_000)], xattrs)
        .prop_map(|(mode, owner, seconds, nanos, xattrs)| Attributes { mode, owner, seconds, nanos, xattrs })
}

/// A tree; with `layered`, one that hides things of layers below.
fn tree(layered: bool) -> impl Strategy<Value = Node> {
    let file = (any::<u8>(), prop_oneof![Just(0usize), Just(1), 1usize..2000, Just(100_000)])
        .prop_map(|(content, length)| Node::File { content, length });
    let symlink = prop_oneof![Just(b"a/b".to_vec()), Just(b"/etc".to_vec()), Just(vec![b'\xfa'; 200])];
    let special = prop_oneof![
        Just(Node::Special(Kind::Fifo, (0, 0))),
        Just(Node::Special(Kind::CharDevice, (1, 3))),
        Just(Node::Special(Kind::BlockDevice, (259, 70_000))),
    ];
    let whiteout = if layered { Node::Whiteout } else { Node::File { content: 1, length: 3 } };
    let leaf = prop_oneof![
        4 => file,
        1 => symlink.prop_map(Node::Symlink),
        2 => any::<usize>().prop_map(Node::HardLink),
        1 => special,
        1 => Just(whiteout),
    ];
    let node = leaf.prop_recursive(4, 40, 6, move |inner| directory(inner, layered));
    directory(node, layered)
}

fn directory(node: impl Strategy<Value = Node> + 'static, layered: bool) -> BoxedStrategy<Node> {
    let children = proptest::collection::btree_map(name(), (node, attributes()), 0..6);
    (prop::bool::weighted(if layered { 0.2 } else { 0.0 }), children)
        .prop_map(|(opaque, children)| Node::Directory { opaque, children })
        .boxed()
}

/// The archive of a tree, entries in the order of the tree.
fn archive(tree: &Node) -> Vec<u8> {
    let mut files = Vec::new();
    add(Tar::new(), b"", tree, None, &mut files).bytes()
}

fn add(tar: Tar, path: &[u8], node: &Node, attributes: Option<&Attributes>, files: &mut Vec<Vec<u8>>) -> Tar {
    let entry = |kind| {
        let mut entry = Entry::new(kind, path);
        if let Some(attributes) = attributes {
            entry.mode = attributes.mode;
            (entry.uid, entry.gid) = attributes.owner;
            entry.mtime = Mtime { seconds: attributes.seconds, nanos: attributes.nanos };
            if matches!(kind, Kind::File | Kind::Directory) {
                entry.xattrs.clone_from(&attributes.xattrs);
            }
        }
        entry
    };
    match node {
        Node::HardLink(number) if !files.is_empty() => {
            let mut entry = entry(Kind::HardLink);
            entry.link.clone_from(&files[number % files.len()]);
            tar.entry(&entry, b"")
        }
        Node::HardLink(_) => add(tar, path, &Node::File { content: 0, length: 1 }, attributes, files),
        Node::File { content, length } => {
            files.push(path.to_vec());
            tar.entry(&entry(Kind::File), &vec![*content; *length])
        }
        Node::Symlink(target) => {
            let mut entry = entry(Kind::Symlink);
            entry.link.clone_from(target);
            tar.entry(&entry, b"")
        }
        Node::Special(kind, device) => {
            let mut entry = entry(*kind);
            entry.device = *device;
            tar.entry(&entry, b"")
        }
        Node::Whiteout => tar.file(beside(path, |name| [b".wh.", name].concat()), ""),
        Node::Directory { opaque, children } => {
            let mut tar = if path.is_empty() { tar } else { tar.entry(&entry(Kind::Directory), b"") };
            if *opaque {
                tar = tar.file(below(path, b".wh..wh..opq"), "");
            }
            for (name, (child, attributes)) in children {
                tar = add(tar, &below(path, name), child, Some(attributes), files);
            }
            tar
        }
    }
}

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn beside(path: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => below(&path[..slash], &change(&path[slash + 1..])),
        None => change(path),
    }
}

/// The layer that leads from one tree to the other.
fn difference(lower: Option<&Path>, upper: &Path) -> (Vec<u8>, DiffStats) {
    let mut layer = Vec::new();
    let source = LayerSource::TwoTrees { lower, upper };
    let stats = write_layer(source, DiffOptions::default(), &mut layer, &CancelToken::new()).unwrap();
    (layer, stats)
}

/// Without the times of directories, which a difference does not carry by themselves.
fn without_directory_times(mut seen: BTreeMap<PathBuf, Seen>) -> BTreeMap<PathBuf, Seen> {
    for file in seen.values_mut().filter(|file| file.kind == 'd') {
        file.mtime = 0;
    }
    seen
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
