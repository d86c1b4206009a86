//! The rows of the build cache and of the store's user.
//!
//! The solver decides what the keys mean. Here, an operation and the keys of its inputs lead to output
//! keys, and an output key leads to a value. Nothing here computes a key or runs anything.

use base::{Key, Timestamp};

use crate::db::{cache, kv};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::mark::Node;
use crate::record::RecordKind;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// What an output key leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheValue {
    /// The resulting files.
    pub snapshot: Option<SnapshotId>,
    /// The content key of the result.
    pub content: Option<Key>,
    /// What else the solver's user wants back.
    pub metadata: Vec<u8>,
    /// How long it took to make, in milliseconds.
    pub cost_ms: u64,
    /// What it is.
    pub kind: RecordKind,
    /// What made it, for people.
    pub description: String,
    /// When it was saved; set by the store, ignored when given to it.
    pub created: Option<Timestamp>,
}

/// A change to the cache. Several can be written in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheWrite {
    /// `op` with `input` in `slot` leads to `output`.
    Link {
        /// The operation.
        op: Key,
        /// Which input.
        slot: u32,
        /// The key of that input.
        input: Key,
        /// The resulting key.
        output: Key,
    },
    /// `output` has this value, in place of an earlier one.
    Value {
        /// The key.
        output: Key,
        /// Its value.
        value: CacheValue,
    },
    /// The whole tree of `snapshot` has this content key.
    Content {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The key.
        content: Key,
    },
}

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

impl Store {
    /// Writes all of `writes` or none. Snapshots in them must be protected by a lease of the caller.
    pub fn cache_write(&self, writes: &[CacheWrite]) -> Result<(), StoreError> {
        let now = self.now_millis();
        let apply = |c: &_| writes.iter().try_for_each(|write| cache::apply(c, write, now));
        Ok(self.db().write("write cache entries", apply)?)
    }

    /// Records that `op` with `input` in `slot` leads to `output`.
    pub fn cache_link(&self, op: &Key, slot: u32, input: &Key, output: &Key) -> Result<(), StoreError> {
        self.cache_write(&[CacheWrite::Link { op: *op, slot, input: *input, output: *output }])
    }

    /// The outputs of `op` to which, for every slot, one of the given keys leads; in the order of keys.
    /// Without slots there are none.
    pub fn cache_lookup_links(&self, op: &Key, slots: &[(u32, Vec<Key>)]) -> Result<Vec<Key>, StoreError> {
        let outputs =
            self.db().read_consistently("look up cache links", |c| cache::lookup_links(c, op, slots))?;
        Ok(outputs.into_iter().collect())
    }

    /// Saves the value of `output`, in place of an earlier one.
    pub fn cache_put(&self, output: &Key, value: CacheValue) -> Result<(), StoreError> {
        self.cache_write(&[CacheWrite::Value { output: *output, value }])
    }

    /// The value of `output`. Its snapshot is protected by `lease` from then on, and its use is noted.
    pub fn cache_get(&self, lease: &Lease, output: &Key) -> Result<Option<CacheValue>, StoreError> {
        const OPERATION: &str = "look up a cache entry";
        let Some(value) = self.db().read(OPERATION, |c| cache::get(c, output))? else { return Ok(None) };
        if value.snapshot.is_none_or(|id| lease.holds(Node::Snapshot(id))) {
            return Ok(Some(value));
        }
        // A look-up without a reference would be a race with the collector: do both in one transaction.
        let now = self.now_millis();
        let value = self.db().write(OPERATION, |c| cache::get_and_hold(c, output, lease.id(), now))?;
        if let Some(snapshot) = value.as_ref().and_then(|value| value.snapshot) {
            lease.note_snapshot(snapshot);
        }
        Ok(value)
    }

    /// All keys whose values have this snapshot.
    pub fn cache_keys_of(&self, snapshot: SnapshotId) -> Result<Vec<Key>, StoreError> {
        Ok(self.db().read("look up the keys of a snapshot", |c| cache::keys_of(c, snapshot))?)
    }

    /// Forgets the value of `output`. `false` when it had none.
    pub fn cache_delete(&self, output: &Key) -> Result<bool, StoreError> {
        Ok(self.db().write("delete a cache entry", |c| cache::delete(c, output))?)
    }

    /// Records the content key of a snapshot's whole tree.
    pub fn set_content(&self, snapshot: SnapshotId, content: &Key) -> Result<(), StoreError> {
        self.cache_write(&[CacheWrite::Content { snapshot, content: *content }])
    }

    /// The content key of a snapshot's whole tree, if it was recorded.
    pub fn content(&self, snapshot: SnapshotId) -> Result<Option<Key>, StoreError> {
        self.snapshot_info(snapshot).map(|info| info.content)
    }

    /// The bytes under `key` in `bucket`. Buckets are the caller's; nothing in them ever expires.
    pub fn kv_get(&self, bucket: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db().read("read a value", |c| kv::get(c, bucket, key))?)
    }

    /// Puts bytes under `key` in `bucket`, in place of earlier ones.
    pub fn kv_put(&self, bucket: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        Ok(self.db().write("write a value", |c| kv::put(c, bucket, key, value))?)
    }

    /// Forgets `key` in `bucket`. `false` when it was not there.
    pub fn kv_delete(&self, bucket: &str, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.db().write("delete a value", |c| kv::delete(c, bucket, key))?)
    }

    /// All pairs of `bucket`, in the order of keys.
    pub fn kv_list(&self, bucket: &str) -> Result<Vec<KeyValue>, StoreError> {
        Ok(self.db().read("list values", |c| kv::list(c, bucket))?)
    }

    /// Forgets all of `bucket`. Returns how many keys it had.
    pub fn kv_clear(&self, bucket: &str) -> Result<usize, StoreError> {
        Ok(self.db().write("delete values", |c| kv::clear(c, bucket))?)
    }
}

#[cfg(test)]
mod tests;
