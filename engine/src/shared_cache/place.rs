//! Where records and blobs are kept that builders share.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Digest, Key, Reference};
use snapshotter::BlobWriter;

use super::claims::{Claim, Claimed};
use super::segments::Cut;
use crate::error::EngineError;

/// What a place says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has a record, or several of different origin, of which the first that may be used is as good as any.
    Found {
        records: Vec<Vec<u8>>,
        /// Whether the place was asked for the key itself. If not, there may be another one.
        is_own: bool,
    },
    /// It has none.
    None,
    /// It was not asked, because it was not necessary so far.
    Unasked,
}

impl Answer {
    /// What was found under the key itself.
    pub(crate) fn own(found: Option<Vec<u8>>) -> Self {
        found.map_or(Self::None, |record| Self::Found { records: vec![record], is_own: true })
    }
}

/// For how many of several keys there has to be an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// For the first one, and for others as far as that costs little.
    First,
    /// For all.
    All,
}

/// A place that results are read from.
///
/// What it gives back is anybody's: callers check it.
pub(crate) trait Source: Send + Sync {
    /// What people call it.
    fn name(&self) -> String;

    /// The repository of a registry that blobs are in, if they are in one: others of that registry can take them from there.
    fn repository(&self) -> Option<&Reference> {
        None
    }

    /// The records of these keys, in their order, as far as there are any.
    fn records(&self, keys: &[Key], cancel: &CancelToken) -> Result<Vec<Option<Vec<u8>>>, EngineError>;

    /// The same if that is about as much work as for one of them. `None` where each costs a request of its own, and if so
    /// nothing was asked that matters.
    fn records_at_once(
        &self,
        keys: &[Key],
        cancel: &CancelToken,
    ) -> Result<Option<Vec<Option<Vec<u8>>>>, EngineError> {
        self.records(keys, cancel).map(Some)
    }

    /// What there is for these keys, of which those that are most likely to be wanted next come first.
    fn look_up(
        &self,
        keys: &[Key],
        _extent: Extent,
        cancel: &CancelToken,
    ) -> Result<Vec<Answer>, EngineError> {
        Ok(self.records(keys, cancel)?.into_iter().map(Answer::own).collect())
    }

    /// Where a blob is that lies in a pack with others, as far as that is known by now.
    fn cut_of(&self, _blob: &Digest) -> Option<Cut> {
        None
    }

    /// The blobs that lie in the same pack.
    fn cut_beside(&self, _cut: &Cut) -> Vec<Digest> {
        Vec::new()
    }

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
    /// Whether each request costs so much that results are written several at a time.
    fn wants_segments(&self) -> bool {
        false
    }

    /// Adds a record unless there is one. All its blobs are there. Gives whether it was added.
    fn add_record(
        &self,
        key: &Key,
        record: &NewRecord<'_>,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError>;

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

/// A record that is to be written, or a segment with several.
pub(crate) struct NewRecord<'a> {
    pub(crate) bytes: &'a [u8],
    /// The blobs that it needs.
    pub(crate) blobs: &'a [Descriptor],
    /// What is there under the key is known to be of no use: a blob of it is gone.
    pub(crate) replaces: bool,
}
