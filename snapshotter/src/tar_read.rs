//! Reads tar archives from a stream, one entry at a time.
//!
//! Understood: the old V7 header, POSIX ustar and pax (`path`, `linkpath`, `size`, `uid`, `gid`, `mtime`
//! with fractions, `SCHILY.xattr.*`), GNU long names (`L`, `K`), GNU binary numbers, and sparse files in
//! all four encodings (old GNU and pax 0.0, 0.1, 1.0). Pax global headers are skipped and not applied, as
//! Docker and containerd do, so that one record cannot rename every entry. Volume labels are skipped.
//!
//! An own reader rather than the `tar` crate: we need the three pax sparse encodings, data handed out in
//! place from the input buffer, a bound on every allocation, and an error type that tells a truncated
//! stream from a wrong header. The reader gives names as they stand: it neither cleans nor judges them
//! (that is apply's work), and it touches no file.

mod header;
mod pax;
mod sparse;
mod stream;

use std::io::{self, BufRead};

use base::{Fault, Faulty};

use crate::tar_entry::{BLOCK, Entry, EntryName, Kind};
use header::{Header, TypeFlag};
use stream::Stream;

/// The longest pax header or GNU long name that is read, in bytes. Go's reader has the same limit.
pub const MAX_METADATA: u64 = 1 << 20;

/// The most pieces a sparse file may have.
pub const MAX_EXTENTS: usize = 1 << 20;

/// Why a stream is not a good tar archive. Offsets are bytes from the beginning of the archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading the stream failed; for a compressed archive, this is also how bad compressed data shows.
    #[error("cannot read the archive at offset {offset}")]
    Read {
        /// How much had been read.
        offset: u64,
        /// What the stream said.
        #[source]
        source: io::Error,
    },
    /// The stream ended inside a header.
    #[error("the archive is truncated: it ends inside a header at offset {offset}")]
    TruncatedHeader {
        /// Where the stream ended.
        offset: u64,
    },
    /// The stream ended before the data that the header promised: it was cut, or the size is a lie.
    #[error(
        "the archive is truncated: entry {entry} lacks the last {missing} bytes that its header promises"
    )]
    TruncatedData {
        /// The entry.
        entry: EntryName,
        /// How many bytes, padding included, did not come.
        missing: u64,
    },
    /// A header's checksum is wrong: this is not a tar archive, or it is damaged.
    #[error("not a tar header at offset {offset}: the checksum does not match")]
    Checksum {
        /// Where the header begins.
        offset: u64,
    },
    /// A field of a header is not a number, or one out of range.
    #[error("the header of entry {entry} has an invalid {field}")]
    Number {
        /// The entry.
        entry: EntryName,
        /// Which field.
        field: &'static str,
    },
    /// A pax header is malformed.
    #[error("the extended header at offset {offset} has a malformed record")]
    PaxRecord {
        /// Where the data of the extended header begins.
        offset: u64,
    },
    /// A pax header or long name is longer than [`MAX_METADATA`].
    #[error(
        "the extended header at offset {offset} claims {size} bytes (at most {MAX_METADATA} are allowed)"
    )]
    MetadataTooLong {
        /// Where the extended header begins.
        offset: u64,
        /// Its size as claimed.
        size: u64,
    },
    /// An extended header is the last thing in the archive, or follows another one of its kind.
    #[error("the extended header before offset {offset} belongs to no entry")]
    StrayMetadata {
        /// Where an entry was expected.
        offset: u64,
    },
    /// The map of a sparse file is malformed, out of order or does not fit its sizes.
    #[error("entry {entry} has an invalid sparse map")]
    SparseMap {
        /// The entry.
        entry: EntryName,
    },
    /// An entry has a type that is not supported.
    #[error("entry {entry} has the unsupported type {flag:?}")]
    Type {
        /// The entry.
        entry: EntryName,
        /// The type flag of the header.
        flag: char,
    },
    /// Something other than zeros follows the end of the archive.
    #[error("data follows the end of the archive at offset {offset}")]
    TrailingData {
        /// Where the first byte that is not zero lies.
        offset: u64,
    },
}

impl Faulty for TarError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read { source, .. } => base::fault::of_io(source),
            _ => Fault::Input,
        }
    }
}

/// A piece of a file's data.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Where in the file it belongs.
    pub offset: u64,
    /// The bytes, at least one.
    pub bytes: &'a [u8],
}

