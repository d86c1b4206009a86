//! Compressed files of logs. Each knows which file it was made of, so that who was reading that goes on after it.
//!
//! The number of a file is used again once it is gone, so the time of the last change belongs to what tells it from others.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};
use sys::path_error::{PathContext as _, PathError};

/// Bytes of stack for the thread that compresses.
pub(super) const STACK: usize = 256 << 10;

/// What tells a file that nobody writes to any more from all others: its number, and when it was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    changed: (i64, i64),
}

impl Mark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), changed: (metadata.mtime(), metadata.mtime_nsec()) }
    }

    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ');
        let inode = numbers.next()?.parse().ok()?;
        Some(Self { inode, changed: (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?) })
    }
}

/// Puts a compressed file in the place of another one.
pub(super) fn pack(from: &Path, to: &Path) -> Result<(), PathError> {
    let mut source = sys::fs::open(from)?;
    let Mark { inode, changed: (second, part) } = Mark::of(&source.metadata().at("inspect", from)?);
    let unfinished = to.with_extension("new");
    let mut options = File::options();
    let target = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let target = target.at("open", &unfinished)?;
    let mut packed =
        GzBuilder::new().comment(format!("{inode} {second} {part}")).write(target, Compression::fast());
    let written = io::copy(&mut source, &mut packed).and_then(|_| packed.finish());
    if let Err(error) = written {
        let _ = sys::fs::remove_file(&unfinished);
        return Err(PathError::new("compress", from, error));
    }
    sys::fs::rename(&unfinished, to)?;
    sys::fs::remove_file(from).map(drop)
}

/// A file of a log that is read, compressed or not.
#[derive(Debug)]
pub(super) enum Input {
    Plain(File),
    Packed(Box<GzDecoder<File>>),
}

impl Input {
    /// Begins to read a compressed file, and tells which file it was made of.
    pub(super) fn packed(file: File) -> (Self, Option<Mark>) {
        let decoder = GzDecoder::new(file);
        let comment = decoder.header().and_then(|header| header.comment());
        let mark = comment.and_then(|text| Mark::read(std::str::from_utf8(text).ok()?));
        (Self::Packed(Box::new(decoder)), mark)
    }
}

impl Input {
    /// What tells the file from others, if it is not compressed.
    pub(super) fn mark(&self) -> Option<Mark> {
        match self {
            Self::Plain(file) => file.metadata().ok().map(|metadata| Mark::of(&metadata)),
            Self::Packed(_) => None,
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Packed(decoder) => decoder.read(buffer),
        }
    }
}
