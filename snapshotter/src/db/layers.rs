//! Which blob holds, or would hold, the layer of a snapshot in which form.

use base::Digest;
use base::image::Descriptor;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::digest;
use crate::layer::LayerBlob;
use crate::snapshot::SnapshotId;

/// The form of a layer that was pulled and is kept as it came, whatever its compression.
pub(crate) const ORIGINAL: &str = "original";

/// The layer of `id` in `form`, if it is known. The blob itself may not be there.
pub(crate) fn get(
    connection: &Connection,
    id: SnapshotId,
    form: &str,
) -> rusqlite::Result<Option<LayerBlob>> {
    let mut statement = connection.prepare_cached(
        "SELECT diff_id, media_type, digest, size FROM layers WHERE snapshot = ?1 AND form = ?2",
    )?;
    let read = |row: &Row<'_>| {
        let descriptor = Descriptor::new(&row.get::<_, String>(1)?, digest(row, 2)?, row.get(3)?);
        Ok(LayerBlob { diff_id: digest(row, 0)?, descriptor })
    };
    statement.query_row((id, form), read).optional()
}

/// The snapshots and forms whose layer is the blob `digest`, but for those that were pulled as it.
pub(crate) fn made_as(
    connection: &Connection,
    digest: &Digest,
) -> rusqlite::Result<Vec<(SnapshotId, String, LayerBlob)>> {
    let mut statement = connection.prepare_cached(
        "SELECT snapshot, form, diff_id, media_type, size FROM layers
         WHERE digest = ?1 AND form != 'original' ORDER BY snapshot, form",
    )?;
    let read = |row: &Row<'_>| {
        let descriptor = Descriptor::new(&row.get::<_, String>(3)?, *digest, row.get(4)?);
        Ok((row.get(0)?, row.get(1)?, LayerBlob { diff_id: super::digest(row, 2)?, descriptor }))
    };
    statement.query_map([digest.as_bytes()], read)?.collect()
}

/// Remembers the layer of `id` in `form`.
pub(crate) fn put(
    connection: &Connection,
    id: SnapshotId,
    form: &str,
    layer: &LayerBlob,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO layers (snapshot, form, diff_id, digest, size, media_type)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let LayerBlob { diff_id, descriptor } = layer;
    let (digest, size) = (descriptor.digest.as_bytes(), descriptor.size);
    statement.execute((id, form, diff_id.as_bytes(), digest, size, &descriptor.media_type)).map(drop)
}
