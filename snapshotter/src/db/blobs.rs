//! The rows of blobs. A row exists only while the blob's file is complete under its name.

use base::Digest;
use rusqlite::{Connection, OptionalExtension as _};

use super::digest;

/// The size of a blob, if there is one.
pub(crate) fn size(connection: &Connection, digest: &Digest) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached("SELECT size FROM blobs WHERE digest = ?1")?;
    statement.query_row([digest.as_bytes()], |row| row.get(0)).optional()
}

/// Adds a blob whose file has just got its name. Of one that is there already, the file may have been replaced by
/// an equal one, which has not reached the disk.
pub(crate) fn insert(connection: &Connection, digest: &Digest, size: u64, now: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO blobs (digest, size, created) VALUES (?1, ?2, ?3)
         ON CONFLICT (digest) DO UPDATE SET synced = 0",
    )?;
    statement.execute((digest.as_bytes(), size, now)).map(drop)
}

/// Removes the row of a blob.
pub(crate) fn delete(connection: &Connection, digest: &Digest) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?.execute([digest.as_bytes()]).map(drop)
}

/// Every blob with its size in bytes.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<(Digest, u64)>> {
    let mut statement = connection.prepare_cached("SELECT digest, size FROM blobs")?;
    statement.query_map([], |row| Ok((digest(row, 0)?, row.get(1)?)))?.collect()
}
