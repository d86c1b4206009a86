//! The rows of layers that are kept as files.

use base::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::digest;
use crate::snapshot::SnapshotId;

/// The files of a packed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedLayer {
    /// The archive, and with it the uncompressed layer.
    pub(crate) tar: Digest,
    pub(crate) tar_size: u64,
    pub(crate) index: Digest,
    pub(crate) index_size: u64,
    /// Which files they were, and in which boot, when they last were what the digests say.
    pub(crate) checked: String,
}

const COLUMNS: &str = "tar_digest, tar_size, index_digest, index_size, checked, snapshot";

fn read(row: &Row<'_>) -> rusqlite::Result<PackedLayer> {
    Ok(PackedLayer {
        tar: digest(row, 0)?,
        tar_size: row.get(1)?,
        index: digest(row, 2)?,
        index_size: row.get(3)?,
        checked: row.get(4)?,
    })
}

/// Records that the layer of a snapshot is packed, or that its files are others now.
pub(crate) fn put(connection: &Connection, id: SnapshotId, layer: &PackedLayer) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO packed_layers (tar_digest, tar_size, index_digest, index_size, checked, snapshot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let PackedLayer { tar, tar_size, index, index_size, checked } = layer;
    statement.execute((tar.as_bytes(), tar_size, index.as_bytes(), index_size, checked, id)).map(drop)
}

/// The files of a snapshot's own layer, if it is packed.
pub(crate) fn get(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Option<PackedLayer>> {
    let sql = format!("SELECT {COLUMNS} FROM packed_layers WHERE snapshot = ?1");
    connection.prepare_cached(&sql)?.query_row([id], read).optional()
}

/// All packed layers.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<(SnapshotId, PackedLayer)>> {
    let sql = format!("SELECT {COLUMNS} FROM packed_layers ORDER BY snapshot");
    connection.prepare_cached(&sql)?.query_map([], |row| Ok((row.get(5)?, read(row)?)))?.collect()
}

/// Records that the layer of a snapshot is a directory.
pub(crate) fn delete(connection: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM packed_layers WHERE snapshot = ?1")?.execute([id]).map(drop)
}
