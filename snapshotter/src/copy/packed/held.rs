//! What a packed layer that is there holds already, for a copy of the same content: that is neither read from the source nor written
//! again.
//!
//! A file is the same if what is remembered of it says so, that is by the rule by which its content is not hashed again.

use std::io;

use sys::stat::Kind;

use super::super::Job;
use super::plan::Plan;
use super::{Packing, Place};
use crate::batch::Batch;
use crate::packed::bases::{Base, Bases, Used, choose_base};
use crate::packed::contents::Contents;
use crate::stat_cache::{self, DirRecords, XattrState};
use crate::window::Window;

/// The files of a copy that a layer holds already.
pub(super) struct Shared {
    pub(super) base: Base,
    /// By the numbers of the planned files: the numbers of the records, and what is remembered of the files.
    pub(super) files: Vec<Option<(u32, stat_cache::Record)>>,
}

/// Chooses the first of the layers that is worth it for the `remembered` files; the list of the first of all was given.
pub(super) fn choose(
    plan: &Plan<'_>,
    remembered: &[(usize, stat_cache::Record)],
    first: Option<Contents>,
    bases: &mut dyn Bases,
) -> Packing<Option<Shared>> {
    let all: u64 = remembered.iter().map(|(_, record)| record.size).sum();
    if remembered.is_empty() {
        return Ok(None);
    }
    let chosen = choose_base(bases, first, all, |contents| {
        let mut files = vec![None; plan.files.len()];
        let (mut last, mut bytes, mut used) = (None, 0, Used::new(contents));
        for (file, record) in remembered {
            let found = contents.find(&record.hash, last).and_then(|at| Some((at, contents.get(at)?)));
            // A hash says the length, too.
            if let Some((at, _)) = found.filter(|(_, known)| known.size == record.size) {
                files[*file] = Some((at, *record));
                used.add(at);
                (last, bytes) = (Some(at), bytes + record.size);
            }
        }
        (files, bytes, used.length())
    })?;
    Ok(chosen.map(|(base, files)| Shared { base, files }))
}

/// The files whose content is known without reading them, in the order of the layer.
pub(super) fn remembered(job: &Job<'_>, batches: &[Batch], plan: &Plan) -> Vec<(usize, stat_cache::Record)> {
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
        let seen = batches[batch].seen.as_ref().and_then(|seen| seen.leaf(dir, child));
        if let Some(record) = seen.filter(|leaf| leaf.remembered).and_then(|leaf| leaf.record) {
            known.extend((record.xattrs == XattrState::None).then_some((file, record)));
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

impl<'a> Reader<'a> {
    pub(super) fn new(base: &'a Base) -> Self {
        Self { base, windows: base.files.iter().map(|_| Window::default()).collect() }
    }

    /// Bytes of a file.
    pub(super) fn bytes(&mut self, number: usize, offset: u64, length: u64) -> io::Result<&[u8]> {
        let file = self.base.file(number).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.windows[number - 1].bytes(file, offset, length)
    }

    /// Keeps nothing of the files in memory.
    pub(super) fn let_go(&mut self) {
        self.windows.iter_mut().for_each(Window::let_go);
    }
}
