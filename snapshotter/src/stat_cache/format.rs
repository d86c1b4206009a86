//! The file of a stat cache: fixed-size tables that are searched where they lie.
//!
//! ```text
//! magic and version   24 bytes
//! blake3 of the rest  32 bytes
//! counts              directories u32, records u32
//! directories         path offset u32, path length u32, first record u32, record count u32; sorted by path
//! records             see RECORD; sorted by name within a directory
//! strings             paths and names, at the offsets above
//! ```
//!
//! All integers are little-endian. Loading checks the hash and the table sizes and builds nothing, so
//! that it costs little more than reading the file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sys::stat::FileTime;

use super::{Record, XattrState};

const MAGIC: &[u8; 24] = b"lapstrake stat cache v1\n";
const HASH: usize = 32;
const HEADER: usize = MAGIC.len() + HASH + 8;
const DIR: usize = 16;
/// Name offset and length (2 × u32), size, mtime, ctime (i64 + u32 each), inode, device, mode u32,
/// attributes u32, hash.
const RECORD: usize = 8 + 8 + 12 + 12 + 8 + 8 + 4 + 4 + HASH;

/// A cache file in memory.
#[derive(Default)]
pub(super) struct Loaded {
    bytes: Vec<u8>,
    dir_count: usize,
    record_count: usize,
}

impl Loaded {
    /// Reads a cache file; `None` when it is not there, damaged or of another version.
    pub(super) fn read(path: &Path) -> Option<Self> {
        Self::parse(sys::fs::read(path).ok()?)
    }

    pub(super) fn parse(bytes: Vec<u8>) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (hash, body) = rest.split_at_checked(HASH)?;
        if blake3::Hasher::new().update_rayon(body).finalize().as_bytes() != hash {
            return None;
        }
        let dir_count = u32_at(&bytes, HEADER - 8)? as usize;
        let record_count = u32_at(&bytes, HEADER - 4)? as usize;
        let tables = dir_count.checked_mul(DIR)?.checked_add(record_count.checked_mul(RECORD)?)?;
        (bytes.len() >= HEADER.checked_add(tables)?).then_some(Self { bytes, dir_count, record_count })
    }

    pub(super) fn record_count(&self) -> usize {
        self.record_count
    }

    /// The records of a directory.
    pub(super) fn dir(&self, path: &Path) -> Option<RecordsOfDir<'_>> {
        // Paths are ordered component by component, as the map that they were written from.
        let index = search(self.dir_count, |index| {
            self.dir_at(index).map(|(found, _)| Path::new(OsStr::from_bytes(found)).cmp(path))
        })?;
        self.dir_at(index).map(|(_, records)| records)
    }

    /// All directories, sorted.
    pub(super) fn dirs(&self) -> impl Iterator<Item = (&Path, RecordsOfDir<'_>)> {
        let dirs = (0..self.dir_count).filter_map(|index| self.dir_at(index));
        dirs.map(|(path, records)| (Path::new(OsStr::from_bytes(path)), records))
    }

    fn dir_at(&self, index: usize) -> Option<(&[u8], RecordsOfDir<'_>)> {
        let at = HEADER + index * DIR;
        let path = self.string(u32_at(&self.bytes, at)?, u32_at(&self.bytes, at + 4)?)?;
        let first = u32_at(&self.bytes, at + 8)? as usize;
        let count = u32_at(&self.bytes, at + 12)? as usize;
        let within = first.checked_add(count)? <= self.record_count;
        let records = RecordsOfDir { loaded: self, first, count, order: Order::default() };
        within.then_some((path, records))
    }

    fn record_at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let at = HEADER + self.dir_count * DIR + index * RECORD;
        let name = self.string(u32_at(&self.bytes, at)?, u32_at(&self.bytes, at + 4)?)?;
        Some((name, self.bytes.get(at + 8..at + RECORD)?))
    }

    fn string(&self, offset: u32, length: u32) -> Option<&[u8]> {
        let strings = HEADER + self.dir_count * DIR + self.record_count * RECORD;
        let start = strings.checked_add(offset as usize)?;
        self.bytes.get(start..start.checked_add(length as usize)?)
    }
}

/// The records of one directory in a cache file.
pub(super) struct RecordsOfDir<'a> {
    loaded: &'a Loaded,
    first: usize,
    count: usize,
    order: Order,
}

impl RecordsOfDir<'_> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn find(&self, name: &OsStr) -> Option<Record> {
        let name = name.as_bytes();
        let is_at = |index| self.at(index).is_some_and(|(found, _)| found == name);
        let index = self
            .order
            .find(is_at, || search(self.count, |index| self.at(index).map(|(found, _)| found.cmp(name))))?;
        decode_record(self.at(index)?.1)
    }

    fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if index < self.count { self.loaded.record_at(self.first + index) } else { None }
    }

    pub(super) fn all(&self) -> Vec<(OsString, Record)> {
        (0..self.count)
            .filter_map(|index| self.at(index))
            .filter_map(|(name, bytes)| Some((OsStr::from_bytes(name).to_owned(), decode_record(bytes)?)))
            .collect()
    }
}

