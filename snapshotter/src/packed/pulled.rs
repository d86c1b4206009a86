//! Layers that come as blobs and stay packed.
//!
//! What an archive holds is known when all of it has come. If a layer of the store has much of it already, that is left to it, and the
//! archive is written again without. The store had to have room for all of it for that moment; what is saved is the room
//! afterwards, and the memory of those who read both layers.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use base::{CancelToken, Digest};
use rayon::prelude::*;
use sys::fs::PathContext as _;

use super::PackError;
use super::bases::{Base, Bases as _, Used, choose_base};
use super::candidates::Candidates;
use super::contents::{Contents, Record, Writer};
use super::copied::write_new;
use super::pieces::{OWN, Pieces};
use super::sketch::Sketch;
use crate::apply::packed::{self, Packed};
use crate::apply::{Applied, ApplyError, ApplyOptions};
use crate::db::packed::PackedLayer;
use crate::erofs::Tree;
use crate::error::StoreError;
use crate::snapshot::{ActiveSnapshot, SharedWith};
use crate::window::Window;
use crate::write_back::WriteBack;

/// How much of an archive is written again at a time.
const BUFFER: usize = 256 << 10;

/// How many files a thread compares before it takes others.
const FILES: usize = 512;

/// Whether a layer shares with others what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Wanted,
    /// It was tried.
    Unwanted,
}

impl ActiveSnapshot {
    /// Makes a layer blob this snapshot's layer, as the files of a packed one; `None`, and no files, when it has to be unpacked. Gives
    /// the digest of the archive.
    ///
    /// # Errors
    /// As those of [`apply_blob`](crate::apply::apply_blob), also for what files there are then.
    pub(crate) fn pack_blob(
        &self,
        blob: impl Read + Send,
        expected: Option<Digest>,
        options: &ApplyOptions,
        sharing: Sharing,
        cancel: &CancelToken,
    ) -> Result<Option<(Applied, Digest)>, PackError> {
        let dirs = self.dirs();
        let tar = sys::fs::create_new(&dirs.tar(), 0o400).map_err(StoreError::from)?;
        let packed = packed::pack_blob(blob, expected, &tar, options, cancel);
        let made = match packed {
            Ok(Packed { applied, diff_id, tree, records }) => {
                let archive = self.share(&tar, &tree, &records, sharing)?;
                let row = self.store().write_index(dirs, &tree, diff_id, &archive.pieces)?;
                row.map(|row| {
                    (
                        applied,
                        diff_id,
                        PackedLayer { contents: Some(archive.contents), ..row },
                        archive.shared,
                    )
                })
            }
            Err(ApplyError::Unfit { .. }) => None,
            Err(error) => return Err(PackError::Apply(error)),
        };
        let Some((applied, diff_id, row, shared)) = made else {
            for path in [dirs.tar(), dirs.pieces(), dirs.contents()] {
                sys::fs::remove_tree(&path).map_err(StoreError::from)?;
            }
            return Ok(None);
        };
        self.set_packed(row, shared);
        Ok(Some((applied, diff_id)))
    }

    /// Leaves what other layers hold of an archive to the one that holds most, and keeps the list of what it holds.
    fn share(
        &self,
        tar: &File,
        tree: &Tree,
        records: &[Record],
        sharing: Sharing,
    ) -> Result<Archived, StoreError> {
        let dirs = self.dirs();
        let length = tar.metadata().at("inspect", &dirs.tar())?.len();
        let sketch = Sketch::of(tree.files().map(|(name, size, _)| (name, size)));
        let mut bases = Candidates::of(self, length, &sketch)?;
        let all = records.iter().map(|file| file.size).fold(0, u64::saturating_add);
        let chosen = match sharing {
            Sharing::Wanted => {
                let first = bases.next()?;
                choose_base(&mut bases, first, all, |contents| find(contents, records))?
            }
            Sharing::Unwanted => None,
        };
        let planned = chosen.as_ref().map(|(base, found)| Plan::of(tar, length, records, base, found));
        let (pieces, list) = match planned {
            Some(plan) if self.keep_own(tar, &plan)? => (plan.pieces, plan.contents.into_bytes()),
            _ => (Pieces::whole(length), Writer::list(records)),
        };
        write_new(&dirs.contents(), &list)?;
        Ok(Archived { shared: bases.shared_by(&pieces), pieces, contents: Digest::of(&list) })
    }

