//! Writes tar archives that are the same bytes for the same entries: POSIX ustar headers, with a pax
//! header in front only where ustar cannot say it (long or non-ASCII names, large numbers, fractions of a
//! second, extended attributes).
//!
//! User and group names are left empty, because the names of this host mean nothing elsewhere. Files are
//! written dense. The writer does not sort, clean or check names.

mod header;

use std::io::{self, Read, Write};

use base::{Fault, Faulty};

use crate::tar_entry::{BLOCK, Entry, EntryName};

/// How much data is copied at a time.
const BUFFER: usize = 256 << 10;

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TarWriteError {
    /// The output refused bytes.
    #[error("cannot write the archive at entry {entry}")]
    Write {
        /// The entry being written.
        entry: EntryName,
        /// What the output said.
        #[source]
        source: io::Error,
    },
    /// The end of the archive could not be written.
    #[error("cannot write the end of the archive")]
    End {
        /// What the output said.
        #[source]
        source: io::Error,
    },
    /// The data of a file could not be read.
    #[error("cannot read the data of {entry}")]
    Data {
        /// The entry being written.
        entry: EntryName,
        /// What the input said.
        #[source]
        source: io::Error,
    },
    /// A file became shorter after its size had been taken.
    #[error("{entry} became shorter while it was read: {missing} bytes of {size} are missing")]
    Shrunk {
        /// The entry being written.
        entry: EntryName,
        /// How many bytes are missing.
        missing: u64,
        /// The size that its header promises.
        size: u64,
    },
    /// An entry has a value that no tar header can hold.
    #[error("{entry} has a {field} that a tar archive cannot hold")]
    Unrepresentable {
        /// The entry.
        entry: EntryName,
        /// Which field.
        field: &'static str,
    },
}

impl Faulty for TarWriteError {
    fn fault(&self) -> Fault {
        match self {
            Self::Unrepresentable { .. } => Fault::Input,
            _ => Fault::Environment,
        }
    }
}

/// Writes entries to a stream.
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// A writer at the beginning of an archive.
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// Writes an entry, and for a regular file `entry.size` bytes of `data`.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), TarWriteError> {
        let name = || EntryName(entry.path.clone());
        self.write_headers(entry)?;
        let mut left = entry.size;
        self.buffer.resize(BUFFER, 0);
        while left > 0 {
            let most = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
            let count = match data.read(&mut self.buffer[..most]) {
                Ok(0) => {
                    return Err(TarWriteError::Shrunk { entry: name(), missing: left, size: entry.size });
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarWriteError::Data { entry: name(), source }),
            };
            left -= count as u64;
            self.out
                .write_all(&self.buffer[..count])
                .map_err(|source| TarWriteError::Write { entry: name(), source })?;
        }
        self.write(&[0; BLOCK][..header::padding(entry.size)], entry)
    }

    /// Writes an entry whose data is here: as much as `entry.size` says.
    pub(crate) fn append_bytes(&mut self, entry: &Entry, data: &[u8]) -> Result<(), TarWriteError> {
        debug_assert_eq!(entry.size, data.len() as u64);
        self.write_headers(entry)?;
        self.write(data, entry)?;
        self.write(&[0; BLOCK][..header::padding(entry.size)], entry)
    }

    /// Where it goes.
    pub(crate) fn get_ref(&self) -> &W {
        &self.out
    }

    /// The same, for who writes some of it himself.
    pub(crate) fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the end of the archive, two zero blocks, and gives the output back.
    pub fn finish(mut self) -> Result<W, TarWriteError> {
        let end = [0; 2 * BLOCK];
        self.out.write_all(&end).map_err(|source| TarWriteError::End { source })?;
        Ok(self.out)
    }

    fn write_headers(&mut self, entry: &Entry) -> Result<(), TarWriteError> {
        let headers = headers(entry)?;
        self.write(&headers, entry)
    }

    fn write(&mut self, bytes: &[u8], entry: &Entry) -> Result<(), TarWriteError> {
        self.out
            .write_all(bytes)
            .map_err(|source| TarWriteError::Write { entry: EntryName(entry.path.clone()), source })
    }
}

/// The headers of an entry: what is before its data in an archive.
pub(crate) fn headers(entry: &Entry) -> Result<Vec<u8>, TarWriteError> {
    let unrepresentable = |field| {
        let entry = EntryName(entry.path.clone());
        TarWriteError::Unrepresentable { entry, field }
    };
    header::encode(entry).map_err(unrepresentable)
}
