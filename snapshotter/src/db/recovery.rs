//! What happens to the rows when the machine was restarted.
//!
//! Files written in an earlier boot and not synced in it may be incomplete: ext4 and others can keep a new
//! name and lose the content. So their rows go, with everything that depends on them. All leases of that
//! boot are dead, too. The files become garbage for the collector.
//!
//! The newest rows may be lost themselves, and their ids with them, while their directories are there. So ids
//! go on after the highest directory.

use rusqlite::Connection;

use super::settings;

/// Drops what an earlier boot left unsynced, unless another process has done so already. `highest` is the
/// highest number of a snapshot's directory.
pub(crate) fn recover(connection: &Connection, boot: &str, highest: u64) -> rusqlite::Result<()> {
    match settings::get(connection, settings::BOOT)? {
        Some(recorded) if recorded == boot => return Ok(()),
        None => {}
        Some(_) => drop_unsynced(connection)?,
    }
    skip_ids(connection, highest)?;
    settings::put(connection, settings::BOOT, boot)
}

fn drop_unsynced(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "DELETE FROM lease_snapshots;
         DELETE FROM lease_blobs;
         CREATE TEMP TABLE lost(id INTEGER PRIMARY KEY);
         INSERT INTO lost
            WITH RECURSIVE lost(id) AS (
                SELECT id FROM snapshots WHERE synced = 0
                UNION SELECT s.id FROM snapshots s JOIN lost l ON s.parent = l.id OR s.layer = l.id
                UNION SELECT p.snapshot FROM packed_parts p JOIN lost l ON p.part = l.id)
            SELECT id FROM lost;
         DELETE FROM roots WHERE snapshot IN (SELECT id FROM lost);
         DELETE FROM containers WHERE snapshot IN (SELECT id FROM lost);
         DELETE FROM snapshots WHERE id IN (SELECT id FROM lost);
         DROP TABLE lost;
         DELETE FROM blobs WHERE synced = 0;
         DELETE FROM cache_mounts WHERE synced = 0;
         DELETE FROM images WHERE digest NOT IN (SELECT digest FROM blobs);",
    )
}

/// Makes the ids of snapshots begin after `highest` (SQLite's documentation, "SQLite Autoincrement").
fn skip_ids(connection: &Connection, highest: u64) -> rusqlite::Result<()> {
    const UPDATE: &str = "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'snapshots'";
    const INSERT: &str = "INSERT INTO sqlite_sequence (name, seq) VALUES ('snapshots', ?1)";
    if connection.execute(UPDATE, [highest])? == 0 {
        connection.execute(INSERT, [highest])?;
    }
    Ok(())
}

/// What is not known to have reached the disk, at one moment.
pub(crate) struct Unsynced {
    snapshots: Vec<i64>,
    blobs: Vec<[u8; 32]>,
    /// Cache mounts as they were made; what is written to them later is not followed.
    cache_mounts: Vec<String>,
}

impl Unsynced {
    /// Whether everything has reached the disk.
    pub(crate) fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.blobs.is_empty() && self.cache_mounts.is_empty()
    }
}

/// What is not known to have reached the disk now. Active snapshots do not count: they may still change.
pub(crate) fn unsynced(connection: &Connection) -> rusqlite::Result<Unsynced> {
    let snapshots = connection
        .prepare_cached("SELECT id FROM snapshots WHERE synced = 0 AND lease IS NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let blobs = connection
        .prepare_cached("SELECT digest FROM blobs WHERE synced = 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let cache_mounts = connection
        .prepare_cached("SELECT directory FROM cache_mounts WHERE synced = 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Unsynced { snapshots, blobs, cache_mounts })
}

/// Records that the files of `unsynced` have reached the disk.
pub(crate) fn set_synced(connection: &Connection, unsynced: &Unsynced) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE snapshots SET synced = 1 WHERE id = ?1")?;
    unsynced.snapshots.iter().try_for_each(|id| statement.execute([id]).map(drop))?;
    let mut statement = connection.prepare_cached("UPDATE blobs SET synced = 1 WHERE digest = ?1")?;
    unsynced.blobs.iter().try_for_each(|digest| statement.execute([digest]).map(drop))?;
    let mut statement =
        connection.prepare_cached("UPDATE cache_mounts SET synced = 1 WHERE directory = ?1")?;
    unsynced.cache_mounts.iter().try_for_each(|directory| statement.execute([directory]).map(drop))
}
