//! The loop over an archive: reads entries, keeps the limits, gives each name its meaning, and hands the
//! entry to what becomes of it: a [`Tree`](super::tree::Tree) on the disk, or the index of a layer that stays packed.

use std::fs::File;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt;

use base::CancelToken;
use sys::failpoint;

use super::path::{clean, join};
use super::whiteout::{Meaning, meaning};
use super::{Applied, ApplyError, ApplyOptions, InUse, Layering};
use crate::tar_entry::{Entry, EntryName, Kind};
use crate::tar_read::Reader;

/// What becomes of the entries of an archive. Paths are clean and relative to the root.
pub(super) trait Target {
    /// Takes a regular file, in place of whatever has its name. Its content begins at this offset of the archive, and
    /// goes into the file that is returned, if one is.
    fn begin_file(&mut self, entry: &Entry, path: &[u8], offset: u64) -> Result<Option<File>, ApplyError>;

    /// Whether it is to see the content of files for which it gives no file.
    fn sees_content(&self) -> bool {
        false
    }

    /// Sees a part of that.
    fn see(&mut self, _bytes: &[u8]) {}

    /// Has seen all of a file whose content begins at this offset of the archive, and whether it is filled up with zeros.
    fn saw(&mut self, _offset: u64, _size: u64, _zeros: bool) {}

    /// Sets owner, mode, attributes and times of a file that is complete.
    fn end_file(&mut self, file: &File, entry: &Entry) -> Result<(), ApplyError>;

    /// Takes what the archive says about the root directory itself.
    fn set_root(&mut self, entry: &Entry) -> Result<(), ApplyError>;

    /// Takes what an entry other than a regular file describes.
    fn add(&mut self, entry: &Entry, path: Vec<u8>) -> Result<(), ApplyError>;

    /// Hides a path of the layers below.
    fn hide(&mut self, path: &[u8], entry: &[u8]) -> Result<(), ApplyError>;

    /// Hides what the layers below have in a directory.
    fn hide_children(&mut self, path: &[u8], entry: &[u8]) -> Result<(), ApplyError>;

    /// Does what had to wait for the end.
    fn finish(&mut self, cancel: &CancelToken) -> Result<(), ApplyError>;

    /// What there is to say at the end, except for what the archive knows.
    fn applied(&self) -> Applied;
}

/// One archive being unpacked.
pub(super) struct Unpack<'a, R, T> {
    archive: Reader<R>,
    tree: T,
    options: &'a ApplyOptions,
    cancel: &'a CancelToken,
    entries: u64,
    /// Bytes of sparse files that the archive need not hold.
    sparse: u64,
}

impl<'a, R: BufRead, T: Target> Unpack<'a, R, T> {
    pub(super) fn new(archive: R, tree: T, options: &'a ApplyOptions, cancel: &'a CancelToken) -> Self {
        Self { archive: Reader::new(archive), tree, options, cancel, entries: 0, sparse: 0 }
    }

    /// Unpacks everything, and reads the stream to its end.
    pub(super) fn run(self) -> Result<Applied, ApplyError> {
        self.run_into().map(|(applied, _)| applied)
    }

    /// The same, and gives back what became of the entries.
    pub(super) fn run_into(mut self) -> Result<(Applied, T), ApplyError> {
        while let Some(entry) = self.archive.next_entry()? {
            self.entries += 1;
            if self.entries > self.options.limits.max_entries {
                return Err(ApplyError::TooManyEntries { limit: self.options.limits.max_entries });
            }
            self.keep_limits()?;
            self.entry(&entry)?;
        }
        self.tree.finish(self.cancel)?;
        while self.archive.read_padding()? {
            self.keep_limits()?;
        }
        let applied = Applied { entries: self.entries, bytes: self.archive.offset(), ..self.tree.applied() };
        Ok((applied, self.tree))
    }

    fn keep_limits(&self) -> Result<(), ApplyError> {
        self.cancel.check()?;
        self.keep_limit(self.archive.offset().saturating_add(self.sparse))
    }

    fn keep_limit(&self, bytes: u64) -> Result<(), ApplyError> {
        let limit = self.options.limits.max_bytes;
        if bytes > limit { Err(ApplyError::TooManyBytes { limit }) } else { Ok(()) }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        let name = || EntryName(entry.path.clone());
        failpoint::pass("unpack").map_err(|source| ApplyError::Io {
            operation: "unpack",
            entry: name(),
            source,
        })?;
        if entry.path.is_empty() {
            return Err(ApplyError::Name { entry: name() });
        }
        let path = clean(&entry.path).ok_or_else(|| ApplyError::Escape { entry: name() })?;
        let path = match &self.options.in_use {
            None => path,
            Some(_) if path.is_empty() => return Ok(()),
            Some(InUse { below, .. }) => join(below.as_os_str().as_bytes(), &path),
        };
        let layered = self.options.layering != Layering::Plain;
        match if layered { meaning(&path) } else { Meaning::Ordinary } {
            Meaning::Ignored => Ok(()),
            Meaning::Invalid => Err(ApplyError::Whiteout { entry: name() }),
            Meaning::Whiteout(_) | Meaning::Opaque(_) if entry.kind == Kind::Directory => {
                Err(ApplyError::Whiteout { entry: name() })
            }
            Meaning::Whiteout(hidden) => self.tree.hide(&hidden, &entry.path),
            Meaning::Opaque(directory) => self.tree.hide_children(&directory, &entry.path),
            // What overlayfs shows as a deleted name is one, whoever made it.
            Meaning::Ordinary if layered && entry.kind == Kind::CharDevice && entry.device == (0, 0) => {
                self.tree.hide(&path, &entry.path)
            }
            Meaning::Ordinary if path.is_empty() => self.tree.set_root(entry),
            Meaning::Ordinary if entry.kind == Kind::File => self.file(entry, &path),
            Meaning::Ordinary => self.tree.add(entry, path),
        }
    }

    fn file(&mut self, entry: &Entry, path: &[u8]) -> Result<(), ApplyError> {
        let offset = self.archive.offset();
        let Some(file) = self.tree.begin_file(entry, path, offset)? else {
            if self.tree.sees_content() {
                while let Some(chunk) = self.archive.next_chunk()? {
                    self.tree.see(chunk.bytes);
                    self.keep_limits()?;
                }
                let zeros = self.archive.ends_with_zeros()?;
                self.tree.saw(offset, entry.size, zeros);
                return Ok(());
            }
            // It is passed over in one go, so what it is too much for is said before.
            return self.keep_limit(offset.saturating_add(entry.size));
        };
        let write =
            |source| ApplyError::Io { operation: "write", entry: entry.path.as_slice().into(), source };
        while let Some(chunk) = self.archive.next_chunk()? {
            failpoint::pass("write").map_err(write)?;
            file.write_all_at(chunk.bytes, chunk.offset).map_err(write)?;
            self.keep_limits()?;
        }
        if entry.extents.is_some() {
            // The data of a sparse file may end before the file does. Whoever reads it reads its holes too.
            self.sparse = self.sparse.saturating_add(entry.size);
            self.keep_limits()?;
            file.set_len(entry.size).map_err(write)?;
        }
        self.tree.end_file(&file, entry)
    }
}
