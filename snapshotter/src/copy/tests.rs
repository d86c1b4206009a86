//! Tests of COPY: every form of destination, what is kept and overridden, conflicts, and the key.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::Arc;

use sys::rootdir::RootDir;
use sys::stat::{FileTime, Kind};
use sys::xattr::{self, Target};

use super::*;
use crate::content_key::content_key;
use crate::select::SourcePattern;
use crate::tree::{DirectoryFilter, Filter};
use crate::tree_fixture::{Stars, build, describe, is_root, lines};
use crate::writer::WriterOptions;

mod chosen;

const NOW: i64 = 1_700_000_000;

const KEY: KeyOptions = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };

/// A context, an image to copy into, and the layer that receives the copy.
struct Fixture {
    dir: tempfile::TempDir,
    source: Tree,
    writer: LayerWriter,
}

impl Fixture {
    fn new(context: &str, image: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        build(&dir.path().join("context"), context);
        build(&dir.path().join("image"), image);
        build(&dir.path().join("layer"), "");
        let source = Tree::directory(dir.path().join("context"), None).unwrap();
        let writer = Self::writer(dir.path());
        Self { dir, source, writer }
    }

    fn writer(dir: &Path) -> LayerWriter {
        let below = Tree::overlay([dir.join("image")]).unwrap();
        let time = base::Timestamp::from_second(NOW).unwrap();
        let options = WriterOptions { full_copy: false, userxattr: !is_root(), time };
        LayerWriter::new(&dir.join("layer"), Some(&below), options).unwrap()
    }

    fn select(&self, sources: &[&str], excludes: Option<Arc<dyn Filter>>) -> Selection {
        self.resolve(sources.iter().map(|source| SourcePattern::of_copy(*source)), excludes)
    }

    fn resolve(
        &self,
        sources: impl Iterator<Item = SourcePattern>,
        excludes: Option<Arc<dyn Filter>>,
    ) -> Selection {
        let sources: Vec<_> = sources.collect();
        Selection::resolve(&self.source, &sources, excludes, &Stars).unwrap()
    }

    fn options(destination: &str) -> CopyOptions<'_> {
        CopyOptions {
            destination: Path::new(destination),
            dest_is_dir: destination.ends_with('/'),
            parent_owner: sys::rootdir::own_ids(),
            key: Some(KEY),
            ..CopyOptions::as_it_is()
        }
    }

    fn copy_with(&self, sources: &[&str], options: &CopyOptions<'_>) -> Result<CopyStats> {
        let selection = self.select(sources, None);
        copy(&self.writer, &self.source, &selection, options, &CancelToken::new())
    }

    /// `COPY sources… destination`.
    fn copy(&self, sources: &[&str], destination: &str) -> Result<CopyStats> {
        let mut options = Self::options(destination);
        options.dest_is_dir |= sources.len() > 1;
        self.copy_with(sources, &options)
    }

    fn shows(&self) -> Vec<String> {
        describe(self.writer.tree())
    }

    fn stat(&self, path: &str) -> Stat {
        *self.writer.tree().lookup(path, Follow::NoLast).unwrap().unwrap().stat()
    }

    fn context(&self) -> RootDir {
        RootDir::open(self.dir.path().join("context")).unwrap()
    }
}

/// Lets everything through, and removes a file when the walk comes to a directory that lies deeper.
struct Remover {
    when: &'static str,
    file: PathBuf,
}

impl Filter for Remover {
    fn directory<'a>(&'a self, dir: &Path) -> Box<dyn DirectoryFilter + 'a> {
        if dir == Path::new(self.when) {
            std::fs::remove_file(&self.file).unwrap();
        }
        Box::new(Everything)
    }

    fn prunes(&self, _dir: &Path) -> bool {
        false
    }
}

struct Everything;

impl DirectoryFilter for Everything {
    fn excludes(&self, _name: &OsStr) -> bool {
        false
    }
}

