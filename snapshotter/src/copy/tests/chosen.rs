//! Tests of copying a part of a tree: `--parents`, `--exclude`, and wildcards that match nothing.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::tree_fixture::Named;

const CONTEXT: &str = "f a.c 1
    f a.h 2
    f lib/b.c 3
    f lib/deep/er/c.c 4
    f lib/deep/er/c.h 5
    f lib/other/d.h 6
    d lib/empty
    l lib/link deep
    f skip/e.c 7
    f skip/keep/f.c 8";

/// Copies into `/to/` and answers what is there; checks that the key is that of the same selection.
fn chosen(sources: &[SourcePattern], excludes: Option<Named>) -> Vec<String> {
    let f = Fixture::new(CONTEXT, "");
    let excludes = excludes.map(|excludes| Arc::new(excludes) as Arc<dyn Filter>);
    let selection = f.resolve(sources.iter().cloned(), excludes);
    let key = content_key(&f.source, &selection, &KEY, None, &CancelToken::new()).unwrap();
    let copied = copy(&f.writer, &f.source, &selection, &Fixture::options("/to/"), &CancelToken::new());
    assert_eq!(copied.unwrap().content_key, Some(key), "{sources:?}");
    f.shows().iter().map(|line| line.replacen("to/", "", 1)).filter(|line| line != "d to").collect()
}

fn with_parents(sources: &[&str], excludes: Option<Named>) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|source| SourcePattern::of_copy_parents(*source)).collect();
    chosen(&sources, excludes)
}

fn without_parents(sources: &[&str], excludes: Option<Named>) -> Vec<String> {
    let sources: Vec<_> = sources.iter().map(|source| SourcePattern::of_copy(*source)).collect();
    chosen(&sources, excludes)
}

#[test]
fn parents_are_kept_below_the_pivot() {
    for (sources, expected) in [
        (&["a.c"][..], "f a.c 1"),
        (&["lib/b.c"], "d lib\nf lib/b.c 3"),
        (&["lib/./b.c"], "f b.c 3"),
        (&["lib/./deep/er/c.c"], "d deep\nd deep/er\nf deep/er/c.c 4"),
        (&["lib/deep/./er"], "d er\nf er/c.c 4\nf er/c.h 5"),
        (&["*/./deep/*/c.h"], "d deep\nd deep/er\nf deep/er/c.h 5"),
        (&["lib/link/./er/c.c"], "d er\nf er/c.c 4"),
        (&["lib/link"], "d lib\nl lib/link deep"),
        (&["lib/empty"], "d lib\nd lib/empty"),
        (&["**/er"], "d lib\nd lib/deep\nd lib/deep/er\nf lib/deep/er/c.c 4\nf lib/deep/er/c.h 5"),
        (
            &["**/*.h"],
            "f a.h 2\nd lib\nd lib/deep\nd lib/deep/er\nf lib/deep/er/c.h 5\nd lib/other\nf lib/other/d.h 6",
        ),
        (&["a.*", "lib/./b.c"], "f a.c 1\nf a.h 2\nf b.c 3"),
        (&["lib/**/*.java", "none*/./x*"], ""),
        (&["skip/."], "d skip\nf skip/e.c 7\nd skip/keep\nf skip/keep/f.c 8"),
        (&["skip/./"], "f e.c 7\nd keep\nf keep/f.c 8"),
    ] {
        assert_eq!(with_parents(sources, None), lines(expected), "COPY --parents {sources:?}");
    }
}

#[test]
fn excludes_are_relative_to_what_was_chosen() {
    let named = |name, but| Some(Named { name, but });
    for (sources, excludes, expected) in [
        (&["a.*"][..], named("*.h", ""), "f a.c 1"),
        (&["a.c"], named("a.c", ""), ""),
        (&["lib/b.c"], named("lib", ""), "f b.c 3"),
        (&["lib/deep"], named("*.h", ""), "d er\nf er/c.c 4"),
        (&["skip"], named("skip", ""), "f e.c 7\nd keep\nf keep/f.c 8"),
        (&["."], named("lib", ""), "f a.c 1\nf a.h 2\nd skip\nf skip/e.c 7\nd skip/keep\nf skip/keep/f.c 8"),
        (
            &["lib"],
            named("deep", "c.h"),
            "f b.c 3\nd deep\nd deep/er\nf deep/er/c.h 5\nd empty\nl link deep\nd other\nf other/d.h 6",
        ),
    ] {
        assert_eq!(without_parents(sources, excludes), lines(expected), "COPY --exclude {sources:?}");
    }
}

