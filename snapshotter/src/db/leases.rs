//! Which snapshots and blobs the owner of a lease needs.
//!
//! There is no row for a lease itself: its lock file says whether it lives.

use std::collections::BTreeSet;

use base::Digest;
use rusqlite::Connection;

use crate::snapshot::SnapshotId;

/// Protects a snapshot, and with it all below it, for `lease`.
pub(crate) fn hold_snapshot(connection: &Connection, lease: &str, id: SnapshotId) -> rusqlite::Result<()> {
    let mut statement = connection
        .prepare_cached("INSERT OR IGNORE INTO lease_snapshots (lease, snapshot) VALUES (?1, ?2)")?;
    statement.execute((lease, id)).map(drop)
}

/// Protects a blob, and with it what the document in it refers to, for `lease`.
pub(crate) fn hold_blob(connection: &Connection, lease: &str, digest: &Digest) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO lease_blobs (lease, digest) VALUES (?1, ?2)")?;
    statement.execute((lease, digest.as_bytes())).map(drop)
}

/// Ends all protection by `lease`.
pub(crate) fn release(connection: &Connection, lease: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM lease_snapshots WHERE lease = ?1")?.execute([lease])?;
    connection.prepare_cached("DELETE FROM lease_blobs WHERE lease = ?1")?.execute([lease]).map(drop)
}

/// The same for a lease whose owner is dead, with its unfinished snapshots. Reads every snapshot's row.
pub(crate) fn bury(connection: &Connection, lease: &str) -> rusqlite::Result<()> {
    release(connection, lease)?;
    connection.prepare_cached("DELETE FROM snapshots WHERE lease = ?1")?.execute([lease]).map(drop)
}

/// Every lease that some row mentions. Containers own snapshots, too, but are no leases.
pub(crate) fn mentioned(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT lease FROM lease_snapshots UNION SELECT lease FROM lease_blobs
         UNION SELECT lease FROM snapshots
               WHERE lease IS NOT NULL AND lease NOT IN (SELECT id FROM containers)",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The snapshots that some of `leases` hold.
pub(crate) fn held_by(connection: &Connection, leases: &[String]) -> rusqlite::Result<Vec<SnapshotId>> {
    let mut statement = connection.prepare_cached("SELECT snapshot FROM lease_snapshots WHERE lease = ?1")?;
    let mut held = Vec::new();
    for lease in leases {
        for id in statement.query_map([lease], |row| row.get(0))? {
            held.push(id?);
        }
    }
    Ok(held)
}
