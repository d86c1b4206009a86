//! Tests of merged views: tables, the kernel's own overlay, a naive model, and paths that try to escape.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;

use proptest::prelude::*;

use super::*;
use crate::tree_fixture::{Named, build, cannot_mount, describe, lines, mounted, tree_of};

/// Stacks of layers, the topmost first, and what they show.
const STACKS: &[(&[&str], &str)] = &[
    (&["f a 1\nd d"], "f a 1\nd d"),
    (&["f a top", "f a low\nf b low"], "f a top\nf b low"),
    (&["w a", "f a 1\nf b 2"], "f b 2"),
    (&["w d", "f d/x 1\nf d/y/z 2\nf e 3"], "f e 3"),
    (&["f d/new 1", "f d/old 2"], "d d\nf d/new 1\nf d/old 2"),
    (&["o d\nf d/new 1", "f d/old 2\nf d/sub/deep 3"], "d d\nf d/new 1"),
    (&["f d/a 1", "o d\nf d/b 2", "f d/c 3"], "d d\nf d/a 1\nf d/b 2"),
    (&["d d", "f d 1", "f d/hidden 2"], "d d"),
    (&["d d", "w d", "f d/hidden 2"], "d d"),
    (&["f d 1", "f d/hidden 2"], "f d 1"),
    (&["l d elsewhere", "f d/hidden 2"], "l d elsewhere"),
    (&["f a 3", "w a", "f a 1"], "f a 3"),
    (&["w a", "f a 3", "w a", "f a 1"], ""),
    (&["w d/x", "f d/x 1\nf d/y 2"], "d d\nf d/y 2"),
    (&["w a"], ""),
    (&["d p", "f p/q/r 1", "w p/q", "f p/q/s 2"], "d p\nd p/q\nf p/q/r 1"),
    (&["o p\nd p/q", "f p/q/r 1"], "d p\nd p/q"),
];

fn stack(layers: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let dirs: Vec<PathBuf> =
        (0..layers.len()).map(|index| dir.path().join(format!("layer{index}"))).collect();
    for (path, spec) in dirs.iter().zip(layers) {
        build(path, spec);
    }
    (dir, dirs)
}

#[test]
fn stacks_show_what_they_should() {
    for (layers, expected) in STACKS {
        let (_dir, dirs) = stack(layers);
        assert_eq!(describe(&Tree::overlay(&dirs).unwrap()), lines(expected), "{layers:?}");
    }
}

#[test]
fn the_kernel_shows_the_same() {
    if let Some(reason) = cannot_mount() {
        println!("skipped: cannot mount an overlay: {reason}");
        return;
    }
    for (layers, expected) in STACKS {
        let (dir, dirs) = stack(layers);
        // A directory of one layer alone is listed by the kernel as it is, whiteouts and all.
        if !expected.is_empty() || layers.len() > 1 {
            assert_eq!(mounted(&dirs, dir.path()).unwrap(), lines(expected), "{layers:?}");
        }
    }
}

#[test]
fn whiteouts_as_attributes_hide() {
    let (_dir, dirs) = stack(&["d d\nf d/gone\nf d/kept", "f d/gone 1\nf d/kept 2\nf d/low 3"]);
    let holder = RootDir::open(&dirs[0]).unwrap();
    let inner = holder.open_dir("d").unwrap();
    let set = |target, name: &std::ffi::CStr, value: &[u8]| xattr::set(target, Path::new(""), name, value);
    set(Target::Name(&holder, OsStr::new("d")), c"user.overlay.opaque", b"x").unwrap();
    set(Target::Name(&inner, OsStr::new("gone")), c"user.overlay.whiteout", b"y").unwrap();
    let tree = Tree::overlay(&dirs).unwrap();
    assert_eq!(describe(&tree), lines("d d\nf d/kept\nf d/low 3"));
    assert_eq!(tree.lookup("d/gone", Follow::Last).unwrap(), None);
}

#[test]
fn a_lookup_finds_what_a_listing_shows() {
    for (layers, _) in STACKS {
        let (_dir, dirs) = stack(layers);
        let tree = Tree::overlay(&dirs).unwrap();
        for line in describe(&tree) {
            let path = line.split(' ').nth(1).unwrap();
            let entry = tree.lookup(path, Follow::NoLast).unwrap().unwrap();
            let parent = tree.lookup(entry.path().parent().unwrap(), Follow::NoLast).unwrap().unwrap();
            assert!(tree.read_dir(&parent).unwrap().contains(&entry), "{layers:?}: {path}");
        }
    }
}

/// What [`build`] makes of a layer, by path.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    File(u8),
    Dir { opaque: bool },
    Whiteout,
}

type Layer = BTreeMap<String, Node>;

fn layer_strategy() -> impl Strategy<Value = Layer> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let node = prop_oneof![
        any::<u8>().prop_map(Node::File),
        any::<bool>().prop_map(|opaque| Node::Dir { opaque }),
        Just(Node::Whiteout),
    ];
    prop::collection::vec((path, node), 0..8).prop_map(|nodes| {
        let mut layer = Layer::new();
        for (path, node) in nodes {
            let above = ancestors(&path);
            let is_free = above.iter().all(|dir| matches!(layer.get(dir), None | Some(Node::Dir { .. })));
            if is_free && !layer.contains_key(&path) {
                for dir in above {
                    layer.entry(dir).or_insert(Node::Dir { opaque: false });
                }
                layer.insert(path, node);
            }
        }
        layer
    })
}

