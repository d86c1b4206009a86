//! Snapshots that are kept by name until their user lets them go.

use rusqlite::{Connection, OptionalExtension as _};

use crate::snapshot::SnapshotId;

/// Keeps `id` under `kind` and `name`, in place of what was kept there. `false` when it does not exist.
pub(crate) fn put(connection: &Connection, kind: &str, name: &str, id: SnapshotId) -> rusqlite::Result<bool> {
    if !super::snapshots::is_committed(connection, id)? {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO roots (kind, name, snapshot) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET snapshot = excluded.snapshot",
    )?;
    statement.execute((kind, name, id)).map(|_| true)
}

/// The snapshot kept under `kind` and `name`.
pub(crate) fn get(connection: &Connection, kind: &str, name: &str) -> rusqlite::Result<Option<SnapshotId>> {
    let mut statement =
        connection.prepare_cached("SELECT snapshot FROM roots WHERE kind = ?1 AND name = ?2")?;
    statement.query_row((kind, name), |row| row.get(0)).optional()
}

/// Lets go of what is kept under `kind` and `name`. `false` when there was nothing.
pub(crate) fn delete(connection: &Connection, kind: &str, name: &str) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("DELETE FROM roots WHERE kind = ?1 AND name = ?2")?;
    Ok(statement.execute((kind, name))? > 0)
}

/// All snapshots that are kept by name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement = connection.prepare_cached("SELECT snapshot FROM roots ORDER BY kind, name")?;
    statement.query_map([], |row| row.get(0))?.collect()
}
