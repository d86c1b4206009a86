//! Layers over layers: adding, replacing, deleting, making again, renaming.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Bench, make_dir, put, run};
use crate::tree::{Kind, Tree};

/// Something of everything that can be replaced.
fn base(root: &Path) {
    make_dir(&root.join("d/e"));
    put(&root.join("d/a"), "a of the base");
    put(&root.join("d/e/deep"), "deep in the base");
    put(&root.join("file"), "file of the base");
    symlink("d", root.join("link")).unwrap();
}

fn base_tree() -> Tree {
    Tree::new()
        .dir("d", 0o755)
        .file("d/a", 0o644, "a of the base")
        .dir("d/e", 0o755)
        .file("d/e/deep", 0o644, "deep in the base")
        .file("file", 0o644, "file of the base")
        .symlink("link", "d")
}

pub(super) fn layers_add_and_replace(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        base,
        |root| {
            put(&root.join("d/a"), "a of the second layer");
            put(&root.join("d/e/new"), "new");
        },
        |root| {
            // Through the link of the base, into a directory of all three.
            fs::write(root.join("link/e/new"), "written through a link").unwrap();
            put(&root.join("top"), "");
        },
    ]);
    bench.expect(&chain[..1], &base_tree());
    let second = base_tree().file("d/a", 0o644, "a of the second layer").file("d/e/new", 0o644, "new");
    bench.expect(&chain[..2], &second);
    let third = second.file("d/e/new", 0o644, "written through a link").file("top", 0o644, "");
    bench.expect(&chain, &third);
    let layer: Vec<String> = bench.layer(chain[2]).paths().map(str::to_owned).collect();
    assert_eq!(layer, ["d", "d/e", "d/e/new", "top"], "the layer has more than what changed");
}

pub(super) fn deleted_files_are_gone(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        base,
        |root| {
            fs::remove_file(root.join("d/a")).unwrap();
            fs::remove_file(root.join("link")).unwrap();
        },
        |root| fs::remove_dir_all(root.join("d")).unwrap(),
    ]);
    bench.expect(&chain[..2], &base_tree().without("d/a").without("link"));
    bench.expect(&chain, &Tree::new().file("file", 0o644, "file of the base"));
}

pub(super) fn deleted_and_made_again(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        base,
        |root| {
            fs::remove_file(root.join("file")).unwrap();
            fs::remove_dir_all(root.join("d/e")).unwrap();
        },
        |root| {
            put(&root.join("file"), "made again");
            make_dir(&root.join("d/e"));
            put(&root.join("d/e/other"), "");
        },
        |root| {
            fs::remove_dir_all(root.join("d/e")).unwrap();
            make_dir(&root.join("d/e"));
        },
    ]);
    let without = base_tree().without("d/e").without("file");
    bench.expect(&chain[..2], &without);
    let again = without.file("file", 0o644, "made again").dir("d/e", 0o755);
    bench.expect(&chain[..3], &again.clone().file("d/e/other", 0o644, ""));
    bench.expect(&chain, &again);
}

pub(super) fn kinds_replace_each_other(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        base,
        |root| {
            fs::remove_dir_all(root.join("d")).unwrap();
            put(&root.join("d"), "a file now");
            fs::remove_file(root.join("file")).unwrap();
            make_dir(&root.join("file/inside"));
            fs::remove_file(root.join("link")).unwrap();
            make_dir(&root.join("link"));
            put(&root.join("link/a"), "not d/a");
        },
        |root| {
            fs::remove_file(root.join("d")).unwrap();
            symlink("file", root.join("d")).unwrap();
            fs::remove_dir_all(root.join("link")).unwrap();
            put(&root.join("link"), "");
        },
        |root| {
            fs::remove_file(root.join("d")).unwrap();
            make_dir(&root.join("d"));
        },
    ]);
    let second = Tree::new()
        .file("d", 0o644, "a file now")
        .dir("file", 0o755)
        .dir("file/inside", 0o755)
        .dir("link", 0o755)
        .file("link/a", 0o644, "not d/a");
    bench.expect(&chain[..2], &second);
    let third = second.without("link").symlink("d", "file").file("link", 0o644, "");
    bench.expect(&chain[..3], &third);
    bench.expect(&chain, &third.dir("d", 0o755));
}

