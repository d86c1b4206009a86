//! Tests of the stat cache: what it trusts, what it forgets, and damaged files.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use base::CancelToken;

use super::*;
use crate::content_key::{KeyOptions, content_key};
use crate::merkle::Modes;
use crate::select::Selection;
use crate::tree::Tree;
use crate::tree_fixture::build;

const OPTIONS: KeyOptions = KeyOptions { owner: false, xattrs: true, modes: Modes::Own, itself: false };

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new(spec: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        build(&dir.path().join("context"), spec);
        Self { dir }
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    /// When the first file of the context was written, by the clock that gives files their times.
    fn written(&self) -> Timestamp {
        use std::os::unix::fs::MetadataExt as _;
        let status = std::fs::metadata(self.context().join("a")).unwrap();
        Timestamp::new(status.ctime(), i32::try_from(status.ctime_nsec()).unwrap()).unwrap()
    }

    fn cache(&self, now: Timestamp) -> StatCache {
        StatCache::load(&self.dir.path().join("cache"), now)
    }

    fn key_with(&self, cache: Option<&StatCache>) -> base::Key {
        let tree = Tree::directory(self.context(), None).unwrap();
        let all = Selection::all(&tree).unwrap();
        content_key(&tree, &all, &OPTIONS, cache, &CancelToken::new()).unwrap()
    }

    /// Computes the key with the cache, opened at `now`, and saves it; whether that wrote it.
    fn run(&self, now: Timestamp) -> (base::Key, bool) {
        let cache = self.cache(now);
        (self.key_with(Some(&cache)), cache.save().unwrap())
    }
}

/// A time at which files made by the test are old enough to be trusted.
fn later() -> Timestamp {
    use base::time::Clock as _;
    sys::clock::SystemClock.now() + Duration::from_secs(3600)
}

#[test]
fn what_is_remembered_gives_the_same_key() {
    let f = Fixture::new("f a 1\nf d/b 2\nf d/e/c 3\nl l a\nf d.b/x 4\nf z 5\nd empty");
    let fresh = f.key_with(None);
    assert_eq!(f.run(later()), (fresh, true));
    let cache = f.cache(later());
    assert_eq!(cache.len(), 5);
    assert_eq!((f.key_with(Some(&cache)), cache.save().unwrap()), (fresh, false));
}

#[test]
fn what_is_saved_early_is_not_saved_again_and_what_comes_after_is() {
    let f = Fixture::new("f a 1\nf d/b 2");
    let cache = f.cache(later());
    let key = f.key_with(Some(&cache));
    assert!(cache.save().unwrap() && !cache.save().unwrap());
    assert_eq!(f.cache(later()).len(), 2);
    std::fs::write(f.context().join("d/c"), "3").unwrap();
    assert_ne!(f.key_with(Some(&cache)), key);
    assert!(cache.save().unwrap() && !cache.save().unwrap());
    assert_eq!(f.cache(later()).len(), 3);
}

#[test]
fn a_hit_does_not_read_the_file() {
    let f = Fixture::new("f a one\nf d/b two");
    let before = f.run(later()).0;
    let record = |cache: &StatCache| cache.loaded.dir(Path::new("d")).unwrap().find(OsStr::new("b")).unwrap();
    // Replace what is remembered: the key shows whether the file or the memory was asked.
    let cache = f.cache(later());
    let lie = Record { hash: [7; 32], ..record(&cache) };
    cache.visit(Path::new("d"), Some(vec![("b".into(), lie)]), true);
    assert!(cache.save().unwrap());
    assert_ne!(f.run(later()).0, before);
}

/// Writes a file whose time of change is another after it: before Linux 6.13 two changes within one tick have one.
fn change(path: &Path, content: &str) {
    let changed = || std::fs::metadata(path).map(|of| (of.ctime(), of.ctime_nsec())).unwrap();
    let before = changed();
    while changed() == before {
        std::fs::write(path, content).unwrap();
    }
}

#[test]
fn every_change_is_seen() {
    let f = Fixture::new("f a one\nf b two");
    let first = f.run(later()).0;
    let path = f.context().join("a");
    let times = std::fs::metadata(&path).unwrap().modified().unwrap();
    // The same length, and the time of modification put back: only the inode's own time tells.
    change(&path, "eno");
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    let second = f.run(later()).0;
    assert_ne!(second, first);
    assert_eq!(second, f.key_with(None));
}

#[test]
fn young_files_are_not_trusted() {
    let f = Fixture::new("f a one\nf b two");
    // The cache is opened within the tick in which the files were written.
    let (key, _) = f.run(f.written());
    assert_eq!(f.cache(later()).len(), 0);
    // Later they are, and later still nothing changes.
    assert_eq!(f.run(later()), (key, true));
    assert_eq!(f.run(later()), (key, false));
}

#[test]
fn the_margin_depends_on_the_fractions_of_the_times() {
    let at = |nanoseconds| FileTime { seconds: 1000, nanoseconds };
    let record = |time| Record {
        size: 0,
        mtime: time,
        ctime: time,
        inode: 1,
        device: 1,
        mode: 0o644,
        xattrs: XattrState::None,
        hash: [0; 32],
    };
    let opened =
        |milliseconds: i64| FileTime::from(Timestamp::from_millisecond(1_000_000 + milliseconds).unwrap());
    for (time, milliseconds, expected) in [
        (at(1), 0, false),
        (at(1), 20, false),
        (at(1), 60, true),
        (at(0), 60, false),
        (at(0), 2400, false),
        (at(0), 2600, true),
        (at(1), -5000, false),
    ] {
        assert_eq!(record(time).is_settled(opened(milliseconds)), expected, "{time:?} {milliseconds}");
    }
}

