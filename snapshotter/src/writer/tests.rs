//! Tests of writing into a layer: what the merged view shows afterwards, and what the layer holds.

use proptest::prelude::*;

use super::*;
use crate::tree_fixture::{build, cannot_mount, describe, is_root, lines, mounted};

const NOW: i64 = 1_700_000_000;

fn options(full_copy: bool) -> WriterOptions {
    let time = base::Timestamp::from_second(NOW).unwrap();
    WriterOptions { full_copy, userxattr: !is_root(), time }
}

fn file_mode() -> Attributes {
    let (uid, gid) = rootdir::own_ids();
    Attributes::new(0o644, uid, gid)
}

fn dir_mode() -> Attributes {
    Attributes { mode: 0o755, ..file_mode() }
}

/// A writer over a parent; everything is in one temporary directory.
struct Fixture {
    dir: tempfile::TempDir,
    writer: LayerWriter,
}

impl Fixture {
    /// An overlay layer that holds `layer`, over `parent`.
    fn new(parent: &str, layer: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        build(&dir.path().join("parent"), parent);
        build(&dir.path().join("layer"), layer);
        let below = Tree::overlay([dir.path().join("parent")]).unwrap();
        let writer = LayerWriter::new(&dir.path().join("layer"), Some(&below), options(false)).unwrap();
        Self { dir, writer }
    }

    /// A full copy of `tree`.
    fn full(tree: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        build(&dir.path().join("layer"), tree);
        let writer = LayerWriter::new(&dir.path().join("layer"), None, options(true)).unwrap();
        Self { dir, writer }
    }

    fn put(&self, path: &str, content: &str) -> Result<()> {
        self.writer.put_file(path, &file_mode(), &mut content.as_bytes())
    }

    fn mkdir_all(&self, path: &str) -> Result<()> {
        self.writer.mkdir_all(path, &dir_mode()).map(drop)
    }

    fn shows(&self, expected: &str) {
        assert_eq!(describe(self.writer.tree()), lines(expected));
    }

    /// What the layer alone holds.
    fn layer_holds(&self, expected: &str) {
        let layer = Tree::directory(self.dir.path().join("layer"), None).unwrap();
        assert_eq!(describe(&layer), lines(expected));
    }

    fn stat(&self, path: &str) -> Stat {
        *self.writer.tree().lookup(path, Follow::NoLast).unwrap().unwrap().stat()
    }
}

#[test]
fn files_replace_files_and_not_directories() {
    let f = Fixture::new("f a low\nf d/b low\nl link a", "");
    f.put("a", "new").unwrap();
    f.put("d/b", "new").unwrap();
    f.put("d/c", "new").unwrap();
    f.put("/link", "no link now").unwrap();
    f.shows("f a new\nd d\nf d/b new\nf d/c new\nf link no link now");
    f.put("a", "newer").unwrap();
    f.shows("f a newer\nd d\nf d/b new\nf d/c new\nf link no link now");
    assert!(matches!(f.put("d", "x"), Err(WriteError::OverDirectory(path)) if path == Path::new("d")));
    assert!(matches!(f.put("a/x", "x"), Err(WriteError::NotADirectory { .. })));
    assert!(matches!(f.put("none/x", "x"), Err(WriteError::Missing(path)) if path == Path::new("none")));
    assert!(matches!(f.put("/", "x"), Err(WriteError::Root)));
}

#[test]
fn paths_follow_links_inside_the_image() {
    let parent = "d usr/lib\nl lib usr/lib\nl abs /usr/lib\nl up ../../../usr\nl dangling usr/new";
    let f = Fixture::new(parent, "");
    f.put("lib/a", "1").unwrap();
    f.put("abs/b", "2").unwrap();
    f.put("up/lib/c", "3").unwrap();
    f.mkdir_all("dangling/deep").unwrap();
    f.layer_holds("d usr\nd usr/lib\nf usr/lib/a 1\nf usr/lib/b 2\nf usr/lib/c 3\nd usr/new\nd usr/new/deep");
}

#[test]
fn hostile_links_do_not_leave_the_layer() {
    let f = Fixture::new("l out ../../outside\nl host /tmp\nd d", "");
    std::fs::create_dir(f.dir.path().join("outside")).unwrap();
    f.mkdir_all("out/x").unwrap();
    f.mkdir_all("../../outside/y").unwrap();
    f.mkdir_all("host/lapstrake-escape").unwrap();
    assert_eq!(std::fs::read_dir(f.dir.path().join("outside")).unwrap().count(), 0);
    assert!(!Path::new("/tmp/lapstrake-escape").exists());
    f.layer_holds("d outside\nd outside/x\nd outside/y\nd tmp\nd tmp/lapstrake-escape");
}

