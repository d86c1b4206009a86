//! The rows of build records, and of results that were removed.

use base::Key;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{from_millis, key};
use crate::build::{BuildContent, BuildRecord, BuildStatus};

const COLUMNS: &str = "SELECT id, project, name, created, ended, status, pinned FROM builds";

/// The place of a build that is made here, `?4` being when it began: above all that were recorded before, even if the
/// clock has been set back since.
const NEXT_PLACE: &str = "max(?4, coalesce((SELECT max(place) + 1 FROM builds), ?4))";

/// Records a build, or what became of it. Whether it is pinned, and its place, stay.
pub(crate) fn put(connection: &Connection, build: &BuildRecord) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO builds (id, project, name, created, ended, status, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, {NEXT_PLACE})
         ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, status = excluded.status, name = excluded.name"
    );
    execute(connection, &sql, build)
}

/// Records a build that was made elsewhere. Its place is among those of its time.
pub(crate) fn put_foreign(connection: &Connection, build: &BuildRecord) -> rusqlite::Result<()> {
    let sql = "INSERT INTO builds (id, project, name, created, ended, status, place)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4)";
    execute(connection, sql, build)
}

fn execute(connection: &Connection, sql: &str, build: &BuildRecord) -> rusqlite::Result<()> {
    let (project, created) = (build.project.as_bytes(), super::to_millis(build.created));
    let (ended, status) = (build.ended.map(super::to_millis), build.status.name());
    let values = (&build.id, project, &build.name, created, ended, status);
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Records a build that has no row yet, with what is kept of it. Preparing an insertion that may become an update costs
/// twice as much, and builds in which nothing runs are short.
pub(crate) fn insert(
    connection: &Connection,
    build: &BuildRecord,
    content: &BuildContent,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "INSERT INTO builds (id, project, name, created, ended, status, record, events, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, {NEXT_PLACE})"
    ))?;
    let (project, created) = (build.project.as_bytes(), super::to_millis(build.created));
    let (ended, status) = (build.ended.map(super::to_millis), build.status.name());
    let BuildContent { record, events } = content;
    statement.execute((&build.id, project, &build.name, created, ended, status, record, events)).map(drop)
}

/// What is kept of a build in its row.
pub(crate) fn content(connection: &Connection, id: &str) -> rusqlite::Result<Option<BuildContent>> {
    let mut statement = connection
        .prepare_cached("SELECT record, events FROM builds WHERE id = ?1 AND record IS NOT NULL")?;
    let read = |row: &Row<'_>| {
        Ok(BuildContent {
            record: row.get(0)?,
            events: row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default(),
        })
    };
    statement.query_row([id], read).optional()
}

/// The builds of a project, the newest first.
pub(crate) fn of_project(
    connection: &Connection,
    project: &Key,
    most: usize,
) -> rusqlite::Result<Vec<BuildRecord>> {
    let sql = format!("{COLUMNS} WHERE project = ?1 ORDER BY place DESC, id LIMIT ?2");
    connection.prepare_cached(&sql)?.query_map((project.as_bytes(), most), read)?.collect()
}

/// Every build, the newest first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<BuildRecord>> {
    let sql = format!("{COLUMNS} ORDER BY place DESC, id");
    connection.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// The newest build, or the one `back` before it.
pub(crate) fn before_newest(connection: &Connection, back: u32) -> rusqlite::Result<Option<BuildRecord>> {
    let sql = format!("{COLUMNS} ORDER BY place DESC, id LIMIT 1 OFFSET ?1");
    connection.prepare_cached(&sql)?.query_row([back], read).optional()
}

/// The builds whose id begins so, two at most, the one that is `prefix` first. It is letters and digits.
pub(crate) fn beginning_with(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<BuildRecord>> {
    let sql = format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT 2");
    connection.prepare_cached(&sql)?.query_map([prefix], read)?.collect()
}

/// Pins a build, or takes the pin away. `false` when it is not there.
pub(crate) fn pin(connection: &Connection, id: &str, pinned: bool) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("UPDATE builds SET pinned = ?2 WHERE id = ?1")?;
    Ok(statement.execute((id, pinned))? > 0)
}

/// Forgets a build, with what a failed step of it left. `false` when it is not there.
pub(crate) fn delete(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    super::failed_steps::delete(connection, id)?;
    Ok(connection.prepare_cached("DELETE FROM builds WHERE id = ?1")?.execute([id])? > 0)
}

/// When the result of `output` was removed from the cache, in milliseconds since 1970.
pub(crate) fn removed_at(connection: &Connection, output: &Key) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT removed FROM removed_results WHERE output = ?1")?;
    statement.query_row([output.as_bytes()], |row| row.get(0)).optional()
}

/// Forgets removals until a time.
pub(crate) fn forget_removed(connection: &Connection, before: i64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM removed_results WHERE removed <= ?1", [before]).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<BuildRecord> {
    Ok(BuildRecord {
        id: row.get(0)?,
        project: key(row, 1)?,
        name: row.get(2)?,
        created: from_millis(row.get(3)?),
        ended: row.get::<_, Option<i64>>(4)?.map(from_millis),
        status: BuildStatus::from_name(&row.get::<_, String>(5)?),
        pinned: row.get(6)?,
    })
}
