//! What the archive of a packed layer holds and where, so that a later copy of the same content need not be written.
//!
//! A list of contents is a file of records behind [`MAGIC`], in the order of the archive, with numbers in little-endian order. A record says
//! by which [`Hash`] its content is known, in which of the layer's files it lies and where, how long it is, and how many bytes
//! of headers are right before it there. What has no content is known by the hash of its headers.
//!
//! The list is believed: its digest is in the layer's row.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::content_hash::Hash;
use crate::tar_entry::BLOCK;

/// How a list begins.
const MAGIC: &[u8; 24] = b"lapstrake packed list 1\n";

/// How far is looked after the last one that was found: directories are between the files.
const NEAR: u32 = 8;

/// The length of a record.
const RECORD: usize = 56;

/// Something that an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Hash,
    /// The number of the file, as in the list of pieces.
    pub(crate) file: u16,
    /// How many bytes of headers are right before it in that file.
    pub(crate) headers: u32,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Record {
    /// Where in the file the block behind its content begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.size.next_multiple_of(BLOCK as u64))
    }

    /// How much of the archive it is, in bytes, with its headers.
    pub(crate) fn length(&self) -> u64 {
        u64::from(self.headers) + self.size.next_multiple_of(BLOCK as u64)
    }
}

/// A list of contents that is being written.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self(MAGIC.to_vec())
    }

    /// The list of these.
    pub(crate) fn list(records: &[Record]) -> Vec<u8> {
        let mut list = Self::new();
        records.iter().for_each(|record| list.push(record));
        list.into_bytes()
    }

    pub(crate) fn push(&mut self, record: &Record) {
        self.0.extend_from_slice(&record.id);
        self.0.extend_from_slice(&u32::from(record.file).to_le_bytes());
        self.0.extend_from_slice(&record.headers.to_le_bytes());
        self.0.extend_from_slice(&record.offset.to_le_bytes());
        self.0.extend_from_slice(&record.size.to_le_bytes());
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A list of contents to look up in.
#[derive(Debug)]
pub(crate) struct Contents {
    records: Vec<Record>,
    /// Where each id is in them, once something was not where it was expected.
    places: OnceLock<HashMap<Hash, u32>>,
}

impl Contents {
    /// Reads a list; `None` when it is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (records, []) = bytes.strip_prefix(MAGIC)?.as_chunks::<RECORD>() else { return None };
        let records = records.iter().map(record).collect::<Option<_>>()?;
        Some(Self { records, places: OnceLock::new() })
    }

    /// The number of the record with this id. What lies in an archive is looked for in its order mostly, so it is
    /// tried first what comes `after` the last one that was found.
    pub(crate) fn find(&self, id: &Hash, after: Option<u32>) -> Option<u32> {
        let expected = after.map_or(0, |last| last.saturating_add(1));
        let near =
            (expected..expected.saturating_add(NEAR)).find(|at| self.get(*at).is_some_and(|it| it.id == *id));
        if near.is_some() {
            return near;
        }
        let places = self.places.get_or_init(|| {
            let ids = self.records.iter().map(|record| record.id);
            // Lists have less records than an index may have files.
            let mut places = HashMap::with_capacity(self.records.len());
            // Of those that are equal the first one.
            for (id, at) in ids.zip(0_u32..) {
                places.entry(id).or_insert(at);
            }
            places
        });
        places.get(id).copied()
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Record> {
        self.records.get(number as usize)
    }
}

fn record(bytes: &[u8; RECORD]) -> Option<Record> {
    let (id, rest) = bytes.split_first_chunk::<32>()?;
    let (file, rest) = rest.split_first_chunk::<4>()?;
    let (headers, rest) = rest.split_first_chunk::<4>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (size, _) = rest.split_first_chunk::<8>()?;
    Some(Record {
        id: *id,
        file: u16::try_from(u32::from_le_bytes(*file)).ok()?,
        headers: u32::from_le_bytes(*headers),
        offset: u64::from_le_bytes(*offset),
        size: u64::from_le_bytes(*size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |number: u8| Record {
            id: [number; 32],
            file: number.into(),
            headers: 512,
            offset: u64::from(number) << 40,
            size: 7,
        };
        (0..5).map(record).collect()
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let mut writer = Writer::new();
        records().iter().for_each(|record| writer.push(record));
        let bytes = writer.into_bytes();
        let contents = Contents::read(&bytes).unwrap();
        for (number, record) in (0..).zip(&records()) {
            assert_eq!(contents.get(number), Some(record));
            for after in [None, Some(0), Some(3), Some(u32::MAX)] {
                assert_eq!(contents.find(&record.id, after), Some(number));
            }
        }
        assert_eq!(contents.find(&[9; 32], None), None);
        for damaged in [&bytes[1..], &bytes[..bytes.len() - 1], b"", b"x"] {
            assert!(Contents::read(damaged).is_none());
        }
        let mut strange = bytes;
        strange[MAGIC.len() + 35] = 1;
        assert!(Contents::read(&strange).is_none(), "no file has such a number");
    }
}
