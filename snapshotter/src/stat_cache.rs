//! Remembered content hashes of the files of one directory, so that unchanged files are not read again.
//!
//! A hash is remembered with the status of its file (size, times, inode, device, mode) and holds for as
//! long as the status is the same. A status alone cannot tell two writes within one tick of the file
//! system's clock apart, so a hash is kept only when the file had not changed for longer than a tick
//! before the cache was opened; younger files are hashed again next time (git's rule for racy timestamps,
//! `Documentation/technical/racy-git.adoc`). It assumes that the clock of the file system is not behind
//! ours by more than the margin, which can be wrong on a network file system whose server's clock is.
//!
//! What one pass learns, the next one of the same process knows by the same rule: a copy does not hash again what was hashed
//! for its key a moment before.
//!
//! A cache is a hint. A file of it that is missing, damaged or of another version is an empty cache.

mod files;
mod format;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base::Timestamp;
use sys::fs::{Durability, write_atomic};
use sys::lock::{FileLock, LockMode};
use sys::path_error::PathError;
use sys::stat::{FileTime, Stat};

use crate::batch::{Batch, Look};
use crate::content_hash::Hash;
use crate::select::Selection;
pub(crate) use files::StatCacheFile;
use format::{Kept, Loaded, Order, RecordsOfDir};

/// What is added to the name of a cache for the file that its writer locks.
const LOCK_EXTENSION: &str = "lock";

/// How much older than the opening of the cache a file must be: more than the kernel's longest tick
/// (10 ms).
const MARGIN_NANOSECONDS: i128 = 50_000_000;

/// The same where times have no fractions: FAT keeps even seconds.
const COARSE_MARGIN_NANOSECONDS: i128 = 2_500_000_000;

/// Whether a file has extended attributes, as far as someone looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XattrState {
    /// Nobody looked.
    Unknown,
    /// It has none that are part of its content.
    None,
    /// It has some; they are not remembered.
    Some,
}

/// What is remembered of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) size: u64,
    pub(crate) mtime: FileTime,
    pub(crate) ctime: FileTime,
    pub(crate) inode: u64,
    pub(crate) device: u64,
    pub(crate) mode: u32,
    pub(crate) xattrs: XattrState,
    pub(crate) hash: Hash,
}

impl Record {
    pub(crate) fn new(stat: &Stat, xattrs: XattrState, hash: Hash) -> Self {
        Self {
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
            inode: stat.inode,
            device: stat.device,
            mode: stat.mode,
            xattrs,
            hash,
        }
    }

    fn is_of(&self, stat: &Stat) -> bool {
        *self == Self::new(stat, self.xattrs, self.hash)
    }

    /// Whether a later write is sure to show in the status, for a hash taken after `opened`.
    fn is_settled(&self, opened: FileTime) -> bool {
        let has_fractions = self.mtime.nanoseconds != 0 || self.ctime.nanoseconds != 0;
        let margin = if has_fractions { MARGIN_NANOSECONDS } else { COARSE_MARGIN_NANOSECONDS };
        let youngest = self.mtime.max(self.ctime).total_nanoseconds();
        youngest < opened.total_nanoseconds() - margin
    }
}

/// What one use of the cache saw.
#[derive(Clone, Default)]
struct Visits {
    dirs: BTreeMap<PathBuf, Visit>,
    /// Whether nothing came since it was saved.
    saved: bool,
}

/// What one use of the cache saw in a directory.
#[derive(Clone)]
struct Visit {
    /// The records of the files that were looked at, sorted by name; `None`: all were as remembered.
    records: Option<Arc<[(OsString, Record)]>>,
    /// Whether that was the whole directory.
    complete: bool,
}

/// Remembered content hashes of one directory tree.
pub struct StatCache {
    path: PathBuf,
    opened: FileTime,
    loaded: Loaded,
    visits: Mutex<Visits>,
    /// Held by who saves it, so that what is newer is saved later. Nothing in the pool may be waited for with it.
    saving: Mutex<()>,
    /// What a key was made of last.
    look: Mutex<Option<Look>>,
}

