//! A selection as the pieces that are hashed and copied one after another.
//!
//! A chosen directory is one piece: a scan of what is in it. Chosen files of the same directory that
//! follow each other are one piece too, so that a wildcard over thousands of files is not thousands of
//! pieces. The order of the pieces is the order of the sources: where two bring the same name, the later
//! one wins.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use base::CancelToken;

use crate::scan::{Scan, Scanner};
use crate::select::{Selected, Selection};
use crate::tree::{Entry, Follow, Tree, TreeError, is_content_xattr};

/// One piece of a selection.
pub(crate) struct Batch {
    /// What the sources named.
    pub(crate) kind: BatchKind,
    /// The directory whose entries go into the destination, and all below.
    pub(crate) scan: Scan,
}

/// What the sources of a batch named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchKind {
    /// Files, each by its name.
    Files,
    /// A directory, for what is in it.
    Directory,
}

/// Cuts a selection into batches and scans its directories.
pub(crate) fn batches(
    tree: &Tree,
    selection: &Selection,
    xattrs: bool,
    cancel: &CancelToken,
) -> Result<Vec<Batch>, TreeError> {
    let scan_of = |item: &Selected| {
        let filters: Vec<_> = selection.excludes.iter().chain(&item.only).cloned().collect();
        let xattrs = xattrs.then_some(is_content_xattr as _);
        Scanner { tree, filters: &filters, xattrs, cancel }.scan(&item.entry)
    };
    let mut batches = Vec::new();
    let mut files = PendingFiles::default();
    for item in &selection.items {
        if item.entry.is_dir() {
            batches.extend(files.finish(tree)?);
            batches.push(Batch { kind: BatchKind::Directory, scan: scan_of(item)? });
        } else {
            if !files.accepts(&item.entry, &item.name) {
                batches.extend(files.finish(tree)?);
            }
            files.push(item.entry.clone(), item.name.clone());
        }
    }
    batches.extend(files.finish(tree)?);
    Ok(batches)
}

/// Files of one directory, with different names, that follow each other.
#[derive(Default)]
struct PendingFiles {
    files: Vec<(Entry, OsString)>,
    names: BTreeSet<OsString>,
}

impl PendingFiles {
    fn accepts(&self, entry: &Entry, name: &OsString) -> bool {
        let same_dir =
            self.files.first().is_none_or(|(first, _)| first.path().parent() == entry.path().parent());
        same_dir && !self.names.contains(name)
    }

    fn push(&mut self, entry: Entry, name: OsString) {
        self.names.insert(name.clone());
        self.files.push((entry, name));
    }

    fn finish(&mut self, tree: &Tree) -> Result<Option<Batch>, TreeError> {
        let files = std::mem::take(self).files;
        let Some((first, _)) = files.first() else { return Ok(None) };
        let parent = first.path().parent().unwrap_or(Path::new(""));
        // The files were found in it a moment ago; when it is gone now, opening them will say so.
        let holder = match tree.lookup(parent, Follow::NoLast)? {
            Some(holder) => holder,
            None => tree.root()?,
        };
        Ok(Some(Batch { kind: BatchKind::Files, scan: Scan::of_files(holder, files) }))
    }
}
