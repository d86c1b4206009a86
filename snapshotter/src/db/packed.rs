//! The rows of layers that are kept as files.

use base::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{digest, optional_digest};
use crate::packed::sketch::Sketch;
use crate::snapshot::SnapshotId;

/// The files of a packed layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedLayer {
    /// The archive, and with it the uncompressed layer.
    pub(crate) tar: Digest,
    pub(crate) tar_size: u64,
    pub(crate) index: Digest,
    pub(crate) index_size: u64,
    /// The list of what it holds, if there is one.
    pub(crate) contents: Option<Digest>,
    /// The list of the pieces of the archive, if others have some.
    pub(crate) pieces: Option<Digest>,
    /// What its files are called and how long they are.
    pub(crate) sketch: Option<Sketch>,
    /// Which files they were, and in which boot, when they last were what the digests say.
    pub(crate) checked: String,
}

const COLUMNS: &str =
    "tar_digest, tar_size, index_digest, index_size, checked, contents, sketch, pieces, snapshot";

fn read(row: &Row<'_>) -> rusqlite::Result<PackedLayer> {
    Ok(PackedLayer {
        tar: digest(row, 0)?,
        tar_size: row.get(1)?,
        index: digest(row, 2)?,
        index_size: row.get(3)?,
        checked: row.get(4)?,
        contents: optional_digest(row, 5)?,
        sketch: row.get::<_, Option<Vec<u8>>>(6)?.and_then(|sketch| Sketch::read(&sketch)),
        pieces: optional_digest(row, 7)?,
    })
}

/// Records that the layer of a snapshot is packed, or that its files are others now.
pub(crate) fn put(connection: &Connection, id: SnapshotId, layer: &PackedLayer) -> rusqlite::Result<()> {
    // Not replaced: what others say of the row would go with it.
    let mut statement = connection.prepare_cached(
        "INSERT INTO packed_layers
             (tar_digest, tar_size, index_digest, index_size, checked, contents, sketch, pieces, snapshot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (snapshot) DO UPDATE SET tar_digest = ?1, tar_size = ?2, index_digest = ?3, index_size = ?4,
             checked = ?5, contents = ?6, sketch = ?7, pieces = ?8",
    )?;
    let PackedLayer { tar, tar_size, index, index_size, contents, pieces, sketch, checked } = layer;
    let [contents, pieces] = [contents, pieces].map(|digest| digest.map(|digest| *digest.as_bytes()));
    let sketch = sketch.as_ref().map(Sketch::to_bytes);
    let (tar, index) = (tar.as_bytes(), index.as_bytes());
    statement.execute((tar, tar_size, index, index_size, checked, contents, sketch, pieces, id)).map(drop)
}

/// The files of a snapshot's own layer, if it is packed.
pub(crate) fn get(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Option<PackedLayer>> {
    let sql = format!("SELECT {COLUMNS} FROM packed_layers WHERE snapshot = ?1");
    connection.prepare_cached(&sql)?.query_row([id], read).optional()
}

/// All packed layers.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<(SnapshotId, PackedLayer)>> {
    let sql = format!("SELECT {COLUMNS} FROM packed_layers ORDER BY snapshot");
    connection.prepare_cached(&sql)?.query_map([], |row| Ok((row.get(8)?, read(row)?)))?.collect()
}

/// The newest ones before `id` that say what they hold, have an archive of a length between these, and need fewer than so many others.
pub(crate) fn newest_of_length(
    connection: &Connection,
    id: SnapshotId,
    sizes: (u64, u64),
    parts: usize,
    most: usize,
) -> rusqlite::Result<Vec<(SnapshotId, PackedLayer)>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM packed_layers WHERE contents IS NOT NULL AND snapshot < ?5 AND tar_size BETWEEN ?1 AND ?2
             AND (SELECT count(*) FROM packed_parts p WHERE p.snapshot = packed_layers.snapshot) < ?3
         ORDER BY snapshot DESC LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map((sizes.0, sizes.1, parts, most, id), |row| Ok((row.get(8)?, read(row)?)))?.collect()
}

/// Records that nobody is to share with a layer.
pub(crate) fn forget_contents(connection: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    let sql = "UPDATE packed_layers SET contents = NULL WHERE snapshot = ?1";
    connection.prepare_cached(sql)?.execute([id]).map(drop)
}

/// Records that the layer of a snapshot is a directory.
pub(crate) fn delete(connection: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM packed_layers WHERE snapshot = ?1")?.execute([id]).map(drop)
}

/// Records that a packed layer needs the archives of others.
pub(crate) fn put_parts(
    connection: &Connection,
    id: SnapshotId,
    parts: impl IntoIterator<Item = SnapshotId>,
) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO packed_parts (snapshot, part) VALUES (?1, ?2)")?;
    parts.into_iter().try_for_each(|part| statement.execute((id, part)).map(drop))
}

/// Records that a packed layer needs the archive of no other one.
pub(crate) fn delete_parts(connection: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM packed_parts WHERE snapshot = ?1")?.execute([id]).map(drop)
}

/// The layers whose archives a packed one needs, the lowest number first.
pub(crate) fn parts_of(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement =
        connection.prepare_cached("SELECT part FROM packed_parts WHERE snapshot = ?1 ORDER BY part")?;
    statement.query_map([id], |row| row.get(0))?.collect()
}

/// The packed layers that need the archive of this one.
pub(crate) fn users_of(connection: &Connection, part: SnapshotId) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement =
        connection.prepare_cached("SELECT snapshot FROM packed_parts WHERE part = ?1 ORDER BY snapshot")?;
    statement.query_map([part], |row| row.get(0))?.collect()
}

/// Which packed layer needs the archive of which.
pub(crate) fn all_parts(connection: &Connection) -> rusqlite::Result<Vec<(SnapshotId, SnapshotId)>> {
    let mut statement = connection.prepare_cached("SELECT snapshot, part FROM packed_parts")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
