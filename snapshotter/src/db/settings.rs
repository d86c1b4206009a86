//! Facts about the store itself: which driver it uses, in which boot it was last opened, and what was possible then.

use rusqlite::{Connection, OptionalExtension as _};

/// The driver that the store was made for.
pub(crate) const DRIVER: &str = "driver";

/// The boot in which unsynced rows were written.
pub(crate) const BOOT: &str = "boot";

/// When the last automatic collection began, in milliseconds since 1970.
pub(crate) const COLLECTED: &str = "collected";

/// The boot in which the kernel was found to mount packed layers, what was asked, and in which way it does.
pub(crate) const PACKS: &str = "packs";

/// The value of a setting.
pub(crate) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

/// Sets a setting.
pub(crate) fn put(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
    )?;
    statement.execute([name, value]).map(drop)
}
