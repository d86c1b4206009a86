//! A selection as the pieces that are hashed and copied one after another.
//!
//! A chosen directory is one piece: a scan of what is in it. Chosen files of the same directory that
//! follow each other are one piece too, so that a wildcard over thousands of files is not thousands of
//! pieces. The order of the pieces is the order of the sources: where two bring the same name, the later
//! one wins.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use base::{CancelToken, Key};

use crate::content_key::Leaf;
use crate::merkle::KeyOptions;
use crate::scan::{Scan, Scanner};
use crate::select::{Selected, Selection};
use crate::tree::{Entry, Follow, Tree, TreeError, is_content_xattr};

/// One piece of a selection.
pub(crate) struct Batch {
    /// What the sources named.
    pub(crate) kind: BatchKind,
    /// The directory whose entries go into the destination, and all below.
    pub(crate) scan: Scan,
    /// What was found when a key was made of it.
    pub(crate) seen: Option<Seen>,
}

/// What the files of a batch were when a key was made of them.
pub(crate) struct Seen {
    /// Those of the key.
    pub(crate) options: KeyOptions,
    /// In the shape of the scan.
    pub(crate) leaves: Vec<Vec<Option<Leaf>>>,
    /// The key of the batch.
    pub(crate) key: Key,
}

impl Seen {
    /// What the file at this place of the scan was.
    pub(crate) fn leaf(&self, dir: usize, child: usize) -> Option<&Leaf> {
        self.leaves.get(dir)?.get(child)?.as_ref()
    }
}

impl Batch {
    fn new(kind: BatchKind, scan: Scan) -> Self {
        Self { kind, scan, seen: None }
    }
}

/// What the sources of a batch named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchKind {
    /// Files, each by its name.
    Files,
    /// A directory, for what is in it.
    Directory,
}

/// What was seen of a selection when its key was made, for the copy that follows: what it copies is then what the key is of, and nothing is
/// looked at twice.
pub(crate) struct Look {
    of: Names,
    xattrs: bool,
    batches: Vec<Batch>,
}

/// How many entries are kept until a copy comes, which may be never.
const MOST_ENTRIES: usize = 200_000;

/// The paths of what was chosen, and the names it was chosen by.
type Names = Vec<(PathBuf, OsString)>;

impl Look {
    /// `None` for a selection that is too large, or leaves out something of its directories: filters cannot be compared.
    pub(crate) fn new(selection: &Selection, xattrs: bool, batches: Vec<Batch>) -> Option<Self> {
        let entries = || batches.iter().flat_map(|batch| &batch.scan.dirs).map(|dir| dir.children.len());
        let is_kept = entries().sum::<usize>() <= MOST_ENTRIES;
        Some(Self { of: names(selection).filter(|_| is_kept)?, xattrs, batches })
    }

    /// What was seen, if it is of this selection.
    pub(crate) fn of(self, selection: &Selection, xattrs: bool) -> Result<Vec<Batch>, Self> {
        let is_same = xattrs == self.xattrs && names(selection).as_ref() == Some(&self.of);
        if is_same { Ok(self.batches) } else { Err(self) }
    }
}

fn names(selection: &Selection) -> Option<Names> {
    let is_whole = selection.excludes.is_none() && selection.items.iter().all(|item| item.only.is_none());
    let name = |item: &Selected| (item.entry.path().to_owned(), item.name.clone());
    is_whole.then(|| selection.items.iter().map(name).collect())
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
            batches.push(Batch::new(BatchKind::Directory, scan_of(item)?));
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
        Ok(Some(Batch::new(BatchKind::Files, Scan::of_files(holder, files))))
    }
}
