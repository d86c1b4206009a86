//! The rows: one SQLite database in write-ahead mode, used by any number of threads and processes.
//!
//! Rules, which the rest of the crate relies on:
//!
//! * No transaction spans file I/O. Writes are short `BEGIN IMMEDIATE` transactions, one at a time within a
//!   process (so that its threads queue instead of polling) and with a busy handler between processes.
//! * `synchronous=NORMAL`: the log is flushed only when it is copied into the database, never per commit. A
//!   power loss may therefore lose the newest transactions, but not their order or the database, and rows
//!   of files that may not have reached the disk are dropped anyway (`recovery`).
//! * At the end of a build the log is flushed once ([`Database::write_durably`]).
//! * Closing does not copy the log back, since that flushes twice, and most commands change a few rows
//!   only. It happens after [`CHECKPOINT_PAGES`] pages.
//!
//! One file for each group of tables; only these files contain SQL.

pub(crate) mod blobs;
pub(crate) mod builds;
pub(crate) mod cache;
pub(crate) mod cache_mounts;
pub(crate) mod client_builds;
mod compaction;
pub(crate) mod containers;
pub(crate) mod failed_steps;
pub(crate) mod images;
pub(crate) mod kv;
pub(crate) mod layers;
pub(crate) mod leases;
pub(crate) mod marks;
pub(crate) mod networks;
pub(crate) mod packed;
pub(crate) mod recovery;
pub(crate) mod roots;
pub(crate) mod schema;
pub(crate) mod settings;
pub(crate) mod sharing;
pub(crate) mod snapshots;
mod values;
pub(crate) mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{Fault, Faulty};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use sys::failpoint;

use crate::error::StoreError;
pub(crate) use values::{digest, from_millis, key, optional_digest, optional_key, to_millis};

/// After how many pages (of 4 KiB) of log a commit copies it into the database.
const CHECKPOINT_PAGES: u32 = 500;

/// How often the busy handler tries again before it gives up: for about a minute.
const BUSY_TRIES: i32 = 30_000;

/// With fewer files left to open than this, their number is why SQLite could not open one.
const SPARE_FILES: usize = 64;

/// Statements kept ready for each connection.
const STATEMENTS: usize = 128;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A statement failed.
    #[error("cannot {operation} in the store database {}{}", path.display(), hint(source))]
    Statement {
        /// What was tried, as a verb phrase.
        operation: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The format is not ours: a newer program has changed it, or the file is another program's.
    #[error("the store database {} has format {found} instead of {known}{}", path.display(), newer(*found, *known))]
    Format {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that we write.
        known: u32,
    },
}

fn newer(found: u32, known: u32) -> &'static str {
    if found > known { "; use a newer lap" } else { "" }
}

fn hint(source: &rusqlite::Error) -> &'static str {
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => " (the disk is full; free some space and try again)",
        Some(ErrorCode::DatabaseBusy) => " (another process has kept it locked for a minute)",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => " (the file is damaged)",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            " (check the permissions of the file and its directory)"
        }
        _ => "",
    }
}

impl DbError {
    /// Whether it would have worked with more room on the disk.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.code() == Some(ErrorCode::DiskFull)
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Statement { source, .. } => source.sqlite_error_code(),
            Self::Format { .. } => None,
        }
    }
}

impl Faulty for DbError {
    fn fault(&self) -> Fault {
        match self {
            Self::Format { .. } => Fault::Environment,
            Self::Statement { source, .. } => match source.sqlite_error_code() {
                None | Some(ErrorCode::ConstraintViolation | ErrorCode::ApiMisuse | ErrorCode::Unknown) => {
                    Fault::Bug
                }
                Some(_) => Fault::Environment,
            },
        }
    }
}

/// The database of one store.
pub(crate) struct Database {
    path: PathBuf,
    /// Connections that nobody uses now. There are as many as threads ever worked at once.
    idle: Mutex<Vec<Connection>>,
    /// Held while this process writes.
    writing: Mutex<()>,
}

