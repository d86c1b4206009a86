//! Prepare, commit, view, remove: who sees what, and when it goes.

use std::fs;
use std::io::ErrorKind;

use super::{Bench, make_dir, put};
use crate::mounted;
use crate::tree::Tree;

/// What is done on top of a snapshot, or to its view, does not change it.
pub(super) fn views_and_parents(bench: &Bench<'_>) {
    let base = bench.change(None, |root| {
        make_dir(&root.join("d"));
        put(&root.join("d/f"), "base");
    });
    let tree = Tree::new().dir("d", 0o755).file("d/f", 0o644, "base");
    mounted::with(&bench.subject.view(base), |root| {
        for result in [fs::write(root.join("d/f"), "x"), fs::remove_file(root.join("d/f"))] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        }
    });
    // Two at once on the same parent, each alone.
    let (left, right) = (bench.subject.prepare(Some(base)), bench.subject.prepare(Some(base)));
    for (prepared, content) in [(&left, "left"), (&right, "right")] {
        mounted::with(&prepared.mount(), |root| {
            assert_eq!(fs::read(root.join("d/f")).unwrap(), b"base");
            put(&root.join("d/f"), content);
        });
    }
    let (left, right) = (left.commit(), right.commit());
    bench.expect(&[base], &tree);
    bench.expect(&[base, left], &tree.clone().file("d/f", 0o644, "left"));
    bench.expect(&[base, right], &tree.file("d/f", 0o644, "right"));
}

/// What was prepared and given up, and what was committed and given up, leaves nothing; what others stand on stays.
pub(super) fn given_up(bench: &Bench<'_>) {
    assert_eq!(bench.subject.layers_on_disk(), 0);
    let base = bench.change(None, |root| put(&root.join("base"), ""));
    let given_up = bench.subject.prepare(Some(base));
    mounted::with(&given_up.mount(), |root| {
        make_dir(&root.join("a/b"));
        fs::remove_file(root.join("base")).unwrap();
    });
    assert_eq!(bench.subject.layers_on_disk(), 2);
    drop(given_up);
    assert_eq!(bench.subject.layers_on_disk(), 1);

    let top = bench.change(Some(base), |root| put(&root.join("top"), ""));
    bench.subject.remove(base);
    let both = Tree::new().file("base", 0o644, "").file("top", 0o644, "");
    bench.expect_seen(&[base, top], &both);
    bench.subject.remove(top);
    assert_eq!(bench.subject.layers_on_disk(), 0, "what nobody needs is on the disk");
}
