//! Reads the changes out of an overlay's upper directory, where overlayfs has written them down already
//! (kernel documentation, `filesystems/overlayfs.rst`, "whiteouts and opaque directories").

use std::collections::VecDeque;
use std::ffi::{CStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sys::rootdir::RootDir;
use sys::stat::Kind;
use sys::xattr::{self, Target};

use super::load::References;
use super::{Change, DiffError};

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

/// A directory on the way down.
struct Frame {
    path: PathBuf,
    /// Open while its own names are worked on, closed while those below are: so few are open at a time.
    directory: Option<RootDir>,
    /// Names to come, sorted.
    names: std::vec::IntoIter<(OsString, Option<Kind>)>,
    /// Some whiteouts in it may be empty files with an attribute.
    has_xattr_whiteouts: bool,
}

/// The changes in tree order.
pub(super) struct Changes<'a> {
    root: &'a RootDir,
    attributes: &'static Attributes,
    frames: Vec<Frame>,
    /// Found already, not yet asked for.
    ready: VecDeque<Change>,
}

impl<'a> Changes<'a> {
    /// Begins at the root of an upper directory.
    pub(super) fn new(root: &'a RootDir, userxattr: bool) -> Result<Self, DiffError> {
        let attributes = if userxattr { &USER } else { &TRUSTED };
        let mut changes = Self { root, attributes, frames: Vec::new(), ready: VecDeque::new() };
        changes.enter(PathBuf::new())?;
        Ok(changes)
    }

    fn enter(&mut self, path: PathBuf) -> Result<(), DiffError> {
        let directory = open(self.root, &path)?;
        let mut names = directory.names()?;
        names.sort();
        let opaque = xattr::get(Target::Open(directory.as_fd()), directory.path(), self.attributes.opaque)?;
        if opaque.as_deref() == Some(b"y") {
            self.ready.push_back(Change::Opaque(path.clone()));
        }
        self.frames.push(Frame {
            path,
            directory: Some(directory),
            names: names.into_iter(),
            has_xattr_whiteouts: opaque.as_deref() == Some(b"x"),
        });
        Ok(())
    }

    /// Takes the next name of the innermost directory.
    fn step(&mut self) -> Result<(), DiffError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let Some((name, kind)) = frame.names.next() else {
            self.frames.pop();
            return Ok(());
        };
        let path = frame.path.join(&name);
        let directory = match frame.directory.take() {
            Some(directory) => directory,
            None => open(self.root, &frame.path)?,
        };
        let has_xattr_whiteouts = frame.has_xattr_whiteouts;
        if is_whiteout(&directory, &name, kind, has_xattr_whiteouts, self.attributes)? {
            self.ready.push_back(Change::Deleted(path));
        } else if is_directory(&directory, &name, kind)? {
            self.ready.push_back(Change::Present(path.clone()));
            return self.enter(path);
        } else {
            self.ready.push_back(Change::Present(path));
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.directory = Some(directory);
        }
        Ok(())
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

fn is_directory(directory: &RootDir, name: &OsString, kind: Option<Kind>) -> Result<bool, DiffError> {
    match kind {
        Some(kind) => Ok(kind == Kind::Directory),
        None => Ok(directory.stat(name)?.is_some_and(|stat| stat.is_dir())),
    }
}

fn is_whiteout(
    directory: &RootDir,
    name: &OsString,
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
