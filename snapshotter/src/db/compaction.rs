//! Giving the space of deleted rows back to the file system.
//!
//! SQLite keeps the pages of deleted rows for new ones, and its log keeps the length it once had. After a
//! collection the database is written anew without its free pages (`VACUUM`), if they are enough of it to
//! be worth that, and the log is cut. So a store from which everything was removed is as small as a new
//! one, and a collection that removes little pays little: what is written is at most a few times what was
//! deleted before, or a few megabytes.

use rusqlite::{Connection, ErrorCode};

use super::{Database, DbError, pass_failpoint};

/// Up to this many pages (of 4 KiB) the database is written anew for a single free one.
const SMALL: u64 = 1024;

/// A larger one is written anew when one in so many pages is free.
const FREE_SHARE: u64 = 4;

/// Up to this many pages the copy is made in memory, and not in a temporary file.
const IN_MEMORY: u64 = 4096;

impl Database {
    /// Makes the files of the database as small as their content. Where others are in the way, or there is
    /// no room for the copy, it is left to a later time.
    pub(crate) fn compact(&self) -> Result<(), DbError> {
        let compacted = self.read("give back the space of deleted rows", |connection| {
            if is_worth_it(connection)? {
                pass_failpoint("vacuum")?;
                connection.execute_batch("VACUUM")?;
            }
            pass_failpoint("cut the log")?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
        match compacted {
            Err(error) if error.is_disk_full() || error.code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            done => done,
        }
    }
}

fn is_worth_it(connection: &Connection) -> rusqlite::Result<bool> {
    let pages: u64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let free: u64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    let in_memory = if pages - free <= IN_MEMORY { "MEMORY" } else { "DEFAULT" };
    connection.pragma_update(None, "temp_store", in_memory)?;
    Ok(free > 0 && (pages <= SMALL || free * FREE_SHARE >= pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::kv;

    fn length(database: &Database) -> (u64, u64) {
        let log = database.path.with_extension("sqlite-wal");
        let len = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        (len(&database.path), len(&log))
    }

    #[test]
    fn an_emptied_database_is_as_small_as_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.sqlite");
        Database::create(&path, &dir.path().join("aside")).unwrap();
        let database = Database::open(&path).unwrap();
        database.compact().unwrap();
        let new = length(&database);
        let put = |c: &Connection| (0..999u32).try_for_each(|n| kv::put(c, "b", &n.to_le_bytes(), &[7; 500]));
        database.write("fill", put).unwrap();
        database.compact().unwrap();
        assert!(length(&database).0 > new.0 + 400_000);
        database.write("empty", |c| kv::clear(c, "b")).unwrap();
        // Beside somebody who reads and somebody who writes: it waits, or leaves it.
        let other = Database::open(&path).unwrap();
        other.read("look", |c| c.query_row("SELECT COUNT(*) FROM kv", [], |_| Ok(()))).unwrap();
        database.compact().unwrap();
        assert_eq!((length(&database), new.1), (new, 0));
        other.write("go on", |c| kv::put(c, "b", b"k", b"v")).unwrap();
    }
}
