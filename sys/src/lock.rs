//! Advisory locks on files (`flock(2)`), between threads and between processes.
//!
//! A lock belongs to the open file, is closed on exec, and is freed by the kernel when its holder dies,
//! however it dies. A lock file may be removed by its holder: whoever waited for it notices that the name
//! now means another file, and starts again. Locks over network file systems are not supported.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::failpoint;
use crate::fs::{PathContext, PathError};

/// Who may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Any number of shared holders.
    Shared,
    /// One holder alone.
    Exclusive,
}

/// A held lock; dropping it frees it and keeps the file.
///
/// It is freed by saying so, not by closing the file alone: a process that another thread is just making has the file
/// open, too, until it becomes another program.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
    /// Whether somebody else was given the open file, with the lock on it.
    is_given: bool,
}

impl FileLock {
    /// Waits for the lock on `path`, creating the file (mode 0600) if there is none.
    pub fn acquire(path: &Path, mode: LockMode) -> Result<Self, PathError> {
        let operation = match mode {
            LockMode::Shared => FlockOperation::LockShared,
            LockMode::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            let file = open(path)?;
            lock(&file, operation).at("lock", path)?;
            if is_named(&file, path)? {
                return Ok(Self::of(file, path));
            }
        }
    }

    /// The lock on `path` if nobody holds it in a conflicting mode, creating the file (mode 0600) if there
    /// is none.
    pub fn try_acquire(path: &Path, mode: LockMode) -> Result<Option<Self>, PathError> {
        loop {
            let file = open(path)?;
            if !try_lock(&file, mode).at("lock", path)? {
                return Ok(None);
            }
            if is_named(&file, path)? {
                return Ok(Some(Self::of(file, path)));
            }
        }
    }

    /// Creates `path`, which must not exist, and takes the exclusive lock on it. `None` when somebody who
    /// saw the file before it was locked has taken it for abandoned: try again with another name.
    pub fn create(path: &Path) -> Result<Option<Self>, PathError> {
        let file = crate::fs::create_new(path, 0o600)?;
        if !try_lock(&file, LockMode::Exclusive).at("lock", path)? || !is_named(&file, path)? {
            return Ok(None);
        }
        Ok(Some(Self::of(file, path)))
    }

    /// Whether somebody holds a lock on `path` now. A file that does not exist is not locked, and is not
    /// created.
    pub fn is_held(path: &Path) -> Result<bool, PathError> {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(PathError::new("open", path, error)),
            Ok(file) => {
                let free = try_lock(&file, LockMode::Exclusive).at("lock", path)?;
                if free {
                    // What was taken to see that is given back.
                    drop(Self::of(file, path));
                }
                Ok(!free)
            }
        }
    }

    fn of(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned(), is_given: false }
    }

    /// The lock as an open file, which another process can be given. It is held until the last of those who have the
    /// file closes it, or one of them who has [taken it over](Self::handed_over) frees it.
    pub fn into_file(mut self) -> Result<File, PathError> {
        let file = self.file.try_clone().at("duplicate", &self.path)?;
        self.is_given = true;
        Ok(file)
    }

    /// The lock that `file`, the open file of `path`, carries because whoever held it has [handed it
    /// over](Self::into_file). `None` when somebody else holds one.
    pub fn handed_over(file: File, path: &Path) -> Result<Option<Self>, PathError> {
        let is_held = try_lock(&file, LockMode::Exclusive).at("lock", path)?;
        Ok(is_held.then(|| Self::of(file, path)))
    }

    /// The locked file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file's content, which is only a note for people.
    pub fn write_note(&self, note: &str) -> Result<(), PathError> {
        failpoint::pass("write").at("write", &self.path)?;
        let before = self.file.metadata().at("inspect", &self.path)?.len();
        self.file.write_all_at(note.as_bytes(), 0).at("write", &self.path)?;
        // Cutting a file that is short enough already is not free: it costs a journal entry.
        if before > note.len() as u64 {
            self.file.set_len(note.len() as u64).at("truncate", &self.path)?;
        }
        Ok(())
    }

    /// Removes the file and frees the lock.
    pub fn remove(self) -> Result<(), PathError> {
        crate::fs::remove_file(&self.path).map(drop)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if !self.is_given {
            // Closing the file frees it as well, as soon as nobody else has it.
            let _ = lock(&self.file, FlockOperation::Unlock);
        }
    }
}

fn open(path: &Path) -> Result<File, PathError> {
    failpoint::pass("open").at("open", path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

fn try_lock(file: &File, mode: LockMode) -> Result<bool, Errno> {
    let operation = match mode {
        LockMode::Shared => FlockOperation::NonBlockingLockShared,
        LockMode::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match lock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Whether `path` still names the open file: its last holder may have removed it while we waited.
fn is_named(file: &File, path: &Path) -> Result<bool, PathError> {
    let ours = file.metadata().at("inspect", path)?;
    match crate::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn exclusive_excludes_and_shared_shares() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::try_acquire(&path, LockMode::Shared).unwrap().unwrap();
        let second = FileLock::acquire(&path, LockMode::Shared).unwrap();
        assert!(FileLock::try_acquire(&path, LockMode::Exclusive).unwrap().is_none());
        drop((first, second));
        let alone = FileLock::acquire(&path, LockMode::Exclusive).unwrap();
        assert!(FileLock::try_acquire(&path, LockMode::Shared).unwrap().is_none());
        assert!(FileLock::is_held(&path).unwrap());
        drop(alone);
        assert!(!FileLock::is_held(&path).unwrap());
    }

    #[test]
    fn created_lock_is_held_and_its_name_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::create(&path).unwrap().unwrap();
        assert!(FileLock::is_held(&path).unwrap());
        assert_eq!(FileLock::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        lock.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn asking_about_a_missing_lock_creates_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!FileLock::is_held(&dir.path().join("lock")).unwrap());
        assert!(crate::fs::list(dir.path()).unwrap().is_empty());
    }

    /// Holders remove the file as they leave; still at most one may be inside at any time.
    #[test]
    fn removed_lock_files_do_not_let_two_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let lock = FileLock::acquire(&path, LockMode::Exclusive).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        lock.remove().unwrap();
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_that_is_handed_over_is_never_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let given = FileLock::acquire(&path, LockMode::Exclusive).unwrap().into_file().unwrap();
        assert!(FileLock::is_held(&path).unwrap());
        let taken = FileLock::handed_over(given.try_clone().unwrap(), &path).unwrap().unwrap();
        drop(given);
        assert!(FileLock::is_held(&path).unwrap());
        assert!(FileLock::handed_over(File::open(&path).unwrap(), &path).unwrap().is_none());
        drop(taken);
        assert!(!FileLock::is_held(&path).unwrap());
    }

    /// As a process that is just being made has it, before it becomes another program.
    #[test]
    fn a_copy_of_the_open_file_keeps_no_lock_that_was_freed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path, LockMode::Exclusive).unwrap();
        let _copy = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(!FileLock::is_held(&path).unwrap());
        assert!(FileLock::try_acquire(&path, LockMode::Exclusive).unwrap().is_some());
    }

    #[test]
    fn note_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = FileLock::acquire(&path, LockMode::Exclusive).unwrap();
        lock.write_note("a longer note\n").unwrap();
        lock.write_note("build\n").unwrap();
        assert_eq!(crate::fs::read(lock.path()).unwrap(), b"build\n");
    }
}
