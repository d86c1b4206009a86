//! The rows of user-defined networks, and which containers are in them.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::from_millis;
use crate::network::NetworkRecord;

const COLUMNS: &str = "SELECT id, name, document, created FROM networks";

/// Records a network. `false` when there is one of this name.
pub(crate) fn insert(
    connection: &Connection,
    id: &str,
    name: &str,
    document: &str,
    now: i64,
) -> rusqlite::Result<bool> {
    let sql = "INSERT OR IGNORE INTO networks (id, name, document, created) VALUES (?1, ?2, ?3, ?4)";
    Ok(connection.prepare_cached(sql)?.execute((id, name, document, now))? > 0)
}

/// The network with this id.
pub(crate) fn get(connection: &Connection, id: &str) -> rusqlite::Result<Option<NetworkRecord>> {
    connection.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id], read).optional()
}

/// Every network, by name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<NetworkRecord>> {
    connection.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?.query_map([], read)?.collect()
}

/// Forgets a network, and who is in it. `false` when there is none.
pub(crate) fn delete(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM networks WHERE id = ?1")?.execute([id])? > 0)
}

/// Notes that a container is in a network.
pub(crate) fn join(connection: &Connection, id: &str, container: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO network_users (network, container) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute((id, container)).map(drop)
}

/// Notes that a container is in a network no more.
pub(crate) fn leave(connection: &Connection, id: &str, container: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM network_users WHERE network = ?1 AND container = ?2";
    connection.prepare_cached(sql)?.execute((id, container)).map(drop)
}

/// The ids of the containers that are in a network.
pub(crate) fn users(connection: &Connection, id: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT container FROM network_users WHERE network = ?1 ORDER BY container")?
        .query_map([id], |row| row.get(0))?
        .collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<NetworkRecord> {
    Ok(NetworkRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        document: row.get(2)?,
        created_at: from_millis(row.get(3)?),
    })
}