    /// Puts what of an archive is its own in the place of all of it. `false` when there was no room for both: it is a
    /// good archive as it is.
    fn keep_own(&self, tar: &File, plan: &Plan) -> Result<bool, StoreError> {
        let dirs = self.dirs();
        let (_lease, aside) = self.store().scratch_path()?;
        let kept = || -> Result<(), StoreError> {
            let own = sys::fs::create_new(&aside, 0o400)?;
            write_again(tar, &own, &plan.own).at("write", &aside)?;
            write_new(&dirs.pieces(), plan.pieces.to_text().as_bytes())?;
            Ok(sys::fs::rename(&aside, &dirs.tar())?)
        };
        match kept() {
            Ok(()) => Ok(true),
            Err(StoreError::File(error)) if error.kind() == io::ErrorKind::StorageFull => {
                sys::fs::remove_tree(&aside)?;
                sys::fs::remove_tree(&dirs.pieces())?;
                Ok(false)
            }
            Err(error) => {
                sys::fs::remove_tree(&aside)?;
                Err(error)
            }
        }
    }
}

/// An archive that is kept.
struct Archived {
    pieces: Pieces,
    /// The digest of its list of contents.
    contents: Digest,
    shared: Option<SharedWith>,
}

/// Which records of a list have the content of which files, and how many bytes of it, and of the archive, that is.
fn find(contents: &Contents, records: &[Record]) -> (Vec<Option<u32>>, u64, u64) {
    let (mut last, mut bytes, mut used) = (None, 0, Used::new(contents));
    let found = records.iter().map(|file| {
        let at = contents.find(&file.id, last)?;
        contents.get(at).filter(|record| record.size == file.size)?;
        used.add(at);
        (last, bytes) = (Some(at), bytes + file.size);
        Some(at)
    });
    let found = found.collect();
    (found, bytes, used.length())
}

/// What becomes of an archive that shares with another one.
struct Plan {
    pieces: Pieces,
    contents: Writer,
    /// What of the archive is its own.
    own: Vec<Range<u64>>,
}

impl Plan {
    /// `found`: the numbers of the records of `base` that have the content of the files.
    fn of(tar: &File, length: u64, records: &[Record], base: &Base, found: &[Option<u32>]) -> Self {
        let mut plan = Self { pieces: Pieces::new(base.layers()), contents: Writer::new(), own: Vec::new() };
        let headers = shared_headers(tar, records, base, found);
        let (mut done, mut kept) = (0, 0);
        for ((file, at), headers) in records.iter().zip(found).zip(headers) {
            let held = at.and_then(|at| {
                let record = base.contents.get(at)?;
                let number = base.number(record);
                base.file(number)?;
                Some((record, u16::try_from(number).ok()?))
            });
            let Some((record, number)) = held else {
                let offset = kept + (file.offset - done);
                let Record { id, size, headers, .. } = *file;
                plan.contents.push(&Record { id, file: OWN, headers, offset, size });
                continue;
            };
            let start = file.offset - u64::from(headers);
            plan.own(done..start, &mut kept);
            plan.pieces.push(number, record.offset - u64::from(headers), file.end() - start);
            plan.contents.push(&Record { file: number, headers, ..*record });
            done = file.end();
        }
        plan.own(done..length, &mut kept);
        plan
    }

    fn own(&mut self, range: Range<u64>, kept: &mut u64) {
        let length = range.end - range.start;
        self.pieces.push(OWN, *kept, length);
        *kept += length;
        self.own.push(range);
    }
}

/// How many bytes before the content of each file are the same in both archives: all that belong to it, or none.
fn shared_headers(tar: &File, records: &[Record], base: &Base, found: &[Option<u32>]) -> Vec<u32> {
    let files: Vec<_> = records.iter().zip(found).collect();
    let compare = |files: &[(&Record, &Option<u32>)]| {
        let mut own = Window::default();
        let mut others: Vec<Window> = base.files.iter().map(|_| Window::default()).collect();
        let mut same = |file: &Record, at: Option<u32>| {
            let record = base.contents.get(at?)?;
            let number = base.number(record);
            let length = file.headers.into();
            let one = own.bytes(tar, file.offset - length, length).ok()?;
            let other = others.get_mut(number - 1)?;
            let other = other.bytes(base.file(number)?, record.offset.checked_sub(length)?, length).ok()?;
            (one == other).then_some(file.headers)
        };
        files.iter().map(|(file, at)| same(file, **at).unwrap_or(0)).collect::<Vec<u32>>()
    };
    files.par_chunks(FILES).flat_map_iter(compare).collect()
}

/// Copies these parts of an archive to another file.
fn write_again(tar: &File, own: &File, ranges: &[Range<u64>]) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, WriteBack::new(own));
    let mut buffer = vec![0; BUFFER];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(BUFFER as u64);
            let bytes = &mut buffer[..length as usize];
            tar.read_exact_at(bytes, at)?;
            out.write_all(bytes)?;
            at += length;
        }
    }
    out.flush()
}
