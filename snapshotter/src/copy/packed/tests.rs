//! A packed copy is the layer that a copy into a directory makes: its archive byte for byte, and the image on top of what is
//! below, whatever was copied onto what.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sys::erofs::Backing;
use sys::stat::FileTime;

use super::super::{CopyOptions, batches_of, copy_batches};
use super::*;
use crate::content_hash::SMALL;
use crate::diff::{DiffOptions, LayerSource, write_layer};
use crate::erofs::BlockBits;
use crate::error::StoreError;
use crate::mode_change::ModeChange;
use crate::packed::Archive;
use crate::packed::bases::{Bases, NoBases};
use crate::packed::contents::Contents;
use crate::select::{Selection, SourcePattern};
use crate::snapshot::SnapshotId;
use crate::stat_cache::StatCache;
use crate::tree_fixture::{Stars, build, is_root};
use crate::writer::WriterOptions;

/// Everything that a tree shows, a line for each entry. Times of directories only where they are of the topmost layer of
/// both trees: what is in a layer and says nothing is not in a packed one.
fn seen(tree: &Tree, other: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![tree.root().unwrap()];
    while let Some(dir) = open.pop() {
        for entry in tree.read_dir(&dir).unwrap() {
            let stat = entry.stat();
            let twin = other.lookup(entry.path(), crate::tree::Follow::NoLast).unwrap();
            let timed = !entry.is_dir() || entry.layer() == 0 && twin.is_some_and(|twin| twin.layer() == 0);
            let time = timed.then_some(stat.mtime);
            let content = match entry.kind() {
                sys::stat::Kind::File => String::from_utf8(tree.read(&entry, 1 << 20).unwrap()).unwrap(),
                sys::stat::Kind::Symlink => tree.read_link(&entry).unwrap().into_string().unwrap(),
                _ => String::new(),
            };
            let xattrs = tree.xattrs(&entry).unwrap();
            lines.push(format!(
                "{:?} {:?} {:o} {}:{} {time:?} {xattrs:?} {content}",
                entry.path(),
                entry.kind(),
                stat.mode,
                stat.uid,
                stat.gid
            ));
            if entry.is_dir() {
                open.push(entry);
            }
        }
    }
    lines.sort();
    lines
}

/// What both ways made of the same copy.
struct Both {
    /// Whether it could be packed.
    packed: bool,
    /// How many entries the layer has.
    entries: u64,
}

/// Copies in both ways into empty layers on top of `image`, and compares. The sources are what `meanwhile` makes of them once
/// they are listed.
fn both(
    scratch: &Path,
    image: &Path,
    source: &Tree,
    selection: &Selection,
    options: &CopyOptions<'_>,
    meanwhile: impl FnOnce(),
) -> Both {
    let below = Tree::overlay([image]).unwrap();
    let userxattr = !is_root();
    let time = base::Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap();
    let writer = |name: &str| {
        let layer = scratch.join(name);
        std::fs::create_dir(&layer).unwrap();
        let options = WriterOptions { full_copy: false, userxattr, time };
        LayerWriter::new(&layer, Some(&below), options).unwrap()
    };
    let cancel = CancelToken::new();
    let (unpacked, packed) = (writer("unpacked"), writer("packed"));
    let batches = batches_of(source, selection, options, &cancel).unwrap();
    meanwhile();
    let tar_path = scratch.join("tar");
    let tar = File::options().read(true).write(true).create_new(true).open(&tar_path).unwrap();
    let second = pack(&packed, source, &batches, options, &tar, &mut NoBases, &cancel);
    assert!(std::fs::read_dir(scratch.join("packed")).unwrap().next().is_none(), "the directory stays empty");
    let first = copy_batches(&unpacked, source, &batches, options, &cancel);
    let (first, second) = match (first, second) {
        (_, Ok(None)) => return Both { packed: false, entries: 0 },
        (Err(first), Err(second)) => {
            assert_eq!(first.to_string(), second.to_string());
            return Both { packed: false, entries: 0 };
        }
        (first, second) => (first.unwrap(), second.unwrap().unwrap()),
    };
    assert_eq!(second.stats, first);
    let mut archive = Vec::new();
    let from = source;
    let source =
        LayerSource::Overlay { upper: &scratch.join("unpacked"), lower: &[image.to_owned()], userxattr };
    let written = write_layer(source, DiffOptions::default(), &mut archive, &cancel).unwrap();
    let kept = std::fs::read(&tar_path).unwrap();
    assert!(kept == archive, "the archives differ:\n{}\n{}", listed(&kept), listed(&archive));
    assert_eq!(
        (second.diff_id.finish(), second.pieces.size()),
        (Some(base::Digest::of(&archive)), archive.len() as u64)
    );
    if is_root() {
        let mut index = Vec::new();
        second.tree.write(BlockBits::TAR, &second.pieces, &mut index).unwrap();
        std::fs::write(scratch.join("index"), index).unwrap();
        let index = File::open(scratch.join("index")).unwrap();
        let root = sys::erofs::mount(index.as_fd(), &[tar.as_fd()], Backing::File).unwrap();
        let packed = Tree::overlay([sys::erofs::path_of(&root).as_path(), image]).unwrap();
        assert_eq!(seen(&packed, unpacked.tree()), seen(unpacked.tree(), &packed));
    }
    let sharing = Sharing { scratch, image, source: from, batches: &batches, options, stats: first };
    for other_headers in [false, true] {
        sharing.check(other_headers, unpacked.tree(), &archive, &writer);
    }
    Both { packed: true, entries: written.entries }
}

