//! Snapshots that use the layer directory of another one: where one snapshot's layers were put on top of
//! another snapshot without copying them.

use base::image::chain_id;
use rusqlite::{Connection, OptionalExtension as _};

use super::snapshots::{self, ChainLink};
use crate::snapshot::SnapshotId;

/// The committed snapshot with the layer of `link` on top of `parent`, added unless there is one.
pub(crate) fn stack(
    connection: &Connection,
    parent: SnapshotId,
    link: &ChainLink,
    now: i64,
) -> rusqlite::Result<SnapshotId> {
    if let Some(known) = stacked(connection, parent, link.layer)? {
        return Ok(known);
    }
    let below = snapshots::info(connection, parent)?.and_then(|info| info.chain_id);
    let diff = snapshots::info(connection, link.layer)?.and_then(|info| info.diff_id.zip(info.diff_size));
    let chain_id = below.zip(diff).and_then(|(below, (diff_id, _))| chain_id(&[below, diff_id]));
    if let Some(chain_id) = &chain_id
        && let Some(known) = snapshots::by_chain_id(connection, chain_id)?
    {
        return Ok(known);
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO snapshots (parent, layer, created, opaque, size, diff_id, diff_size, chain_id)
         VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7)",
    )?;
    let (diff_id, diff_size) = diff.map(|(digest, size)| (*digest.as_bytes(), size)).unzip();
    let chain_id = chain_id.map(|digest| *digest.as_bytes());
    let columns = (parent, link.layer, now, link.opaque, diff_id, diff_size, chain_id);
    statement.insert(columns).map(SnapshotId::from_row)
}

fn stacked(
    connection: &Connection,
    parent: SnapshotId,
    layer: SnapshotId,
) -> rusqlite::Result<Option<SnapshotId>> {
    let mut statement = connection
        .prepare_cached("SELECT id FROM snapshots WHERE layer = ?2 AND parent = ?1 ORDER BY id LIMIT 1")?;
    statement.query_row((parent, layer), |row| row.get(0)).optional()
}

/// The snapshot whose layer directory `id` uses.
pub(crate) fn owner(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Option<SnapshotId>> {
    let mut statement = connection
        .prepare_cached("SELECT COALESCE(layer, id) FROM snapshots WHERE id = ?1 AND lease IS NULL")?;
    statement.query_row([id], |row| row.get(0)).optional()
}

/// All that use the layer directory of `owner`, itself included.
pub(crate) fn users(connection: &Connection, owner: SnapshotId) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM snapshots WHERE id = ?1 OR layer = ?1 ORDER BY id")?;
    statement.query_map([owner], |row| row.get(0))?.collect()
}

/// Who may use a layer: the leases that hold a snapshot with it, or one on top, and the containers that stand on one or show
/// one. Whether they live, or run, no row says.
pub(crate) fn owners_above(connection: &Connection, layer: SnapshotId) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE above(id) AS (
            SELECT ?1
            UNION SELECT s.id FROM above JOIN snapshots s ON s.parent = above.id
            UNION SELECT s.id FROM above JOIN snapshots s ON s.layer = above.id)
         SELECT lease FROM above JOIN lease_snapshots l ON l.snapshot = above.id
         UNION SELECT lease FROM above JOIN snapshots s ON s.id = above.id WHERE lease IS NOT NULL
         UNION SELECT container FROM above JOIN container_images i ON i.snapshot = above.id",
    )?;
    statement.query_map([layer], |row| row.get(0))?.collect()
}
