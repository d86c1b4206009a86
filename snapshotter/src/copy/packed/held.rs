//! What a packed layer that is there holds already, for a copy of the same content: that is neither read from the source nor written
//! again.
//!
//! A file is the same if what is remembered of it says so, that is by the rule by which its content is not hashed again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use sys::stat::Kind;

use super::super::Job;
use super::plan::Plan;
use super::{Packing, Place};
use crate::batch::Batch;
use crate::packed::contents::{Contents, Record};
use crate::snapshot::SnapshotId;
use crate::stat_cache::{self, DirRecords, XattrState};

/// How much is read at a time.
const WINDOW: usize = 1 << 20;

/// Of what a copy keeps for its sake it uses at least so much: one in so many bytes.
const LEAST_SHARE: u64 = 2;

/// A layer whose content a copy may share.
pub(crate) struct Base {
    pub(crate) contents: Contents,
    /// Its files, and whose they are: those that it needs itself, and its own at last. They are numbered from 1.
    pub(crate) files: Vec<(SnapshotId, File)>,
}

impl Base {
    /// What is kept for the sake of who shares it, in bytes.
    fn size(&self) -> io::Result<u64> {
        self.files.iter().map(|(_, file)| Ok(file.metadata()?.len())).sum()
    }
}

/// The files of a copy that a layer holds already.
pub(super) struct Shared {
    pub(super) base: Base,
    /// By the numbers of the planned files: the numbers of the records, and what is remembered of the files.
    pub(super) files: Vec<Option<(u32, stat_cache::Record)>>,
}

/// Chooses the first of the layers that is worth it.
pub(super) fn choose(
    job: &Job<'_>,
    batches: &[Batch],
    plan: &Plan,
    next: &mut dyn FnMut() -> super::super::Result<Option<Base>>,
) -> Packing<Option<Shared>> {
    let Some(mut base) = next()? else { return Ok(None) };
    let remembered = remembered(job, batches, plan);
    loop {
        let mut files = vec![None; plan.files.len()];
        let (mut last, mut bytes) = (None, 0);
        for (file, record) in &remembered {
            let found = base.contents.find(&record.hash, last);
            // A hash says the length, too.
            let is_whole = |at: &u32| base.contents.get(*at).is_some_and(|known| known.size == record.size);
            if let Some(at) = found.filter(is_whole) {
                files[*file] = Some((at, *record));
                (last, bytes) = (Some(at), bytes + base.contents.get(at).map_or(0, Record::length));
            }
        }
        let size = base.size().map_err(|_| super::Stop::Unfit)?;
        if bytes > 0 && bytes >= size / LEAST_SHARE {
            return Ok(Some(Shared { base, files }));
        }
        match next()? {
            Some(other) => base = other,
            None => return Ok(None),
        }
    }
}

/// The files whose content is known without reading them, in the order of the layer.
fn remembered(job: &Job<'_>, batches: &[Batch], plan: &Plan) -> Vec<(usize, stat_cache::Record)> {
    let Some(cache) = job.options.stat_cache else { return Vec::new() };
    let mut directory: Option<((usize, usize), DirRecords<'_>)> = None;
    let mut known = Vec::new();
    for file in plan.order() {
        let planned = &plan.files[file];
        let Place { batch, dir, child } = planned.place;
        let scanned = &batches[batch].scan.dirs[dir];
        let entry = &scanned.children[child].entry;
        let stat = entry.stat();
        // What is below may be the same; of several names the archive has one.
        if stat.kind != Kind::File || stat.size == 0 || stat.links != 1 || planned.below.is_some() {
            continue;
        }
        let records = match &directory {
            Some((place, records)) if *place == (batch, dir) => records,
            _ => &directory.insert(((batch, dir), cache.records_of(scanned.entry.path()))).1,
        };
        let record = records.find(entry.name(), stat);
        known.extend(record.filter(|record| record.xattrs == XattrState::None).map(|record| (file, record)));
    }
    known
}

/// Reads the files of a base, mostly in their order.
pub(super) struct Reader<'a> {
    base: &'a Base,
    windows: Vec<Window>,
}

#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(base: &'a Base) -> Self {
        Self { base, windows: base.files.iter().map(|_| Window::default()).collect() }
    }

    /// The number of a file for who shares it: that of the base's own is the last one.
    pub(super) fn number(&self, record: &Record) -> usize {
        match record.file {
            0 => self.base.files.len(),
            part => part.into(),
        }
    }

    /// Up to `length` bytes of a file, and at least one.
    pub(super) fn bytes(&mut self, number: usize, offset: u64, length: u64) -> io::Result<&[u8]> {
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let at = number.checked_sub(1).ok_or_else(missing)?;
        let (_, file) = self.base.files.get(at).ok_or_else(missing)?;
        let window = &mut self.windows[at];
        let most = usize::try_from(length).unwrap_or(WINDOW).min(WINDOW);
        let end = window.start + window.bytes.len() as u64;
        if offset < window.start || offset.saturating_add(most as u64) > end {
            window.bytes.resize(WINDOW, 0);
            window.start = offset;
            let count = read_at(file, &mut window.bytes, offset)?;
            window.bytes.truncate(count);
            if count < most {
                return Err(missing());
            }
        }
        // It was found to be in the window.
        let from = (offset - window.start) as usize;
        Ok(&window.bytes[from..from + most])
    }
}

/// As much as there is.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
