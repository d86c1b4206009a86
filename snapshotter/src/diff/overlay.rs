//! Reads the changes out of an overlay's upper directory, where overlayfs has written them down already
//! (kernel documentation, `filesystems/overlayfs.rst`, "whiteouts and opaque directories").
//!
//! overlayfs copies up more than what changes: the directories on the way, and files that were only opened
//! for writing. Where the layers below are known, what is the same there is left out, as it is when two
//! complete trees are compared; so a file that was created and deleted again leaves no trace. New directories,
//! which overlayfs marks as opaque to spare itself a search, are then no whiteouts either.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sys::rootdir::RootDir;
use sys::stat::Kind;
use sys::xattr::{self, Target};

use super::load::References;
use super::same::{Contents, Side, is_same};
use super::{Change, DiffError, Hidden};
use crate::tree::{self, OpenDir, Tree};

/// The names that overlayfs's attributes have under one of its two prefixes.
struct Attributes {
    opaque: &'static CStr,
    whiteout: &'static CStr,
}

const TRUSTED: Attributes =
    Attributes { opaque: c"trusted.overlay.opaque", whiteout: c"trusted.overlay.whiteout" };

const USER: Attributes = Attributes { opaque: c"user.overlay.opaque", whiteout: c"user.overlay.whiteout" };

/// The attributes of files and directories whose content overlayfs left in another layer.
pub(super) fn references(userxattr: bool) -> References {
    if userxattr {
        &[b"user.overlay.redirect", b"user.overlay.metacopy"]
    } else {
        &[b"trusted.overlay.redirect", b"trusted.overlay.metacopy"]
    }
}

/// A name of an upper directory.
struct Name {
    name: OsString,
    kind: Option<Kind>,
    /// What the layers below have under it, if they are known.
    below: Option<tree::Entry>,
    /// Whether that is the same.
    same: bool,
}

/// A directory on the way down.
struct Frame {
    path: PathBuf,
    /// Open while its own names are worked on, closed while those below are: so few are open at a time.
    directory: Option<RootDir>,
    /// Names to come, sorted.
    names: std::vec::IntoIter<Name>,
    /// Some whiteouts in it may be empty files with an attribute.
    has_xattr_whiteouts: bool,
    /// It is among the changes already.
    announced: bool,
}

/// The changes in tree order.
pub(super) struct Changes<'a> {
    root: &'a RootDir,
    /// The layers below, if they are known.
    lower: Option<Tree>,
    attributes: &'static Attributes,
    hidden: &'a Hidden,
    frames: Vec<Frame>,
    /// Found already, not yet asked for.
    ready: VecDeque<Change>,
}

impl<'a> Changes<'a> {
    /// Begins at the root of an upper directory. `lower` are the layer directories below, the topmost first;
    /// without any, nothing is known of them. What is `hidden` is passed over.
    pub(super) fn new(
        root: &'a RootDir,
        lower: &[PathBuf],
        userxattr: bool,
        hidden: &'a Hidden,
    ) -> Result<Self, DiffError> {
        let attributes = if userxattr { &USER } else { &TRUSTED };
        let lower = if lower.is_empty() { None } else { Some(Tree::overlay(lower)?) };
        let below = lower.as_ref().map(Tree::root).transpose()?;
        let mut changes =
            Self { root, lower, attributes, hidden, frames: Vec::new(), ready: VecDeque::new() };
        changes.enter(PathBuf::new(), below.as_ref(), true)?;
        Ok(changes)
    }

    /// Begins with a directory. `below` is what the layers below have in its place.
    fn enter(
        &mut self,
        path: PathBuf,
        below: Option<&tree::Entry>,
        announced: bool,
    ) -> Result<(), DiffError> {
        let directory = open(self.root, &path)?;
        let mut names = directory.names()?;
        names.sort();
        let opaque = xattr::get(Target::Open(directory.as_fd()), directory.path(), self.attributes.opaque)?;
        let is_opaque = opaque.as_deref() == Some(b"y");
        let below = below.filter(|below| below.is_dir());
        self.frames.push(Frame {
            path: path.clone(),
            names: self.look_below(&directory, names, below.filter(|_| !is_opaque))?.into_iter(),
            directory: Some(directory),
            has_xattr_whiteouts: opaque.as_deref() == Some(b"x"),
            announced,
        });
        if is_opaque && (below.is_some() || self.lower.is_none()) {
            self.announce(Change::Opaque(path));
        }
        Ok(())
    }

