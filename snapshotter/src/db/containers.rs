//! The rows of containers: an id and a name each, and the snapshot that a container writes to.
//!
//! Further rows are the images that a container shows beside its own.
//!
//! That snapshot stays active for as long as the row is there; its owner is the container, by its id, where
//! other active snapshots have a lease.

use base::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{digest, from_millis};
use crate::container::{ContainerRecord, NewContainer};
use crate::snapshot::SnapshotId;

const COLUMNS: &str = "SELECT id, name, image, snapshot, created FROM containers";

/// Records a container on top of `parent`, with an active snapshot of its own, which counts as having reached the
/// disk: what a container writes is its own affair. Answers the snapshot.
pub(crate) fn insert(
    connection: &Connection,
    container: &NewContainer<'_>,
    now: i64,
) -> rusqlite::Result<SnapshotId> {
    let mut insert = connection
        .prepare_cached("INSERT INTO snapshots (parent, lease, created, synced) VALUES (?1, ?2, ?3, 1)")?;
    let snapshot = insert.insert((container.parent, container.id, now)).map(SnapshotId::from_row)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO containers (id, name, image, snapshot, created) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let image = container.image.as_bytes();
    insert.execute((container.id, container.name, image, snapshot, now)).map(|_| snapshot)
}

/// Keeps the layers of an image that a container shows.
pub(crate) fn show_image(connection: &Connection, id: &str, snapshot: SnapshotId) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO container_images (container, snapshot) VALUES (?1, ?2)")?
        .execute((id, snapshot))
        .map(drop)
}

/// The layers of the images that a container shows beside its own.
pub(crate) fn images_of(connection: &Connection, id: &str) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement =
        connection.prepare_cached("SELECT snapshot FROM container_images WHERE container = ?1")?;
    statement.query_map([id], |row| row.get(0))?.collect()
}

/// The layers of all images that containers show beside their own.
pub(crate) fn shown_images(connection: &Connection) -> rusqlite::Result<Vec<SnapshotId>> {
    connection
        .prepare_cached("SELECT DISTINCT snapshot FROM container_images")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// The container with this name.
pub(crate) fn named(connection: &Connection, name: &str) -> rusqlite::Result<Option<ContainerRecord>> {
    connection.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?.query_row([name], read).optional()
}

/// The container with this id.
pub(crate) fn get(connection: &Connection, id: &str) -> rusqlite::Result<Option<ContainerRecord>> {
    connection.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id], read).optional()
}

/// Every container, the newest first.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<ContainerRecord>> {
    let sql = format!("{COLUMNS} ORDER BY created DESC, id");
    connection.prepare_cached(&sql)?.query_map([], read)?.collect()
}

/// Gives a container another name.
pub(crate) fn rename(connection: &Connection, id: &str, name: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE containers SET name = ?2 WHERE id = ?1")?.execute((id, name)).map(drop)
}

/// Forgets a container and its snapshot.
pub(crate) fn delete(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM snapshots WHERE lease = ?1")?.execute([id]).map(drop)
}

fn read(row: &Row<'_>) -> rusqlite::Result<ContainerRecord> {
    let image: Digest = digest(row, 2)?;
    Ok(ContainerRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        image,
        snapshot: row.get::<_, SnapshotId>(3)?,
        created_at: from_millis(row.get(4)?),
    })
}
