//! Tests of choosing sources.

use super::*;
use crate::tree_fixture::tree_of;

/// Enough of `filepath.Match` for these tests: `*` and literal letters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))
        }),
    }
}

const TREE: &str = "f main.c 1
    f main.h 2
    f .hidden 3
    f src/a.c 4
    f src/b.c 5
    f src/sub/c.c 6
    l link src/a.c
    l dirlink src
    l away /../../etc";

/// The paths that a source stands for, with the names they keep.
fn selected(pattern: &str) -> Result<Vec<String>, SelectError> {
    let (_dir, tree) = tree_of(TREE);
    let selection = Selection::resolve(&tree, &[SourcePattern::of_copy(pattern)], None, &matches)?;
    let show = |item: &Selected| format!("{}={}", item.name.display(), item.entry.path().display());
    Ok(selection.items().iter().map(show).collect())
}

#[test]
fn sources_resolve() {
    for (pattern, expected) in [
        ("main.c", &["main.c=main.c"][..]),
        ("/main.c", &["main.c=main.c"]),
        ("./src/../main.c", &["main.c=main.c"]),
        ("../../main.c", &["main.c=main.c"]),
        ("src/", &["src=src"]),
        (".", &["="]),
        ("/", &["="]),
        ("main.*", &["main.c=main.c", "main.h=main.h"]),
        // "away" leads to a path that the tree does not have, whatever the host has there.
        (
            "*",
            &[".hidden=.hidden", "dirlink=src", "link=src/a.c", "main.c=main.c", "main.h=main.h", "src=src"],
        ),
        ("src/*.c", &["a.c=src/a.c", "b.c=src/b.c"]),
        ("*/sub/*.c", &["c.c=src/sub/c.c", "c.c=src/sub/c.c"]),
        ("link", &["link=src/a.c"]),
        ("dirlink", &["dirlink=src"]),
        ("dirlink/b.c", &["b.c=src/b.c"]),
    ] {
        assert_eq!(selected(pattern).unwrap(), expected, "{pattern}");
    }
}

#[test]
fn what_is_missing_is_named_with_look_alikes() {
    for (pattern, expected) in [
        ("mian.c", &["main.c"][..]),
        ("MAIN.C", &["main.c", "main.h"]),
        ("srv/a.c", &["src"]),
        ("src/a.cc", &["src/a.c"]),
        ("nothing-like-it", &[]),
        ("*.java", &[]),
        ("away", &[]),
    ] {
        let error = selected(pattern).unwrap_err();
        let SelectError::NotFound { pattern: named, excluded_by_filter, similar } = error else {
            panic!("{pattern}: {error}")
        };
        assert_eq!((named.as_str(), excluded_by_filter), (pattern, false));
        assert_eq!(similar, expected, "{pattern}");
    }
}

/// Excludes one path.
struct Only(&'static str);

impl Filter for Only {
    fn excludes(&self, relative: &Path, _is_dir: bool) -> bool {
        relative == Path::new(self.0)
    }

    fn prunes(&self, _dir: &Path) -> bool {
        true
    }
}

#[test]
fn an_ignored_source_says_so() {
    let (dir, _) = tree_of(TREE);
    let tree = Tree::directory(dir.path(), Some(Arc::new(Only("main.c")))).unwrap();
    for (pattern, ignored) in [("main.c", true), ("none", false)] {
        let result = Selection::resolve(&tree, &[SourcePattern::of_copy(pattern)], None, &matches);
        let Err(SelectError::NotFound { excluded_by_filter, .. }) = result else {
            panic!("{pattern} was found")
        };
        assert_eq!(excluded_by_filter, ignored, "{pattern}");
    }
}

#[test]
fn wildcards_may_be_literal_or_match_nothing() {
    let (_dir, tree) = tree_of("f a*b 1\nf axb 2");
    let resolve = |source: &SourcePattern| {
        Selection::resolve(&tree, std::slice::from_ref(source), None, &matches)
            .map(|found| found.items().len())
    };
    assert_eq!(resolve(&SourcePattern::of_copy("a*b")).unwrap(), 2);
    let literal = SourcePattern { allow_wildcard: false, ..SourcePattern::of_copy("a*b") };
    assert_eq!(resolve(&literal).unwrap(), 1);
    let optional = SourcePattern { allow_no_match: true, ..SourcePattern::of_copy("z*") };
    assert_eq!(resolve(&optional).unwrap(), 0);
    let plain = SourcePattern { allow_no_match: true, ..SourcePattern::of_copy("z") };
    assert!(resolve(&plain).is_err());
    let link = SourcePattern { follow_last: false, ..SourcePattern::of_copy("axb") };
    assert_eq!(resolve(&link).unwrap(), 1);
}

#[test]
fn excludes_apply_to_chosen_files() {
    let (_dir, tree) = tree_of(TREE);
    let sources = [SourcePattern::of_copy("main.*")];
    let selection = Selection::resolve(&tree, &sources, Some(Arc::new(Only("main.h"))), &matches).unwrap();
    assert_eq!(selection.items().len(), 1);
}
