//! The rows of cache mounts: directories by random names, which their users know by ids.

use base::Timestamp;
use rusqlite::Connection;

use super::from_millis;

/// How old a last use must be before another use writes it again, in milliseconds.
const USE_GRAIN: i64 = 1000;

/// A cache mount.
pub(crate) struct Listed {
    pub(crate) directory: String,
    pub(crate) id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) last_used: Timestamp,
}

/// Adds a directory that is complete.
pub(crate) fn insert(connection: &Connection, directory: &str, id: &str, now: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO cache_mounts (directory, id, created, last_used) VALUES (?1, ?2, ?3, ?3)",
    )?;
    statement.execute((directory, id, now)).map(drop)
}

/// The directories with this id, the oldest first.
pub(crate) fn of_id(connection: &Connection, id: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection
        .prepare_cached("SELECT directory FROM cache_mounts WHERE id = ?1 ORDER BY created, directory")?;
    statement.query_map([id], |row| row.get(0))?.collect()
}

/// Notes a use. `false` when there is no such row.
pub(crate) fn touch(connection: &Connection, directory: &str, now: i64) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE cache_mounts SET last_used = ?2 WHERE directory = ?1 AND last_used < ?2 - ?3",
    )?;
    if statement.execute((directory, now, USE_GRAIN))? > 0 {
        return Ok(true);
    }
    connection.prepare_cached("SELECT 1 FROM cache_mounts WHERE directory = ?1")?.exists([directory])
}

/// Forgets a directory.
pub(crate) fn delete(connection: &Connection, directory: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM cache_mounts WHERE directory = ?1")?.execute([directory]).map(drop)
}

/// Every cache mount, the least recently used first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = connection.prepare_cached(
        "SELECT directory, id, created, last_used FROM cache_mounts ORDER BY last_used, directory",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Listed {
            directory: row.get(0)?,
            id: row.get(1)?,
            created_at: from_millis(row.get(2)?),
            last_used: from_millis(row.get(3)?),
        })
    })?;
    rows.collect()
}
