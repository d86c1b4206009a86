//! Groups whose maker was killed before it could remove them.
//!
//! Who makes a group under a name of ours holds a lock on its directory (`flock(2)`), which the kernel frees
//! however the holder ends. So a group with such a name and without a lock is nobody's: whoever makes the
//! next one beside it removes it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sys::fs::PathContext as _;
use sys::path_error::PathError;

use super::hierarchy::Hierarchies;
use super::{CgroupError, tree};

/// What the names of our groups begin with; the maker's process id and a random number follow.
pub(super) const PREFIX: &str = "lapstrake-";

/// A held lock on the directory of a group. Dropped it is free, also where a process that is just being made has the directory open.
#[derive(Debug)]
pub(super) struct Hold(File);

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Locks a group. `None` when somebody else has, or it is gone.
pub(super) fn hold(directory: &Path) -> Result<Option<Hold>, PathError> {
    let file = match sys::fs::open(directory) {
        Err(error) if error.is_not_found() => return Ok(None),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if directory.exists() => Ok(Some(Hold(file))),
        Ok(()) | Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).at("lock", directory),
    }
}

/// Removes the abandoned groups in a directory, as far as that can be done. What is left is left to the next
/// one: a group that cannot be removed is no reason to run no container.
pub(super) fn sweep(parent: &Path) {
    for directory in candidates(parent) {
        if let Ok(Some(_held)) = hold(&directory) {
            let _ = tree::remove_once(&directory);
        }
    }
}

fn candidates(parent: &Path) -> Vec<PathBuf> {
    let names = sys::fs::list(parent).unwrap_or_default();
    let ours = names.into_iter().filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    ours.map(|name| parent.join(name)).collect()
}

/// The groups beside us that nobody cares for any more.
///
/// # Errors
/// The hierarchies of this machine cannot be read.
pub fn abandoned() -> Result<Vec<PathBuf>, CgroupError> {
    let hierarchies = Hierarchies::discover()?;
    let parents = hierarchies.all().iter().map(|hierarchy| hierarchy.parent_of_groups());
    let found = parents.flat_map(candidates);
    Ok(found.filter(|directory| matches!(hold(directory), Ok(Some(_)))).collect())
}

/// Removes the groups beside us that nobody cares for any more.
///
/// # Errors
/// The hierarchies of this machine cannot be read, or a group cannot be removed.
pub fn remove_abandoned() -> Result<(), CgroupError> {
    for directory in abandoned()? {
        if let Some(_held) = hold(&directory)? {
            tree::remove(&directory)?;
        }
    }
    Ok(())
}