/// One layer, to be asked once.
struct One(Option<Contents>, File);

impl Bases for One {
    fn next(&mut self) -> Result<Option<Contents>, StoreError> {
        Ok(self.0.take())
    }

    fn open(&mut self) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError> {
        Ok(Some(vec![(SnapshotId::from_row(7), self.1.try_clone().unwrap())]))
    }
}

/// The same copy beside a layer that holds the same content.
struct Sharing<'a> {
    scratch: &'a Path,
    image: &'a Path,
    source: &'a Tree,
    batches: &'a [Batch],
    options: &'a CopyOptions<'a>,
    /// What has to be said of it.
    stats: CopyStats,
}

impl Sharing<'_> {
    /// Makes such a layer, with the same headers or others, and compares a copy that shares with it to what it has to be.
    fn check(
        &self,
        other_headers: bool,
        expected: &Tree,
        archive: &[u8],
        writer: &dyn Fn(&str) -> LayerWriter,
    ) {
        let Self { scratch, image, source, batches, options, stats } = *self;
        let name = |what: &str| format!("{what}-{other_headers}");
        let create = |what: &str| {
            let path = scratch.join(name(what));
            File::options().read(true).write(true).create_new(true).open(path).unwrap()
        };
        // Nothing of this is young.
        let late = base::Timestamp::from_second(9_999_999_999).unwrap();
        let cache = StatCache::load(&scratch.join(name("cache")), late);
        let options = CopyOptions { stat_cache: Some(&cache), ..*options };
        let time = other_headers.then_some(FileTime { seconds: 99, nanoseconds: 0 }).or(options.time);
        let first = CopyOptions { time, ..options };
        let (own, cancel) = (create("first"), CancelToken::new());
        let layer = writer(&name("first-layer"));
        let made = pack(&layer, source, batches, &first, &own, &mut NoBases, &cancel).unwrap().unwrap();
        let contents = Contents::read(&made.contents).unwrap();
        let mut base = One(Some(contents), own.try_clone().unwrap());
        let tar = create("second");
        let layer = writer(&name("second-layer"));
        let made = pack(&layer, source, batches, &options, &tar, &mut base, &cancel);
        let made = made.unwrap().unwrap();
        assert_eq!(made.stats, stats);
        let mut read = Vec::new();
        let files = [&tar, &own].map(|file| file.try_clone().unwrap());
        Archive::new(files.into(), made.pieces.clone()).read_to_end(&mut read).unwrap();
        assert!(read == archive, "the archives differ:\n{}\n{}", listed(&read), listed(archive));
        assert_eq!(
            (made.diff_id.finish(), made.pieces.size()),
            (Some(base::Digest::of(archive)), archive.len() as u64)
        );
        let shared = !made.pieces.parts().is_empty();
        let length = tar.metadata().unwrap().len();
        assert!(!shared || length < archive.len() as u64, "{length} of {} bytes", archive.len());
        if shared && !other_headers {
            assert!(length <= 2 * 512 + 512, "all but the end is there: {length}");
        }
        if is_root() {
            let mut index = Vec::new();
            made.tree.write(BlockBits::TAR, &made.pieces, &mut index).unwrap();
            std::fs::write(scratch.join(name("index")), index).unwrap();
            let index = File::open(scratch.join(name("index"))).unwrap();
            let devices = [tar.as_fd(), own.as_fd()];
            let devices = if shared { &devices[..] } else { &devices[..1] };
            let root = sys::erofs::mount(index.as_fd(), devices, Backing::File).unwrap();
            let packed = Tree::overlay([sys::erofs::path_of(&root).as_path(), image]).unwrap();
            assert_eq!(seen(&packed, expected), seen(expected, &packed));
        }
    }
}

