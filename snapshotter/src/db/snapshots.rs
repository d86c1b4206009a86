//! The rows of snapshots: active ones, which have an owner, and committed ones, which do not and never
//! change, except that more becomes known about them.

use base::{Digest, Key, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::{digest, from_millis, optional_digest, optional_key, packed, to_millis};
use crate::snapshot::{SnapshotId, SnapshotInfo};

/// Adds an active snapshot owned by `lease`.
pub(crate) fn insert_active(
    connection: &Connection,
    parent: Option<SnapshotId>,
    lease: &str,
    now: i64,
) -> rusqlite::Result<SnapshotId> {
    let mut statement =
        connection.prepare_cached("INSERT INTO snapshots (parent, lease, created) VALUES (?1, ?2, ?3)")?;
    statement.insert((parent, lease, now)).map(SnapshotId::from_row)
}

/// What is known about a snapshot when it is committed.
pub(crate) struct Committed {
    pub(crate) opaque: bool,
    pub(crate) size: Option<u64>,
    pub(crate) diff: Option<(Digest, u64)>,
    pub(crate) chain_id: Option<Digest>,
    pub(crate) content: Option<Key>,
    pub(crate) created: Option<Timestamp>,
}

/// Makes an active snapshot a committed one. `false` when it is not there any more.
pub(crate) fn commit(connection: &Connection, id: SnapshotId, known: &Committed) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "UPDATE snapshots
         SET lease = NULL, opaque = ?2, size = ?3, diff_id = ?4, diff_size = ?5, chain_id = ?6, content = ?7,
             created = coalesce(?8, created)
         WHERE id = ?1 AND lease IS NOT NULL",
    )?;
    let (diff_id, diff_size) = known.diff.map(|(digest, size)| (*digest.as_bytes(), size)).unzip();
    let chain_id = known.chain_id.map(|digest| *digest.as_bytes());
    let content = known.content.map(|key| *key.as_bytes());
    let created = known.created.map(to_millis);
    let columns = (id, known.opaque, known.size, diff_id, diff_size, chain_id, content, created);
    Ok(statement.execute(columns)? == 1)
}

/// Removes an active snapshot's row.
pub(crate) fn delete_active(connection: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM snapshots WHERE id = ?1 AND lease IS NOT NULL")?;
    statement.execute([id]).map(drop)
}

/// Removes snapshots. Their children, and those who share their layers, are among them too.
pub(crate) fn delete(connection: &Connection, ids: &[SnapshotId]) -> rusqlite::Result<()> {
    // Ids grow from parent to child, from the owner of a layer to those who share it, and from an archive to the layers that need it, so from the largest down no row is left that refers to a removed one.
    let mut ids = ids.to_vec();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let mut statement = connection.prepare_cached("DELETE FROM snapshots WHERE id = ?1")?;
    ids.iter().try_for_each(|id| statement.execute([id]).map(drop))
}

/// Forgets snapshots that were lost, and who keeps them. All that need them are among them too.
pub(crate) fn forget(connection: &Connection, ids: &[SnapshotId]) -> rusqlite::Result<()> {
    let mut roots = connection.prepare_cached("DELETE FROM roots WHERE snapshot = ?1")?;
    ids.iter().try_for_each(|id| roots.execute([id]).map(drop))?;
    let mut containers = connection.prepare_cached("DELETE FROM containers WHERE snapshot = ?1")?;
    ids.iter().try_for_each(|id| containers.execute([id]).map(drop))?;
    delete(connection, ids)
}

/// Whether this is a committed snapshot.
pub(crate) fn is_committed(connection: &Connection, id: SnapshotId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM snapshots WHERE id = ?1 AND lease IS NULL")?.exists([id])
}

/// What a snapshot is on top of, active or not.
pub(crate) fn parent(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Option<SnapshotId>> {
    let mut statement = connection.prepare_cached("SELECT parent FROM snapshots WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| row.get(0)).optional()?.flatten())
}

/// All that is known about a committed snapshot.
pub(crate) fn info(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Option<SnapshotInfo>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, parent, created, size, diff_id, diff_size, chain_id, content FROM snapshots
         WHERE id = ?1 AND lease IS NULL",
    )?;
    statement.query_row([id], read_info).optional()
}

fn read_info(row: &Row<'_>) -> rusqlite::Result<SnapshotInfo> {
    Ok(SnapshotInfo {
        id: row.get(0)?,
        parent: row.get(1)?,
        created_at: from_millis(row.get(2)?),
        size: row.get(3)?,
        diff_id: optional_digest(row, 4)?,
        diff_size: row.get(5)?,
        chain_id: optional_digest(row, 6)?,
        content: optional_key(row, 7)?,
    })
}

/// A snapshot in a chain.
pub(crate) struct ChainLink {
    pub(crate) id: SnapshotId,
    /// The snapshot whose layer directory it uses: its own, or the one it shares.
    pub(crate) layer: SnapshotId,
    pub(crate) opaque: bool,
    /// Whether that layer is packed.
    pub(crate) packed: bool,
}

/// A committed snapshot and all below it, topmost first; empty when it is not there.
pub(crate) fn chain(connection: &Connection, id: SnapshotId) -> rusqlite::Result<Vec<ChainLink>> {
    let mut statement = connection.prepare_cached(
        "WITH RECURSIVE chain(id, parent, layer, opaque, depth) AS (
            SELECT id, parent, layer, opaque, 0 FROM snapshots WHERE id = ?1 AND lease IS NULL
            UNION ALL
            SELECT s.id, s.parent, s.layer, s.opaque, depth + 1
            FROM snapshots s JOIN chain c ON s.id = c.parent)
         SELECT id, COALESCE(layer, id), opaque, p.snapshot IS NOT NULL
         FROM chain LEFT JOIN packed_layers p ON p.snapshot = COALESCE(layer, id) ORDER BY depth",
    )?;
    let read = |row: &Row<'_>| {
        Ok(ChainLink { id: row.get(0)?, layer: row.get(1)?, opaque: row.get(2)?, packed: row.get(3)? })
    };
    statement.query_map([id], read)?.collect()
}

