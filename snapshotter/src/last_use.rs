//! When a file that may go was last used: its modification time.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base::Timestamp;
use sys::fs::PathError;

use crate::error::StoreError;
use crate::store::Store;

/// How old the time of a file must be before another use sets it again, in milliseconds.
pub(crate) const USE_GRAIN: i64 = 3_600_000;

impl Store {
    /// Notes the use of a file. `false` when it is not there.
    pub(crate) fn note_use(&self, path: &Path) -> Result<bool, StoreError> {
        let Some((last_used, _)) = last_use(path)? else { return Ok(false) };
        if last_used.as_millisecond() < self.now_millis() - USE_GRAIN {
            match sys::fs::set_modified(path, self.now().into()) {
                Err(error) if error.is_not_found() => return Ok(false),
                set => set?,
            }
        }
        Ok(true)
    }
}

/// When a file was last written or used, and how many bytes of disk it takes; `None` when it is not there.
pub(crate) fn last_use(path: &Path) -> Result<Option<(Timestamp, u64)>, PathError> {
    match sys::fs::metadata(path) {
        Ok(metadata) => {
            let time = Timestamp::from_second(metadata.mtime()).unwrap_or(Timestamp::UNIX_EPOCH);
            Ok(Some((time, metadata.blocks() * 512)))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
