//! A copy that becomes a packed layer: what is copied is written into one archive, in the order that a layer has, and an
//! index of it is made beside it. No file is created for it.
//!
//! It is the layer that [`copy`](super::copy) into an empty layer directory and [writing](crate::diff::write_layer) what
//! is in it would make, byte for byte: names sorted, files that are what is below left out, and directories that lead to
//! changes written with them. Times are whole seconds in the archive and complete in the index, as they are in
//! a directory.
//!
//! What this cannot do, or would have to report, is [`Stop::Unfit`], and is done in the usual way: two sources of one
//! name, a file in the place of a directory, sparse files, attributes and names that a layer cannot hold.
//!
//! The stages: [`plan`] says what goes where, and in which order; [`held`] which of the files another layer holds already; [`load`] reads the files, many at a time; [`emit`]
//! writes, digests and indexes while the next ones are read; [`known`] has what became known of them.

pub(crate) mod digesting;
mod emit;
mod held;
mod known;
mod load;
mod plan;
mod sink;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base::CancelToken;

use self::digesting::Digesting;
use self::emit::{Emitted, Emitter};
use self::load::{Loader, Round};
use self::plan::Plan;
use super::{CopyError, CopyOptions, CopyStats, Job};
use crate::batch::Batch;
use crate::erofs;
use crate::hard_links::HardLinks;
use crate::packed::bases::Bases;
use crate::packed::pieces::Pieces;
use crate::tree::{Tree, TreeError};
use crate::writer::{LayerWriter, WriteError};

/// Why a copy ends early.
pub(super) enum Stop {
    /// It cannot be packed, or something is wrong that the usual way reports.
    Unfit,
    Failed(CopyError),
}

impl<E: Into<CopyError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Packing<T> = std::result::Result<T, Stop>;

/// A copy that was written to an archive.
pub(crate) struct PackedCopy {
    pub(crate) stats: CopyStats,
    /// The digest of the archive, the diffID of the layer, when it is waited for.
    pub(crate) diff_id: Digesting,
    /// Where it lies: in `tar`, and in the files of the layer that was shared.
    pub(crate) pieces: Pieces,
    /// What it holds.
    pub(crate) contents: Vec<u8>,
    /// What its index is to hold.
    pub(crate) tree: erofs::Tree,
}

/// Copies `batches` of `source` into `tar`, an empty file, for a layer of `writer` in which nothing is yet. `None` when it has to be
/// done in the usual way; what was written is worth nothing then. What one of `bases` holds is left to it.
pub(crate) fn pack(
    writer: &LayerWriter,
    source: &Tree,
    batches: &[Batch],
    options: &CopyOptions<'_>,
    tar: &File,
    bases: &mut dyn Bases,
    cancel: &CancelToken,
) -> super::Result<Option<PackedCopy>> {
    let job = Job { writer, source, options: *options, clone: Default::default(), cancel };
    match run(&job, batches, tar, bases) {
        Ok(packed) => Ok(Some(packed)),
        Err(Stop::Unfit) => Ok(None),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn run(job: &Job<'_>, batches: &[Batch], tar: &File, bases: &mut dyn Bases) -> Packing<PackedCopy> {
    // Only of what is remembered is known that a layer has it, and only if there is one this matters.
    let may_share = AtomicBool::new(job.options.stat_cache.is_some());
    let planned = || -> Packing<_> {
        let links: Vec<HardLinks> = batches.iter().map(|batch| HardLinks::find(&batch.scan)).collect();
        let plan = Plan::make(job, batches)?;
        let remembered = match may_share.load(Ordering::Relaxed) {
            true => held::remembered(job, batches, &plan),
            false => Vec::new(),
        };
        Ok((links, plan, remembered))
    };
    let first = || {
        let first = if may_share.load(Ordering::Relaxed) { bases.next() } else { Ok(None) };
        may_share.store(!matches!(first, Ok(None)), Ordering::Relaxed);
        first
    };
    let (planned, first) = rayon::join(planned, first);
    let (links, plan, remembered) = planned?;
    let shared = held::choose(&plan, &remembered, first?, bases)?;
    let base = shared.as_ref().map(|shared| &shared.base);
    let mut emitter = Emitter::new(job, batches, &plan, tar, base)?;
    let mut loader = Loader::new(job, batches, &links, &plan, shared.as_ref());
    // What was read is written while what comes next is read.
    let (mut ready, mut memory) = (Round::default(), Vec::new());
    loop {
        job.cancel.check().map_err(TreeError::from)?;
        let next = loader.next()?;
        if next.is_empty() {
            emitter.files(ready)?;
            break;
        }
        ready = match next.takes_time() {
            true => {
                let (written, read) = rayon::join(|| emitter.files(ready), || loader.read(next, memory));
                memory = written?;
                read?
            }
            // The other processor has something better to do.
            false => {
                let used = emitter.files(ready)?;
                loader.read(next, used)?
            }
        };
    }
    let emitted = emitter.finish()?;
    let Emitted { stats, known, diff_id, pieces, contents, tree } = emitted;
    let mut stats = CopyStats { dirs: plan.new_dirs, ..stats };
    stats.content_key = known.keep(&links);
    Ok(PackedCopy { stats, diff_id, pieces, contents, tree })
}

/// A place in the sources: number of the batch, of the directory in it, and of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) batch: usize,
    pub(super) dir: usize,
    pub(super) child: usize,
}

/// What the format of an index cannot hold.
impl From<erofs::Unfit> for Stop {
    fn from(_: erofs::Unfit) -> Self {
        Self::Unfit
    }
}

/// Something of the merged view that must be there.
fn there<T>(found: Option<T>, path: &Path) -> Packing<T> {
    found.ok_or_else(|| WriteError::Missing(path.to_owned()).into())
}

#[cfg(test)]
mod tests;
