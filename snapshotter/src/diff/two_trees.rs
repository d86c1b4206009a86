//! Finds the changes between two complete trees by walking both at once.
//!
//! Two files are the same when kind, mode, owner, size, modification time, link target, device number,
//! number of names and exported attributes are; times and names of directories do not count. Content is
//! compared only where times cannot decide: when they are whole seconds, as tools that set times write them.
//! A program that changes a file's content and sets size and time back to the nanosecond goes unseen, as it
//! does in Docker and containerd.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use base::CancelToken;
use sys::rootdir::RootDir;
use sys::stat::{Kind, Stat};

use super::same::{Contents, Side, is_same};
use super::{Change, DiffError, Hidden};

/// The changes that lead from `lower` to `upper`, in tree order. Directories on the way to a change are
/// among them, changed or not. What is `hidden` is passed over.
pub(super) fn changes(
    lower: Option<&RootDir>,
    upper: &RootDir,
    hidden: &Hidden,
    cancel: &CancelToken,
) -> Result<Vec<Change>, DiffError> {
    let mut walk =
        Walk { lower, upper, hidden, frames: Vec::new(), changes: Vec::new(), links: Links::default() };
    walk.enter(PathBuf::new(), lower.is_some(), true)?;
    while !walk.frames.is_empty() {
        cancel.check()?;
        walk.step()?;
    }
    Ok(walk.links.complete(walk.changes))
}

/// A directory of the upper tree on the way down.
struct Frame {
    path: PathBuf,
    /// Both sides, open while the names of this directory are worked on.
    open: Option<Sides>,
    /// The lower tree has this directory too.
    in_lower: bool,
    /// It is among the changes already.
    announced: bool,
    /// Names of either side, sorted.
    names: std::vec::IntoIter<OsString>,
}

struct Sides {
    lower: Option<RootDir>,
    upper: RootDir,
}

struct Walk<'a> {
    lower: Option<&'a RootDir>,
    upper: &'a RootDir,
    hidden: &'a Hidden,
    frames: Vec<Frame>,
    changes: Vec<Change>,
    links: Links,
}

impl Walk<'_> {
    fn enter(&mut self, path: PathBuf, in_lower: bool, announced: bool) -> Result<(), DiffError> {
        let sides = self.open(&path, in_lower)?;
        let mut names: Vec<OsString> = sides.upper.names()?.into_iter().map(|(name, _)| name).collect();
        if let Some(lower) = &sides.lower {
            names.extend(lower.names()?.into_iter().map(|(name, _)| name));
        }
        names.sort();
        names.dedup();
        self.frames.push(Frame { path, open: Some(sides), in_lower, announced, names: names.into_iter() });
        Ok(())
    }

    fn open(&self, path: &Path, in_lower: bool) -> Result<Sides, DiffError> {
        let lower = self.lower.filter(|_| in_lower).map(|root| root.open_dir(path)).transpose()?;
        Ok(Sides { lower, upper: self.upper.open_dir(path)? })
    }

    fn step(&mut self) -> Result<(), DiffError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let Some(name) = frame.names.next() else {
            self.frames.pop();
            return Ok(());
        };
        let path = frame.path.join(&name);
        if self.hidden.contains(&path) {
            return Ok(());
        }
        let (open, in_lower) = (frame.open.take(), frame.in_lower);
        let sides = match open {
            Some(sides) => sides,
            None => self.open(path.parent().unwrap_or(Path::new("")), in_lower)?,
        };
        let lower = match &sides.lower {
            Some(directory) => without_sockets(directory.stat(&name)?),
            None => None,
        };
        let upper = sides.upper.stat(&name)?;
        let Some(upper) = upper.filter(|stat| stat.kind != Kind::Socket || lower.is_none()) else {
            if lower.is_some() {
                self.announce(Change::Deleted(path));
            }
            self.put_back(sides);
            return Ok(());
        };
        let same = match (&lower, &sides.lower) {
            (Some(stat), Some(dir)) => {
                let sides = (Side { dir, stat }, Side { dir: &sides.upper, stat: &upper });
                is_same(sides.0, sides.1, &name, Contents::ComparedWithoutFractions)?
            }
            _ => false,
        };
        if upper.is_dir() {
            let in_lower = lower.is_some_and(|stat| stat.is_dir());
            if !same {
                self.announce(Change::Present(path.clone()));
            }
            return self.enter(path, in_lower, !same);
        }
        self.links.note(&path, &upper, !same);
        if upper.kind == Kind::Socket {
            // It is counted, and brings no directories along.
            self.changes.push(Change::Present(path));
        } else if !same {
            self.announce(Change::Present(path));
        }
        self.put_back(sides);
        Ok(())
    }

    fn put_back(&mut self, sides: Sides) {
        if let Some(frame) = self.frames.last_mut() {
            frame.open = Some(sides);
        }
    }

    /// Adds a change, after the directories on the way to it.
    fn announce(&mut self, change: Change) {
        for frame in &mut self.frames {
            if !frame.announced {
                frame.announced = true;
                self.changes.push(Change::Present(frame.path.clone()));
            }
        }
        self.changes.push(change);
    }
}

fn without_sockets(stat: Option<Stat>) -> Option<Stat> {
    stat.filter(|stat| stat.kind != Kind::Socket)
}

/// Files with several names. When one name is new, the unchanged ones have to be in the layer as well, or
/// the names would be separate files after it is applied.
#[derive(Default)]
struct Links {
    changed: HashSet<(u64, u64)>,
    unchanged: HashMap<(u64, u64), Vec<PathBuf>>,
}

impl Links {
    fn note(&mut self, path: &Path, stat: &Stat, changed: bool) {
        let inode = (stat.device, stat.inode);
        match (stat.links > 1, changed) {
            (false, _) => {}
            (true, true) => drop(self.changed.insert(inode)),
            (true, false) => self.unchanged.entry(inode).or_default().push(path.to_owned()),
        }
    }

    /// Adds the unchanged names of changed files, and the directories on the way to them.
    fn complete(self, mut changes: Vec<Change>) -> Vec<Change> {
        let shared = self.unchanged.into_iter().filter(|(inode, _)| self.changed.contains(inode));
        let names: Vec<PathBuf> = shared.flat_map(|(_, names)| names).collect();
        if names.is_empty() {
            return changes;
        }
        for name in names {
            let directories = name.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
            changes.extend(directories.map(|path| Change::Present(path.to_owned())));
            changes.push(Change::Present(name));
        }
        changes.sort_by(in_tree_order);
        changes.dedup();
        changes
    }
}

/// Compares component by component, so that a directory comes right before what is in it.
fn in_tree_order(left: &Change, right: &Change) -> Ordering {
    left.path().cmp(right.path())
}