impl StatCache {
    /// Opens the cache kept in the file `path`. `now` must be taken before any file is looked at.
    pub fn load(path: &Path, now: Timestamp) -> Self {
        Self {
            path: path.to_owned(),
            opened: now.into(),
            loaded: Loaded::read(path).unwrap_or_default(),
            visits: Mutex::default(),
            saving: Mutex::default(),
            look: Mutex::default(),
        }
    }

    /// Keeps what a key was made of.
    pub(crate) fn keep_look(&self, look: Look) {
        *self.look.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
    }

    /// What the last key was made of, once, if that was this selection.
    pub(crate) fn take_look(&self, selection: &Selection, xattrs: bool) -> Option<Vec<Batch>> {
        let mut kept = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.take()?.of(selection, xattrs) {
            Ok(batches) => Some(batches),
            Err(other) => {
                *kept = Some(other);
                None
            }
        }
    }

    /// How many files are remembered.
    pub fn len(&self) -> usize {
        self.loaded.record_count()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of files that are remembered, or those that were looked at, if they are more.
    pub(crate) fn most(&self) -> usize {
        let visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let seen =
            visits.dirs.values().filter_map(|visit| visit.records.as_ref()).map(|records| records.len());
        self.len().max(seen.sum())
    }

    /// What is remembered of the files of a directory.
    pub(crate) fn records_of(&self, dir: &Path) -> DirRecords<'_> {
        let visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = visits.dirs.get(dir).and_then(|visit| visit.records.clone());
        DirRecords { loaded: self.loaded.dir(dir), seen, opened: self.opened, order: Order::default() }
    }

    /// Notes what was seen in a directory. `records`: the files, or `None` when every one
    /// was as remembered. `complete`: these are all files of the directory.
    pub(crate) fn visit(&self, dir: &Path, mut records: Option<Vec<(OsString, Record)>>, complete: bool) {
        if let Some(records) = &mut records {
            records.sort_by(|(one, _), (other, _)| one.cmp(other));
            // A file that was chosen by several names was looked at as often. The last look counts.
            records.dedup_by(|later, kept| {
                let is_same = later.0 == kept.0;
                if is_same {
                    std::mem::swap(later, kept);
                }
                is_same
            });
        }
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        visits.saved = false;
        match visits.dirs.get_mut(dir) {
            // What was as remembered may be so because of what was seen earlier.
            Some(earlier) if !complete || records.is_none() => {
                earlier.add(records);
                earlier.complete |= complete;
            }
            _ => {
                visits.dirs.insert(dir.to_owned(), Visit { records: records.map(Arc::from), complete });
            }
        }
    }

    /// Writes the cache if something changed, and nobody else writes it now; answers whether it did.
    ///
    /// # Errors
    /// The file could not be written. The old one is then still there.
    pub fn save(&self) -> Result<bool, PathError> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut visits.saved, true) {
            return Ok(false);
        }
        let seen = visits.dirs.clone();
        drop(visits);
        let Some(bytes) = self.encoded_with(&seen) else { return Ok(false) };
        let replaced = self.replace_file(&bytes);
        if !matches!(replaced, Ok(true)) {
            self.visits.lock().unwrap_or_else(PoisonError::into_inner).saved = false;
        }
        replaced
    }

    /// The cache with what was seen; `None` if that changes nothing, or is too much.
    fn encoded_with(&self, visits: &BTreeMap<PathBuf, Visit>) -> Option<Vec<u8>> {
        let forgotten = |dir: &Path| !visits.contains_key(dir) && is_gone(visits, dir);
        let is_same = visits.values().all(|visit| visit.records.is_none())
            && !self.loaded.dirs().any(|(dir, _)| forgotten(dir));
        if is_same {
            return None;
        }
        let mut merged = BTreeMap::new();
        for (dir, records) in self.loaded.dirs() {
            if !forgotten(dir) {
                merged.insert(dir, Kept::AsLoaded(records));
            }
        }
        for (dir, visit) in visits.iter() {
            let Some(new) = &visit.records else { continue };
            let old = merged.remove(dir.as_path());
            if let Some(records) = visit.merged_with(new, old, self.opened) {
                merged.insert(dir, Kept::New(records));
            }
        }
        format::encode(&merged)
    }

    /// Writes the file, unless another process does so now: one that reads as much of the directory as this one.
    fn replace_file(&self, bytes: &[u8]) -> Result<bool, PathError> {
        let Some(lock) =
            FileLock::try_acquire(&self.path.with_extension(LOCK_EXTENSION), LockMode::Exclusive)?
        else {
            return Ok(false);
        };
        write_atomic(&self.path, bytes, 0o600, Durability::Cached)?;
        lock.remove()?;
        Ok(true)
    }
}