/// The place after the one that was found last: whoever asks in the order of names finds the next one there.
#[derive(Default)]
pub(super) struct Order(AtomicUsize);

impl Order {
    /// The place that is asked for: the next one if it `is_at` that, else what `search` finds.
    pub(super) fn find(
        &self,
        is_at: impl Fn(usize) -> bool,
        search: impl FnOnce() -> Option<usize>,
    ) -> Option<usize> {
        let next = self.0.load(Ordering::Relaxed);
        let place = if is_at(next) { next } else { search()? };
        self.0.store(place + 1, Ordering::Relaxed);
        Some(place)
    }
}

/// Binary search over `count` sorted items, which are read by index.
fn search(count: usize, compare: impl Fn(usize) -> Option<std::cmp::Ordering>) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle)? {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// The records of a directory that are to be written.
pub(super) enum Kept<'a> {
    AsLoaded(RecordsOfDir<'a>),
    New(Vec<(OsString, Record)>),
}

impl Kept<'_> {
    fn len(&self) -> usize {
        match self {
            Self::AsLoaded(records) => records.len(),
            Self::New(records) => records.len(),
        }
    }

    /// All of them, decoded.
    pub(super) fn all(self) -> Vec<(OsString, Record)> {
        match self {
            Self::AsLoaded(records) => records.all(),
            Self::New(records) => records,
        }
    }
}

/// The bytes of a cache file; `None` when the tables would not fit 32-bit offsets.
pub(super) fn encode(dirs: &BTreeMap<&Path, Kept<'_>>) -> Option<Vec<u8>> {
    let most = dirs.values().map(Kept::len).sum::<usize>();
    let mut records = Vec::with_capacity(most.saturating_mul(RECORD));
    let (mut tables, mut strings) = (Vec::new(), Vec::new());
    let mut count: u32 = 0;
    for (path, files) in dirs {
        push_string(&mut tables, &mut strings, path.as_os_str())?;
        tables.extend(count.to_le_bytes());
        let first = count;
        match files {
            Kept::AsLoaded(files) => {
                for (name, record) in (0..files.len()).filter_map(|index| files.at(index)) {
                    push_string(&mut records, &mut strings, OsStr::from_bytes(name))?;
                    records.extend_from_slice(record);
                    count = count.checked_add(1)?;
                }
            }
            Kept::New(files) => {
                for (name, record) in files {
                    push_string(&mut records, &mut strings, name)?;
                    encode_record(record, &mut records);
                    count = count.checked_add(1)?;
                }
            }
        }
        tables.extend((count - first).to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(HEADER + tables.len() + records.len() + strings.len());
    bytes.extend(MAGIC);
    bytes.extend([0; HASH]);
    bytes.extend(u32::try_from(dirs.len()).ok()?.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    [tables, records, strings].iter().for_each(|part| bytes.extend_from_slice(part));
    let (start, body) = bytes.split_at_mut(MAGIC.len() + HASH);
    // Not in the pool: who waits for a part of his own work there takes on other work, and whoever saves a cache holds a lock.
    let hash = *blake3::hash(body).as_bytes();
    start[MAGIC.len()..].copy_from_slice(&hash);
    Some(bytes)
}

fn push_string(table: &mut Vec<u8>, strings: &mut Vec<u8>, text: &OsStr) -> Option<()> {
    table.extend(u32::try_from(strings.len()).ok()?.to_le_bytes());
    table.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
    strings.extend(text.as_bytes());
    Some(())
}

fn encode_record(record: &Record, out: &mut Vec<u8>) {
    out.extend(record.size.to_le_bytes());
    for time in [record.mtime, record.ctime] {
        out.extend(time.seconds.to_le_bytes());
        out.extend(time.nanoseconds.to_le_bytes());
    }
    out.extend(record.inode.to_le_bytes());
    out.extend(record.device.to_le_bytes());
    out.extend(record.mode.to_le_bytes());
    let xattrs: u32 = match record.xattrs {
        XattrState::Unknown => 0,
        XattrState::None => 1,
        XattrState::Some => 2,
    };
    out.extend(xattrs.to_le_bytes());
    out.extend(record.hash);
}

/// Decodes what follows the name in a record.
fn decode_record(bytes: &[u8]) -> Option<Record> {
    let time = |at: usize| {
        Some(FileTime { seconds: u64_at(bytes, at)?.cast_signed(), nanoseconds: u32_at(bytes, at + 8)? })
    };
    Some(Record {
        size: u64_at(bytes, 0)?,
        mtime: time(8)?,
        ctime: time(20)?,
        inode: u64_at(bytes, 32)?,
        device: u64_at(bytes, 40)?,
        mode: u32_at(bytes, 48)?,
        xattrs: match u32_at(bytes, 52)? {
            0 => XattrState::Unknown,
            1 => XattrState::None,
            2 => XattrState::Some,
            _ => return None,
        },
        hash: bytes.get(56..56 + HASH)?.try_into().ok()?,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
