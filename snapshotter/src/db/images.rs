//! The rows of images: a name and what it stands for, and what the documents of images refer to.

use base::Digest;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{from_millis, optional_digest, to_millis};
use crate::image::ImageRecord;

const COLUMNS: &str = "SELECT name, descriptor, config, created FROM images";

/// The image with this name.
pub(crate) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<ImageRecord>> {
    let mut statement = connection.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?;
    statement.query_row([name], read).optional()
}

/// Every image, by name.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<ImageRecord>> {
    connection.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?.query_map([], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    let json: String = row.get(1)?;
    let descriptor = serde_json::from_str(&json)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))?;
    Ok(ImageRecord::new(row.get(0)?, descriptor, optional_digest(row, 2)?, from_millis(row.get(3)?)))
}

/// Whether some name stands for this manifest or index.
pub(crate) fn has_name(connection: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM images WHERE digest = ?1")?.exists([digest.as_bytes()])
}

/// What needs `?1`, directly or not, and itself.
const ABOVE: &str = "WITH RECURSIVE above(digest) AS (
    SELECT ?1 UNION SELECT document FROM document_blobs JOIN above ON document_blobs.digest = above.digest)";

/// The names of the images that are the document `digest` or need it.
pub(crate) fn names_above(connection: &Connection, digest: &Digest) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(&format!(
        "{ABOVE} SELECT name FROM images JOIN above ON images.digest = above.digest ORDER BY name"
    ))?;
    statement.query_map([digest.as_bytes()], |row| row.get(0))?.collect()
}

/// Whether any image is `digest` or needs it.
pub(crate) fn is_needed(connection: &Connection, digest: &Digest) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(&format!(
        "{ABOVE} SELECT 1 FROM images JOIN above ON images.digest = above.digest LIMIT 1"
    ))?;
    statement.exists([digest.as_bytes()])
}

/// Gives a name to an image, taking it from the one that had it.
pub(crate) fn put(connection: &Connection, image: &ImageRecord) -> rusqlite::Result<()> {
    let json = serde_json::to_string(&image.descriptor)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO images (name, digest, config, descriptor, created) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let config = image.config.map(|digest| *digest.as_bytes());
    let created = to_millis(image.created_at);
    statement.execute((&image.name, image.descriptor.digest.as_bytes(), config, json, created)).map(drop)
}

/// Takes a name away. `false` when nothing had it.
pub(crate) fn delete(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM images WHERE name = ?1")?.execute([name])? > 0)
}

/// Records that `document` refers to the blob `digest`.
pub(crate) fn put_reference(
    connection: &Connection,
    document: &Digest,
    digest: &Digest,
) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO document_blobs (document, digest) VALUES (?1, ?2)")?;
    statement.execute((document.as_bytes(), digest.as_bytes())).map(drop)
}

/// Takes away that `document` refers to the blob `digest`. `false` when nobody knew that it does.
pub(crate) fn delete_reference(
    connection: &Connection,
    document: &Digest,
    digest: &Digest,
) -> rusqlite::Result<bool> {
    let mut statement =
        connection.prepare_cached("DELETE FROM document_blobs WHERE document = ?1 AND digest = ?2")?;
    Ok(statement.execute((document.as_bytes(), digest.as_bytes()))? > 0)
}

/// Records the chain id of all layers of the manifest `document`.
pub(crate) fn put_chain(
    connection: &Connection,
    document: &Digest,
    chain_id: &Digest,
) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO document_chains (document, chain_id) VALUES (?1, ?2)")?;
    statement.execute((document.as_bytes(), chain_id.as_bytes())).map(drop)
}

/// Takes the names away from what is not in the store.
pub(crate) fn forget_lost(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM images WHERE digest NOT IN (SELECT digest FROM blobs)")?
        .execute([])
        .map(drop)
}