/// Whether a directory that was not seen must be gone: the nearest directory above it that was seen was
/// seen completely, and so would have led to it.
fn is_gone(visits: &BTreeMap<PathBuf, Visit>, dir: &Path) -> bool {
    let nearest = dir.ancestors().skip(1).find_map(|above| visits.get(above));
    nearest.is_some_and(|visit| visit.complete)
}

impl Visit {
    /// Adds files that were seen in the same directory by another look.
    fn add(&mut self, records: Option<Vec<(OsString, Record)>>) {
        let Some(new) = records else { return };
        let old = self.records.iter().flat_map(|records| records.iter().cloned());
        let all: BTreeMap<OsString, Record> = old.chain(new).collect();
        self.records = Some(all.into_iter().collect());
    }

    /// The records of the directory after this visit, which saw the new ones.
    fn merged_with(
        &self,
        new: &[(OsString, Record)],
        old: Option<Kept<'_>>,
        opened: FileTime,
    ) -> Option<Vec<(OsString, Record)>> {
        let old = old.filter(|_| !self.complete).map(Kept::all).unwrap_or_default();
        if old.is_empty() {
            let settled: Vec<_> =
                new.iter().filter(|(_, record)| record.is_settled(opened)).cloned().collect();
            return (!settled.is_empty()).then_some(settled);
        }
        let mut all: BTreeMap<OsString, Record> = old.into_iter().collect();
        for (name, record) in new.iter() {
            if record.is_settled(opened) {
                all.insert(name.clone(), *record);
            } else {
                all.remove(name);
            }
        }
        (!all.is_empty()).then(|| all.into_iter().collect())
    }
}

/// What is remembered of the files of one directory.
pub(crate) struct DirRecords<'a> {
    loaded: Option<RecordsOfDir<'a>>,
    /// What this use of the cache has learnt.
    seen: Option<Arc<[(OsString, Record)]>>,
    opened: FileTime,
    order: Order,
}

impl DirRecords<'_> {
    /// The record of a file, if its status is as remembered.
    pub(crate) fn find(&self, name: &OsStr, stat: &Stat) -> Option<Record> {
        let is_it = |record: &Record| record.is_of(stat);
        let loaded = || self.loaded.as_ref()?.find(name).filter(is_it);
        self.find_seen(name).filter(is_it).or_else(loaded)
    }

    fn find_seen(&self, name: &OsStr) -> Option<Record> {
        let seen = self.seen.as_ref()?;
        let is_at = |place| seen.get(place).is_some_and(|(found, _): &(OsString, Record)| found == name);
        let search = || seen.binary_search_by(|(other, _)| other.as_os_str().cmp(name)).ok();
        let place = self.order.find(is_at, search)?;
        Some(seen[place].1).filter(|record| record.is_settled(self.opened))
    }

    /// How many files the cache had when it was opened.
    pub(crate) fn len(&self) -> usize {
        self.loaded.as_ref().map_or(0, RecordsOfDir::len)
    }
}

#[cfg(test)]
mod tests;
