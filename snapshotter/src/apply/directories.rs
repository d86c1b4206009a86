//! The directories of the tree being unpacked: handles of those used last, and what is to be set on each
//! at the end.
//!
//! Owner, mode, times and attributes of directories are set after everything else: making a file in a
//! directory changes its time, needs write permission, and would copy a default ACL.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::attributes::Attributes;
use super::remove::Identity;

/// How many handles are kept: enough for the working set of an archive in tree order, few against the usual
/// limit of 1024 open files.
const HANDLES: usize = 128;

/// A directory's handle and its identity.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    pub(super) identity: Identity,
}

impl Directory {
    /// Looks up the identity.
    pub(super) fn new(handle: OwnedFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Self { handle, identity: (stat.st_dev, stat.st_ino) })
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// What is to be set on a directory at the end.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) attributes: Attributes,
    /// It was there before, so it may have extended attributes that have to go.
    pub(super) existed: bool,
}

/// Handles and pending attributes by clean path.
#[derive(Debug, Default)]
pub(super) struct Directories {
    handles: HashMap<Vec<u8>, Rc<Directory>>,
    pending: BTreeMap<Vec<u8>, Pending>,
}

impl Directories {
    pub(super) fn get(&self, path: &[u8]) -> Option<Rc<Directory>> {
        self.handles.get(path).cloned()
    }

    pub(super) fn insert(&mut self, path: Vec<u8>, directory: &Rc<Directory>) {
        if self.handles.len() >= HANDLES {
            self.handles.clear();
        }
        self.handles.insert(path, Rc::clone(directory));
    }

    /// Sets what the directory at `path` is to be; a later call for the same path wins.
    pub(super) fn defer(&mut self, path: Vec<u8>, pending: Pending) {
        self.pending.insert(path, pending);
    }

    /// A directory or symlink at `path` goes away: nothing remembered about it or below it holds any more,
    /// nor do handles that were reached through it.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.forget_handles();
        self.pending.remove(path);
        let first = [path, b"/"].concat();
        // '0' is the character after '/'.
        let after = [path, b"0"].concat();
        let below: Vec<_> = self.pending.range(first..after).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.pending.remove(&path);
        }
    }

    /// Directories went away somewhere.
    pub(super) fn forget_handles(&mut self) {
        self.handles.clear();
    }

    /// What is pending, children before their parents, so that a parent may lose its permissions.
    pub(super) fn take_pending(&mut self) -> impl Iterator<Item = (Vec<u8>, Pending)> + use<> {
        std::mem::take(&mut self.pending).into_iter().rev()
    }
}