#[test]
fn raised_directories_keep_what_they_were() {
    let f = Fixture::new("f a/b/c/file 1", "");
    let parent = RootDir::open(f.dir.path().join("parent")).unwrap();
    parent.set_mode("a/b", 0o2750).unwrap();
    parent.set_mode("a", 0o1777).unwrap();
    let inner = parent.open_dir("a").unwrap();
    xattr::set(Target::Name(&inner, OsStr::new("b")), Path::new("b"), c"user.note", b"kept").unwrap();
    for path in ["a/b/c", "a/b", "a"] {
        parent.set_times(path, FileTime { seconds: 1234, nanoseconds: 5 }).unwrap();
    }
    f.put("a/b/c/new", "2").unwrap();
    assert_eq!((f.stat("a").mode, f.stat("a/b").mode), (0o1777, 0o2750));
    assert_eq!((f.stat("a").mtime.seconds, f.stat("a/b").mtime.seconds), (1234, 1234));
    assert_eq!(f.stat("a/b/c").mtime.seconds, NOW, "its entries changed");
    let b = f.writer.tree().lookup("a/b", Follow::NoLast).unwrap().unwrap();
    assert_eq!(f.writer.tree().xattrs(&b).unwrap()[0].value, b"kept");
}

#[test]
fn removing_covers_what_is_below() {
    let f = Fixture::new("f a 1\nf d/x 2\nf d/y 3", "f d/x 4\nf own 5");
    for (path, was_there) in [("a", true), ("a", false), ("d/x", true), ("own", true), ("none", false)] {
        assert_eq!(f.writer.remove(path).unwrap(), was_there, "{path}");
    }
    f.shows("d d\nf d/y 3");
    f.layer_holds("CharDevice a\nd d\nCharDevice d/x");
    assert!(f.writer.remove("d").unwrap());
    f.shows("");
    f.layer_holds("CharDevice a\nCharDevice d");
    assert!(matches!(f.writer.remove("/"), Err(WriteError::Root)));
}

#[test]
fn a_directory_in_the_place_of_something_removed_starts_empty() {
    let f = Fixture::new("f d/old 1\nf a 2", "");
    f.writer.remove("d").unwrap();
    f.mkdir_all("d/sub").unwrap();
    f.writer.remove("a").unwrap();
    f.mkdir_all("a").unwrap();
    f.put("d/new", "3").unwrap();
    f.shows("d a\nd d\nf d/new 3\nd d/sub");
    f.writer.remove("d").unwrap();
    f.shows("d a");
}

#[test]
fn directories_are_made_once_and_never_over_files() {
    let f = Fixture::new("f file 1\nd d", "");
    f.writer.mkdir("d/one", &Attributes { mode: 0o2711, ..dir_mode() }).unwrap();
    f.writer.mkdir("d/one", &dir_mode()).unwrap();
    assert_eq!((f.stat("d/one").mode, f.stat("d/one").mtime.seconds), (0o2711, NOW));
    assert!(matches!(f.writer.mkdir("d/two/three", &dir_mode()), Err(WriteError::Missing(_))));
    let error = f.mkdir_all("/file/x").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot create directory \"/file/x\": \"/file\" exists and is not a directory"
    );
    assert!(matches!(f.writer.mkdir("file", &dir_mode()), Err(WriteError::NotADirectory { .. })));
    let made = f.writer.mkdir_all("x/../y/z", &dir_mode()).unwrap();
    assert_eq!(made.path(), Path::new("y/z"));
}

#[test]
fn every_kind_gets_its_attributes() {
    let f = Fixture::new("f low content", "");
    let time = FileTime { seconds: 77, nanoseconds: 88 };
    let note = Xattr { name: c"user.note".to_owned(), value: b"v".to_vec() };
    let attributes =
        Attributes { mode: 0o4711, mtime: Some(time), xattrs: vec![note.clone()], ..file_mode() };
    f.writer.put_file("file", &attributes, &mut &b"x"[..]).unwrap();
    assert_eq!((f.stat("file").mode, f.stat("file").mtime), (0o4711, time));
    let file = f.writer.tree().lookup("file", Follow::NoLast).unwrap().unwrap();
    assert_eq!(f.writer.tree().xattrs(&file).unwrap(), [note]);
    let plain = Attributes { mtime: Some(time), ..file_mode() };
    f.writer.symlink("link", OsStr::new("/any/where"), &plain).unwrap();
    assert_eq!((f.stat("link").kind, f.stat("link").mtime), (Kind::Symlink, time));
    f.writer.mknod("pipe", Kind::Fifo, 0, &Attributes { mode: 0o622, ..plain.clone() }).unwrap();
    assert_eq!((f.stat("pipe").kind, f.stat("pipe").mode), (Kind::Fifo, 0o622));
    f.writer.hard_link("again", "low").unwrap();
    assert_eq!(f.stat("again").inode, f.stat("low").inode);
    assert_eq!(f.stat("again").links, 2);
    if is_root() {
        f.writer.mknod("null", Kind::CharDevice, 0x0103, &Attributes::new(0o666, 3, 4)).unwrap();
        let null = f.stat("null");
        assert_eq!((null.rdev, null.mode, null.uid, null.gid), (0x0103, 0o666, 3, 4));
        f.writer.put_file("suid", &Attributes::new(0o6755, 3, 4), &mut &b"x"[..]).unwrap();
        assert_eq!((f.stat("suid").mode, f.stat("suid").uid, f.stat("suid").gid), (0o6755, 3, 4));
    }
}

