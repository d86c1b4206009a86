//! Directories of other machines, as they were when they were last sent: the next time only what has changed is sent.
//!
//! A copy may go at any time that nobody uses it. It has no row: its name is the key of what it is a copy of, and its lock is
//! held by the one build that uses it. A second build of the same directory has a copy of its own meanwhile.

use std::path::{Path, PathBuf};

use base::{Key, Timestamp};
use sys::lock::{FileLock, LockMode};

use crate::error::StoreError;
use crate::held_dir::LOCK;
use crate::last_use::last_use;
use crate::store::Store;

/// What the directory with the copied files is called.
const FILES: &str = "files";

/// A copy that is ours until it is dropped.
#[derive(Debug)]
pub struct ReceivedDir {
    files: PathBuf,
    lock: FileLock,
}

impl ReceivedDir {
    /// The directory with the files.
    pub fn path(&self) -> &Path {
        &self.files
    }

    /// Whether a file may have extended attributes, as was last noted.
    pub fn has_attributes(&self) -> bool {
        note(self.lock.path()).1
    }

    /// Notes how much disk the files take, and whether one has extended attributes.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self, bytes: u64, attributes: bool) -> Result<(), StoreError> {
        let attributes = if attributes { " attributes" } else { "" };
        Ok(self.lock.write_note(&format!("{bytes}{attributes}\n"))?)
    }
}

/// What is noted of a copy. One whose note was not written may have anything.
fn note(lock: &Path) -> (u64, bool) {
    let note = sys::fs::read(lock).unwrap_or_default();
    let note = String::from_utf8_lossy(&note);
    let mut words = note.split_whitespace();
    let bytes = words.next().and_then(|word| word.parse().ok());
    (bytes.unwrap_or(0), bytes.is_none() || words.next().is_some())
}

/// A copy in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceivedInfo {
    /// Its name.
    pub(crate) name: String,
    /// Bytes of disk.
    pub(crate) bytes: u64,
    /// When it was last used.
    pub(crate) last_used: Timestamp,
    /// Whether a build uses it.
    pub(crate) in_use: bool,
}

impl Store {
    /// The copy of the directory that `key` stands for, which is empty if there was none.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn received_dir(&self, key: &Key) -> Result<ReceivedDir, StoreError> {
        let mut number = 0_u64;
        loop {
            let name = if number == 0 { key.hex() } else { format!("{}.{number}", key.hex()) };
            let dir = self.layout().received().join(name);
            let files = dir.join(FILES);
            sys::fs::create_dir_all(&files, 0o700)?;
            let lock = match FileLock::try_acquire(&dir.join(LOCK), LockMode::Exclusive) {
                Ok(lock) => lock,
                // The collector took it between the two.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            match lock {
                None => number += 1,
                Some(lock) => {
                    self.note_use(lock.path())?;
                    sys::fs::create_dir_all(&files, 0o700)?;
                    return Ok(ReceivedDir { files, lock });
                }
            }
        }
    }

    /// All copies, the least recently used first.
    pub(crate) fn received_dirs(&self) -> Result<Vec<ReceivedInfo>, StoreError> {
        let names = match sys::fs::list(&self.layout().received()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        let mut found = Vec::new();
        for name in names.into_iter().filter_map(|name| name.into_string().ok()) {
            let lock = self.layout().received().join(&name).join(LOCK);
            let Some((last_used, _)) = last_use(&lock)? else { continue };
            let (bytes, _) = note(&lock);
            let in_use = FileLock::is_held(&lock)?;
            found.push(ReceivedInfo { name, bytes, last_used, in_use });
        }
        found.sort_by(|a, b| (a.last_used, &a.name).cmp(&(b.last_used, &b.name)));
        Ok(found)
    }

    /// Moves a copy to the trash. `false` when somebody uses it, or it is not there.
    pub(crate) fn drop_received_dir(&self, name: &str) -> Result<bool, StoreError> {
        let dir = self.layout().received().join(name);
        if !sys::fs::exists(&dir)? {
            return Ok(false);
        }
        let lock = match FileLock::try_acquire(&dir.join(LOCK), LockMode::Exclusive) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(false),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.discard(&dir)?;
        drop(lock);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use base::KeyHasher;

    use crate::test_support::TestStore;

    #[test]
    fn a_copy_is_used_by_one_and_found_by_the_next() {
        let test = TestStore::new();
        let store = &test.store;
        let key = KeyHasher::new("test").finish();
        let first = store.received_dir(&key).unwrap();
        std::fs::write(first.path().join("f"), "x").unwrap();
        first.note(4096, false).unwrap();
        let second = store.received_dir(&key).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(store.received_dirs().unwrap().iter().all(|dir| dir.in_use));
        assert!(!store.drop_received_dir(&key.hex()).unwrap());
        drop((first, second));
        let again = store.received_dir(&key).unwrap();
        assert_eq!(std::fs::read(again.path().join("f")).unwrap(), b"x");
        drop(again);
        let sizes: Vec<u64> = store.received_dirs().unwrap().iter().map(|dir| dir.bytes).collect();
        assert_eq!(sizes.iter().sum::<u64>(), 4096);
        assert!(store.drop_received_dir(&key.hex()).unwrap());
        let empty = store.received_dir(&key).unwrap();
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
    }
}
