//! Maps of sparse files in the four encodings that GNU tar has had (GNU tar manual, "Storing Sparse
//! Files"), and the cursor that walks one. It parses and checks; it does not read the stream.

use super::MAX_EXTENTS;
use super::header::number;
use super::pax::decimal;
use crate::tar_entry::{BLOCK, Extent};

/// In the old encoding: four pieces in the header block, then a flag, then the real size.
const HEADER_PIECES: std::ops::Range<usize> = 386..482;
const HEADER_CONTINUES: usize = 482;
const HEADER_REAL_SIZE: std::ops::Range<usize> = 483..495;
/// In each block that continues it: 21 pieces, then a flag.
const BLOCK_PIECES: std::ops::Range<usize> = 0..504;
const BLOCK_CONTINUES: usize = 504;
/// A piece: an offset and a length of twelve bytes each.
const PIECE: usize = 24;

/// Where the data of a sparse file belongs.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) extents: Vec<Extent>,
    /// The length of the file, holes included.
    pub(super) size: u64,
}

impl Map {
    /// Reads the beginning of an old map.
    pub(super) fn from_old_header(block: &[u8; BLOCK]) -> Option<Self> {
        let size = u64::try_from(number(&block[HEADER_REAL_SIZE])?).ok()?;
        let mut map = Self { extents: Vec::new(), size };
        map.add_pieces(&block[HEADER_PIECES])?;
        Some(map)
    }

    /// Reads a block that continues an old map, and says whether another one follows.
    pub(super) fn add_old_extension(&mut self, block: &[u8; BLOCK]) -> Option<bool> {
        self.add_pieces(&block[BLOCK_PIECES])?;
        Some(block[BLOCK_CONTINUES] != 0)
    }

    fn add_pieces(&mut self, pieces: &[u8]) -> Option<()> {
        for piece in pieces.chunks_exact(PIECE).take_while(|piece| piece[0] != 0) {
            let (offset, length) = piece.split_at(PIECE / 2);
            let offset = u64::try_from(number(offset)?).ok()?;
            push(&mut self.extents, Extent { offset, length: u64::try_from(number(length)?).ok()? })?;
        }
        Some(())
    }

    /// Whether the pieces ascend, do not overlap, lie within the file, and need exactly `stored` bytes.
    pub(super) fn is_sound(&self, stored: u64) -> bool {
        let mut end = 0u64;
        let mut total = 0u64;
        for extent in &self.extents {
            let Some(next) = extent.offset.checked_add(extent.length) else { return false };
            if extent.offset < end || next > self.size {
                return false;
            }
            end = next;
            total += extent.length;
        }
        total == stored && i64::try_from(self.size).is_ok()
    }
}

/// Whether a header block of an old sparse file says that its map goes on in the next block.
pub(super) fn continues(block: &[u8; BLOCK]) -> bool {
    block[HEADER_CONTINUES] != 0
}

/// What pax records say about a sparse file.
#[derive(Debug, Default)]
pub(super) struct Description {
    /// The real name; 0.1 and 1.0 put a made-up one into the header.
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    size: Option<u64>,
    extents: Vec<Extent>,
    /// An offset of version 0.0 that still waits for its length.
    offset: Option<u64>,
}

impl Description {
    /// Takes one record, its key without `GNU.sparse.`; `None` when it is malformed.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" if value.is_empty() || value.contains(&0) => return None,
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(decimal(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.offset.take()?;
                push(&mut self.extents, Extent { offset, length: decimal(value)? })?;
            }
            b"map" => self.extents = parse_list(value)?,
            _ => {}
        }
        Some(())
    }

    /// Whether the map stands in front of the data (version 1.0).
    pub(super) fn map_in_data(&self) -> bool {
        self.major == Some(1)
    }

    /// The map that the records gave; `None` when they do not make one.
    pub(super) fn into_map(self) -> Option<Map> {
        let complete = self.offset.is_none() && self.major.unwrap_or(0) == 0;
        complete.then_some(Map { extents: self.extents, size: self.size? })
    }

    /// The map, with the pieces that stood in front of the data.
    pub(super) fn with_extents(self, extents: Vec<Extent>) -> Option<Map> {
        Some(Map { extents, size: self.size? })
    }
}

/// `offset,length,offset,length,…` of version 0.1.
fn parse_list(text: &[u8]) -> Option<Vec<Extent>> {
    let mut extents = Vec::new();
    if text.is_empty() {
        return Some(extents);
    }
    let mut numbers = text.split(|&byte| byte == b',');
    while let Some(offset) = numbers.next() {
        let offset = decimal(offset)?;
        push(&mut extents, Extent { offset, length: decimal(numbers.next()?)? })?;
    }
    Some(extents)
}

/// Reads the map of version 1.0: decimal numbers, each ended by a newline, the first of which says how
/// many pairs follow; padded with NULs to whole blocks.
#[derive(Debug, Default)]
pub(super) struct DataMap {
    digits: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    extents: Vec<Extent>,
}

impl DataMap {
    /// Whether every pair has been read.
    pub(super) fn is_complete(&self) -> bool {
        self.count == Some(self.extents.len() as u64)
    }

    /// Reads one more block; `None` when it is malformed.
    pub(super) fn add(&mut self, block: &[u8; BLOCK]) -> Option<()> {
        for &byte in block {
            if self.is_complete() {
                break;
            }
            if byte == b'\n' {
                let value = decimal(&std::mem::take(&mut self.digits))?;
                self.add_number(value)?;
            } else if self.digits.len() < 20 {
                self.digits.push(byte);
            } else {
                return None;
            }
        }
        Some(())
    }

    fn add_number(&mut self, value: u64) -> Option<()> {
        if self.count.is_none() {
            self.count = Some(value);
        } else if let Some(offset) = self.offset.take() {
            push(&mut self.extents, Extent { offset, length: value })?;
        } else {
            self.offset = Some(value);
        }
        Some(())
    }

    pub(super) fn into_extents(self) -> Vec<Extent> {
        self.extents
    }
}

/// Adds a piece, unless there are too many.
fn push(extents: &mut Vec<Extent>, extent: Extent) -> Option<()> {
    (extents.len() < MAX_EXTENTS).then(|| extents.push(extent))
}

/// How far the data of an entry has been handed out.
#[derive(Debug)]
pub(super) struct Cursor {
    /// What is left of the present piece.
    piece: Option<Extent>,
    later: std::vec::IntoIter<Extent>,
}

impl Cursor {
    /// At the beginning of a file with these pieces.
    pub(super) fn new(extents: Vec<Extent>) -> Self {
        let mut cursor = Self { piece: None, later: extents.into_iter() };
        cursor.next_piece();
        cursor
    }

    /// At the beginning of a file of `size` bytes without holes.
    pub(super) fn dense(size: u64) -> Self {
        let piece = (size > 0).then_some(Extent { offset: 0, length: size });
        Self { piece, later: Vec::new().into_iter() }
    }

    /// What is left of the present piece, never empty; `None` at the end.
    pub(super) fn current(&self) -> Option<Extent> {
        self.piece
    }

    /// Passes over `count` bytes, at most what is left of the piece.
    pub(super) fn advance(&mut self, count: u64) {
        match &mut self.piece {
            Some(piece) if count < piece.length => {
                piece.offset += count;
                piece.length -= count;
            }
            _ => self.next_piece(),
        }
    }

    fn next_piece(&mut self) {
        self.piece = self.later.find(|extent| extent.length > 0);
    }
}