#[test]
fn a_device_that_would_be_a_whiteout_is_refused() {
    let f = Fixture::new("f a 1", "");
    let result = f.writer.mknod("zero", Kind::CharDevice, 0, &file_mode());
    assert!(matches!(result, Err(WriteError::WhiteoutDevice(_))));
}

#[test]
fn the_kernel_shows_what_was_written() {
    if let Some(reason) = cannot_mount() {
        println!("skipped: cannot mount an overlay: {reason}");
        return;
    }
    let f = Fixture::new("f d/old 1\nf d/sub/x 2\nf a 3\nf b 4\nl lib d/sub\nf gone/x 5", "");
    f.writer.remove("d").unwrap();
    f.put("b", "new").unwrap();
    f.put("lib-file", "6").unwrap();
    f.mkdir_all("d/sub").unwrap();
    f.put("lib/y", "7").unwrap();
    f.writer.remove("a").unwrap();
    f.mkdir_all("a").unwrap();
    f.writer.remove("gone/x").unwrap();
    let expected = "d a\nf b new\nd d\nd d/sub\nf d/sub/y 7\nd gone\nl lib d/sub\nf lib-file 6";
    f.shows(expected);
    let dirs = [f.dir.path().join("layer"), f.dir.path().join("parent")];
    assert_eq!(mounted(&dirs, f.dir.path()).unwrap(), lines(expected));
}

/// One random change.
#[derive(Debug, Clone)]
enum Change {
    Put(String, u8),
    Link(String, String),
    MkdirAll(String),
    Remove(String),
}

fn change_strategy() -> impl Strategy<Value = Change> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let path = move || prop::collection::vec(name(), 1..4).prop_map(|names| names.join("/"));
    prop_oneof![
        (path(), any::<u8>()).prop_map(|(path, content)| Change::Put(path, content)),
        (path(), path()).prop_map(|(path, target)| Change::Link(path, target)),
        path().prop_map(Change::MkdirAll),
        path().prop_map(Change::Remove),
    ]
}

/// Applies a change; whether it was possible.
fn apply(f: &Fixture, change: &Change) -> bool {
    match change {
        Change::Put(path, content) => f.put(path, &content.to_string()).is_ok(),
        Change::Link(path, target) => f.writer.symlink(path, OsStr::new(target), &file_mode()).is_ok(),
        Change::MkdirAll(path) => f.mkdir_all(path).is_ok(),
        Change::Remove(path) => f.writer.remove(path).unwrap_or(false),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// A layer over a parent and a full copy that is changed in place show the same in the end, and a
    /// second layer over the first does too.
    #[test]
    fn layers_and_full_copies_agree(
        changes in prop::collection::vec(change_strategy(), 0..16),
        split in 0_usize..16,
    ) {
        let start = "f a/b/c 1\nf a/x 2\nf b 3\nd c/a\nl c/l ../a";
        let (full, first) = (Fixture::full(start), Fixture::new(start, ""));
        let split = split.min(changes.len());
        for change in &changes[..split] {
            prop_assert_eq!(apply(&full, change), apply(&first, change), "{:?}", change);
        }
        prop_assert_eq!(describe(full.writer.tree()), describe(first.writer.tree()));
        let layer = tempfile::tempdir().unwrap();
        let below = Tree::overlay(first.writer.tree().dirs()).unwrap();
        let writer = LayerWriter::new(layer.path(), Some(&below), options(false)).unwrap();
        let second = Fixture { dir: layer, writer };
        for change in &changes[split..] {
            prop_assert_eq!(apply(&full, change), apply(&second, change), "{:?}", change);
        }
        prop_assert_eq!(describe(full.writer.tree()), describe(second.writer.tree()));
    }
}
