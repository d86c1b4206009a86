//! The tables, as the steps that led to them: step N makes a database of format N out of one of format
//! N - 1. A new database takes all of them.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// The steps, the first one first. A step that was published never changes.
const STEPS: [&str; 14] = [
    FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4, FORMAT_5, FORMAT_6, FORMAT_7, FORMAT_8, FORMAT_9, FORMAT_10,
    FORMAT_11, FORMAT_12, FORMAT_13, FORMAT_14,
];

/// The format that this program writes. SQLite keeps it in `user_version`.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// Times are milliseconds since 1970, digests and keys 32 bytes, sizes bytes.
const FORMAT_1: &str = "
-- One row each: driver, boot.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Ids are never used twice, because a directory may outlive its row.
CREATE TABLE snapshots (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    parent    INTEGER REFERENCES snapshots(id),
    lease     TEXT,                        -- the owner while active, null once committed
    created   INTEGER NOT NULL,
    synced    INTEGER NOT NULL DEFAULT 0,  -- 1: the files have reached the disk
    opaque    INTEGER NOT NULL DEFAULT 0,  -- 1: hides everything below
    size      INTEGER,                     -- bytes on disk of this layer, once counted
    diff_id   BLOB,
    diff_size INTEGER,
    chain_id  BLOB,
    content   BLOB                         -- content key of the whole tree
);
CREATE INDEX snapshots_by_parent ON snapshots(parent);
CREATE INDEX snapshots_by_chain_id ON snapshots(chain_id) WHERE chain_id IS NOT NULL;
CREATE INDEX snapshots_unsynced ON snapshots(id) WHERE synced = 0;

