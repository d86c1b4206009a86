//! The files behind a content key, kept so that two keys can be compared path by path.
//!
//! A key says only that something differs. A listing has, for each path, its kind, mode and owner, and the
//! beginnings of two hashes: of what it holds, and of everything. It serves explanations and nothing else: six
//! bytes of a hash are enough for those, and a listing that is missing or damaged is no listing.
//!
//! ```text
//! "lapls1"  directory*
//! directory := path  (0 | 1 mode uid gid attributes[6])  count  entry*     1: chosen itself
//! entry     := name  kind[1]  mode  uid  gid  content[6]  all[6]
//! ```
//!
//! Texts are preceded by their length; lengths, counts, modes and owners are variable-length integers, seven bits
//! a byte, low bits first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;

use base::{FileChange, FileDifference, Key, KeyHasher};
use sys::stat::{Kind, Stat};

use crate::batch::Batch;
use crate::content_key::Leaf;
use crate::merkle::KeyOptions;
use crate::scan::Dir;

const MAGIC: &[u8] = b"lapls1";

/// Larger selections have no listing.
const MOST_ENTRIES: usize = 200_000;

/// No path or name is longer, in bytes.
const LONGEST_NAME: u64 = 4096;

/// The beginning of a hash.
type Short = [u8; 6];

/// What is kept of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item {
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    content: Short,
    all: Short,
}

/// The files of a selection, sorted by path, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing(Vec<(Vec<u8>, Item)>);

impl Listing {
    /// Reads what [`encode`] wrote; `None` when it is something else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::of(directories(bytes)?)
    }

    fn of<'a>(directories: impl IntoIterator<Item = Directory<'a>>) -> Option<Self> {
        let mut items = Vec::new();
        for directory in directories {
            Reader(directory.bytes).directory(|path, name, item| {
                items.push((name.map_or_else(|| path.to_vec(), |name| joined(path, name)), item));
            })?;
        }
        // Most are in order. Of those with one path the last one counts, which comes first here.
        items.reverse();
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        items.dedup_by(|(later, _), (kept, _)| later == kept);
        Some(Self(items))
    }

    /// What differs between two encoded listings, by path; `None` when one of them is none.
    pub fn changes_between(before: &[u8], now: &[u8]) -> Option<Vec<FileChange>> {
        let (before, now) = rayon::join(|| directories(before), || directories(now));
        let (before, now) = (before?, now?);
        let (in_before, in_now) = (by_path(&before), by_path(&now));
        // What is in a directory may be there by another one, too, if there are two of a path.
        let is_each_once = in_before.len() == before.len() && in_now.len() == now.len();
        // Most are the same in both, and have nothing to tell.
        let differs = |directory: &Directory<'_>, other: &HashMap<&[u8], &[u8]>| {
            !is_each_once || other.get(directory.path) != Some(&directory.bytes)
        };
        let before = Self::of(before.into_iter().filter(|directory| differs(directory, &in_now)))?;
        let now = Self::of(now.into_iter().filter(|directory| differs(directory, &in_before)))?;
        Some(before.changes(&now))
    }

    /// What is not in `now` as it is here, by path.
    pub fn changes(&self, now: &Self) -> Vec<FileChange> {
        let mut changes = Vec::new();
        let (mut before, mut after) = (self.0.iter().peekable(), now.0.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
            };
            // The first of both in the order of their paths, or both.
            let was = if order.is_le() { before.next() } else { None };
            let is = if order.is_ge() { after.next() } else { None };
            let what = match (was, is) {
                (Some((_, was)), Some((_, is))) => difference(was, is),
                (Some(_), None) => Some(FileDifference::Removed),
                _ => Some(FileDifference::Added),
            };
            let path = was.or(is).zip(what);
            changes.extend(path.map(|((path, _), what)| FileChange { path: shown(path), what }));
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        changes
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A directory in an encoded listing.
struct Directory<'a> {
    path: &'a [u8],
    /// All that is said of it and what is in it.
    bytes: &'a [u8],
}

fn by_path<'a>(directories: &[Directory<'a>]) -> HashMap<&'a [u8], &'a [u8]> {
    directories.iter().map(|directory| (directory.path, directory.bytes)).collect()
}

/// The directories of an encoded listing, in their order; `None` when it is none.
fn directories(bytes: &[u8]) -> Option<Vec<Directory<'_>>> {
    let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
    let mut directories = Vec::new();
    while !reader.0.is_empty() {
        let before = reader.0;
        let path = reader.directory(|_, _, _| {})?;
        directories.push(Directory { path, bytes: &before[..before.len() - reader.0.len()] });
    }
    Some(directories)
}

