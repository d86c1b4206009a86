//! Walking the directories below an entry of a tree, in parallel, into a flat list.
//!
//! Keys and copies both need the whole shape of a tree before and after they touch its files: a key is
//! folded from the leaves up, a copy makes directories first and sets their times last. The walk is level
//! by level and keeps no directory open between levels, so neither its stack nor its descriptors grow
//! with the depth of a hostile tree; paths longer than the kernel takes are an error.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use base::CancelToken;
use rayon::prelude::*;
use sys::xattr::Xattr;

use crate::tree::{Entry, Filter, Judge, Tree, TreeError, Verdict};

/// An entry found by a scan.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) entry: Entry,
    /// The name under which it counts, where that is not its own.
    pub(crate) renamed: Option<OsString>,
    /// Of a directory: its place in [`Scan::dirs`].
    pub(crate) dir: Option<usize>,
}

impl Child {
    /// The name under which it counts.
    pub(crate) fn name(&self) -> &OsStr {
        self.renamed.as_deref().unwrap_or_else(|| self.entry.name())
    }
}

/// A directory found by a scan, with all that is in it.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) entry: Entry,
    /// Its own attributes, if the scan was asked for them.
    pub(crate) xattrs: Vec<Xattr>,
    /// Sorted by name.
    pub(crate) children: Vec<Child>,
    /// Whether `children` is all that the directory of the tree holds.
    pub(crate) complete: bool,
    /// Whether it was chosen itself, and not only because something in it was.
    pub(crate) chosen: bool,
}

/// The directories of a subtree, the root first, parents before children.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) dirs: Vec<Dir>,
}

/// What a scan looks at.
pub(crate) struct Scanner<'a> {
    pub(crate) tree: &'a Tree,
    /// Leave entries out; their paths are relative to the scanned directory.
    pub(crate) filters: &'a [Arc<dyn Filter>],
    /// Which attributes of directories to read; `None` for none at all.
    pub(crate) xattrs: Option<fn(&[u8]) -> bool>,
    pub(crate) cancel: &'a CancelToken,
}

/// A directory that was listed, before its subdirectories have a place in the scan.
struct Listed {
    xattrs: Vec<Xattr>,
    children: Vec<Child>,
    dirs: Vec<ListedDir>,
    complete: bool,
}

/// A directory among the children.
struct ListedDir {
    child: usize,
    /// Whether it was chosen itself.
    chosen: bool,
    /// Whether it counts only when something is in it.
    tentative: bool,
}

impl Scanner<'_> {
    /// Scans the directory `root`.
    pub(crate) fn scan(&self, root: &Entry) -> Result<Scan, TreeError> {
        let mut dirs = vec![Dir::empty(root.clone())];
        let mut tentative = vec![false];
        let mut level = 0..1;
        while !level.is_empty() {
            self.cancel.check()?;
            let listed: Vec<Result<Listed, TreeError>> =
                dirs[level.clone()].par_iter().map(|dir| self.list(root, &dir.entry)).collect();
            let next = level.end;
            for (index, listed) in level.zip(listed) {
                add_listing(&mut dirs, &mut tentative, index, listed?);
            }
            level = next..dirs.len();
        }
        let mut scan = Scan { dirs };
        if tentative.contains(&true) {
            scan.drop_empty(&tentative);
        }
        Ok(scan)
    }

    fn list(&self, root: &Entry, dir: &Entry) -> Result<Listed, TreeError> {
        let open = self.tree.open_dir(dir)?;
        let xattrs = self.xattrs.map_or(Ok(Vec::new()), |wanted| open.xattrs(wanted))?;
        let listed = open.entries_with_verdict()?;
        let before = listed.len();
        let here = dir.path().strip_prefix(root.path()).unwrap_or(dir.path());
        let judges: Vec<Judge<'_>> = self.filters.iter().map(|filter| Judge::new(&**filter, here)).collect();
        // The strictest of them counts.
        let judged = |entry: &Entry| {
            let path = entry.path().strip_prefix(root.path()).unwrap_or(entry.path());
            judges.iter().map(|judge| judge.verdict(path, entry.is_dir())).max().unwrap_or(Verdict::Included)
        };
        let (mut children, mut dirs) = (Vec::with_capacity(before), Vec::new());
        for (entry, by_tree) in listed {
            let by_filters = judged(&entry);
            if by_filters == Verdict::Excluded {
                continue;
            }
            if entry.is_dir() {
                let chosen = by_filters == Verdict::Included;
                let tentative = !chosen || by_tree == Verdict::IfNotEmpty;
                dirs.push(ListedDir { child: children.len(), chosen, tentative });
            }
            children.push(Child { entry, renamed: None, dir: None });
        }
        Ok(Listed { xattrs, complete: children.len() == before, children, dirs })
    }
}

fn add_listing(dirs: &mut Vec<Dir>, tentative: &mut Vec<bool>, index: usize, listed: Listed) {
    let Listed { xattrs, mut children, dirs: listed_dirs, complete } = listed;
    for ListedDir { child, chosen, tentative: is_tentative } in listed_dirs {
        children[child].dir = Some(dirs.len());
        dirs.push(Dir { chosen, ..Dir::empty(children[child].entry.clone()) });
        tentative.push(is_tentative);
    }
    let dir = &mut dirs[index];
    (dir.xattrs, dir.children, dir.complete) = (xattrs, children, complete);
}

impl Dir {
    fn empty(entry: Entry) -> Self {
        Self { entry, xattrs: Vec::new(), children: Vec::new(), complete: false, chosen: true }
    }
}

impl Scan {
    /// A scan of chosen entries of one directory, none of them a directory.
    pub(crate) fn of_files(holder: Entry, files: Vec<(Entry, OsString)>) -> Self {
        let children = files
            .into_iter()
            .map(|(entry, name)| {
                let renamed = (name != entry.name()).then_some(name);
                Child { entry, renamed, dir: None }
            })
            .collect();
        Self { dirs: vec![Dir { children, ..Dir::empty(holder) }] }
    }

    /// Drops the directories that count only when something is in them, and have nothing in them.
    pub(crate) fn drop_empty(&mut self, tentative: &[bool]) {
        for index in (0..self.dirs.len()).rev() {
            let mut children = std::mem::take(&mut self.dirs[index].children);
            let is_gone = |dir: usize| tentative[dir] && self.dirs[dir].children.is_empty();
            children.retain(|child| !child.dir.is_some_and(is_gone));
            self.dirs[index].children = children;
        }
        self.compact();
    }

    /// Renumbers the directories so that only those that are reached from the root remain.
    fn compact(&mut self) {
        let mut slots: Vec<Option<Dir>> = std::mem::take(&mut self.dirs).into_iter().map(Some).collect();
        let mut order = vec![0];
        let mut next = 0;
        while next < order.len() {
            let Some(mut dir) = slots[order[next]].take() else { break };
            for child in &mut dir.children {
                if let Some(old) = child.dir {
                    order.push(old);
                    child.dir = Some(order.len() - 1);
                }
            }
            self.dirs.push(dir);
            next += 1;
        }
    }
}
