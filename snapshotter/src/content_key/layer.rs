//! The key of the changes that a step left in its layer directory.

use std::path::Path;

use base::{CancelToken, Key, KeyHasher};

use super::{HashPass, keys_of};
use crate::merkle::{KeyOptions, Modes, fold};
use crate::scan::{Dir, Scan, Scanner};
use crate::tree::{Entry, Tree, TreeError, is_content_xattr, is_image_xattr, is_layer_xattr};

/// The key of a layer directory, so that two layers that change the same in the same way have the same key. Owner
/// and attributes count, also those of the root, as do overlayfs's whiteouts and marks of opaque directories.
///
/// `below` is what the layer lies on. The kernel takes a directory over from there as soon as something happens in
/// it, be it a file that comes and goes: one that holds nothing and is as it was below is no change.
///
/// # Errors
/// As for [`content_key`](super::content_key).
pub fn diff_key(layer_dir: &Path, below: Option<&Tree>, cancel: &CancelToken) -> Result<Key, TreeError> {
    let tree = Tree::directory(layer_dir, None)?;
    let options = KeyOptions { owner: true, xattrs: true, modes: Modes::Own, itself: true };
    let scanner = Scanner { tree: &tree, filters: &[], xattrs: Some(is_layer_xattr), cancel };
    let mut scan = scanner.scan(&tree.root()?)?;
    if let Some(below) = below {
        drop_unchanged_dirs(&mut scan, below)?;
    }
    let pass = HashPass { tree: &tree, options, wanted: is_layer_xattr, cache: None, cancel };
    let leaves = pass.run(&scan)?;
    let mut hasher = KeyHasher::new("lapstrake/layer/v2");
    hasher.add(&fold(options, &scan, &keys_of(&leaves)));
    Ok(hasher.finish())
}

/// Drops empty directories that are as they were below, and what becomes empty by that.
fn drop_unchanged_dirs(scan: &mut Scan, below: &Tree) -> Result<(), TreeError> {
    let old = dirs_below(scan, below)?;
    let mut unchanged = vec![false; scan.dirs.len()];
    for index in (1..scan.dirs.len()).rev() {
        let dir = &scan.dirs[index];
        let is_empty = dir.children.iter().all(|child| child.dir.is_some_and(|dir| unchanged[dir]));
        unchanged[index] = match &old[index] {
            Some(old) if is_empty => is_same(old, dir, below)?,
            _ => false,
        };
    }
    scan.drop_empty(&unchanged);
    Ok(())
}

/// For each directory of a layer the one below that it is merged with, if it is: nothing below an opaque one is.
fn dirs_below(scan: &Scan, below: &Tree) -> Result<Vec<Option<Entry>>, TreeError> {
    let mut old = vec![None; scan.dirs.len()];
    old[0] = Some(below.root()?);
    for index in 0..scan.dirs.len() {
        let Some(parent) = &old[index] else { continue };
        let open = below.open_dir(parent)?;
        let mut found = Vec::new();
        for child in &scan.dirs[index].children {
            let Some(dir) = child.dir.filter(|dir| !is_marked(&scan.dirs[*dir])) else { continue };
            found.push((dir, open.child(child.name())?.filter(Entry::is_dir)));
        }
        for (dir, entry) in found {
            old[dir] = entry;
        }
    }
    Ok(old)
}

/// Whether a directory has a mark of its layer: that it is opaque.
fn is_marked(dir: &Dir) -> bool {
    dir.xattrs.iter().any(|xattr| !is_of_content(xattr.name.as_bytes()))
}

fn is_same(old: &Entry, dir: &Dir, below: &Tree) -> Result<bool, TreeError> {
    let (was, is) = (old.stat(), dir.entry.stat());
    let same = (was.mode, was.uid, was.gid) == (is.mode, is.uid, is.gid);
    Ok(same && below.open_dir(old)?.xattrs(is_of_content)? == dir.xattrs)
}

fn is_of_content(name: &[u8]) -> bool {
    is_content_xattr(name) || is_image_xattr(name)
}
