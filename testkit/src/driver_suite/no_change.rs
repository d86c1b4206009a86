//! Work that leaves everything as it was makes an empty layer, as it does in Docker and BuildKit, whatever it did
//! to the times of directories.

use std::fs;
use std::path::Path;

use super::{Bench, make_dir, put, set_mode};
use crate::tree::Tree;

fn base(root: &Path) {
    make_dir(&root.join("tmp/deep"));
    set_mode(&root.join("tmp"), 0o1777);
    put(&root.join("tmp/deep/file"), "content");
    put(&root.join("lock"), "");
}

fn expect_no_change(bench: &Bench<'_>, work: fn(&Path)) {
    let chain = bench.chain(&[base, work]);
    Tree::new().assert_shows(&bench.layer(chain[1]), "the layer");
    bench.expect(&chain, &bench.mounted(chain[0]));
}

/// Looking, and opening for writing without writing, as package managers do with their locks.
pub(super) fn only_touched(bench: &Bench<'_>) {
    expect_no_change(bench, |root| {
        assert_eq!(fs::read(root.join("tmp/deep/file")).unwrap(), b"content");
        assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 1);
        fs::metadata(root.join("tmp/nothing")).unwrap_err();
        for name in ["lock", "tmp/deep/file"] {
            drop(fs::OpenOptions::new().write(true).open(root.join(name)).unwrap());
        }
        set_mode(&root.join("tmp/deep"), 0o755);
    });
}

/// Temporary files and directories.
pub(super) fn comes_and_goes(bench: &Bench<'_>) {
    expect_no_change(bench, |root| {
        for dir in ["", "tmp", "tmp/deep"] {
            put(&root.join(dir).join("temporary"), "soon gone");
            fs::remove_file(root.join(dir).join("temporary")).unwrap();
        }
        make_dir(&root.join("tmp/deep/a/b"));
        put(&root.join("tmp/deep/a/b/c"), "");
        fs::remove_dir_all(root.join("tmp/deep/a")).unwrap();
    });
}
