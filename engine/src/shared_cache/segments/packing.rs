//! Writing results together: small layers in a pack, their records in a segment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::image::Descriptor;
use base::{Digest, Key};
use sys::fs::PathContext as _;

use super::super::destination::{Destination, Results};
use super::super::place::NewRecord;
use super::super::record::RecordedLayer;
use super::super::writing::Made;
use super::format::MAX_PACK;
use super::names::{Names, Step};
use super::{Cut, Segment};
use crate::error::EngineError;
use crate::parallel::each_at_once;
use crate::remote::Fetcher;

/// Layers whose blobs are no longer than this are packed.
const SMALL: u64 = 64 * 1024;

/// How many large layers are written at once.
const LARGE_AT_ONCE: usize = 4;

/// How many other segments a segment tells of.
const OTHERS: usize = 16;

/// What a build knows of the packs in a place.
#[derive(Default)]
pub(in super::super) struct Packs(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Where small layers are: in a pack, or on their own.
    small: HashMap<Digest, Option<Cut>>,
    /// Keys under which segments of this build are found, one for each.
    segments: Vec<Key>,
}

/// A result with its layers.
struct Chain<'m> {
    made: &'m Made,
    layers: Vec<RecordedLayer>,
}

impl Packs {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Destination<'_> {
    /// Writes results as far as they are not there: their blobs, a segment with their records, and names for it.
    pub(in super::super) fn write_together(
        &self,
        packs: &Packs,
        results: &Results<'_>,
        made: &[&Made],
    ) -> Result<(), EngineError> {
        let mut chains = Vec::new();
        for made in made {
            if !made.found || !self.has_enough(results, &made.key)? {
                chains.push(Chain { made, layers: results.layers.of(made.result.snapshot)? });
            }
        }
        let layers: BTreeMap<Digest, &RecordedLayer> =
            chains.iter().flat_map(|chain| &chain.layers).map(|layer| (layer.digest, layer)).collect();
        let (small, large): (Vec<_>, Vec<_>) = layers.into_values().partition(|layer| layer.size <= SMALL);
        let fetcher = results.cache.fetcher();
        each_at_once(&large, LARGE_AT_ONCE, fetcher.cancel, |layer, _| {
            self.write_blob(fetcher, layer, &HashSet::new())
        })?;
        let cuts = self.write_small(packs, fetcher, &small)?;
        let is_alone = |layer: &&RecordedLayer| cuts.iter().all(|cut| cut.blob != layer.digest);
        let mut blobs: Vec<Descriptor> = large.iter().map(|layer| layer.descriptor()).collect();
        blobs.extend(small.iter().copied().filter(is_alone).map(RecordedLayer::descriptor));
        match &chains[..] {
            [] => Ok(()),
            [chain] if cuts.is_empty() => self.write_alone(results, chain.made),
            _ => self.write_segment(packs, results, &chains, (cuts, blobs)),
        }
    }

    /// Has small layers written: those that are nowhere yet in packs. Gives where they are that are not on their own.
    fn write_small(
        &self,
        packs: &Packs,
        fetcher: &Fetcher<'_>,
        layers: &[&RecordedLayer],
    ) -> Result<Vec<Cut>, EngineError> {
        // Held while they are written: who needs the same ones waits.
        let mut known = packs.known();
        let mut new = Vec::new();
        for layer in layers {
            let found = self.place.cut_of(&layer.digest).filter(|cut| cut.size == layer.size);
            if let Some(cut) = found {
                known.small.insert(layer.digest, Some(cut));
            } else if !known.small.contains_key(&layer.digest) {
                new.push(*layer);
            }
        }
        if let [layer] = new[..] {
            self.write_blob(fetcher, layer, &HashSet::new())?;
            known.small.insert(layer.digest, None);
            new.clear();
        }
        let mut rest = &new[..];
        while !rest.is_empty() {
            let count = fitting(rest);
            for cut in self.write_pack(fetcher, &rest[..count])? {
                known.small.insert(cut.blob, Some(cut));
            }
            rest = &rest[count..];
        }
        Ok(layers.iter().filter_map(|layer| *known.small.get(&layer.digest)?).collect())
    }

