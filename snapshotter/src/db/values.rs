//! How our values are stored in columns: digests and keys as 32 bytes, times as milliseconds since 1970,
//! snapshot ids as integers.

use base::{Digest, Key, Timestamp};
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};

use crate::snapshot::SnapshotId;

/// The digest in column `index`.
pub(crate) fn digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Digest> {
    row.get(index).map(Digest::from_bytes)
}

/// The digest in column `index`, unless it is null.
pub(crate) fn optional_digest(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>(index)?.map(Digest::from_bytes))
}

/// The key in column `index`.
pub(crate) fn key(row: &Row<'_>, index: usize) -> rusqlite::Result<Key> {
    row.get(index).map(Key::from_bytes)
}

/// The key in column `index`, unless it is null.
pub(crate) fn optional_key(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Key>> {
    Ok(row.get::<_, Option<[u8; 32]>>(index)?.map(Key::from_bytes))
}

/// A time as it is stored.
pub(crate) fn to_millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// A stored time; one that no timestamp can hold reads as the epoch.
pub(crate) fn from_millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl ToSql for SnapshotId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.row().into())
    }
}

impl FromSql for SnapshotId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self::from_row)
    }
}
