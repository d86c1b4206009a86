//! Where records and blobs are kept that builders share.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Key};
use snapshotter::BlobWriter;

use super::claims::{Claim, Claimed};
use crate::error::EngineError;

/// A place that results are read from.
///
/// What it gives back is anybody's: callers check it.
pub(crate) trait Source: Send + Sync {
    /// What people call it.
    fn name(&self) -> String;

    /// The records of these keys, in their order, as far as there are any.
    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError>;

    /// All keys that lead to the result that this one leads to, as far as that is known without asking.
    fn same_as(&self, _key: &Key) -> Vec<Key> {
        Vec::new()
    }

    /// Claims the making of a result. Places that cannot refuse a second one know no claims.
    fn claim(&self, _claim: &Claim, _cancel: &CancelToken) -> Result<Claimed, EngineError> {
        Ok(Claimed::Unknown)
    }

    /// Releases what was claimed.
    fn release(&self, _claim: &Claim, _cancel: &CancelToken) -> Result<(), EngineError> {
        Ok(())
    }

    /// What was last noted under this key: for people, and of no consequence for what is built.
    fn note(&self, key: &Key, cancel: &CancelToken) -> Result<Option<Vec<u8>>, EngineError>;

    /// Copies a blob to `to`; `false` if there is none. No more is copied than one byte beyond its size.
    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError>;
}

/// A place that any number of builders read and write at once. What is there under a
/// key or a digest stays, unless it turned out to be of no use.
pub(crate) trait Place: Source {
    /// Adds a record unless there is one. All its blobs are there.
    fn add_record(&self, key: &Key, record: &NewRecord<'_>, cancel: &CancelToken) -> Result<(), EngineError>;

    /// Notes something under a key, in place of what was there.
    fn put_note(&self, key: &Key, note: &[u8], cancel: &CancelToken) -> Result<(), EngineError>;

    /// Adds a blob, whose content is in `file`, unless there is one. `anew` is for one that is known to be of no use.
    fn add_blob(
        &self,
        blob: &Descriptor,
        file: &Path,
        anew: bool,
        cancel: &CancelToken,
    ) -> Result<(), EngineError>;
}

/// A record that is to be written.
pub(crate) struct NewRecord<'a> {
    pub(crate) bytes: &'a [u8],
    /// The blobs that it needs.
    pub(crate) blobs: &'a [Descriptor],
    /// What is there under the key is known to be of no use: a blob of it is gone.
    pub(crate) replaces: bool,
}