/// The oldest committed snapshot with this chain id. Building can make the same layers twice.
pub(crate) fn by_chain_id(
    connection: &Connection,
    chain_id: &Digest,
) -> rusqlite::Result<Option<SnapshotId>> {
    let mut statement = connection.prepare_cached(
        "SELECT id FROM snapshots WHERE chain_id = ?1 AND lease IS NULL ORDER BY id LIMIT 1",
    )?;
    statement.query_row([chain_id.as_bytes()], |row| row.get(0)).optional()
}

/// Records the digest and length of a snapshot's uncompressed layer, and the chain ids that follow.
pub(crate) fn learn_diff_id(
    connection: &Connection,
    id: SnapshotId,
    diff_id: &Digest,
    diff_size: u64,
) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE snapshots SET diff_id = ?2, diff_size = ?3 WHERE id = ?1")?;
    statement.execute((id, diff_id.as_bytes(), diff_size))?;
    let Some(this) = info(connection, id)? else { return Ok(()) };
    let chain_id = match this.parent {
        None => Some(*diff_id),
        Some(parent) => info(connection, parent)?
            .and_then(|parent| parent.chain_id)
            .and_then(|below| base::image::chain_id(&[below, *diff_id])),
    };
    chain_id.map_or(Ok(()), |chain_id| set_chain_id(connection, id, &chain_id))
}

/// Records a snapshot's chain id, and the chain ids that follow for snapshots above whose layers are known.
fn set_chain_id(connection: &Connection, id: SnapshotId, chain_id: &Digest) -> rusqlite::Result<()> {
    let mut set = connection.prepare_cached("UPDATE snapshots SET chain_id = ?2 WHERE id = ?1")?;
    let mut children = connection.prepare_cached(
        "SELECT id, diff_id FROM snapshots WHERE parent = ?1 AND diff_id IS NOT NULL AND chain_id IS NULL",
    )?;
    let mut open = vec![(id, *chain_id)];
    while let Some((id, chain_id)) = open.pop() {
        set.execute((id, chain_id.as_bytes()))?;
        let above = children.query_map([id], |row| Ok((row.get(0)?, digest(row, 1)?)))?;
        for child in above {
            let (child, diff_id) = child?;
            open.extend(base::image::chain_id(&[chain_id, diff_id]).map(|chain_id| (child, chain_id)));
        }
    }
    Ok(())
}

/// Records the content key of a snapshot's tree, unless one is known.
pub(crate) fn note_content(connection: &Connection, id: SnapshotId, content: &Key) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE snapshots SET content = ?2 WHERE id = ?1 AND content IS NULL")?;
    statement.execute((id, content.as_bytes())).map(drop)
}

/// Records the content key of a snapshot's tree.
pub(crate) fn set_content(connection: &Connection, id: SnapshotId, content: &Key) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE snapshots SET content = ?2 WHERE id = ?1")?;
    statement.execute((id, content.as_bytes())).map(drop)
}

/// Records how much disk a snapshot's own layer takes.
pub(crate) fn set_size(connection: &Connection, id: SnapshotId, size: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE snapshots SET size = ?2 WHERE id = ?1")?.execute((id, size)).map(drop)
}

/// Forgets it, so that it is counted again.
pub(crate) fn forget_size(connection: &Connection, id: SnapshotId) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE snapshots SET size = NULL WHERE id = ?1")?.execute([id]).map(drop)
}

/// A row as the collector and the checker see it.
pub(crate) struct Listed {
    pub(crate) id: SnapshotId,
    pub(crate) parent: Option<SnapshotId>,
    pub(crate) active: bool,
    /// Whether a container owns it.
    pub(crate) of_container: bool,
    /// The snapshot whose layer directory it uses, if not its own.
    pub(crate) layer: Option<SnapshotId>,
    pub(crate) size: Option<u64>,
    /// The layers whose archives are part of its own.
    pub(crate) parts: Vec<SnapshotId>,
}

impl Listed {
    /// What it cannot be without.
    pub(crate) fn needs(&self) -> impl Iterator<Item = SnapshotId> {
        self.parent.into_iter().chain(self.layer).chain(self.parts.iter().copied())
    }
}

/// Every snapshot, active ones included.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, parent, lease IS NOT NULL, layer, size, lease IN (SELECT id FROM containers)
             FROM snapshots ORDER BY id",
    )?;
    let read = |row: &Row<'_>| {
        Ok(Listed {
            id: row.get(0)?,
            parent: row.get(1)?,
            active: row.get(2)?,
            layer: row.get(3)?,
            size: row.get(4)?,
            of_container: row.get::<_, Option<bool>>(5)?.unwrap_or(false),
            parts: Vec::new(),
        })
    };
    let mut all: Vec<Listed> = statement.query_map([], read)?.collect::<Result<_, _>>()?;
    for (id, part) in packed::all_parts(connection)? {
        if let Ok(at) = all.binary_search_by_key(&id, |row| row.id) {
            all[at].parts.push(part);
        }
    }
    Ok(all)
}