/// Reads entries from a tar stream.
pub struct Reader<R> {
    stream: Stream<R>,
    /// The name of the entry whose data is being read, for messages.
    name: Vec<u8>,
    /// Bytes of its stored data that were not handed out yet.
    left: u64,
    /// Bytes after the data up to the next block.
    padding: u64,
    /// How far the data of the entry has been handed out.
    cursor: sparse::Cursor,
}

impl<R: BufRead> Reader<R> {
    /// A reader at the beginning of an archive.
    pub fn new(input: R) -> Self {
        Self {
            stream: Stream::new(input),
            name: Vec::new(),
            left: 0,
            padding: 0,
            cursor: sparse::Cursor::dense(0),
        }
    }

    /// Bytes of the archive read so far.
    pub fn offset(&self) -> u64 {
        self.stream.offset()
    }

    /// The next entry, or `None` at the end: a zero block, or the end of the stream where a header could
    /// begin, which is how some writers stop. Data of the entry before that was not read is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_data()?;
        let mut extension = pax::Extension::default();
        loop {
            let at = self.stream.offset();
            let block = match self.stream.block()? {
                Some(block) if block != [0; BLOCK] => block,
                _ if extension.is_empty() => return Ok(None),
                _ => return Err(TarError::StrayMetadata { offset: at }),
            };
            let header = Header::parse(&block, at)?;
            match header.flag {
                TypeFlag::Pax => extension.add_records(&self.metadata(&header, at)?, at)?,
                TypeFlag::LongName => extension.set_path(self.metadata(&header, at)?),
                TypeFlag::LongLink => extension.set_link(self.metadata(&header, at)?),
                TypeFlag::Global => drop(self.metadata(&header, at)?),
                TypeFlag::Label => {}
                TypeFlag::OldSparse => return self.old_sparse(header, extension, &block).map(Some),
                TypeFlag::Entry(kind) => return self.entry(header, kind, extension).map(Some),
                TypeFlag::Unknown(flag) => {
                    let entry = EntryName(extension.path.unwrap_or(header.path));
                    return Err(TarError::Type { entry, flag: char::from(flag) });
                }
            }
        }
    }

    /// The next piece of data of the current entry, or `None` when all of it has been handed out. Pieces
    /// come in ascending order; zeros that a sparse file leaves out are not handed out.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, TarError> {
        let Some(piece) = self.cursor.current() else { return Ok(None) };
        let length = self.stream.available(piece.length)?;
        if length == 0 {
            return Err(self.truncated());
        }
        self.cursor.advance(length as u64);
        self.left -= length as u64;
        let bytes = self.stream.lend(length)?;
        Ok(Some(Chunk { offset: piece.offset, bytes }))
    }

    /// Reads on to the next block behind the data of the current entry, all of which was handed out. Whether there are only
    /// zeros until there, as writers put them.
    pub fn ends_with_zeros(&mut self) -> Result<bool, TarError> {
        let mut zeros = true;
        while self.padding > 0 {
            let length = self.stream.available(self.padding)?;
            if length == 0 {
                return Err(self.truncated());
            }
            self.padding -= length as u64;
            zeros &= self.stream.lend(length)?.iter().all(|byte| *byte == 0);
        }
        Ok(zeros)
    }

    /// Reads a piece of what follows the end of the archive; `false` when the stream has ended. Zeros are
    /// what writers pad with. Anything else is [`TarError::TrailingData`], because a reader that goes on
    /// past zero blocks would see other files.
    pub fn read_padding(&mut self) -> Result<bool, TarError> {
        let length = self.stream.available(u64::MAX)?;
        if length == 0 {
            return Ok(false);
        }
        let at = self.stream.offset();
        match self.stream.lend(length)?.iter().position(|&byte| byte != 0) {
            Some(found) => Err(TarError::TrailingData { offset: at + found as u64 }),
            None => Ok(true),
        }
    }

    /// An ordinary entry: the header, overridden by what the extended headers before it say.
    fn entry(
        &mut self,
        header: Header,
        kind: Kind,
        mut extension: pax::Extension,
    ) -> Result<Entry, TarError> {
        let sparse = extension.sparse.take();
        let mut entry = with_extension(&header, kind, extension)?;
        self.begin_data(&entry);
        if let Some(description) = sparse.filter(|_| kind == Kind::File) {
            let map = self.pax_sparse_map(&mut entry, description)?;
            self.use_map(&mut entry, map)?;
        }
        if kind == Kind::File && entry.path.ends_with(b"/") {
            // V7 has no type for directories: a file whose name ends in a slash is one.
            entry.kind = Kind::Directory;
            entry.size = 0;
            entry.extents = None;
        }
        Ok(entry)
    }

    /// A sparse file in GNU tar's old encoding: the map begins in the header block.
    fn old_sparse(
        &mut self,
        header: Header,
        extension: pax::Extension,
        block: &[u8; BLOCK],
    ) -> Result<Entry, TarError> {
        let mut entry = with_extension(&header, Kind::File, extension)?;
        self.begin_data(&entry);
        let invalid = |name: &[u8]| TarError::SparseMap { entry: name.into() };
        let mut map = sparse::Map::from_old_header(block).ok_or_else(|| invalid(&self.name))?;
        let mut more = sparse::continues(block);
        while more {
            let Some(next) = self.stream.block()? else { return Err(self.truncated()) };
            more = map.add_old_extension(&next).ok_or_else(|| invalid(&self.name))?;
        }
        self.use_map(&mut entry, map)?;
        Ok(entry)
    }

    fn begin_data(&mut self, entry: &Entry) {
        self.name.clone_from(&entry.path);
        self.left = entry.size;
        self.padding = padding(entry.size);
        self.cursor = sparse::Cursor::dense(entry.size);
    }

    /// The sparse map that pax records describe; version 1.0 keeps it in front of the data.
    fn pax_sparse_map(
        &mut self,
        entry: &mut Entry,
        description: sparse::Description,
    ) -> Result<sparse::Map, TarError> {
        if let Some(name) = description.name.clone() {
            entry.path = name;
            self.name.clone_from(&entry.path);
        }
        let invalid = |name: &[u8]| TarError::SparseMap { entry: name.into() };
        if !description.map_in_data() {
            return description.into_map().ok_or_else(|| invalid(&self.name));
        }
        let mut parser = sparse::DataMap::default();
        while !parser.is_complete() {
            self.left = self.left.checked_sub(BLOCK as u64).ok_or_else(|| invalid(&self.name))?;
            let Some(block) = self.stream.block()? else { return Err(self.truncated()) };
            parser.add(&block).ok_or_else(|| invalid(&self.name))?;
        }
        description.with_extents(parser.into_extents()).ok_or_else(|| invalid(&self.name))
    }

    /// Checks a sparse map against the stored size, and reads the data by it from here on.
    fn use_map(&mut self, entry: &mut Entry, map: sparse::Map) -> Result<(), TarError> {
        if !map.is_sound(self.left) {
            return Err(TarError::SparseMap { entry: self.name.as_slice().into() });
        }
        entry.size = map.size;
        entry.extents = Some(map.extents.clone());
        self.cursor = sparse::Cursor::new(map.extents);
        Ok(())
    }

    /// The data of an extended header.
    fn metadata(&mut self, header: &Header, at: u64) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > MAX_METADATA {
            return Err(TarError::MetadataTooLong { offset: at, size });
        }
        self.name.clone_from(&header.path);
        let data = self.stream.bytes(size)?;
        self.left = size - data.len() as u64;
        self.padding = padding(size);
        if self.left > 0 {
            return Err(self.truncated());
        }
        self.skip_data()?;
        Ok(data)
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let skipped = self.stream.skip(self.left)?;
        self.left -= skipped;
        if self.left > 0 {
            return Err(self.truncated());
        }
        self.padding -= self.stream.skip(self.padding)?;
        if self.padding > 0 {
            return Err(self.truncated());
        }
        self.cursor = sparse::Cursor::dense(0);
        Ok(())
    }

    fn truncated(&self) -> TarError {
        TarError::TruncatedData { entry: self.name.as_slice().into(), missing: self.left + self.padding }
    }
}

/// Whether a block is the header of an entry: not empty, and its checksum right.
pub(crate) fn is_header(block: &[u8; BLOCK]) -> bool {
    *block != [0; BLOCK] && Header::parse(block, 0).is_ok()
}

/// What the header says, overridden by the extended headers before it.
fn with_extension(header: &Header, kind: Kind, extension: pax::Extension) -> Result<Entry, TarError> {
    let entry = extension.apply(header.entry(kind)?);
    // The kernel takes this number to mean "leave as it is".
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(TarError::Number { entry: EntryName(entry.path), field: "owner" });
    }
    Ok(entry)
}

/// How many bytes follow `size` bytes of data up to a whole block.
fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}