fn difference(was: &Item, is: &Item) -> Option<FileDifference> {
    if was.kind != is.kind {
        return Some(FileDifference::Kind);
    }
    if was.content != is.content && was.kind != DIRECTORY {
        return Some(FileDifference::Content);
    }
    if was.mode != is.mode {
        return Some(FileDifference::Mode { before: was.mode, now: is.mode });
    }
    if was.owner != is.owner {
        return Some(FileDifference::Owner { before: was.owner, now: is.owner });
    }
    match was.all == is.all {
        true => None,
        // What a link leads to, or the number of a device, is in no other hash.
        false if matches!(was.kind, FILE | DIRECTORY) => Some(FileDifference::Attributes),
        false => Some(FileDifference::Content),
    }
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if dir.is_empty() { b"" } else { b"/" };
    [dir, separator, name].concat()
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;

fn ordinal(kind: Kind) -> u8 {
    match kind {
        Kind::File => FILE,
        Kind::Directory => DIRECTORY,
        Kind::Symlink => 2,
        Kind::CharDevice => 3,
        Kind::BlockDevice => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
    }
}

/// The listing of what was hashed. `None` when there is too much of it.
pub(crate) fn encode(
    options: KeyOptions,
    batches: &[Batch],
    leaves: &[Vec<Vec<Option<Leaf>>>],
) -> Option<Vec<u8>> {
    let entries: usize =
        batches.iter().flat_map(|batch| &batch.scan.dirs).map(|dir| dir.children.len()).sum();
    if entries > MOST_ENTRIES {
        return None;
    }
    let mut writer = Writer(MAGIC.to_vec());
    for (batch, leaves) in batches.iter().zip(leaves) {
        for (index, (dir, leaves)) in batch.scan.dirs.iter().zip(leaves).enumerate() {
            writer.directory(options, dir, index > 0 && dir.chosen, leaves);
        }
    }
    Some(writer.0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn directory(&mut self, options: KeyOptions, dir: &Dir, described: bool, leaves: &[Option<Leaf>]) {
        let files =
            || dir.children.iter().zip(leaves).filter_map(|(child, leaf)| Some((child, leaf.as_ref()?)));
        self.text(dir.entry.path().as_os_str().as_bytes());
        self.0.push(described.into());
        if described {
            self.attributes(options, dir.entry.stat());
            let mut hasher = KeyHasher::new("lapstrake/listing/v1");
            for xattr in &dir.xattrs {
                hasher.bytes(xattr.name.as_bytes()).bytes(&xattr.value);
            }
            self.short(hasher.finish().as_bytes());
        }
        self.number(files().count() as u64);
        for (child, leaf) in files() {
            self.text(child.entry.name().as_bytes());
            self.0.push(ordinal(child.entry.kind()));
            self.attributes(options, child.entry.stat());
            self.short(leaf.record.map_or([0; 32], |record| record.hash).as_slice());
            self.short(leaf.key.as_bytes());
        }
    }

    /// What is no part of the key is no part of a difference.
    fn attributes(&mut self, options: KeyOptions, stat: &Stat) {
        let is_link = stat.kind == Kind::Symlink;
        self.number(if is_link { 0 } else { options.modes.of(stat).into() });
        self.number(if options.owner { stat.uid.into() } else { 0 });
        self.number(if options.owner { stat.gid.into() } else { 0 });
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    fn short(&mut self, hash: &[u8]) {
        self.0.extend_from_slice(&hash[..size_of::<Short>()]);
    }

    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads a directory, and shows what it holds: its path, and the name of what is in it, `None` for itself. Answers the path.
    fn directory(&mut self, mut show: impl FnMut(&'a [u8], Option<&'a [u8]>, Item)) -> Option<&'a [u8]> {
        let path = self.text()?;
        match self.byte()? {
            0 => {}
            1 => {
                let (mode, owner) = (self.number32()?, (self.number32()?, self.number32()?));
                let all = self.short()?;
                show(path, None, Item { kind: DIRECTORY, mode, owner, content: all, all });
            }
            _ => return None,
        }
        for _ in 0..self.number()? {
            let name = self.text()?;
            let kind = self.byte()?;
            let (mode, owner) = (self.number32()?, (self.number32()?, self.number32()?));
            let item = Item { kind, mode, owner, content: self.short()?, all: self.short()? };
            show(path, Some(name), item);
        }
        Some(path)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number().filter(|length| *length <= LONGEST_NAME)?;
        self.bytes(usize::try_from(length).ok()?)
    }

    fn short(&mut self) -> Option<Short> {
        self.bytes(size_of::<Short>())?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn number32(&mut self) -> Option<u32> {
        self.number().and_then(|number| u32::try_from(number).ok())
    }
}

/// A content key, and the listing behind it if it was wanted and is not too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: Key,
    /// For [`Listing::decode`].
    pub listing: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests;