#[test]
fn what_is_gone_is_forgotten_and_what_was_not_looked_at_is_kept() {
    let f = Fixture::new("f a/x 1\nf b/y 2\nf b/deep/z 3\nf top 4");
    f.run(later());
    // Only a part of the tree is looked at.
    let tree = Tree::directory(f.context(), None).unwrap();
    std::fs::write(f.context().join("a/new"), "5").unwrap();
    let source = [crate::select::SourcePattern::of_copy("a")];
    let part = Selection::resolve(&tree, &source, None, &crate::tree_fixture::Stars).unwrap();
    let cache = f.cache(later());
    content_key(&tree, &part, &OPTIONS, Some(&cache), &CancelToken::new()).unwrap();
    assert!(cache.save().unwrap());
    assert_eq!(f.cache(later()).len(), 5);
    // All is looked at, and a directory is gone.
    std::fs::remove_dir_all(f.context().join("b")).unwrap();
    assert!(f.run(later()).1);
    assert_eq!(f.cache(later()).len(), 3);
}

#[test]
fn damaged_files_are_empty_caches() {
    let f = Fixture::new("f a 1\nf d/b 2");
    let key = f.run(later()).0;
    let path = f.dir.path().join("cache");
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(format::Loaded::parse(bad).is_none(), "byte {at}");
        assert!(format::Loaded::parse(good[..at].to_vec()).is_none(), "cut at {at}");
    }
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(f.cache(later()).is_empty());
    assert_eq!(f.run(later()), (key, true));
    assert_eq!(std::fs::read(&path).unwrap(), good);
}

#[test]
fn of_several_writers_at_once_one_writes_and_none_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = || StatCache::load(&path, Timestamp::UNIX_EPOCH);
    let held = sys::lock::FileLock::acquire(&path.with_extension("lock"), sys::lock::LockMode::Exclusive);
    assert!(!cache().replace_file(b"first").unwrap());
    held.unwrap().remove().unwrap();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..200).all(|_| cache().replace_file(b"content").is_ok())))
            .collect();
        assert!(writers.into_iter().all(|writer| writer.join().unwrap()));
    });
    assert_eq!(sys::fs::list(dir.path()).unwrap(), ["cache"]);
}

#[test]
fn what_one_pass_learns_the_next_one_knows() {
    let f = Fixture::new("f d/a 1\nf d/b 2");
    let stat = |name: &str| {
        let tree = Tree::directory(f.context(), None).unwrap();
        *tree.lookup(name, crate::tree::Follow::Last).unwrap().unwrap().stat()
    };
    let find = |cache: &StatCache, name: &str| {
        cache.records_of(Path::new("d")).find(name.as_ref(), &stat(&format!("d/{name}")))
    };
    let cache = f.cache(later());
    assert_eq!(find(&cache, "a"), None);
    let before = f.key_with(Some(&cache));
    assert_eq!(find(&cache, "a").unwrap().hash, *blake3::hash(b"1").as_bytes());
    // All are as remembered now, which does not make it forget what it has to write.
    assert_eq!(f.key_with(Some(&cache)), before);
    assert!(cache.save().unwrap());
    let saved = f.cache(later());
    assert_eq!((saved.len(), find(&saved, "b")), (2, find(&cache, "b")));
    // Another file is not known, and a file is not known by another status.
    change(&f.context().join("d/a"), "3");
    std::fs::write(f.context().join("d/c"), "2").unwrap();
    assert_eq!((find(&cache, "a"), find(&cache, "c")), (None, None));
}

#[test]
fn what_may_have_changed_since_it_was_read_is_not_known() {
    let f = Fixture::new("f a 1");
    let tree = Tree::directory(f.context(), None).unwrap();
    let stat = *tree.lookup("a", crate::tree::Follow::Last).unwrap().unwrap().stat();
    // The cache is opened within the tick in which the file was written.
    let cache = f.cache(f.written());
    f.key_with(Some(&cache));
    assert_eq!(cache.records_of(Path::new("")).find("a".as_ref(), &stat), None);
}

#[test]
fn what_several_steps_save_at_once_is_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Timestamp::from_second(1_700_000_000).unwrap();
    let cache = StatCache::load(&dir.path().join("cache"), opened);
    let time = FileTime { seconds: 1_600_000_000, nanoseconds: 1 };
    let record = |inode| Record {
        size: 1,
        mtime: time,
        ctime: time,
        inode,
        device: 1,
        mode: 0o644,
        xattrs: XattrState::None,
        hash: [7; 32],
    };
    std::thread::scope(|scope| {
        for step in 0..16 {
            let (cache, record) = (&cache, &record);
            scope.spawn(move || {
                let records = (0..500).map(|file| (format!("{file:04}").into(), record(step << 32 | file)));
                cache.visit(Path::new(&format!("{step:02}")), Some(records.collect()), true);
                cache.save().unwrap();
            });
        }
    });
    cache.save().unwrap();
    assert_eq!(StatCache::load(&dir.path().join("cache"), opened).len(), 16 * 500);
}
