//! Tests of content keys: what they are sensitive to, and what not.

use std::path::Path;

use std::os::unix::fs::PermissionsExt as _;

use sys::stat::FileTime;

use super::*;
use crate::select::SourcePattern;
use crate::tree_fixture::{Stars, build, is_root, tree_of};

const ALL: KeyOptions = KeyOptions { owner: true, xattrs: true, modes: Modes::Own, itself: false };
const CONTEXT: KeyOptions = KeyOptions { owner: false, xattrs: false, modes: Modes::Own, itself: false };

const SPEC: &str = "f a one
    f d/b two
    f d/c three
    l d/link b
    p d/pipe
    d empty";

fn key_of(dir: &Path, options: KeyOptions) -> Key {
    let tree = Tree::directory(dir, None).unwrap();
    content_key(&tree, &Selection::all(&tree).unwrap(), &options, None, &CancelToken::new()).unwrap()
}

fn key_of_spec(spec: &str) -> Key {
    let (dir, _) = tree_of(spec);
    key_of(dir.path(), CONTEXT)
}

fn key_of_source(dir: &Path, pattern: &str) -> Key {
    let tree = Tree::directory(dir, None).unwrap();
    let sources = [SourcePattern::of_copy(pattern)];
    let selection = Selection::resolve(&tree, &sources, None, &Stars);
    content_key(&tree, &selection.unwrap(), &CONTEXT, None, &CancelToken::new()).unwrap()
}

