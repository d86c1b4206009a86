//! Tests of choosing sources.

use super::*;
use crate::tree_fixture::{Named, Stars, tree_of};

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
    let selection = Selection::resolve(&tree, &[SourcePattern::of_copy(pattern)], None, &Stars)?;
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

#[test]
fn an_ignored_source_says_so() {
    let (dir, _) = tree_of(TREE);
    let tree = Tree::directory(dir.path(), Some(Arc::new(Named { name: "main.c", but: "" }))).unwrap();
    for (pattern, ignored) in [("main.c", true), ("none", false)] {
        let result = Selection::resolve(&tree, &[SourcePattern::of_copy(pattern)], None, &Stars);
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
        Selection::resolve(&tree, std::slice::from_ref(source), None, &Stars).map(|found| found.items().len())
    };
    assert_eq!(resolve(&SourcePattern::of_copy("a*b")).unwrap(), 2);
    let literal = SourcePattern { allow_wildcard: false, ..SourcePattern::of_copy("a*b") };
    assert_eq!(resolve(&literal).unwrap(), 1);
    assert_eq!(resolve(&SourcePattern::of_copy("z*")).unwrap(), 0);
    assert!(resolve(&SourcePattern::of_copy("z")).is_err());
    let needed = SourcePattern { allow_no_match: false, ..SourcePattern::of_copy("z*") };
    assert!(resolve(&needed).is_err());
    let link = SourcePattern { follow_last: false, ..SourcePattern::of_copy("axb") };
    assert_eq!(resolve(&link).unwrap(), 1);
}

#[test]
fn excludes_apply_to_chosen_files() {
    let (_dir, tree) = tree_of(TREE);
    let sources = [SourcePattern::of_copy("main.*")];
    let selection =
        Selection::resolve(&tree, &sources, Some(Arc::new(Named { name: "main.h", but: "" })), &Stars)
            .unwrap();
    assert_eq!(selection.items().len(), 1);
}

/// What of `COPY --parents` starts where.
fn starts(pattern: &str) -> Result<Vec<String>, SelectError> {
    let (_dir, tree) = tree_of(TREE);
    let selection = Selection::resolve(&tree, &[SourcePattern::of_copy_parents(pattern)], None, &Stars)?;
    Ok(selection.items().iter().map(|item| item.entry.path().display().to_string()).collect())
}

#[test]
fn sources_with_parents_start_at_the_pivot() {
    for (pattern, expected) in [
        ("main.c", &[""][..]),
        ("src/./sub/c.c", &["src"]),
        ("./src/a.c", &[""]),
        ("/./src/a.c", &[""]),
        ("src/./../../src/none*", &["src"]),
        ("src/./", &["src"]),
        (".", &[""]),
        ("s*/./a.c", &["src"]),
        ("*/./sub/**", &["src", "src"]),
        ("dirlink/./a.c", &["src"]),
        ("**/*.java", &[""]),
        ("no*/./*.c", &[]),
        ("no*/./", &[]),
    ] {
        assert_eq!(starts(pattern).unwrap(), expected, "{pattern}");
    }
}

#[test]
fn plain_paths_of_sources_with_parents_must_exist() {
    for (pattern, similar) in [
        ("src/a.d", &["src/a.c"][..]),
        ("none/./*.c", &[]),
        ("srv/./a.c", &["src"]),
        ("main.c/./x*", &[]),
        ("src/./sub/d.c", &["src/sub/c.c"]),
        ("s*/./a.d", &[]),
        ("no*/./a.c", &[]),
        // Links are followed up to the pivot only.
        ("dirlink/a.c", &["src/a.c", "src/b.c"]),
    ] {
        match starts(pattern) {
            Err(SelectError::NotFound { pattern: named, similar: found, .. }) => {
                assert_eq!(
                    (named.as_str(), found.as_slice()),
                    (pattern, &similar.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()[..])
                );
            }
            other => panic!("{pattern}: {other:?}"),
        }
    }
    assert_eq!(starts("link").unwrap(), [""], "a link itself is there");
}

#[test]
fn what_is_no_pattern_is_named() {
    let error = starts("src/./[").unwrap_err();
    assert!(matches!(&error, SelectError::BadPattern { pattern, .. } if pattern == "src/./["), "{error}");
    assert_eq!(error.fault(), Fault::Input);
}