CREATE TABLE blobs (
    digest  BLOB PRIMARY KEY,
    size    INTEGER NOT NULL,
    created INTEGER NOT NULL,
    synced  INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX blobs_unsynced ON blobs(digest) WHERE synced = 0;

-- The blobs that a snapshot's layer was or would be written to, by form. The digest may be known while the
-- blob is not there.
CREATE TABLE layers (
    snapshot   INTEGER NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
    form       TEXT NOT NULL,
    diff_id    BLOB NOT NULL,
    digest     BLOB NOT NULL,
    size       INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (snapshot, form)
) WITHOUT ROWID;

-- What a live owner needs. A lease is live while its file is locked.
CREATE TABLE lease_snapshots (
    lease    TEXT NOT NULL,
    snapshot INTEGER NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
    PRIMARY KEY (lease, snapshot)
) WITHOUT ROWID;
CREATE INDEX lease_snapshots_by_snapshot ON lease_snapshots(snapshot);
CREATE TABLE lease_blobs (
    lease  TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES blobs(digest) ON DELETE CASCADE,
    PRIMARY KEY (lease, digest)
) WITHOUT ROWID;
CREATE INDEX lease_blobs_by_digest ON lease_blobs(digest);

-- What is kept until somebody says otherwise: for example the snapshots of containers.
CREATE TABLE roots (
    kind     TEXT NOT NULL,
    name     TEXT NOT NULL,
    snapshot INTEGER NOT NULL REFERENCES snapshots(id),
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE INDEX roots_by_snapshot ON roots(snapshot);

CREATE TABLE images (
    name       TEXT PRIMARY KEY,
    digest     BLOB NOT NULL,   -- of the manifest or index
    config     BLOB,            -- of the config, when the target is a manifest
    descriptor TEXT NOT NULL,   -- JSON
    created    INTEGER NOT NULL
) WITHOUT ROWID;

-- What documents refer to, recorded when they are tagged: indexes to manifests, manifests to config and
-- layers, and manifests to the snapshot with all their layers.
CREATE TABLE document_blobs (
    document BLOB NOT NULL,
    digest   BLOB NOT NULL,
    PRIMARY KEY (document, digest)
) WITHOUT ROWID;
CREATE TABLE document_chains (
    document BLOB PRIMARY KEY,
    chain_id BLOB NOT NULL
) WITHOUT ROWID;

-- The build cache: op and input in a slot lead to an output key, and an output key to a value.
CREATE TABLE cache_links (
    op     BLOB NOT NULL,
    slot   INTEGER NOT NULL,
    input  BLOB NOT NULL,
    output BLOB NOT NULL,
    PRIMARY KEY (op, slot, input, output)
) WITHOUT ROWID;
CREATE TABLE cache_values (
    output    BLOB PRIMARY KEY,
    snapshot  INTEGER REFERENCES snapshots(id) ON DELETE CASCADE,
    content   BLOB,
    metadata  BLOB NOT NULL,
    cost_ms   INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_values_by_snapshot ON cache_values(snapshot);

CREATE TABLE kv (
    bucket TEXT NOT NULL,
    key    BLOB NOT NULL,
    value  BLOB NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
";

/// Snapshots may share a layer directory, and there are cache mounts.
const FORMAT_2: &str = "
-- The snapshot whose layer directory this one uses; null for its own. That one never shares itself.
ALTER TABLE snapshots ADD COLUMN layer INTEGER REFERENCES snapshots(id);
CREATE INDEX snapshots_by_layer ON snapshots(layer) WHERE layer IS NOT NULL;

-- Directories that outlive the steps that write to them.
CREATE TABLE cache_mounts (
    directory TEXT PRIMARY KEY,  -- a random name
    id        TEXT NOT NULL,     -- what its users call it; several directories may have one id
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    synced    INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX cache_mounts_by_id ON cache_mounts(id, created);
";

/// Cache entries say what they are.
const FORMAT_3: &str = "
ALTER TABLE cache_values ADD COLUMN kind TEXT NOT NULL DEFAULT 'regular';
ALTER TABLE cache_values ADD COLUMN description TEXT NOT NULL DEFAULT '';  -- what made it
ALTER TABLE cache_values ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;       -- how often it was found
";

/// There are containers.
const FORMAT_4: &str = "
CREATE TABLE containers (
    id       TEXT PRIMARY KEY,      -- 64 hex digits; also the owner of its snapshot, in place of a lease
    name     TEXT NOT NULL UNIQUE,
    image    BLOB NOT NULL,         -- id of the image
    snapshot INTEGER NOT NULL REFERENCES snapshots(id),
    created  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX containers_by_snapshot ON containers(snapshot);
";

/// Builds are remembered, and when results were removed.
const FORMAT_5: &str = "
CREATE TABLE builds (
    id      TEXT PRIMARY KEY,
    project BLOB NOT NULL,              -- equal for builds that are worth comparing
    name    TEXT NOT NULL,
    created INTEGER NOT NULL,
    ended   INTEGER,                    -- null while it runs, and for good when it was killed
    status  TEXT NOT NULL,
    pinned  INTEGER NOT NULL DEFAULT 0,
    record  BLOB,                       -- what is kept of a build that has no directory, since nothing ran in it
    events  BLOB
);
CREATE INDEX builds_by_project ON builds(project, created);

CREATE TABLE removed_results (
    output  BLOB PRIMARY KEY,
    removed INTEGER NOT NULL
) WITHOUT ROWID;
-- Also when a value goes with its snapshot. Not when it is replaced.
CREATE TRIGGER cache_value_removed AFTER DELETE ON cache_values BEGIN
    INSERT OR REPLACE INTO removed_results VALUES (old.output, unixepoch() * 1000);
END;
";

/// Blobs are asked for by their digest alone: which documents need one, and which layer it would be.
const FORMAT_6: &str = "
CREATE INDEX document_blobs_by_digest ON document_blobs(digest);
CREATE INDEX layers_by_digest ON layers(digest);
CREATE INDEX images_by_digest ON images(digest);
";

/// Builds have an order that a clock which is set back does not change.
const FORMAT_7: &str = "
-- The greater, the newer: when the build began, or just above all others where the clock says less.
ALTER TABLE builds ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
UPDATE builds SET place = created;
DROP INDEX builds_by_project;
CREATE INDEX builds_by_project ON builds(project, place);
CREATE INDEX builds_by_place ON builds(place);
";

/// There are volumes.
const FORMAT_8: &str = "
CREATE TABLE volumes (
    name      TEXT PRIMARY KEY,
    directory TEXT NOT NULL UNIQUE,  -- a random name
    anonymous INTEGER NOT NULL,      -- 1: made for one container, which nobody named
    document  TEXT NOT NULL,         -- JSON: how it was asked for
    created   INTEGER NOT NULL
) WITHOUT ROWID;

-- The containers that show a volume, running or not. It is not removed before them.
CREATE TABLE volume_users (
    volume    TEXT NOT NULL REFERENCES volumes(name),
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    PRIMARY KEY (volume, container)
) WITHOUT ROWID;
CREATE INDEX volume_users_by_container ON volume_users(container);
";

/// There are user-defined networks.
const FORMAT_9: &str = "
CREATE TABLE networks (
    id       TEXT PRIMARY KEY,      -- 64 hex digits
    name     TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,         -- JSON: how it was asked for
    created  INTEGER NOT NULL
) WITHOUT ROWID;

-- The containers that are in a network, running or not.
CREATE TABLE network_users (
    network   TEXT NOT NULL REFERENCES networks(id) ON DELETE CASCADE,
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    PRIMARY KEY (network, container)
) WITHOUT ROWID;
CREATE INDEX network_users_by_container ON network_users(container);
";

/// Containers show images beside their own.
const FORMAT_10: &str = "
-- The layers of such images. They are kept for as long as the container is there.
CREATE TABLE container_images (
    container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    snapshot  INTEGER NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
    PRIMARY KEY (container, snapshot)
) WITHOUT ROWID;
CREATE INDEX container_images_by_snapshot ON container_images(snapshot);
";

/// Clients of a daemon ask for builds under names of their own, and are told more of them.
const FORMAT_11: &str = "
CREATE TABLE client_builds (
    build    TEXT PRIMARY KEY REFERENCES builds(id) ON DELETE CASCADE,
    name     TEXT NOT NULL,    -- the client's; several builds may have it, of which the newest is meant
    document BLOB NOT NULL     -- JSON: what is told of it
);
CREATE INDEX client_builds_by_name ON client_builds(name);

-- What goes with them: logs, and what is told of their results.
CREATE TABLE build_attachments (
    build   TEXT NOT NULL REFERENCES builds(id) ON DELETE CASCADE,
    digest  BLOB NOT NULL,     -- of the content
    size    INTEGER NOT NULL,
    content BLOB NOT NULL,     -- as its owner packs it
    PRIMARY KEY (build, digest)
);
CREATE INDEX build_attachments_by_digest ON build_attachments(digest);
";

/// Layers may be packed.
const FORMAT_12: &str = "
-- The layers that are files, not directories, by the snapshot whose own layer it is. The digest of the archive is that
-- of the uncompressed layer.
CREATE TABLE packed_layers (
    snapshot     INTEGER PRIMARY KEY REFERENCES snapshots(id) ON DELETE CASCADE,
    tar_digest   BLOB NOT NULL,
    tar_size     INTEGER NOT NULL,
    index_digest BLOB NOT NULL,
    index_size   INTEGER NOT NULL,
    checked      TEXT NOT NULL   -- which files they were when they last were what the digests say, and in which boot
);
";

/// Packed layers share what they hold.
const FORMAT_13: &str = "
-- The packed layers whose archives another one needs, beside its own; with all that those need. They are kept for its sake.
CREATE TABLE packed_parts (
    snapshot INTEGER NOT NULL REFERENCES packed_layers(snapshot) ON DELETE CASCADE,
    part     INTEGER NOT NULL REFERENCES snapshots(id),
    PRIMARY KEY (snapshot, part)
) WITHOUT ROWID;
CREATE INDEX packed_parts_by_part ON packed_parts(part);

-- The digest of the list of what a layer holds, if there is one.
ALTER TABLE packed_layers ADD COLUMN contents BLOB;
";

/// Packed layers are found that are alike.
const FORMAT_14: &str = "
-- What the files of a layer are called and how long they are, in a few numbers.
ALTER TABLE packed_layers ADD COLUMN sketch BLOB;

-- The digest of the list of its pieces, if others have some.
ALTER TABLE packed_layers ADD COLUMN pieces BLOB;
";

/// The format of an open database; 0 is an empty one.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes an empty database one of the current format.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    upgrade(connection)?;
    // The journal mode cannot change inside a transaction, and stays with the file.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
}

/// Takes the steps that a database of an older format has not seen. Does nothing to a newer one.
pub(super) fn upgrade(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    if found < VERSION {
        STEPS[found as usize..].iter().try_for_each(|step| transaction.execute_batch(step))?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// Makes an empty database one of the first format.
#[cfg(test)]
pub(crate) fn create_first(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(FORMAT_1)?;
    connection.pragma_update(None, "user_version", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_database_becomes_a_new_one_and_keeps_its_rows() {
        let connection = Connection::open_in_memory().unwrap();
        create_first(&connection).unwrap();
        connection.execute("INSERT INTO snapshots (created) VALUES (7)", []).unwrap();
        upgrade(&connection).unwrap();
        upgrade(&connection).unwrap();
        assert_eq!(version(&connection).unwrap(), VERSION);
        let row = connection.query_row("SELECT created, layer FROM snapshots", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        });
        assert_eq!(row.unwrap(), (7, None));
        connection.execute("INSERT INTO cache_mounts VALUES ('d', 'id', 1, 1, 0)", []).unwrap();
    }
}