    /// Finds what is below the names of a directory that merges with `below`.
    fn look_below(
        &self,
        directory: &RootDir,
        names: Vec<(OsString, Option<Kind>)>,
        below: Option<&tree::Entry>,
    ) -> Result<Vec<Name>, DiffError> {
        let lower = match (&self.lower, below) {
            (Some(lower), Some(below)) => Some(lower.open_dir(below)?),
            _ => None,
        };
        let look = |(name, kind): (OsString, Option<Kind>)| {
            // Whatever a whiteout hides, it is one.
            let lower = lower.as_ref().filter(|_| kind != Some(Kind::CharDevice));
            let below = lower.map(|lower| lower.child(&name)).transpose()?.flatten();
            let same = match (lower, &below) {
                (Some(lower), Some(below)) => is_unchanged(directory, lower, &name, below)?,
                _ => false,
            };
            Ok(Name { name, kind, below, same })
        };
        names.into_iter().map(look).collect()
    }

    /// Takes the next name of the innermost directory.
    fn step(&mut self) -> Result<(), DiffError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let Some(Name { name, kind, below, same }) = frame.names.next() else {
            self.frames.pop();
            return Ok(());
        };
        let path = frame.path.join(&name);
        if self.hidden.contains(&path) {
            return Ok(());
        }
        let directory = match frame.directory.take() {
            Some(directory) => directory,
            None => open(self.root, &frame.path)?,
        };
        let has_xattr_whiteouts = frame.has_xattr_whiteouts;
        if is_whiteout(&directory, &name, kind, has_xattr_whiteouts, self.attributes)? {
            self.announce(Change::Deleted(path));
        } else if is_kind(&directory, &name, kind, Kind::Directory)? {
            if !same {
                self.announce(Change::Present(path.clone()));
            }
            return self.enter(path, below.as_ref(), !same);
        } else if is_kind(&directory, &name, kind, Kind::Socket)? {
            self.socket(path, below.as_ref());
        } else if !same {
            self.announce(Change::Present(path));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.directory = Some(directory);
        }
        Ok(())
    }

    /// A socket is counted, and brings no directories along. What it hides is gone.
    fn socket(&mut self, path: PathBuf, below: Option<&tree::Entry>) {
        if below.is_some_and(|below| below.kind() != Kind::Socket) {
            self.announce(Change::Deleted(path.clone()));
        }
        self.ready.push_back(Change::Present(path));
    }

    /// Adds a change, after the directories on the way to it.
    fn announce(&mut self, change: Change) {
        for frame in self.frames.iter_mut().filter(|frame| !frame.announced) {
            frame.announced = true;
            self.ready.push_back(Change::Present(frame.path.clone()));
        }
        self.ready.push_back(change);
    }
}

impl Iterator for Changes<'_> {
    type Item = Result<Change, DiffError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.frames.is_empty() {
            if let Err(error) = self.step() {
                self.frames.clear();
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

fn open(root: &RootDir, path: &Path) -> Result<RootDir, DiffError> {
    Ok(root.open_dir(path)?)
}

/// Whether what overlayfs has copied up is what it was copied from. A file that has other names in its layer
/// never is: those names have to find it.
fn is_unchanged(
    directory: &RootDir,
    lower: &OpenDir<'_>,
    name: &OsStr,
    below: &tree::Entry,
) -> Result<bool, DiffError> {
    let Some(stat) = directory.stat(name)? else { return Ok(false) };
    if !stat.is_dir() && stat.links > 1 {
        return Ok(false);
    }
    let lower = Side { dir: lower.holder(below), stat: below.stat() };
    is_same(lower, Side { dir: directory, stat: &stat }, name, Contents::Compared)
}

fn is_kind(directory: &RootDir, name: &OsStr, kind: Option<Kind>, wanted: Kind) -> Result<bool, DiffError> {
    match kind {
        Some(kind) => Ok(kind == wanted),
        None => Ok(directory.stat(name)?.is_some_and(|stat| stat.kind == wanted)),
    }
}

fn is_whiteout(
    directory: &RootDir,
    name: &OsStr,
    kind: Option<Kind>,
    by_xattr: bool,
    attributes: &Attributes,
) -> Result<bool, DiffError> {
    let possible = match kind {
        Some(Kind::CharDevice) | None => true,
        Some(Kind::File) => by_xattr,
        Some(_) => false,
    };
    if !possible {
        return Ok(false);
    }
    let Some(stat) = directory.stat(name)? else { return Ok(false) };
    if stat.is_whiteout() || !by_xattr || stat.kind != Kind::File || stat.size != 0 {
        return Ok(stat.is_whiteout());
    }
    let shown = directory.shown(name);
    Ok(xattr::get(Target::Name(directory, name), &shown, attributes.whiteout)?.is_some())
}