impl Database {
    /// Creates the database at `path` by way of `aside`, two names on one file system, so that nobody sees
    /// it before it is complete. If there is one at `path` by then, that one stays.
    pub(crate) fn create(path: &Path, aside: &Path) -> Result<(), StoreError> {
        let failed =
            |source| DbError::Statement { operation: "create the tables", path: aside.to_owned(), source };
        let connection = Connection::open(aside).map_err(failed)?;
        // It is on the disk before it has its name, all at once; until then nothing of it is worth anything.
        let careless = connection
            .execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY")
            .map_err(failed);
        let created = careless.and_then(|()| schema::create(&connection).map_err(failed));
        // Closing writes the log back and removes it.
        let closed = connection.close().map_err(|(_, source)| failed(source));
        let linked = match (created, closed) {
            (Ok(()), Ok(())) => {
                let stored = sys::fs::sync_file(aside).and_then(|()| sys::fs::link_if_absent(aside, path));
                stored.map(drop).map_err(StoreError::from)
            }
            (Err(error), _) | (_, Err(error)) => Err(error.into()),
        };
        sys::fs::remove_file(aside)?;
        linked
    }

    /// Opens the database at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, DbError> {
        let database = Self { path: path.to_owned(), idle: Mutex::new(Vec::new()), writing: Mutex::new(()) };
        let connection = database.connect().map_err(|source| database.error("open the file", source))?;
        let found =
            schema::version(&connection).map_err(|source| database.error("read the format", source))?;
        if found != schema::VERSION {
            return Err(DbError::Format { path: path.to_owned(), found, known: schema::VERSION });
        }
        database.give_back(connection);
        Ok(database)
    }

    /// Makes a database of an older format one of ours. Nobody else may have it open.
    pub(crate) fn upgrade(path: &Path) -> Result<(), DbError> {
        let database = Self { path: path.to_owned(), idle: Mutex::new(Vec::new()), writing: Mutex::new(()) };
        database.read("upgrade the tables", schema::upgrade)
    }

    /// Runs `read` outside any transaction: each statement sees the newest committed rows.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        let connection = self.take().map_err(|source| self.error(operation, source))?;
        let result = read(&connection);
        self.give_back(connection);
        result.map_err(|source| self.error(operation, source))
    }

    /// Runs `read` in one read transaction: all statements see the same rows.
    pub(crate) fn read_consistently<T>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        self.read(operation, |connection| {
            let transaction = connection.unchecked_transaction()?;
            read(&transaction)
        })
    }

    /// Runs `write` in one write transaction, which is committed if it succeeds.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        self.write_with(operation, |connection| transact(connection, write))
    }

    /// Has `write` a connection while no other thread of this process writes.
    fn write_with<T>(
        &self,
        operation: &'static str,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        let guard = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = self.take().map_err(|source| self.error(operation, source))?;
        let result = pass_failpoint(operation).and_then(|()| write(&connection));
        self.give_back(connection);
        drop(guard);
        result.map_err(|source| self.error(operation, source))
    }

    /// The same, and flushes the log: this transaction and all before it, by whatever process, survive a power
    /// loss.
    pub(crate) fn write_durably<T>(
        &self,
        operation: &'static str,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DbError> {
        self.write_with(operation, |connection| {
            connection.pragma_update(None, "synchronous", "FULL")?;
            let result = transact(connection, write);
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            result
        })
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| self.connect(), Ok)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// Gives back what connections that nobody uses keep in memory, and all of them but one.
    pub(crate) fn rest(&self) {
        let closed = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = idle.len().min(1);
            let closed = idle.split_off(kept);
            // What it keeps is a copy of what is in the file.
            idle.iter().for_each(|kept| drop(kept.release_memory()));
            closed
        };
        drop(closed);
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_handler(Some(wait_while_busy))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    fn error(&self, operation: &'static str, source: rusqlite::Error) -> DbError {
        DbError::Statement { operation, path: self.path.clone(), source: with_reason(source, &self.path) }
    }
}