pub(super) fn an_opaque_directory(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        base,
        |root| {
            // Replaced in one layer: only what is made after it may show.
            fs::remove_dir_all(root.join("d")).unwrap();
            make_dir(&root.join("d"));
            put(&root.join("d/only"), "");
        },
        |root| {
            make_dir(&root.join("d/e"));
            put(&root.join("d/e/upper"), "");
        },
    ]);
    let second = base_tree().without("d").dir("d", 0o755).file("d/only", 0o644, "");
    bench.expect(&chain[..2], &second);
    bench.expect(&chain, &second.dir("d/e", 0o755).file("d/e/upper", 0o644, ""));
}

pub(super) fn an_emptied_directory_stays(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            make_dir(&root.join("d"));
            (0..300).for_each(|number| put(&root.join(format!("d/{number}")), ""));
        },
        |root| (0..300).for_each(|number| fs::remove_file(root.join(format!("d/{number}"))).unwrap()),
    ]);
    bench.expect(&chain, &Tree::new().dir("d", 0o755));
}

/// overlayfs refuses to rename a directory of a lower layer (`EXDEV`), and `mv` copies it then, as it does from one
/// file system to another. A directory of the same layer is renamed at once.
pub(super) fn renamed_directories(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        base,
        |root| {
            run("mv", &[&root.join("d"), &root.join("moved")]);
            make_dir(&root.join("own"));
            put(&root.join("own/f"), "");
            fs::rename(root.join("own"), root.join("moved/own")).unwrap();
            fs::rename(root.join("file"), root.join("moved/file")).unwrap();
        },
        |root| run("mv", &[&root.join("moved/e"), &root.join("d")]),
    ]);
    let moved = Tree::new()
        .symlink("link", "d")
        .dir("moved", 0o755)
        .file("moved/a", 0o644, "a of the base")
        .file("moved/file", 0o644, "file of the base")
        .dir("moved/own", 0o755)
        .file("moved/own/f", 0o644, "");
    let deep = "deep in the base";
    let second = moved.clone().dir("moved/e", 0o755).file("moved/e/deep", 0o644, deep);
    bench.expect(&chain[..2], &second);
    bench.expect(&chain, &moved.dir("d", 0o755).file("d/deep", 0o644, deep));
}

/// Names that are bytes and not text, that look like marks of archives, and the longest that there are.
fn names() -> Vec<PathBuf> {
    let longest = [b'n'; 255];
    let names: [&[u8]; 11] = [
        b"line\nbreak",
        b"\xff\xfe",
        b"\xc3",
        "\u{fc}n\u{ef}".as_bytes(),
        b" ",
        b"-rf",
        b"a.wh.b",
        b"back\\slash",
        b"colon:comma,",
        b"\x01\x7f\t",
        &longest,
    ];
    names.into_iter().map(|name| PathBuf::from(OsStr::from_bytes(name))).collect()
}

pub(super) fn odd_names(bench: &Bench<'_>) {
    let chain = bench.chain(&[
        |root| {
            for name in names() {
                make_dir(&root.join(&name).join("in"));
                put(&root.join(&name).join("in/f"), "1");
                put(&root.join(&name).join("gone"), "");
            }
        },
        |root| {
            for name in names() {
                put(&root.join(&name).join("in/f"), "2");
                fs::remove_file(root.join(&name).join("gone")).unwrap();
                symlink(&name, root.join("in of a link")).unwrap();
                fs::rename(root.join("in of a link"), root.join(&name).join(&name)).unwrap();
            }
        },
        |root| names().iter().for_each(|name| fs::remove_dir_all(root.join(name)).unwrap()),
    ]);
    let seen = bench.mounted(chain[1]);
    assert_eq!(seen.paths().count(), names().len() * 4, "{seen}");
    assert_eq!(seen.get("line\nbreak/line\nbreak").unwrap().kind, Kind::Symlink("line\nbreak".to_owned()));
    assert_eq!(seen.text("\\xff\\xfe/in/f"), "2");
    bench.expect(&chain[..2], &seen);
    bench.expect(&chain, &Tree::new());
}
