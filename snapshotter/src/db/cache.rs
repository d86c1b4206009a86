//! The rows of the build cache: links from an operation and an input to an output key, and the values of
//! output keys.

use std::collections::BTreeSet;

use base::Key;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{from_millis, key, leases, optional_key};
use crate::cache::{CacheValue, CacheWrite};
use crate::record::RecordKind;
use crate::snapshot::SnapshotId;

/// Carries out one write.
pub(crate) fn apply(connection: &Connection, write: &CacheWrite, now: i64) -> rusqlite::Result<()> {
    match write {
        CacheWrite::Link { op, slot, input, output } => link(connection, op, *slot, input, output),
        CacheWrite::Value { output, value } => put(connection, output, value, now),
        CacheWrite::Content { snapshot, content } => {
            super::snapshots::set_content(connection, *snapshot, content)
        }
    }
}

fn link(connection: &Connection, op: &Key, slot: u32, input: &Key, output: &Key) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR IGNORE INTO cache_links (op, slot, input, output) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute((op.as_bytes(), slot, input.as_bytes(), output.as_bytes())).map(drop)
}

/// The outputs of `op` that some key of every slot leads to.
pub(crate) fn lookup_links(
    connection: &Connection,
    op: &Key,
    slots: &[(u32, Vec<Key>)],
) -> rusqlite::Result<BTreeSet<Key>> {
    let mut statement = connection
        .prepare_cached("SELECT output FROM cache_links WHERE op = ?1 AND slot = ?2 AND input = ?3")?;
    let mut matching: Option<BTreeSet<Key>> = None;
    for (slot, inputs) in slots {
        let mut outputs = BTreeSet::new();
        for input in inputs {
            for output in statement.query_map((op.as_bytes(), slot, input.as_bytes()), |row| key(row, 0))? {
                outputs.insert(output?);
            }
        }
        if let Some(before) = matching {
            outputs.retain(|output| before.contains(output));
        }
        if outputs.is_empty() {
            return Ok(outputs);
        }
        matching = Some(outputs);
    }
    Ok(matching.unwrap_or_default())
}

fn put(connection: &Connection, output: &Key, value: &CacheValue, now: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO cache_values
            (output, snapshot, content, metadata, cost_ms, created, last_used, kind, description)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)",
    )?;
    let content = value.content.map(|key| *key.as_bytes());
    let CacheValue { snapshot, metadata, cost_ms, kind, description, .. } = value;
    statement
        .execute((output.as_bytes(), snapshot, content, metadata, cost_ms, now, kind.name(), description))
        .map(drop)
}

/// The value of `output`.
pub(crate) fn get(connection: &Connection, output: &Key) -> rusqlite::Result<Option<CacheValue>> {
    let mut statement = connection.prepare_cached(
        "SELECT snapshot, content, metadata, cost_ms, created, kind, description FROM cache_values
         WHERE output = ?1",
    )?;
    let read = |row: &Row<'_>| {
        Ok(CacheValue {
            snapshot: row.get(0)?,
            content: optional_key(row, 1)?,
            metadata: row.get(2)?,
            cost_ms: row.get(3)?,
            created: Some(from_millis(row.get(4)?)),
            kind: RecordKind::from_name(&row.get::<_, String>(5)?),
            description: row.get(6)?,
        })
    };
    statement.query_row([output.as_bytes()], read).optional()
}

/// The value of `output`, its snapshot protected for `lease` and its use noted.
pub(crate) fn get_and_hold(
    connection: &Connection,
    output: &Key,
    lease: &str,
    now: i64,
) -> rusqlite::Result<Option<CacheValue>> {
    let Some(value) = get(connection, output)? else { return Ok(None) };
    if let Some(snapshot) = value.snapshot {
        leases::hold_snapshot(connection, lease, snapshot)?;
    }
    let mut statement = connection
        .prepare_cached("UPDATE cache_values SET last_used = ?2, uses = uses + 1 WHERE output = ?1")?;
    statement.execute((output.as_bytes(), now))?;
    Ok(Some(value))
}

/// All keys whose values have this snapshot.
pub(crate) fn keys_of(connection: &Connection, snapshot: SnapshotId) -> rusqlite::Result<Vec<Key>> {
    let mut statement =
        connection.prepare_cached("SELECT output FROM cache_values WHERE snapshot = ?1 ORDER BY output")?;
    statement.query_map([snapshot], |row| key(row, 0))?.collect()
}

/// Forgets the value of `output`. `false` when it had none.
pub(crate) fn delete(connection: &Connection, output: &Key) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("DELETE FROM cache_values WHERE output = ?1")?;
    Ok(statement.execute([output.as_bytes()])? > 0)
}

/// Removes links that lead to no value: neither does their output have one, nor is it an input of a link
/// that leads to one.
pub(crate) fn prune_links(connection: &Connection) -> rusqlite::Result<()> {
    loop {
        let removed = connection.execute(
            "DELETE FROM cache_links WHERE output NOT IN (SELECT output FROM cache_values)
             AND output NOT IN (SELECT input FROM cache_links)",
            [],
        )?;
        if removed == 0 {
            return Ok(());
        }
    }
}