/// SQLite does not say why a file cannot be opened. Whoever tries the same is told.
fn with_reason(error: rusqlite::Error, path: &Path) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, _) if code.code == ErrorCode::CannotOpen => {
            let reason = try_to_open(path).err().map(|reason| reason.to_string());
            rusqlite::Error::SqliteFailure(code, reason)
        }
        error => error,
    }
}

/// Fails for the likely reasons why a connection to the database at `path` cannot be opened.
///
/// The database itself is not opened: closing it would drop the locks of every connection of this process
/// (<https://sqlite.org/howtocorrupt.html>, "POSIX advisory locks canceled").
fn try_to_open(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD};
    rustix::fs::accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS)?;
    // Other threads may have closed some in between.
    let files: std::io::Result<Vec<_>> = (0..SPARE_FILES).map(|_| std::fs::File::open("/")).collect();
    files.map(drop)
}

/// Runs `write` in a transaction.
fn transact<T>(
    connection: &Connection,
    write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let value = write(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// A failure here looks as one of the disk does.
fn pass_failpoint(operation: &'static str) -> rusqlite::Result<()> {
    failpoint::pass(operation).map_err(|_| {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None)
    })
}

/// Called by SQLite while another process holds the write lock. Transactions take microseconds, so the first
/// waits are short.
#[expect(
    clippy::disallowed_methods,
    reason = "SQLite has no event to wait for; its own handler sleeps as well"
)]
fn wait_while_busy(tries: i32) -> bool {
    std::thread::sleep(Duration::from_micros(if tries < 20 { 50 } else { 2000 }));
    tries < BUSY_TRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("db");
        Database::create(&path, &dir.path().join("aside")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the database is left");
        path
    }

    #[test]
    fn failed_write_leaves_no_row() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&created(&dir)).unwrap();
        let result = database.write("test", |c| {
            kv::put(c, "b", b"k", b"v")?;
            c.execute("INSERT INTO no_such_table VALUES (1)", [])
        });
        assert!(matches!(result, Err(DbError::Statement { operation: "test", .. })));
        assert_eq!(database.read("test", |c| kv::get(c, "b", b"k")).unwrap(), None);
    }

    #[test]
    fn newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = created(&dir);
        drop(Database::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let Err(error) = Database::open(&path) else { panic!("opened") };
        let known = schema::VERSION;
        let expected = format!("format 99 instead of {known}; use a newer lap");
        assert!(error.to_string().contains(&expected), "{error}");
    }

    #[test]
    fn a_database_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = created(&dir);
        Database::open(&path).unwrap().write("test", |c| kv::put(c, "b", b"k", b"v")).unwrap();
        Database::create(&path, &dir.path().join("aside")).unwrap();
        let value = Database::open(&path).unwrap().read("test", |c| kv::get(c, "b", b"k")).unwrap();
        assert_eq!(value.as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn garbage_is_not_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        let Err(error) = Database::open(&path) else { panic!("opened") };
        assert_eq!(error.fault(), Fault::Environment);
        assert!(error.to_string().contains("damaged"), "{error}");
    }

    #[test]
    fn writers_on_two_connections_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = created(&dir);
        let databases = [Database::open(&path).unwrap(), Database::open(&path).unwrap()];
        std::thread::scope(|scope| {
            for database in &databases {
                scope.spawn(move || {
                    for _ in 0..200 {
                        database
                            .write("count", |c| {
                                let old = kv::get(c, "b", b"n")?.map_or(0, |v| v[0]);
                                kv::put(c, "b", b"n", &[old.wrapping_add(1)])
                            })
                            .unwrap();
                    }
                });
            }
        });
        let count = databases[0].read("count", |c| kv::get(c, "b", b"n")).unwrap().unwrap();
        assert_eq!(count[0], 400u32.to_le_bytes()[0]);
    }
}