/// The names in an archive.
fn listed(archive: &[u8]) -> String {
    let names = archive.chunks(512).filter(|block| block.len() > 262 && block[257..].starts_with(b"ustar"));
    let name = |block: &[u8]| {
        let end = block.iter().position(|byte| *byte == 0).unwrap_or(100);
        format!("{} {}", String::from_utf8_lossy(&block[..end]), String::from_utf8_lossy(&block[100..157]))
    };
    names.map(name).collect::<Vec<_>>().join("\n")
}

/// The time that the files of both sides have, so that some are the same: full seconds, or not.
fn set_times(dir: &Path, time: FileTime) {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let holder = sys::rootdir::RootDir::open(&dir).unwrap();
        for (name, kind) in holder.names().unwrap() {
            holder.set_times(&name, time).unwrap();
            if kind == Some(sys::stat::Kind::Directory) {
                open.push(dir.join(name));
            }
        }
    }
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new(context: &str, image: &str, nanoseconds: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, spec) in [("context", context), ("image", image)] {
            build(&dir.path().join(name), spec);
            set_times(&dir.path().join(name), FileTime { seconds: 1_600_000_000, nanoseconds });
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, sources: &[&str], options: &CopyOptions<'_>) -> Both {
        self.run_while(sources, options, || ())
    }

    fn run_while(&self, sources: &[&str], options: &CopyOptions<'_>, meanwhile: impl FnOnce()) -> Both {
        let source = Tree::directory(self.path("context"), None).unwrap();
        let patterns: Vec<_> = sources.iter().map(|source| SourcePattern::of_copy(*source)).collect();
        let selection = Selection::resolve(&source, &patterns, None, &Stars).unwrap();
        let runs = std::fs::read_dir(self.dir.path()).unwrap().count();
        let scratch = self.path(&format!("run-{runs}"));
        std::fs::create_dir(&scratch).unwrap();
        both(&scratch, &self.path("image"), &source, &selection, options, meanwhile)
    }
}

fn to(destination: &str) -> CopyOptions<'_> {
    CopyOptions {
        destination: Path::new(destination),
        dest_is_dir: destination.ends_with('/'),
        ..CopyOptions::as_it_is()
    }
}

#[test]
fn files_that_are_what_is_below_are_left_out() {
    let tree = "f app/a one\nf app/b two\nl app/l a\np app/p";
    for nanoseconds in [0, 7] {
        let case = Case::new(tree, tree, nanoseconds);
        let both = case.run(&["."], &to("/"));
        assert!(both.packed && both.entries == 0, "{nanoseconds}: {}", both.entries);
        std::fs::write(case.path("context/app/a"), "ONE").unwrap();
        let both = case.run(&["."], &to("/"));
        assert!(both.packed && both.entries == 2, "the file and its directory: {}", both.entries);
    }
}

#[test]
fn modes_owners_times_and_missing_directories() {
    let case = Case::new("f app/a one\nd app/empty\nf app/deep/b two\nl app/l a", "d srv", 5);
    std::fs::set_permissions(case.path("context/app/a"), PermissionsExt::from_mode(0o6751)).unwrap();
    let chmod: ModeChange = "u=rwX,go=rX".parse().unwrap();
    let time = Some(FileTime { seconds: 12, nanoseconds: 34 });
    let chown = is_root().then_some((7, 8));
    for options in [
        to("/srv/app"),
        to("/new/place/"),
        CopyOptions { chown, time, ..to("/srv") },
        CopyOptions { chmod: Some(&chmod), destination_is_copy: true, ..to("/srv") },
    ] {
        assert!(case.run(&["app"], &options).packed);
    }
    assert!(case.run(&["app/a"], &to("/srv/renamed")).packed);
    assert!(case.run(&["app/a", "app/deep/b"], &to("/srv/")).packed);
}

#[test]
fn hard_links_are_links_whatever_name_comes_first() {
    // A scan comes to what is deep later than a layer does.
    let case = Case::new("f z one\nh a/deep/y z\nh a/x z\nf single two", "f a/x three", 0);
    let both = case.run(&["."], &to("/"));
    assert!(both.packed && both.entries == 6, "{}", both.entries);
    assert!(case.run(&["a"], &to("/b/")).packed);
    assert_eq!(std::fs::metadata(case.path("context/z")).unwrap().nlink(), 3);
}

#[test]
fn large_files_pass_through() {
    let case = Case::new("f large x\nf small y", "f large z", 0);
    let content: String = (0..300_000).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
    std::fs::write(case.path("context/large"), &content).unwrap();
    assert!(case.run(&["."], &to("/")).packed);
    // The same is below: it is read for its hash, and no part of the layer.
    std::fs::write(case.path("image/large"), &content).unwrap();
    let time = FileTime { seconds: 1_600_000_000, nanoseconds: 0 };
    set_times(&case.path("context"), time);
    set_times(&case.path("image"), time);
    let key = crate::merkle::KeyOptions {
        owner: false,
        xattrs: true,
        modes: crate::merkle::Modes::Own,
        itself: false,
    };
    let both = case.run(&["."], &CopyOptions { key: Some(key), ..to("/") });
    assert!(both.packed && both.entries == 1, "{}", both.entries);
}