#[test]
fn excludes_with_parents_are_relative_to_the_pivot() {
    let named = |name, but| Some(Named { name, but });
    for (sources, excludes, expected) in [
        (
            &["**/*.c"][..],
            named("skip", ""),
            "f a.c 1\nd lib\nf lib/b.c 3\nd lib/deep\nd lib/deep/er\nf lib/deep/er/c.c 4",
        ),
        (&["**/*.c"], named("*", "f.c"), "d skip\nd skip/keep\nf skip/keep/f.c 8"),
        (&["lib/./**/*.h"], named("lib", ""), "d deep\nd deep/er\nf deep/er/c.h 5\nd other\nf other/d.h 6"),
        (&["lib/deep"], named("*.c", ""), "d lib\nd lib/deep\nd lib/deep/er\nf lib/deep/er/c.h 5"),
        (&["a.c"], named("a.c", ""), ""),
        (&["skip"], named("skip", "f.c"), "d skip\nd skip/keep\nf skip/keep/f.c 8"),
    ] {
        assert_eq!(with_parents(sources, excludes), lines(expected), "COPY --parents --exclude {sources:?}");
    }
}

#[test]
fn directories_on_the_way_keep_their_attributes() {
    let f = Fixture::new("f lib/deep/file 1\nf lib/other 2", "");
    let time = FileTime { seconds: 1_000_000_000, nanoseconds: 5 };
    f.context().set_mode("lib", 0o750).unwrap();
    f.context().set_times("lib", time).unwrap();
    let selection = f.resolve([SourcePattern::of_copy_parents("lib/deep/f*")].into_iter(), None);
    copy(&f.writer, &f.source, &selection, &Fixture::options("/"), &CancelToken::new()).unwrap();
    assert_eq!(f.shows(), lines("d lib\nd lib/deep\nf lib/deep/file 1"));
    assert_eq!((f.stat("lib").mode, f.stat("lib").mtime), (0o750, time));
}

#[test]
fn existing_directories_become_what_was_chosen() {
    let time = FileTime { seconds: 1_000_000_000, nanoseconds: 5 };
    let copied = |source: SourcePattern| {
        let f = Fixture::new("f lib/deep/file 1", "f lib/deep/old 2");
        let image = RootDir::open(f.dir.path().join("image")).unwrap();
        for path in ["lib", "lib/deep"] {
            image.set_mode(path, 0o1777).unwrap();
            f.context().set_mode(path, 0o750).unwrap();
            f.context().set_times(path, time).unwrap();
        }
        std::fs::set_permissions(f.dir.path().join("context"), std::fs::Permissions::from_mode(0o700))
            .unwrap();
        let selection = f.resolve([source].into_iter(), None);
        copy(&f.writer, &f.source, &selection, &Fixture::options("/"), &CancelToken::new()).unwrap();
        assert_eq!(f.stat("").mode, 0o755, "the destination itself");
        ["lib", "lib/deep"].map(|path| (f.stat(path).mode, f.stat(path).mtime == time))
    };
    let (changed, kept) = ((0o750, true), (0o1777, false));
    assert_eq!(copied(SourcePattern::of_copy(".")), [changed, changed]);
    assert_eq!(copied(SourcePattern::of_copy_parents("lib")), [changed, changed]);
    assert_eq!(copied(SourcePattern::of_copy_parents("*/deep")), [kept, changed]);
    assert_eq!(copied(SourcePattern::of_copy_parents("lib/deep/f*")), [kept, kept]);
}

#[test]
fn the_key_knows_the_directories_on_the_way() {
    let key = |mode: u32, source: &str| {
        let f = Fixture::new("f lib/deep/file 1\nf bin/deep/file 1", "");
        f.context().set_mode("lib", mode).unwrap();
        let selection = f.resolve([SourcePattern::of_copy_parents(source)].into_iter(), None);
        content_key(&f.source, &selection, &KEY, None, &CancelToken::new()).unwrap()
    };
    assert_ne!(key(0o755, "lib/deep/f*"), key(0o750, "lib/deep/f*"), "the mode of a directory on the way");
    assert_ne!(key(0o755, "lib/deep/f*"), key(0o755, "bin/deep/f*"), "its name");
    assert_ne!(key(0o755, "lib/deep/f*"), key(0o755, "lib"), "whether it was chosen itself");
    assert_eq!(key(0o755, "lib/./deep/f*"), key(0o750, "bin/./deep/file"), "not what is before the pivot");
}

#[test]
fn nothing_chosen_changes_nothing() {
    let f = Fixture::new(CONTEXT, "");
    let excludes: Arc<dyn Filter> = Arc::new(Named { name: "a.c", but: "" });
    for selection in [f.select(&["none*"], None), f.select(&["a.c"], Some(excludes))] {
        let key = content_key(&f.source, &selection, &KEY, None, &CancelToken::new()).unwrap();
        let copied = copy(&f.writer, &f.source, &selection, &Fixture::options("/to/"), &CancelToken::new());
        assert_eq!(copied.unwrap(), CopyStats { content_key: Some(key), ..CopyStats::default() });
        assert_eq!(f.shows(), lines(""));
    }
}
