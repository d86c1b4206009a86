//! Which packed layers of the store hold much of one that is being made, so that it can share with them.

use std::fs::File;

use base::Digest;

use super::bases::Bases;
use super::contents::Contents;
use super::mend::Mending;
use super::pieces::Pieces;
use super::sketch::Sketch;
use crate::db::packed::{self as rows, PackedLayer};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::snapshot::{ActiveSnapshot, SharedWith, SnapshotId};
use crate::store::Store;

/// Of how many layers the content is looked at, and how many are thought of.
const BASES: usize = 4;
const THOUGHT_OF: usize = 64;

/// How many times as long as the new one a layer may be, or the reverse, that is looked at.
const SIMILAR: u64 = 2;

/// How alike the [sketches](Sketch) are at least of layers whose lists are read.
const ALIKE: f64 = 0.1;

/// The longest list of contents that is read.
const LONGEST_LIST: u64 = 256 << 20;

/// The packed layers that may hold much of another one, the most similar first, and of those that are equally so the newest.
pub(super) struct Candidates<'a> {
    store: &'a Store,
    lease: &'a Lease,
    rest: std::vec::IntoIter<(SnapshotId, PackedLayer)>,
    /// The one whose list was given last.
    last: Option<(SnapshotId, PackedLayer)>,
}

impl<'a> Candidates<'a> {
    /// Those for a layer whose archive is about so long.
    pub(super) fn of(layer: &'a ActiveSnapshot, length: u64, sketch: &Sketch) -> Result<Self, StoreError> {
        let similar = (length / SIMILAR, length.saturating_mul(SIMILAR).min(i64::MAX.unsigned_abs()));
        // A layer that needs one of them needs all that it needs, and has a larger number than they.
        let most_parts = sys::erofs::MAX_PARTS;
        let rows = layer.store().db().read("list packed layers", |c| {
            rows::newest_of_length(c, layer.id(), similar, most_parts, THOUGHT_OF)
        })?;
        // Those that were made before there were sketches may be.
        let likeness = |row: &PackedLayer| row.sketch.as_ref().map_or(ALIKE, |other| other.likeness(sketch));
        let mut rows: Vec<_> = rows.into_iter().map(|(id, row)| (likeness(&row), id, row)).collect();
        rows.retain(|(likeness, ..)| *likeness >= ALIKE);
        rows.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
        rows.truncate(BASES);
        let rest: Vec<_> = rows.into_iter().map(|(_, id, row)| (id, row)).collect();
        Ok(Self { store: layer.store(), lease: layer.lease(), rest: rest.into_iter(), last: None })
    }

    /// What is to be known of the last one by who shares with it; `None` if these pieces do not.
    pub(super) fn shared_by(self, pieces: &Pieces) -> Option<SharedWith> {
        let (layer, row) = self.last.filter(|_| !pieces.parts().is_empty())?;
        Some(SharedWith { layer, contents: row.contents?, parts: pieces.parts().to_vec() })
    }

    fn files(
        &self,
        layer: SnapshotId,
        row: &PackedLayer,
    ) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError> {
        self.store.hold(self.lease, layer)?;
        let files = self.store.checked_files(layer, row, Mending::Nothing)?;
        // It may have been mended since its list was read.
        let now = self.store.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        let Some(files) = files.filter(|_| now.is_some_and(|now| now.contents == row.contents)) else {
            return Ok(None);
        };
        let mut layers = files.pieces().parts().to_vec();
        layers.push(layer);
        let mut data = files.into_data();
        // Its own is the last one for who shares it.
        data.rotate_left(1);
        Ok(Some(layers.into_iter().zip(data).collect()))
    }
}

impl Bases for Candidates<'_> {
    fn next(&mut self) -> Result<Option<Contents>, StoreError> {
        for (layer, row) in self.rest.by_ref() {
            if let Some(list) = kept_list(self.store, layer, &row) {
                self.last = Some((layer, row));
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    fn open(&mut self) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError> {
        let Some((layer, row)) = &self.last else { return Ok(None) };
        match self.files(*layer, row) {
            Err(error @ (StoreError::Database(_) | StoreError::Cancelled)) => Err(error),
            Err(StoreError::PackedDamaged { .. }) => {
                // It is not looked at each time.
                self.store.db().write("forget what a layer holds", |c| rows::forget_contents(c, *layer))?;
                Ok(None)
            }
            // What is wrong with another layer is no reason for this one to fail.
            files => Ok(files.ok().flatten()),
        }
    }
}

/// The list of what a layer holds, if it is what its row says.
fn kept_list(store: &Store, layer: SnapshotId, row: &PackedLayer) -> Option<Contents> {
    let list = sys::fs::read_limited(&store.layout().snapshot(layer).contents(), LONGEST_LIST).ok()??;
    Contents::read(&list).filter(|_| Some(Digest::of(&list)) == row.contents)
}
