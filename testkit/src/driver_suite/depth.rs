//! Many layers, and long paths to them.

use std::fs;

use super::{Bench, Id, make_dir, put};
use crate::mounted;
use crate::tree::Tree;

/// As many as overlayfs merges (`OVL_MAX_STACK` in the kernel).
const DEEPEST: usize = 500;

/// Each layer writes one of few files and makes one of few directories anew.
fn add_layers(bench: &Bench<'_>, count: usize) -> Vec<Id> {
    let mut chain: Vec<Id> = Vec::new();
    for number in 0..count {
        chain.push(bench.change(chain.last().copied(), |root| {
            put(&root.join(format!("file-{}", number % 7)), format!("of layer {number}"));
            let dir = root.join(format!("dir-{}", number % 3));
            if dir.exists() {
                fs::remove_dir_all(&dir).unwrap();
            }
            make_dir(&dir.join("in"));
            put(&dir.join("in/number"), number.to_string());
        }));
    }
    chain
}

fn expected(count: usize) -> Tree {
    (0..count).fold(Tree::new(), |tree, number| {
        let dir = format!("dir-{}", number % 3);
        tree.file(&format!("file-{}", number % 7), 0o644, format!("of layer {number}"))
            .dir(&dir, 0o755)
            .dir(&format!("{dir}/in"), 0o755)
            .file(&format!("{dir}/in/number"), 0o644, number.to_string())
    })
}

pub(super) fn five_hundred_layers(bench: &Bench<'_>) {
    let chain = add_layers(bench, DEEPEST);
    bench.expect_seen(&chain, &expected(DEEPEST));
    // It can still be written to, which is what a container on the deepest image needs.
    let prepared = bench.subject.prepare(chain.last().copied());
    mounted::with(&prepared.mount(), |root| {
        put(&root.join("file-0"), "of a container");
        fs::remove_dir_all(root.join("dir-0")).unwrap();
        let seen = Tree::of_dir(root);
        let wanted = expected(DEEPEST).without("dir-0").file("file-0", 0o644, "of a container");
        wanted.assert_shows(&seen, "while it is written to");
    });
    let top = prepared.commit();
    let layer = bench.layer(top);
    assert_eq!(layer.paths().collect::<Vec<_>>(), [".wh.dir-0", "file-0"]);
}

/// Options of a mount are limited to a page, which the paths of some layers fill; and the characters that separate
/// options may be in paths.
pub(super) fn long_paths_of_layers(bench: &Bench<'_>) {
    let mut root = bench.dir.path().join("a:colon,a comma\\and \"more\"");
    (0..2).for_each(|_| root.push("p".repeat(150)));
    fs::create_dir_all(&root).unwrap();
    let deep = Bench::new(bench.make);
    let deep = Bench { subject: (bench.make)(&root.join("store")), ..deep };
    let chain = add_layers(&deep, 24);
    deep.expect(&chain, &expected(24));
}
