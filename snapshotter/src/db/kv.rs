//! Small values under keys that the store's user chooses, in buckets.

use rusqlite::{Connection, OptionalExtension as _};

/// The value of `key` in `bucket`.
pub(crate) fn get(connection: &Connection, bucket: &str, key: &[u8]) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT value FROM kv WHERE bucket = ?1 AND key = ?2")?;
    statement.query_row((bucket, key), |row| row.get(0)).optional()
}

/// Sets the value of `key` in `bucket`.
pub(crate) fn put(connection: &Connection, bucket: &str, key: &[u8], value: &[u8]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO kv (bucket, key, value) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET value = excluded.value",
    )?;
    statement.execute((bucket, key, value)).map(drop)
}

/// Forgets `key` in `bucket`. `false` when it was not there.
pub(crate) fn delete(connection: &Connection, bucket: &str, key: &[u8]) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("DELETE FROM kv WHERE bucket = ?1 AND key = ?2")?;
    Ok(statement.execute((bucket, key))? > 0)
}

/// Forgets all of `bucket`. Returns how many keys it had.
pub(crate) fn clear(connection: &Connection, bucket: &str) -> rusqlite::Result<usize> {
    connection.prepare_cached("DELETE FROM kv WHERE bucket = ?1")?.execute([bucket])
}

/// All pairs of `bucket`, by key.
pub(crate) fn list(connection: &Connection, bucket: &str) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut statement =
        connection.prepare_cached("SELECT key, value FROM kv WHERE bucket = ?1 ORDER BY key")?;
    statement.query_map([bucket], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