#[test]
fn a_file_that_vanishes_between_walk_and_copy_is_told_as_such() {
    let context = "f a/goes 1\nf b/c/d/stays 2";
    for with_key_alone in [false, true] {
        let fixture = Fixture::new(context, "");
        let file = fixture.dir.path().join("context/a/goes");
        let remover: Arc<dyn Filter> = Arc::new(Remover { when: "b/c/d", file: file.clone() });
        let selection = fixture.select(&["."], Some(remover));
        let (cancel, options) = (CancelToken::new(), Fixture::options("/"));
        let error = match with_key_alone {
            true => content_key(&fixture.source, &selection, &KEY, None, &cancel).unwrap_err(),
            false => match copy(&fixture.writer, &fixture.source, &selection, &options, &cancel) {
                Err(CopyError::Source(error)) => error,
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(error.vanished(), Some(&*file), "{error}");
    }
    assert_eq!(TreeError::NotAFile(PathBuf::from("x")).vanished(), None);
}

#[test]
fn every_form_of_destination() {
    let context = "f file 1\nf other 2\nf dir/a 3\nf dir/sub/b 4\nl link file\nl dirlink dir";
    let image = "d have\nf old 0\nf have/dir/a low\nl to-have have\nl to-old old\nl dangling made";
    for (sources, destination, expected) in [
        (&["file"][..], "/new", &["f new 1"][..]),
        (&["file"], "new", &["f new 1"]),
        (&["file"], "/new/", &["d new", "f new/file 1"]),
        (&["file"], "/have", &["f have/file 1"]),
        (&["file"], "/have/", &["f have/file 1"]),
        (&["file"], "/x/y/z", &["d x", "d x/y", "f x/y/z 1"]),
        (&["file"], "/old", &["f old 1"]),
        (&["file"], "/", &["f file 1"]),
        (&["file"], "/to-have/", &["f have/file 1"]),
        (&["file"], "/to-have/x", &["f have/x 1"]),
        (&["file"], "/to-old", &["f old 1"]),
        (&["file"], "/dangling", &["f made 1"]),
        (&["file"], "../../new", &["f new 1"]),
        (&["file", "other"], "/new", &["d new", "f new/file 1", "f new/other 2"]),
        (&["dir"], "/new", &["d new", "f new/a 3", "d new/sub", "f new/sub/b 4"]),
        (&["dir/"], "/new/", &["d new", "f new/a 3", "d new/sub", "f new/sub/b 4"]),
        (&["dir"], "/have/dir", &["f have/dir/a 3", "d have/dir/sub", "f have/dir/sub/b 4"]),
        (&["dir"], "/have", &["f have/a 3", "d have/sub", "f have/sub/b 4"]),
        (&["dir"], "/to-have", &["f have/a 3", "d have/sub", "f have/sub/b 4"]),
        (&["dir", "file"], "/n/", &["d n", "f n/a 3", "f n/file 1", "d n/sub", "f n/sub/b 4"]),
        (
            &["."],
            "/n/",
            &[
                "d n",
                "f n/file 1",
                "f n/other 2",
                "d n/dir",
                "f n/dir/a 3",
                "d n/dir/sub",
                "f n/dir/sub/b 4",
                "l n/link file",
                "l n/dirlink dir",
            ],
        ),
        (&["link"], "/new", &["f new 1"]),
        (&["link"], "/have/", &["f have/link 1"]),
        (&["dirlink"], "/new", &["d new", "f new/a 3", "d new/sub", "f new/sub/b 4"]),
        (&["dirlink/a"], "/new", &["f new 3"]),
        (&["o*", "f*"], "/new/", &["d new", "f new/file 1", "f new/other 2"]),
    ] {
        let f = Fixture::new(context, image);
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for line in f.shows().iter().map(String::as_str).chain(expected.iter().copied()) {
            all.insert(line.split(' ').nth(1).unwrap().to_owned(), line.to_owned());
        }
        f.copy(sources, destination).unwrap_or_else(|error| panic!("{sources:?} {destination}: {error}"));
        let mut expected: Vec<String> = all.into_values().collect();
        expected.sort();
        assert_eq!(f.shows(), expected, "COPY {sources:?} {destination}");
    }
}

#[test]
fn conflicts_are_named() {
    let context = "f file 1\nf tree/x/y 2\nf flat/d 3\nf two-a 1\nf two-b 2";
    let image = "f f 0\nf x 0\nd d\nl xl d\nf sub/x 9";
    for (sources, destination, expected) in [
        (&["file"][..], "/f/", "cannot create directory \"/f\": \"/f\" exists and is not a directory"),
        (&["file"], "/f/x", "cannot create directory \"/f\": \"/f\" exists and is not a directory"),
        (&["tree"], "/f", "cannot create directory \"/f\": \"/f\" exists and is not a directory"),
        (&["tree"], "/sub", "cannot create directory \"/sub/x\": \"/sub/x\" exists and is not a directory"),
        (&["flat"], "/", "cannot replace directory \"/d\" with a file"),
        (
            &["two-*"],
            "/new",
            "cannot copy 2 files to \"/new\": it is not a directory (end it with a slash to make one)",
        ),
    ] {
        let f = Fixture::new(context, image);
        let error = f.copy(sources, destination).unwrap_err();
        assert_eq!(error.to_string(), expected, "COPY {sources:?} {destination}");
        assert_eq!(error.fault(), Fault::Input);
    }
}

#[test]
fn a_destination_is_made_only_if_asked() {
    let f = Fixture::new("f file 1", "d have");
    let no_parents = |destination| CopyOptions { create_destination: false, ..Fixture::options(destination) };
    for (destination, possible) in [("/have/x", true), ("/new", true), ("/none/x", false), ("/none/", false)]
    {
        let result = f.copy_with(&["file"], &no_parents(destination));
        assert_eq!(result.is_ok(), possible, "{destination}");
    }
}

#[test]
fn times_modes_and_attributes_are_kept() {
    let f = Fixture::new("f d/tool x\nf d/plain y\nl d/link z\np d/pipe", "");
    let context = f.context();
    context.set_mode("d/tool", 0o4751).unwrap();
    context.set_mode("d/plain", 0o666).unwrap();
    context.set_mode("d", 0o1750).unwrap();
    let holder = context.open_dir("d").unwrap();
    xattr::set(Target::Name(&holder, OsStr::new("tool")), Path::new(""), c"user.note", b"1").unwrap();
    xattr::set(Target::Name(&holder, OsStr::new("tool")), Path::new(""), c"user.overlay.opaque", b"y")
        .unwrap();
    xattr::set(Target::Name(&context, OsStr::new("d")), Path::new(""), c"user.dir", b"2").unwrap();
    let time = FileTime { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
    for path in ["d/tool", "d/plain", "d/link", "d/pipe", "d"] {
        context.set_times(path, time).unwrap();
    }
    let stats = f.copy(&["."], "/").unwrap();
    assert_eq!((stats.files, stats.others, stats.dirs, stats.bytes), (2, 2, 1, 2));
    for (path, mode) in [("d", 0o1750), ("d/tool", 0o4751), ("d/plain", 0o666)] {
        assert_eq!((f.stat(path).mode, f.stat(path).mtime), (mode, time), "{path}");
    }
    assert_eq!((f.stat("d/link").mtime, f.stat("d/pipe").mtime), (time, time));
    let names = |path| {
        let entry = f.writer.tree().lookup(path, Follow::NoLast).unwrap().unwrap();
        let xattrs = f.writer.tree().xattrs(&entry).unwrap();
        xattrs.into_iter().map(|xattr| xattr.name.into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((names("d/tool"), names("d")), (vec!["user.note".to_owned()], vec!["user.dir".to_owned()]));
    let layer = RootDir::open(f.dir.path().join("layer/d")).unwrap();
    let mark = xattr::get(Target::Name(&layer, OsStr::new("tool")), Path::new(""), c"user.overlay.opaque");
    assert_eq!(mark.unwrap(), None, "a mark in a context is not content");
    assert_eq!(f.stat("").mtime.seconds, NOW, "the destination changed now");
}

#[test]
fn owner_and_mode_can_be_overridden() {
    if !is_root() {
        println!("skipped: only root can give files away");
        return;
    }
    let f = Fixture::new("f d/tool x\nf d/sub/plain y\nl d/link z", "d have");
    let context = f.context();
    context.set_mode("d/tool", 0o4755).unwrap();
    for path in ["d", "d/tool", "d/sub", "d/sub/plain", "d/link"] {
        context.set_owner(path, 11, 12).unwrap();
    }
    f.context().set_mode("d/tool", 0o4755).unwrap();
    f.copy(&["d"], "/have/kept").unwrap();
    let owner = |path: &str| (f.stat(path).uid, f.stat(path).gid);
    assert_eq!((owner("have/kept"), owner("have/kept/tool")), ((0, 0), (11, 12)));
    assert_eq!(owner("have/kept/link"), (11, 12));
    let chmod: ModeChange = "u=rwX,go=rX".parse().unwrap();
    let given = CopyOptions { chown: Some((7, 8)), chmod: Some(&chmod), ..Fixture::options("/new/deep") };
    f.copy_with(&["d"], &given).unwrap();
    for path in ["new", "new/deep", "new/deep/tool", "new/deep/sub", "new/deep/sub/plain", "new/deep/link"] {
        assert_eq!(owner(path), (7, 8), "{path}");
    }
    assert_eq!((f.stat("new/deep/tool").mode, f.stat("new/deep/sub/plain").mode), (0o755, 0o644));
    let only_owner = CopyOptions { chown: Some((7, 8)), ..Fixture::options("/suid/") };
    f.copy_with(&["d/tool"], &only_owner).unwrap();
    assert_eq!(f.stat("suid/tool").mode, 0o4755, "a new owner does not cost the set-id bit");
}

#[test]
fn a_directory_that_passes_its_group_on_does_not() {
    if !is_root() {
        println!("skipped: only root can give files away");
        return;
    }
    let f = Fixture::new("f file x\nl link y\nf sub/z 1", "d have");
    let image = RootDir::open(f.dir.path().join("image")).unwrap();
    image.set_owner("have", 0, 50).unwrap();
    image.set_mode("have", 0o2775).unwrap();
    f.copy(&["."], "/have/").unwrap();
    for path in ["have/file", "have/link", "have/sub", "have/sub/z"] {
        assert_eq!(f.stat(path).gid, 0, "{path}");
    }
    assert_eq!((f.stat("have").gid, f.stat("have").mode), (50, 0o2775));
    assert_eq!(f.stat("have/sub").mode & 0o2000, 0);
}

#[test]
fn hard_links_stay_hard_links() {
    let f = Fixture::new("f a 1\nh d/b a\nh d/e/c a\nf z 1", "");
    let stats = f.copy(&["."], "/").unwrap();
    assert_eq!((stats.files, stats.others), (2, 2));
    assert_eq!((f.stat("a").links, f.stat("z").links), (3, 1));
    assert_eq!((f.stat("d/b").inode, f.stat("d/e/c").inode), (f.stat("a").inode, f.stat("a").inode));
}

#[test]
fn devices_of_images_are_copied_and_sockets_are_not() {
    let f = Fixture::new("f a 1", "");
    let context = f.context();
    context.create_node("socket", Kind::Socket, 0o600, 0).unwrap();
    if is_root() {
        context.create_node("null", Kind::CharDevice, 0o666, 0x0103).unwrap();
    }
    let key = f.copy(&["."], "/").unwrap().content_key;
    assert!(f.writer.tree().lookup("socket", Follow::NoLast).unwrap().is_none());
    assert_eq!(f.writer.tree().lookup("null", Follow::NoLast).unwrap().is_some(), is_root());
    context.remove_file("socket").unwrap();
    assert_eq!(f.copy(&["."], "/again").unwrap().content_key, key, "a socket does not count");
}

#[test]
fn large_and_sparse_files_arrive_whole() {
    use std::os::unix::fs::FileExt as _;
    let f = Fixture::new("d d", "");
    let path = |name: &str| f.dir.path().join("context").join(name);
    let content: Vec<u8> = (0..3_333_333_u32).map(|byte| (byte % 251) as u8).collect();
    std::fs::write(path("large"), &content).unwrap();
    let sparse = std::fs::File::create(path("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"here", 5 << 20).unwrap();
    drop(sparse);
    for (destination, key) in [("/with", Some(KEY)), ("/without", None)] {
        let options = CopyOptions { key, ..Fixture::options(destination) };
        f.copy_with(&["."], &options).unwrap();
        let read =
            |name: &str| std::fs::read(f.dir.path().join(format!("layer{destination}/{name}"))).unwrap();
        assert!(read("large") == content, "{destination}");
        assert!(read("sparse") == std::fs::read(path("sparse")).unwrap(), "{destination}");
        assert!(f.stat(&format!("{destination}/sparse")).is_sparse(), "{destination}");
    }
}

#[test]
fn the_key_is_that_of_the_content() {
    let many: String = (0..300).map(|index| format!("f many/f{index} {index}\n")).collect();
    let f = Fixture::new(&format!("{many}f a 1\nh b a\nl l a\np p\nf d/e/x 2\nd empty"), "");
    for sources in [&["."][..], &["a"], &["d", "a", "b"], &["many"], &["many/*"], &["l"]] {
        let selection = f.select(sources, None);
        let before = content_key(&f.source, &selection, &KEY, None, &CancelToken::new()).unwrap();
        let options = CopyOptions { dest_is_dir: true, ..Fixture::options("/to") };
        assert_eq!(f.copy_with(sources, &options).unwrap().content_key, Some(before), "{sources:?}");
    }
}

#[test]
fn a_change_after_the_key_shows_in_the_copy_s_key() {
    let f = Fixture::new("f a 1\nf b 2", "");
    let selection = f.select(&["."], None);
    let before = content_key(&f.source, &selection, &KEY, None, &CancelToken::new()).unwrap();
    std::fs::write(f.dir.path().join("context/a"), "changed").unwrap();
    let copied = f.copy(&["."], "/").unwrap().content_key.unwrap();
    assert_ne!(copied, before);
    assert_eq!(f.shows(), lines("f a changed\nf b 2"));
    assert_eq!(copied, content_key(&f.source, &selection, &KEY, None, &CancelToken::new()).unwrap());
}

#[test]
fn a_copy_fills_the_cache() {
    let f = Fixture::new("f a 1\nf d/b 2\nh d/c a", "");
    let now = base::Timestamp::from_second(4_000_000_000).unwrap();
    let path = f.dir.path().join("cache");
    let cache = StatCache::load(&path, now);
    let options = CopyOptions { stat_cache: Some(&cache), ..Fixture::options("/to/") };
    let key = f.copy_with(&["."], &options).unwrap().content_key;
    assert!(cache.save().unwrap());
    let cache = StatCache::load(&path, now);
    assert_eq!(cache.len(), 3);
    let selection = f.select(&["."], None);
    let again = content_key(&f.source, &selection, &KEY, Some(&cache), &CancelToken::new()).unwrap();
    assert_eq!(Some(again), key);
    assert!(!cache.save().unwrap(), "the key learnt nothing new");
}

#[test]
fn a_remembered_hash_is_used_only_for_the_file_as_it_was() {
    let f = Fixture::new("f a 1\nf d/b 2\nh d/c a\nf large 3", "");
    std::fs::write(f.dir.path().join("context/large"), vec![7; 300_000]).unwrap();
    let now = base::Timestamp::from_second(4_000_000_000).unwrap();
    let path = f.dir.path().join("cache");
    let cache = StatCache::load(&path, now);
    let selection = f.select(&["."], None);
    content_key(&f.source, &selection, &KEY, Some(&cache), &CancelToken::new()).unwrap();
    cache.save().unwrap();
    let cache = StatCache::load(&path, now);
    for (change, to) in [(None, "/same/"), (Some("changed"), "/changed/"), (Some("2"), "/back/")] {
        if let Some(content) = change {
            std::fs::write(f.dir.path().join("context/d/b"), content).unwrap();
        }
        let options = CopyOptions { stat_cache: Some(&cache), ..Fixture::options(to) };
        let copied = f.copy_with(&["."], &options).unwrap().content_key;
        let fresh = content_key(&f.source, &f.select(&["."], None), &KEY, None, &CancelToken::new());
        assert_eq!(copied, Some(fresh.unwrap()), "{to}");
        let read = |name: &str| std::fs::read(f.dir.path().join(format!("layer{to}{name}"))).unwrap();
        assert_eq!(read("d/b"), change.unwrap_or("2").as_bytes());
        assert!(read("large") == vec![7; 300_000]);
    }
}

#[test]
fn what_was_removed_does_not_shine_through() {
    let f = Fixture::new("f d/new 1\nf file 2", "f d/old 3\nf file 4");
    f.writer.remove("d").unwrap();
    f.writer.remove("file").unwrap();
    f.copy(&["."], "/").unwrap();
    assert_eq!(f.shows(), lines("d d\nf d/new 1\nf file 2"));
}

#[test]
fn a_device_that_would_be_a_whiteout_is_refused() {
    let f = Fixture::new("w zero", "f zero 1");
    let error = f.copy(&["."], "/").unwrap_err();
    assert!(matches!(error, CopyError::Target(WriteError::WhiteoutDevice(_))), "{error}");
}

#[test]
fn hostile_links_do_not_lead_a_copy_out() {
    let f = Fixture::new("f file 1\nl up ../../..", "l out ../../outside\nl root /");
    std::fs::create_dir(f.dir.path().join("outside")).unwrap();
    f.copy(&["file"], "/out/").unwrap();
    f.copy(&["file"], "/root/../out/x").unwrap();
    f.copy(&["up/file"], "/again").unwrap();
    assert_eq!(std::fs::read_dir(f.dir.path().join("outside")).unwrap().count(), 0);
    assert_eq!(
        f.shows(),
        lines("f again 1\nd outside\nf outside/file 1\nf outside/x 1\nl out ../../outside\nl root /")
    );
}

#[test]
fn a_cancelled_copy_stops() {
    let f = Fixture::new("f a 1", "");
    let cancel = CancelToken::new();
    cancel.cancel();
    let result = copy(&f.writer, &f.source, &f.select(&["."], None), &Fixture::options("/"), &cancel);
    assert_eq!(result.unwrap_err().fault(), Fault::Cancelled);
}