fn ancestors(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

fn to_spec(layer: &Layer) -> String {
    let line = |(path, node): (&String, &Node)| match node {
        Node::File(content) => format!("f {path} {content}\n"),
        Node::Dir { opaque: false } => format!("d {path}\n"),
        Node::Dir { opaque: true } => format!("o {path}\n"),
        Node::Whiteout => format!("w {path}\n"),
    };
    layer.iter().map(line).collect()
}

/// Applies layers from the bottom up to a plain map: slow, and obviously right.
fn model(layers: &[Layer]) -> Vec<String> {
    let mut shown: BTreeMap<String, Node> = BTreeMap::new();
    for layer in layers.iter().rev() {
        for (path, node) in layer {
            let below = format!("{path}/");
            let merges =
                matches!((shown.get(path), node), (Some(Node::Dir { .. }), Node::Dir { opaque: false }));
            if !merges {
                shown.retain(|other, _| other != path && !other.starts_with(&below));
            }
            if *node != Node::Whiteout {
                shown.insert(path.clone(), node.clone());
            }
        }
    }
    let spec = to_spec(&shown).replace("o ", "d ");
    lines(&spec)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn random_stacks_show_what_the_model_shows(layers in prop::collection::vec(layer_strategy(), 1..5)) {
        let specs: Vec<String> = layers.iter().map(to_spec).collect();
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let (_dir, dirs) = stack(&specs);
        prop_assert_eq!(describe(&Tree::overlay(&dirs).unwrap()), model(&layers));
    }
}

#[test]
fn paths_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), "out").unwrap();
    build(
        &dir.path().join("root"),
        "f secret in
         f etc/passwd in
         d deep/er
         l deep/er/up ../../../../../secret
         l absolute /secret
         l dir deep
         l deep/back ../..
         l outside ..
         l magic /proc/self/root",
    );
    let tree = Tree::directory(dir.path().join("root"), None).unwrap();
    for path in [
        "secret",
        "../secret",
        "/../../secret",
        "deep/er/up",
        "absolute",
        "dir/er/up",
        "dir/back/secret",
        "outside/secret",
        "outside/outside/secret",
        "deep/../secret",
        "dir/../absolute",
    ] {
        let entry = tree.lookup(path, Follow::Last).unwrap().unwrap_or_else(|| panic!("{path} not found"));
        assert_eq!(tree.read(&entry, 10).unwrap(), b"in", "{path}");
        assert_eq!(entry.path(), Path::new("secret"), "{path}");
    }
    for path in ["magic/etc/passwd", "secret/x", "secret/../nothing", "deep/none/../../x"] {
        assert_eq!(tree.lookup(path, Follow::Last).unwrap(), None, "{path}");
    }
    assert_eq!(tree.lookup("absolute", Follow::NoLast).unwrap().unwrap().kind(), Kind::Symlink);
}

#[test]
fn link_loops_are_errors() {
    let (_dir, tree) = tree_of("l a b\nl b a\nl self self/x");
    for path in ["a", "b/c", "self"] {
        assert!(matches!(tree.lookup(path, Follow::Last), Err(TreeError::LinkLoop(_))), "{path}");
    }
    assert!(tree.lookup("a", Follow::NoLast).unwrap().is_some());
}

#[test]
fn names_need_not_be_text() {
    let dir = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"\xff\xfe name");
    std::fs::write(dir.path().join(name), "x").unwrap();
    let tree = Tree::directory(dir.path(), None).unwrap();
    let entries = tree.read_dir(&tree.root().unwrap()).unwrap();
    assert_eq!(entries[0].name(), name);
    assert_eq!(tree.lookup(name, Follow::Last).unwrap().unwrap(), entries[0]);
}

#[test]
fn reading_is_bounded_and_only_of_files() {
    let (_dir, tree) = tree_of("f file 12345\nd dir\np pipe");
    let entry = |name| tree.lookup(name, Follow::Last).unwrap().unwrap();
    assert_eq!(tree.read(&entry("file"), 5).unwrap(), b"12345");
    assert!(matches!(tree.read(&entry("file"), 4), Err(TreeError::TooLarge { size: 5, limit: 4, .. })));
    assert!(matches!(tree.open(&entry("dir")), Err(TreeError::NotAFile(_))));
    assert!(matches!(tree.open(&entry("pipe")), Err(TreeError::NotAFile(_))));
}

#[test]
fn a_filter_hides_and_makes_exceptions() {
    let spec = "f a 1\nf no/x 2\nf no/deep/keep 3\nd no/empty\nf d/no 4\nf d/b 5";
    let (dir, _) = tree_of(spec);
    let filtered = |filter| Tree::directory(dir.path(), Some(Arc::new(filter))).unwrap();
    let plain = filtered(Named { name: "no", but: "" });
    assert_eq!(describe(&plain), lines("f a 1\nd d\nf d/b 5"));
    assert_eq!(plain.lookup("no/deep/keep", Follow::Last).unwrap(), None);
    let exception = filtered(Named { name: "no", but: "keep" });
    assert_eq!(describe(&exception), lines("f a 1\nd d\nf d/b 5\nd no\nd no/deep\nf no/deep/keep 3"));
    assert!(exception.lookup("no/deep/keep", Follow::Last).unwrap().is_some());
    assert_eq!(exception.lookup("no/x", Follow::Last).unwrap(), None);
    assert_eq!(exception.lookup("no/empty", Follow::Last).unwrap(), None);
    assert_eq!(describe(&exception.unfiltered().unwrap()).len(), 9);
}
