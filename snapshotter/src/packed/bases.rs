//! A packed layer that another one shares content with.

use std::fs::File;
use std::io;

use super::contents::{Contents, Record};
use super::pieces::OWN;
use crate::error::StoreError;
use crate::snapshot::SnapshotId;

/// A layer shares at least so much of what it is, and of what is kept for its sake: one in so many bytes.
const LEAST_SHARE: u64 = 2;

/// The layers whose content another one may share, one after the other.
pub(crate) trait Bases: Send {
    /// What the next one holds.
    fn next(&mut self) -> Result<Option<Contents>, StoreError>;

    /// Opens the files of that one, and whose they are: those that it needs itself, and its own at last. They are there until the
    /// other layer is done. `None` when it cannot be used after all.
    fn open(&mut self) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError>;
}

/// There are none.
#[cfg(test)]
pub(crate) struct NoBases;

#[cfg(test)]
impl Bases for NoBases {
    fn next(&mut self) -> Result<Option<Contents>, StoreError> {
        Ok(None)
    }

    fn open(&mut self) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError> {
        Ok(None)
    }
}

/// A layer whose content another one shares.
pub(crate) struct Base {
    pub(crate) contents: Contents,
    /// Numbered from 1.
    pub(crate) files: Vec<(SnapshotId, File)>,
}

impl Base {
    /// Those whose files the layer needs, in the order of their numbers.
    pub(crate) fn layers(&self) -> Vec<SnapshotId> {
        self.files.iter().map(|(layer, _)| *layer).collect()
    }

    /// The number that the file with this content has for who shares it: that of the layer's own is the last one.
    pub(crate) fn number(&self, record: &Record) -> usize {
        match record.file {
            OWN => self.files.len(),
            part => part.into(),
        }
    }

    /// The file of this number.
    pub(crate) fn file(&self, number: usize) -> Option<&File> {
        self.files.get(number.checked_sub(1)?).map(|(_, file)| file)
    }
}

/// The first of the layers that is worth it for one with `all` bytes of content, of those whose lists are `next` and what `bases` have
/// after it. `find` looks what a list has of that: so many bytes of content, and so many of the other archive.
///
/// # Errors
/// As those of `bases`.
pub(crate) fn choose_base<T>(
    bases: &mut dyn Bases,
    mut next: Option<Contents>,
    all: u64,
    mut find: impl FnMut(&Contents) -> (T, u64, u64),
) -> Result<Option<(Base, T)>, StoreError> {
    while let Some(contents) = next {
        let (found, bytes, length) = find(&contents);
        // Before anything is opened: it has to be much of the layer.
        let files = if bytes >= all / LEAST_SHARE { bases.open()? } else { None };
        if let Some(files) = files {
            let kept: io::Result<u64> = files.iter().map(|(_, file)| Ok(file.metadata()?.len())).sum();
            if kept.is_ok_and(|kept| length >= kept / LEAST_SHARE) {
                return Ok(Some((Base { contents, files }, found)));
            }
        }
        next = bases.next()?;
    }
    Ok(None)
}

/// Counts how much of an archive is used, in bytes: what is used often as what it is once.
pub(crate) struct Used<'a> {
    contents: &'a Contents,
    seen: Vec<bool>,
    length: u64,
}

impl<'a> Used<'a> {
    pub(crate) fn new(contents: &'a Contents) -> Self {
        Self { contents, seen: vec![false; contents.len()], length: 0 }
    }

    /// The record of this number is used.
    pub(crate) fn add(&mut self, number: u32) {
        if let (Some(seen), Some(record)) = (self.seen.get_mut(number as usize), self.contents.get(number))
            && !std::mem::replace(seen, true)
        {
            self.length += record.length();
        }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }
}
