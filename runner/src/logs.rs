//! What containers write, kept in files that Docker's tools read, too (`json-file`), and sent elsewhere ([`remote`]).
//!
//! One JSON document per line: what was written, by which stream, when. The file gives way to a new one when
//! it is as large as allowed, and older ones are numbered; so a container's logs take a bounded amount of disk.

mod json_text;
mod log;
mod options;
mod pack;
mod reader;
mod record;
pub mod remote;
pub mod shared;
mod splitter;
mod writer;

pub use log::Log;
pub use options::{FillTag, LogDriver, LogOptions};
pub use reader::{LogReader, Selection, Watch};
pub use record::Record;
pub use writer::LogWriter;

use std::path::{Path, PathBuf};

/// The newest file of a container's logs.
pub fn current(directory: &Path) -> PathBuf {
    directory.join("json.log")
}

/// An older file; the larger the number, the older.
fn older(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("json.log.{number}"))
}

/// The same, compressed.
fn packed(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("json.log.{number}.gz"))
}