#[test]
fn files_that_change_once_they_are_listed_are_what_they_are_now_or_left_to_the_usual_way() {
    let small = usize::try_from(SMALL).unwrap();
    for (before, now, packed) in [
        (10, 4, true),
        (10, 0, true),
        (10, 10, true),
        (10, 11, false),
        (0, 1, false),
        (small, small - 1, true),
        (small, small + 1, false),
        (small + 1, small, false),
        (small + 1, 2 * small, true),
    ] {
        let case = Case::new("f a one\nf changing x\nf z two", "", 0);
        std::fs::write(case.path("context/changing"), "b".repeat(before)).unwrap();
        let change = || std::fs::write(case.path("context/changing"), "n".repeat(now)).unwrap();
        let both = case.run_while(&["."], &to("/"), change);
        assert_eq!(both.packed, packed, "{before} bytes, and now {now}");
        assert!(!packed || both.entries == 3);
    }
}

#[test]
fn files_that_are_longer_than_they_say_are_left_to_the_usual_way() {
    let case = Case::new("", "", 0);
    let source = Tree::directory(Path::new("/proc/sys/kernel"), None).unwrap();
    let selection = Selection::resolve(&source, &[SourcePattern::of_copy("ostype")], None, &Stars).unwrap();
    let both = both(case.dir.path(), &case.path("image"), &source, &selection, &to("/"), || ());
    assert!(!both.packed);
    assert_eq!(std::fs::read_to_string(case.path("unpacked/ostype")).unwrap(), "Linux\n");
}

#[test]
fn what_is_to_be_reported_or_cannot_be_kept_is_left_to_the_usual_way() {
    for (context, image, sources, destination) in [
        ("f a one", "d a", &["."][..], "/"),
        ("d a", "f a one", &["."], "/"),
        ("f x/a one\nf y/a two", "", &["x/a", "y/a"], "/"),
        ("f .wh.a one", "", &["."], "/"),
        ("f a one", "f file two", &["a"], "/file/"),
    ] {
        let case = Case::new(context, image, 0);
        let options = CopyOptions { dest_is_dir: true, ..to(destination) };
        assert!(!case.run(sources, &options).packed, "{context:?} onto {image:?}");
    }
    let case = Case::new("f holes x", "", 0);
    File::options().write(true).open(case.path("context/holes")).unwrap().set_len(1 << 20).unwrap();
    assert!(!case.run(&["."], &to("/")).packed, "a file with holes");
}

/// A few entries whose names meet each other.
fn tree() -> impl Strategy<Value = String> {
    let path = proptest::collection::vec(proptest::sample::select(vec!["a", "b", "c", "a.b"]), 1..4)
        .prop_map(|names| names.join("/"));
    let what = prop_oneof![
        5 => "[xy]".prop_map(Some),
        2 => Just(None),
    ];
    let entries = proptest::collection::vec((path, what, any::<u8>()), 0..12);
    entries.prop_map(|entries| {
        let mut spec = String::new();
        // A name is a file or a directory, not both.
        let mut files: Vec<String> = Vec::new();
        let mut dirs: Vec<String> = Vec::new();
        for (path, what, kind) in entries {
            let above: Vec<String> = path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect();
            let taken = files.contains(&path) || dirs.contains(&path);
            if taken || above.iter().any(|dir| files.contains(dir)) {
                continue;
            }
            dirs.extend(above);
            match (what, files.first()) {
                (None, _) => {
                    spec.push_str(&format!("d {path}\n"));
                    dirs.push(path);
                    continue;
                }
                (Some(_), _) if kind % 5 == 0 => spec.push_str(&format!("l {path} a/b\n")),
                (Some(_), Some(first)) if kind % 5 == 1 && spec.contains(&format!("f {first} ")) => {
                    spec.push_str(&format!("h {path} {first}\n"));
                }
                (Some(content), _) => spec.push_str(&format!("f {path} {content}\n")),
            }
            files.push(path);
        }
        spec
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_copies_are_the_same_in_both_ways(
        context in tree(),
        image in tree(),
        nanoseconds in prop_oneof![Just(0_u32), Just(5)],
        destination in prop_oneof!["/", "/a", "/b/c/", "/new"],
        owned in any::<bool>(),
    ) {
        let case = Case::new(&context, &image, nanoseconds);
        let chown = (owned && is_root()).then_some((3, 4));
        case.run(&["."], &CopyOptions { chown, ..to(&destination) });
    }
}
