//! The rows of volumes, and which containers show them.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::from_millis;
use crate::volume::{NewVolume, Volume};

const COLUMNS: &str = "SELECT name, directory, anonymous, document, created FROM volumes";

/// Records a volume whose directory is there. `false` when there is one of this name.
pub(crate) fn insert(
    connection: &Connection,
    new: &NewVolume<'_>,
    directory: &str,
    now: i64,
) -> rusqlite::Result<bool> {
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO volumes (name, directory, anonymous, document, created) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    Ok(insert.execute((new.name, directory, new.anonymous, new.document, now))? > 0)
}

/// The volume with this name.
pub(crate) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<Volume>> {
    connection.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?.query_row([name], read).optional()
}

/// Every volume, by name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Volume>> {
    connection.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?.query_map([], read)?.collect()
}

/// Forgets a volume that no container shows. `false` when there is none.
pub(crate) fn delete(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM volumes WHERE name = ?1")?.execute([name])? > 0)
}

/// Notes that a container shows a volume.
pub(crate) fn use_by(connection: &Connection, name: &str, container: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO volume_users (volume, container) VALUES (?1, ?2)")?
        .execute((name, container))
        .map(drop)
}

/// The ids of the containers that show a volume.
pub(crate) fn users(connection: &Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT container FROM volume_users WHERE volume = ?1 ORDER BY container")?
        .query_map([name], |row| row.get(0))?
        .collect()
}

/// The anonymous volumes that only this container shows.
pub(crate) fn anonymous_of(connection: &Connection, container: &str) -> rusqlite::Result<Vec<Volume>> {
    let sql = format!(
        "{COLUMNS} WHERE anonymous AND name IN (SELECT volume FROM volume_users WHERE container = ?1) \
         AND name NOT IN (SELECT volume FROM volume_users WHERE container <> ?1)"
    );
    connection.prepare_cached(&sql)?.query_map([container], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Volume> {
    Ok(Volume {
        name: row.get(0)?,
        directory: row.get(1)?,
        anonymous: row.get(2)?,
        document: row.get(3)?,
        created_at: from_millis(row.get(4)?),
    })
}
