//! Files with several names.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::{Bench, make_dir, put};
use crate::tree::Tree;

fn two_names(root: &Path) {
    make_dir(&root.join("d"));
    put(&root.join("a"), "content");
    fs::hard_link(root.join("a"), root.join("d/b")).unwrap();
}

fn two_names_tree() -> Tree {
    Tree::new().file("a", 0o644, "content").dir("d", 0o755).hard_link("d/b", "a")
}

pub(super) fn within_a_layer(bench: &Bench<'_>) {
    let chain = bench.chain(&[two_names, |root| {
        put(&root.join("x"), "");
        fs::hard_link(root.join("x"), root.join("d/y")).unwrap();
        fs::hard_link(root.join("x"), root.join("z")).unwrap();
        fs::remove_file(root.join("x")).unwrap();
    }]);
    bench.expect(&chain[..1], &two_names_tree());
    bench.expect(&chain, &two_names_tree().file("z", 0o644, "").hard_link("d/y", "z"));
}

/// A new name of a file of a lower layer.
pub(super) fn across_layers(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            make_dir(&root.join("d"));
            put(&root.join("d/old"), "content");
        },
        |root| fs::hard_link(root.join("d/old"), root.join("new")).unwrap(),
        |root| fs::hard_link(root.join("new"), root.join("d/newest")).unwrap(),
    ]);
    let second = Tree::new().dir("d", 0o755).file("d/old", 0o644, "content").hard_link("new", "d/old");
    bench.expect(&chain[..2], &second);
    // Whether the oldest name is still one of the same file is the driver's choice: overlayfs copies one name
    // up and leaves the others alone. But all four ways to look at it must agree.
    let seen = bench.mounted(chain[2]);
    assert_eq!(seen.paths().collect::<Vec<_>>(), ["d", "d/newest", "d/old", "new"]);
    assert_eq!(seen.get("d/newest"), seen.get("new"), "two names of one file");
    bench.expect(&chain, &seen);
}

/// A change through one name; the other may go along or not, but the content of the changed one is new.
pub(super) fn one_name_is_changed(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        two_names,
        |root| {
            let mut file = fs::OpenOptions::new().append(true).open(root.join("a")).unwrap();
            file.write_all(b", and more").unwrap();
        },
        |root| fs::remove_file(root.join("d/b")).unwrap(),
    ]);
    let seen = bench.mounted(chain[1]);
    assert_eq!(seen.text("a"), "content, and more");
    bench.expect(&chain[..2], &seen);
    bench.expect(&chain, &Tree::new().file("a", 0o644, "content, and more").dir("d", 0o755));
}
