//! Resolving a path inside a tree, component by component.
//!
//! The kernel cannot do this for a merged view that is not mounted, so links are read and followed here.
//! An absolute target starts again at the root of the tree and `..` at the root stays there, as
//! `chroot(2)` has it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use sys::stat::Kind;

use super::{Entry, Follow, Result, Tree, TreeError};

/// The most links that one path may lead through (`MAXSYMLINKS` in the kernel).
const MAX_LINKS: usize = 40;

/// How far a path exists.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// The last entry of the path that exists.
    pub(crate) entry: Entry,
    /// The components after it. When there are some and `entry` is not a directory, nothing can be
    /// created there.
    pub(crate) missing: Vec<OsString>,
}

impl Resolution {
    /// The entry, if the whole path exists.
    pub(super) fn into_entry(self) -> Option<Entry> {
        self.missing.is_empty().then_some(self.entry)
    }

    /// The path without links, whether it exists or not.
    pub(crate) fn path(&self) -> PathBuf {
        let mut path = self.entry.path().to_owned();
        path.extend(&self.missing);
        path
    }
}

/// The part of a path that is still to be walked.
#[derive(Default)]
struct Pending(VecDeque<Step>);

enum Step {
    Root,
    Up,
    Down(OsString),
}

impl Pending {
    fn prepend(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::RootDir | Component::Prefix(_) => self.0.push_front(Step::Root),
                Component::CurDir => {}
                Component::ParentDir => self.0.push_front(Step::Up),
                Component::Normal(name) => self.0.push_front(Step::Down(name.to_owned())),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a walk stands: the existing directories down to here, then what does not exist.
struct Walk<'t> {
    tree: &'t Tree,
    /// Never empty: the root comes first.
    existing: Vec<Entry>,
    missing: Vec<OsString>,
}

pub(super) fn resolve(tree: &Tree, path: &Path, follow: Follow) -> Result<Resolution> {
    let mut walk = Walk { tree, existing: vec![tree.root()?], missing: Vec::new() };
    let mut pending = Pending::default();
    pending.prepend(path);
    let mut links = 0;
    while let Some(step) = pending.0.pop_front() {
        let is_last = pending.is_empty();
        let Some(link) = walk.step(step)? else { continue };
        if is_last && follow == Follow::NoLast {
            walk.existing.push(link);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(TreeError::LinkLoop(path.to_owned()));
        }
        pending.prepend(Path::new(&tree.read_link(&link)?));
    }
    walk.finish()
}

impl Walk<'_> {
    /// Takes one step; answers the link that it met, which is not walked onto.
    fn step(&mut self, step: Step) -> Result<Option<Entry>> {
        match step {
            Step::Root => {
                self.existing.truncate(1);
                self.missing.clear();
            }
            Step::Up => self.up(),
            Step::Down(name) => return self.down(name),
        }
        Ok(None)
    }

    fn up(&mut self) {
        if self.missing.pop().is_none() && self.existing.len() > 1 {
            self.existing.pop();
        }
    }

    fn down(&mut self, name: OsString) -> Result<Option<Entry>> {
        let child = match self.existing.last() {
            Some(dir) if self.missing.is_empty() && dir.is_dir() => self.tree.open_dir(dir)?.child(&name)?,
            _ => None,
        };
        match child {
            Some(link) if link.kind() == Kind::Symlink => return Ok(Some(link)),
            Some(entry) => self.existing.push(entry),
            None => self.missing.push(name),
        }
        Ok(None)
    }

    fn finish(mut self) -> Result<Resolution> {
        let entry = match self.existing.pop() {
            Some(entry) => entry,
            None => self.tree.root()?,
        };
        Ok(Resolution { entry, missing: self.missing })
    }
}
