//! The rows of builds that clients of a daemon asked for, and of what goes with them.

use base::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::digest;
use crate::client_build::{Attachment, ClientBuild};

/// Records what is told of a build, in place of what was told before. Its row is there.
pub(crate) fn put(
    connection: &Connection,
    build: &ClientBuild,
    attachments: &[Attachment],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO client_builds (build, name, document) VALUES (?1, ?2, ?3)")?
        .execute((&build.build, &build.name, &build.document))?;
    connection.prepare_cached("DELETE FROM build_attachments WHERE build = ?1")?.execute([&build.build])?;
    attachments.iter().try_for_each(|attachment| attach(connection, &build.build, attachment))
}

fn attach(connection: &Connection, build: &str, attachment: &Attachment) -> rusqlite::Result<()> {
    let Attachment { digest, size, content } = attachment;
    let size = i64::try_from(*size).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO build_attachments (build, digest, size, content) VALUES (?1, ?2, ?3, ?4)",
    )?;
    statement.execute((build, digest.as_bytes(), size, content)).map(drop)
}

/// Records what is told of a build now, with `new` in place of what went with it under the digest `old`.
pub(crate) fn amend(
    connection: &Connection,
    build: &ClientBuild,
    old: Option<&Digest>,
    new: &Attachment,
) -> rusqlite::Result<()> {
    let changed = connection
        .prepare_cached("UPDATE client_builds SET document = ?2 WHERE build = ?1")?
        .execute((&build.build, &build.document))?;
    if changed == 0 {
        return Ok(());
    }
    if let Some(old) = old {
        let sql = "DELETE FROM build_attachments WHERE build = ?1 AND digest = ?2";
        connection.prepare_cached(sql)?.execute((&build.build, old.as_bytes()))?;
    }
    attach(connection, &build.build, new)
}

/// Every such build.
pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<ClientBuild>> {
    connection
        .prepare_cached("SELECT build, name, document FROM client_builds")?
        .query_map([], read)?
        .collect()
}

/// What is told of one build.
pub(crate) fn get(connection: &Connection, build: &str) -> rusqlite::Result<Option<ClientBuild>> {
    let sql = "SELECT build, name, document FROM client_builds WHERE build = ?1";
    connection.prepare_cached(sql)?.query_row([build], read).optional()
}

/// The id of the newest build of this name.
pub(crate) fn named(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT builds.id FROM client_builds JOIN builds ON builds.id = client_builds.build
               WHERE client_builds.name = ?1 ORDER BY builds.place DESC LIMIT 1";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()
}

/// The size and content of what goes with some build.
pub(crate) fn attachment(connection: &Connection, digest: &Digest) -> rusqlite::Result<Option<Attachment>> {
    let sql = "SELECT digest, size, content FROM build_attachments WHERE digest = ?1 LIMIT 1";
    let read = |row: &Row<'_>| {
        Ok(Attachment { digest: super::digest(row, 0)?, size: size(row, 1)?, content: row.get(2)? })
    };
    connection.prepare_cached(sql)?.query_row([digest.as_bytes()], read).optional()
}

/// Digests and sizes of all that goes with builds.
pub(crate) fn attachments(connection: &Connection) -> rusqlite::Result<Vec<(Digest, u64)>> {
    connection
        .prepare_cached("SELECT DISTINCT digest, size FROM build_attachments ORDER BY digest")?
        .query_map([], |row| Ok((digest(row, 0)?, size(row, 1)?)))?
        .collect()
}

fn size(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn read(row: &Row<'_>) -> rusqlite::Result<ClientBuild> {
    Ok(ClientBuild { build: row.get(0)?, name: row.get(1)?, document: row.get(2)? })
}
