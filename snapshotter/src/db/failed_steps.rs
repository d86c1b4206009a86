//! The roots that keep what failed steps left: of kind [`KIND`], each named by its build and its part.

use rusqlite::Connection;

use crate::snapshot::SnapshotId;

/// The kind of these roots.
const KIND: &str = "failed-step";

/// The part that is the root filesystem.
const ROOT: usize = 0;

/// What is kept of one build, but for its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptRow {
    /// The id of the build.
    pub(crate) build: String,
    /// When it began, in milliseconds since 1970; `None` when the build is forgotten.
    pub(crate) created: Option<i64>,
    /// Whether the build stays until somebody removes it.
    pub(crate) pinned: bool,
    /// Bytes of disk that the process wrote.
    pub(crate) bytes: u64,
}

fn name(build: &str, part: usize) -> String {
    format!("{build}/{part}")
}

/// Keeps a part. `false` when the snapshot does not exist.
pub(crate) fn put(
    connection: &Connection,
    build: &str,
    part: usize,
    id: SnapshotId,
) -> rusqlite::Result<bool> {
    super::roots::put(connection, KIND, &name(build, part), id)
}

/// The snapshot of a part.
pub(crate) fn get(connection: &Connection, build: &str, part: usize) -> rusqlite::Result<Option<SnapshotId>> {
    super::roots::get(connection, KIND, &name(build, part))
}

/// The snapshots of all parts of all builds.
pub(crate) fn snapshots(connection: &Connection) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement = connection.prepare_cached("SELECT snapshot FROM roots WHERE kind = ?1")?;
    statement.query_map([KIND], |row| row.get(0))?.collect()
}

/// Lets go of all parts of a build. `false` when there was none.
pub(crate) fn delete(connection: &Connection, build: &str) -> rusqlite::Result<bool> {
    // `0` comes after `/`.
    let sql = "DELETE FROM roots WHERE kind = ?1 AND name >= ?2 || '/' AND name < ?2 || '0'";
    Ok(connection.prepare_cached(sql)?.execute((KIND, build))? > 0)
}

/// All that is kept, the newest build first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<KeptRow>> {
    let sql = "
        SELECT builds.created, coalesce(builds.pinned, 0), coalesce(snapshots.size, 0),
               substr(roots.name, 1, instr(roots.name, '/') - 1) AS build
        FROM roots JOIN snapshots ON snapshots.id = roots.snapshot
             LEFT JOIN builds ON builds.id = substr(roots.name, 1, instr(roots.name, '/') - 1)
        WHERE roots.kind = ?1 AND roots.name LIKE '%/' || ?2 ORDER BY builds.place DESC, build";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(KeptRow { created: row.get(0)?, pinned: row.get(1)?, bytes: row.get(2)?, build: row.get(3)? })
    };
    connection.prepare_cached(sql)?.query_map((KIND, ROOT), read)?.collect()
}
