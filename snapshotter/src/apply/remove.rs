//! Removes a name and everything below it without following a symlink, without recursion, and with few
//! open handles however deep the tree is; optionally sparing what the present layer wrote.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::path::join;
use super::root::beneath;

/// A directory's device and inode number.
pub(super) type Identity = (u64, u64);

/// Names that the present layer wrote, which its own whiteouts do not hide. A name counts in its directory, so
/// it is the same through whichever symlink that was reached. Only half a blake3 hash of each is kept: a layer
/// may have millions of names, and nobody finds two that collide.
#[derive(Debug, Default)]
pub(super) struct Written(HashSet<[u8; 16]>);

impl Written {
    pub(super) fn insert(&mut self, directory: Identity, name: &[u8]) {
        self.0.insert(fingerprint(directory, name));
    }

    pub(super) fn contains(&self, directory: Identity, name: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains(&fingerprint(directory, name))
    }
}

fn fingerprint((device, inode): Identity, name: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&device.to_le_bytes()).update(&inode.to_le_bytes()).update(name);
    let mut half = [0; 16];
    hasher.finalize_xof().fill(&mut half);
    half
}

/// A directory whose children are being removed.
struct Level {
    /// Its path below the directory that removal began in.
    path: Vec<u8>,
    identity: Identity,
    /// Children still to be removed.
    names: Vec<Vec<u8>>,
    /// Something stays in it, or it stays itself.
    kept: bool,
}

/// What a directory is and has.
struct Listing {
    identity: Identity,
    names: Vec<Vec<u8>>,
}

/// Removes `name` in `directory` with everything below it, except what is in `keep` and the directories that
/// lead there. Removing what does not exist is fine. Returns whether the name is gone.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &[u8], keep: &Written) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(directory)?;
    let top = Level {
        path: Vec::new(),
        identity: (stat.st_dev, stat.st_ino),
        names: vec![name.to_vec()],
        kept: true,
    };
    remove_levels(directory, top, keep)?;
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(true),
        result => result.map(|_| false),
    }
}

/// Removes everything in the directory itself, with the same exceptions.
pub(super) fn remove_children(directory: BorrowedFd<'_>, keep: &Written) -> Result<(), Errno> {
    let Listing { identity, names } = list(open(directory, b".")?)?;
    remove_levels(directory, Level { path: Vec::new(), identity, names, kept: true }, keep)
}

fn remove_levels(start: BorrowedFd<'_>, top: Level, keep: &Written) -> Result<(), Errno> {
    let mut handle = Some(start.try_clone_to_owned().map_err(|_| Errno::MFILE)?);
    let mut levels = vec![top];
    while let Some(mut level) = levels.pop() {
        // Only the directory worked on is open: it was closed while its children were.
        let here = match handle.take() {
            Some(open) => open,
            None => open(start, &level.path)?,
        };
        let Some(name) = level.names.pop() else {
            finish(start, &level, levels.last_mut())?;
            continue;
        };
        let kept = keep.contains(level.identity, &name);
        let path = join(&level.path, &name);
        let below = remove_leaf(here.as_fd(), &name, kept)?;
        level.kept |= kept;
        levels.push(level);
        match below {
            Some(Listing { identity, names }) => levels.push(Level { path, identity, names, kept }),
            None => handle = Some(here),
        }
    }
    Ok(())
}

/// Removes a directory that has been worked through, unless something in it stays.
fn finish(start: BorrowedFd<'_>, level: &Level, parent: Option<&mut Level>) -> Result<(), Errno> {
    // The level that removal began in has no parent, and stays.
    let Some(parent) = parent else { return Ok(()) };
    if level.kept {
        parent.kept = true;
        return Ok(());
    }
    let (directory, name) = super::path::split(&level.path);
    rustix::fs::unlinkat(open(start, directory)?, name, AtFlags::REMOVEDIR)
}

/// Removes a name that is no directory, unless it is to stay; for a directory, says what is in it.
fn remove_leaf(directory: BorrowedFd<'_>, name: &[u8], kept: bool) -> Result<Option<Listing>, Errno> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return list(open(directory, name)?).map(Some);
    }
    if !kept {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    }
    Ok(None)
}

fn open(start: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    beneath(start, path, flags, ResolveFlags::NO_SYMLINKS)
}

/// The identity of a directory and the names in it.
fn list(directory: OwnedFd) -> Result<Listing, Errno> {
    let stat = rustix::fs::fstat(&directory)?;
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_bytes().to_vec());
        }
    }
    Ok(Listing { identity: (stat.st_dev, stat.st_ino), names })
}