    /// Writes one pack of layers that fit into it.
    fn write_pack(&self, fetcher: &Fetcher<'_>, layers: &[&RecordedLayer]) -> Result<Vec<Cut>, EngineError> {
        let store = &fetcher.engine.store;
        let (mut content, mut starts) = (Vec::new(), Vec::new());
        for layer in layers {
            starts.push(content.len() as u64);
            let mut file = store.open_blob(&layer.digest)?;
            file.read_to_end(&mut content).at("read", &store.blob_path(&layer.digest))?;
        }
        let pack = store.put_blob(fetcher.lease, &content)?;
        let cut = |(layer, at): (&&RecordedLayer, u64)| Cut {
            blob: layer.digest,
            size: layer.size,
            pack: pack.digest,
            pack_size: pack.size,
            at,
        };
        let cuts: Vec<Cut> = layers.iter().zip(starts).map(cut).collect();
        if let Some(cut) = cuts.first() {
            let file = store.blob_path(&pack.digest);
            self.place.add_blob(&cut.pack(), &file, false, fetcher.cancel)?;
        }
        Ok(cuts)
    }

    /// Writes a segment of results whose layers are there, under the keys that need it.
    fn write_segment(
        &self,
        packs: &Packs,
        results: &Results<'_>,
        chains: &[Chain<'_>],
        (cuts, mut blobs): (Vec<Cut>, Vec<Descriptor>),
    ) -> Result<(), EngineError> {
        let trust = results.cache.trust();
        let record = |chain: &Chain<'_>| {
            let bytes = trust.to_bytes(&chain.made.key, &chain.made.record(chain.layers.clone()));
            (chain.made.key, String::from_utf8_lossy(&bytes).into_owned())
        };
        let used: BTreeMap<Digest, Descriptor> = cuts.iter().map(|cut| (cut.pack, cut.pack())).collect();
        blobs.extend(used.into_values());
        let others = packs.known().segments.iter().rev().take(OTHERS).copied().collect();
        let segment = Segment { records: chains.iter().map(record).collect(), cuts, others };
        let Some(bytes) = segment.to_bytes() else {
            // Results with too many layers.
            return chains.iter().try_for_each(|chain| self.write_alone(results, chain.made));
        };
        let step = |chain: &Chain<'_>| Step {
            key: chain.made.key,
            cost_ms: chain.made.cost_ms,
            below: results.cache.below(&chain.made.key),
        };
        let steps: Vec<Step> = chains.iter().map(step).collect();
        self.write_names(packs, results, &steps, (&bytes, &blobs))
    }

    fn write_names(
        &self,
        packs: &Packs,
        results: &Results<'_>,
        steps: &[Step],
        (bytes, blobs): (&[u8], &[Descriptor]),
    ) -> Result<(), EngineError> {
        let mut names = Names::new(steps, results.cache.claims.is_some());
        let mut name = None;
        for step in steps {
            if !names.wants(step) {
                names.is_found(step);
                continue;
            }
            let replaces = self.is_to_be_replaced(results, &step.key)?;
            let record = NewRecord { bytes, blobs, replaces };
            if self.place.add_record(&step.key, &record, results.cache.fetcher().cancel)? {
                names.is_found(step);
                name = Some(step.key);
            }
        }
        packs.known().segments.extend(name);
        Ok(())
    }
}

/// How many of the layers fit into one pack: one at least.
fn fitting(layers: &[&RecordedLayer]) -> usize {
    let mut left = MAX_PACK;
    let fits = |layer: &&&RecordedLayer| {
        let rest = left.checked_sub(layer.size);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    layers.iter().take_while(fits).count().max(1)
}