/// The key of a context of one file and one link. Another value means that every cache in the world is
/// invalid: then the version in the domain changes.
#[test]
fn the_encoding_is_pinned() {
    let (dir, _) = tree_of("f file content\nl link file");
    std::fs::set_permissions(dir.path().join("file"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(key_of(dir.path(), CONTEXT).hex(), GOLDEN);
}

const GOLDEN: &str = "7fa29baecbc1e22e673ebed58367bd7978e365f56fd111ccd53e8fcf8efc0d82";

#[test]
fn times_inodes_order_and_place_do_not_count() {
    let (first, _) = tree_of(SPEC);
    let reversed: Vec<&str> = SPEC.lines().rev().collect();
    let (second, _) = tree_of(&reversed.join("\n"));
    let root = RootDir::open(second.path()).unwrap();
    for path in ["a", "d/b", "d/link", "d", "empty", "d/pipe"] {
        root.set_times(path, FileTime { seconds: 1, nanoseconds: 2 }).unwrap();
    }
    std::fs::set_permissions(second.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(key_of(first.path(), ALL), key_of(second.path(), ALL));
}

#[test]
fn every_attribute_counts() {
    let (dir, _) = tree_of(SPEC);
    let root = RootDir::open(dir.path()).unwrap();
    let mut seen = vec![key_of(dir.path(), ALL)];
    let mut changed = |what: &str| {
        let key = key_of(dir.path(), ALL);
        assert!(!seen.contains(&key), "{what} does not count");
        seen.push(key);
    };
    std::fs::write(dir.path().join("a"), "eno").unwrap();
    changed("content");
    root.set_mode("a", 0o755).unwrap();
    changed("mode of a file");
    root.set_mode("a", 0o4755).unwrap();
    changed("setuid");
    root.set_mode("empty", 0o700).unwrap();
    changed("mode of a directory");
    root.rename("a", &root, "A").unwrap();
    changed("name");
    root.remove_file("d/link").unwrap();
    root.create_symlink("d/link", OsStr::new("c")).unwrap();
    changed("target of a link");
    root.remove_file("d/link").unwrap();
    std::fs::write(dir.path().join("d/link"), "c").unwrap();
    changed("kind");
    root.remove_dir("empty").unwrap();
    changed("an empty directory");
    let inner = root.open_dir("d").unwrap();
    xattr::set(Target::Name(&inner, OsStr::new("b")), Path::new("b"), c"user.note", b"1").unwrap();
    changed("attribute of a file");
    xattr::set(Target::Name(&root, OsStr::new("d")), Path::new("d"), c"user.note", b"").unwrap();
    changed("attribute of a directory");
    if is_root() {
        root.set_owner("d/c", 1, 0).unwrap();
        changed("user");
        root.set_owner("d/c", 1, 1).unwrap();
        changed("group");
        root.set_owner("d/link", 5, 5).unwrap();
        changed("owner of a link");
        root.create_node("device", Kind::CharDevice, 0o600, 0x0103).unwrap();
        changed("a device");
        root.remove_file("device").unwrap();
        root.create_node("device", Kind::CharDevice, 0o600, 0x0105).unwrap();
        changed("number of a device");
    }
}

#[test]
fn options_leave_owner_and_attributes_out() {
    let (dir, _) = tree_of(SPEC);
    let before = key_of(dir.path(), CONTEXT);
    let root = RootDir::open(dir.path()).unwrap();
    xattr::set(Target::Name(&root, OsStr::new("a")), Path::new("a"), c"user.note", b"1").unwrap();
    if is_root() {
        root.set_owner("a", 7, 7).unwrap();
    }
    assert_eq!(key_of(dir.path(), CONTEXT), before);
}

/// What a step sets in its layer is part of the layer, whether or not a copy would take it along.
#[test]
fn the_key_of_a_layer_knows_access_control_lists() {
    let (dir, _) = tree_of("f a 1");
    let key = || diff_key(dir.path(), None, &CancelToken::new()).unwrap();
    let root = RootDir::open(dir.path()).unwrap();
    root.set_mode("a", 0o640).unwrap();
    let before = key();
    // user::rw-, user:1:r--, group::r--, mask::r--, other::--- (linux/posix_acl_xattr.h)
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        list.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    let file = Target::Name(&root, OsStr::new("a"));
    xattr::set(file, Path::new("a"), c"system.posix_acl_access", &list).unwrap();
    assert_eq!(root.stat("a").unwrap().unwrap().mode, 0o640);
    assert_ne!(key(), before);
}

#[test]
fn marks_of_overlays_and_hosts_are_no_content() {
    let content = ["user.x", "trusted.x", "security.capability"];
    let foreign =
        ["trusted.overlay.opaque", "user.overlay.origin", "security.selinux", "system.posix_acl_access"];
    assert!(content.iter().all(|name| is_content_xattr(name.as_bytes())));
    assert!(!foreign.iter().any(|name| is_content_xattr(name.as_bytes())));
}

#[test]
fn shapes_do_not_collide() {
    let specs = [
        "",
        "f a",
        "f a a",
        "d a",
        "l a a",
        "p a",
        "f a/b",
        "f a\nf b",
        "f ab",
        "d a\nf a/b 1",
        "d a\nf b 1",
        "f a 1\nf b 2",
        "f a 2\nf b 1",
        "d a/b/c",
        "d a/b\nd a/c",
    ];
    let keys: std::collections::BTreeSet<Key> = specs.iter().map(|spec| key_of_spec(spec)).collect();
    assert_eq!(keys.len(), specs.len());
}

#[test]
fn a_selection_is_what_it_takes() {
    let (dir, _) = tree_of("f a/x 1\nf b/x 1\nf a/y 2\nf x 1\nl l a\nf other 3");
    let key = |pattern| key_of_source(dir.path(), pattern);
    assert_ne!(key("a"), key("b"));
    assert_ne!(key("a/x"), key("a"), "a file is not a directory with that file");
    assert_eq!(key("a/x"), key("b/x"), "where it comes from does not matter");
    assert_eq!(key("x"), key("a/x"));
    assert_eq!(key("l"), key("a"), "a link stands for what it leads to");
    assert_eq!(key("l/x"), key("x"));
    assert_eq!(key("x*"), key("x"));
    let before = key("a*");
    std::fs::write(dir.path().join("other"), "4").unwrap();
    assert_eq!(key("a*"), before, "what is not taken does not count");
}

#[test]
fn a_merged_tree_has_the_key_of_the_same_tree_in_one() {
    let dir = tempfile::tempdir().unwrap();
    let part = |name: &str, spec: &str| {
        build(&dir.path().join(name), spec);
        dir.path().join(name)
    };
    let upper = part("upper", "f d/b 2\nw gone\nf a 1");
    let lower = part("lower", "f d/c 3\nf gone 9\nf a 0");
    let whole = part("whole", "f d/b 2\nf d/c 3\nf a 1");
    let merged = Tree::overlay([upper, lower]).unwrap();
    let all = Selection::all(&merged).unwrap();
    let key = content_key(&merged, &all, &ALL, None, &CancelToken::new()).unwrap();
    assert_eq!(key, key_of(&whole, ALL));
}

#[test]
fn the_key_of_a_layer_sees_the_marks() {
    let key = |spec: &str| {
        let (dir, _) = tree_of(spec);
        diff_key(dir.path(), None, &CancelToken::new()).unwrap()
    };
    let specs = ["", "d d", "o d", "w d", "f d", "d d\nw d/x", "o d\nw d/x"];
    let keys: std::collections::BTreeSet<Key> = specs.iter().map(|spec| key(spec)).collect();
    assert_eq!(keys.len(), specs.len());
    assert_eq!(key("o d\nf d/x 1"), key("o d\nf d/x 1"));
}

#[test]
fn which_names_are_one_file_counts() {
    let two = "f a 1\nf d/b 1\nf d/c 1";
    let linked = [
        "f a 1\nh d/b a\nf d/c 1",
        "f a 1\nf d/b 1\nh d/c a",
        "f a 1\nf d/b 1\nh d/c d/b",
        "f a 1\nh d/b a\nh d/c a",
    ];
    let keys: std::collections::BTreeSet<Key> =
        linked.iter().chain([&two]).map(|spec| key_of_spec(spec)).collect();
    assert_eq!(keys.len(), linked.len() + 1);
    // A name outside of what is taken is not seen.
    let (dir, _) = tree_of("f d/b 1\nh other d/b");
    let (alone, _) = tree_of("f d/b 1");
    assert_eq!(key_of_source(dir.path(), "d"), key_of_source(alone.path(), "d"));
}

#[test]
fn a_directory_counts_itself_if_it_is_to() {
    let (dir, _) = tree_of("f a 1");
    let itself = KeyOptions { itself: true, ..ALL };
    let (copied, mounted) = (key_of(dir.path(), ALL), key_of(dir.path(), itself));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(key_of(dir.path(), ALL), copied);
    assert_ne!(key_of(dir.path(), itself), mounted);
}

#[test]
fn directories_that_only_came_along_are_no_change() {
    let (below, _) = tree_of("f d/e/x 1\nf d/y 1");
    let below = Tree::overlay([below.path()]).unwrap();
    let key = |spec: &str| {
        let (dir, _) = tree_of(spec);
        diff_key(dir.path(), Some(&below), &CancelToken::new()).unwrap()
    };
    assert_eq!(key("d d"), key(""));
    assert_eq!(key("d d/e"), key(""));
    assert_eq!(key("d d/e\nf d/y 2"), key("f d/y 2"));
    let others = ["", "o d", "o d\nd d/e", "d new", "d d/e/new", "d d\nw d/y", "d d/e\nw d/e/x"];
    let keys: std::collections::BTreeSet<Key> = others.iter().map(|spec| key(spec)).collect();
    assert_eq!(keys.len(), others.len());
}

#[test]
fn a_cancelled_key_stops() {
    let (_dir, tree) = tree_of(SPEC);
    let cancel = CancelToken::new();
    cancel.cancel();
    let result = content_key(&tree, &Selection::all(&tree).unwrap(), &ALL, None, &cancel);
    assert!(matches!(result, Err(TreeError::Cancelled(_))));
}

#[test]
fn large_directories_are_cut_into_chunks() {
    let spec: String = (0..1000).map(|index| format!("f d/f{index} {index}\n")).collect();
    assert_eq!(key_of_spec(&spec), key_of_spec(&spec));
    assert_ne!(key_of_spec(&spec), key_of_spec(&spec.replace("f777 777", "f777 778")));
}
