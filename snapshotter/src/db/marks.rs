//! What the collector reads: every row that can keep a snapshot or a blob alive.

use std::collections::HashMap;

use base::{Digest, Key};
use rusqlite::{Connection, Params, Row};

use super::{digest, key, optional_digest};
use crate::mark::{Graph, Node};
use crate::record::RecordKind;
use crate::snapshot::SnapshotId;

/// A cache entry as the retention policy sees it.
#[derive(Debug, Clone)]
pub(crate) struct CacheEntry {
    pub(crate) output: Key,
    pub(crate) snapshot: Option<SnapshotId>,
    /// Milliseconds since 1970.
    pub(crate) created: i64,
    /// Milliseconds since 1970.
    pub(crate) last_used: i64,
    /// How long it took to make, in milliseconds.
    pub(crate) cost_ms: u64,
    pub(crate) kind: RecordKind,
    pub(crate) description: String,
    /// How often a build has found it.
    pub(crate) uses: u64,
}

/// The graph of what refers to what, and where marking begins.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) graph: Graph,
    /// Everything that images stand for.
    pub(crate) images: Vec<Node>,
    /// What live leases and named roots hold, what containers show, and snapshots being made.
    pub(crate) held: Vec<Node>,
    /// The cache entries, the most recently used first.
    pub(crate) cache: Vec<CacheEntry>,
    /// Every blob with its length in bytes, until somebody puts in its place what it takes on disk.
    pub(crate) blobs: HashMap<Digest, u64>,
    /// Every snapshot with the size of its layer in bytes, 0 where it has not been counted.
    pub(crate) snapshots: HashMap<SnapshotId, u64>,
}

impl Rows {
    /// How much disk a node takes, in bytes, as far as that is known.
    pub(crate) fn size(&self, node: &Node) -> u64 {
        match node {
            Node::Snapshot(id) => self.snapshots.get(id).copied().unwrap_or(0),
            Node::Blob(digest) => self.blobs.get(digest).copied().unwrap_or(0),
        }
    }
}

/// Reads all of it. The rows of dead leases must be gone before.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut graph = Graph::default();
    let (snapshots, chains) = load_snapshots(connection, &mut graph)?;
    let snapshot = |row: &Row<'_>| Ok((row.get(0).map(Node::Snapshot)?, digest(row, 1).map(Node::Blob)?));
    let document = |row: &Row<'_>| Ok((digest(row, 0).map(Node::Blob)?, digest(row, 1).map(Node::Blob)?));
    let part = |row: &Row<'_>| Ok((row.get(0).map(Node::Snapshot)?, row.get(1).map(Node::Snapshot)?));
    for (from, to) in list(connection, "SELECT snapshot, part FROM packed_parts", [], part)? {
        graph.refer(from, to);
    }
    for (from, to) in list(connection, "SELECT snapshot, digest FROM layers", [], snapshot)? {
        graph.refer(from, to);
    }
    for (from, to) in list(connection, "SELECT document, digest FROM document_blobs", [], document)? {
        graph.refer(from, to);
    }
    let chain = |row: &Row<'_>| Ok((digest(row, 0)?, digest(row, 1)?));
    for (document, chain_id) in list(connection, "SELECT document, chain_id FROM document_chains", [], chain)?
    {
        if let Some(id) = chains.get(&chain_id) {
            graph.refer(Node::Blob(document), Node::Snapshot(*id));
        }
    }
    Ok(Rows {
        graph,
        images: list(connection, "SELECT digest FROM images", [], |row| digest(row, 0).map(Node::Blob))?,
        held: load_held(connection)?,
        cache: load_cache(connection)?,
        blobs: super::blobs::all(connection)?.into_iter().collect(),
        snapshots,
    })
}

type Sizes = HashMap<SnapshotId, u64>;

fn load_snapshots(
    connection: &Connection,
    graph: &mut Graph,
) -> rusqlite::Result<(Sizes, HashMap<Digest, SnapshotId>)> {
    let mut sizes = HashMap::new();
    let mut chains = HashMap::new();
    let mut statement =
        connection.prepare_cached("SELECT id, parent, size, chain_id, layer FROM snapshots ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: SnapshotId = row.get(0)?;
        let needs: [Option<SnapshotId>; 2] = [row.get(1)?, row.get(4)?];
        for needed in needs.into_iter().flatten() {
            graph.refer(Node::Snapshot(id), Node::Snapshot(needed));
        }
        sizes.insert(id, row.get::<_, Option<u64>>(2)?.unwrap_or(0));
        if let Some(chain_id) = optional_digest(row, 3)? {
            // The oldest one is what a look-up finds.
            chains.entry(chain_id).or_insert(id);
        }
    }
    Ok((sizes, chains))
}

fn load_held(connection: &Connection) -> rusqlite::Result<Vec<Node>> {
    let snapshots = "SELECT snapshot FROM lease_snapshots UNION SELECT snapshot FROM roots
                     UNION SELECT snapshot FROM container_images
                     UNION SELECT id FROM snapshots WHERE lease IS NOT NULL";
    let mut held = list(connection, snapshots, [], |row| row.get(0).map(Node::Snapshot))?;
    held.extend(list(connection, "SELECT DISTINCT digest FROM lease_blobs", [], |row| {
        digest(row, 0).map(Node::Blob)
    })?);
    Ok(held)
}

fn load_cache(connection: &Connection) -> rusqlite::Result<Vec<CacheEntry>> {
    let sql =
        "SELECT output, snapshot, created, last_used, cost_ms, kind, description, uses FROM cache_values
               ORDER BY last_used DESC, output";
    list(connection, sql, [], |row| {
        Ok(CacheEntry {
            output: key(row, 0)?,
            snapshot: row.get(1)?,
            created: row.get(2)?,
            last_used: row.get(3)?,
            cost_ms: row.get(4)?,
            kind: RecordKind::from_name(&row.get::<_, String>(5)?),
            description: row.get(6)?,
            uses: row.get(7)?,
        })
    })
}

/// Removes what no document in the store needs any more from the tables about documents.
pub(crate) fn prune_documents(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM document_blobs WHERE document NOT IN (SELECT digest FROM blobs)", [])?;
    connection
        .execute("DELETE FROM document_chains WHERE document NOT IN (SELECT digest FROM blobs)", [])
        .map(drop)
}

fn list<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}
