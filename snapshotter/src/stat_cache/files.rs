//! Where stat caches are kept in a store, and how they go.

use std::path::PathBuf;

use base::{Key, Timestamp};
use sys::lock::{FileLock, LockMode};

use super::LOCK_EXTENSION;
use crate::error::StoreError;
use crate::last_use::last_use;
use crate::store::Store;

/// A stat cache in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatCacheFile {
    /// The key of its directory.
    pub(crate) name: String,
    /// Bytes of disk.
    pub(crate) bytes: u64,
    /// When it was last written or used.
    pub(crate) last_used: Timestamp,
}

impl Store {
    /// The file in which a [`StatCache`](super::StatCache) of the directory that `key` names is kept. It
    /// may be deleted at any time. Its use is noted.
    pub fn stat_cache_file(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let directory = self.layout().stat_caches();
        sys::fs::create_dir_all(&directory, 0o700)?;
        let path = directory.join(key.hex());
        self.note_use(&path)?;
        Ok(path)
    }

    /// All stat caches, the least recently used first.
    pub(crate) fn stat_cache_files(&self) -> Result<Vec<StatCacheFile>, StoreError> {
        let mut files = Vec::new();
        for name in self.stat_cache_names()? {
            let is_cache = name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if let Some((last_used, bytes)) = last_use(&self.layout().stat_caches().join(&name))?
                && is_cache
            {
                files.push(StatCacheFile { name, bytes, last_used });
            }
        }
        files.sort_by(|a, b| (a.last_used, &a.name).cmp(&(b.last_used, &b.name)));
        Ok(files)
    }

    /// Moves a stat cache to the trash. `false` when somebody writes it now, or it is not there.
    pub(crate) fn drop_stat_cache(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.layout().stat_caches().join(name);
        if !sys::fs::exists(&path)? {
            return Ok(false);
        }
        let lock = FileLock::try_acquire(&path.with_extension(LOCK_EXTENSION), LockMode::Exclusive)?;
        let Some(lock) = lock else { return Ok(false) };
        self.discard(&path)?;
        lock.remove()?;
        Ok(true)
    }

    /// Removes what dead writers left.
    pub(crate) fn sweep_stat_caches(&self) -> Result<(), StoreError> {
        let directory = self.layout().stat_caches();
        for name in self.stat_cache_names()? {
            let Some(key) = name.strip_suffix(LOCK_EXTENSION).and_then(|name| name.strip_suffix('.')) else {
                continue;
            };
            if let Some(lock) = FileLock::try_acquire(&directory.join(&name), LockMode::Exclusive)? {
                self.discard(&directory.join(format!(".{key}.new")))?;
                lock.remove()?;
            }
        }
        Ok(())
    }

    fn stat_cache_names(&self) -> Result<Vec<String>, StoreError> {
        let names = match sys::fs::list(&self.layout().stat_caches()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        // Ours are letters and digits.
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }
}
