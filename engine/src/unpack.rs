//! Making snapshots of the layers of an image, each while it is downloaded.

use std::thread;

use base::image::{Descriptor, chain_id};
use base::{CancelToken, Digest, Reference};
use snapshotter::{Arriving, Lease, SnapshotId};

use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::progress::Progress;
use crate::pull::LayerDownload;

/// The layers of an image that are not snapshots yet, on top of each other.
struct Unpacking<'a> {
    engine: &'a Engine,
    lease: &'a Lease,
    reference: &'a Reference,
    layers: &'a [Descriptor],
    diff_ids: &'a [Digest],
    /// How far their downloads are.
    arrivals: Vec<Arriving>,
    progress: &'a Progress,
    vertex: Digest,
    cancel: &'a CancelToken,
}

/// How far it has come.
struct Reached {
    snapshot: Option<SnapshotId>,
    layers: usize,
}

impl Engine {
    /// Makes the root filesystem of `image` available, fetching the layers that are missing from
    /// `reference`'s repository. `None` for an image without layers.
    pub(crate) fn unpack(
        &self,
        lease: &Lease,
        reference: &Reference,
        image: &Image,
        progress: &Progress,
        vertex: Digest,
        cancel: &CancelToken,
    ) -> Result<Option<SnapshotId>, EngineError> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let (snapshot, done) = self.unpacked_prefix(lease, diff_ids)?;
        let layers = &image.manifest.layers[done..];
        let unpacking = Unpacking {
            engine: self,
            lease,
            reference,
            layers,
            diff_ids: &diff_ids[done..],
            arrivals: layers.iter().map(|_| Arriving::default()).collect(),
            progress,
            vertex,
            cancel,
        };
        unpacking.run(snapshot)
    }

    /// The longest part of a chain of layers that is unpacked already: its snapshot and its length.
    pub(crate) fn unpacked_prefix(
        &self,
        lease: &Lease,
        diff_ids: &[Digest],
    ) -> Result<(Option<SnapshotId>, usize), EngineError> {
        for length in (1..=diff_ids.len()).rev() {
            let Some(chain) = chain_id(&diff_ids[..length]) else { continue };
            if let Some(snapshot) = self.store.snapshot_by_chain_id(lease, &chain)? {
                return Ok((Some(snapshot), length));
            }
        }
        Ok((None, 0))
    }
}

impl Unpacking<'_> {
    fn run(&self, below: Option<SnapshotId>) -> Result<Option<SnapshotId>, EngineError> {
        let mut reached = Reached { snapshot: below, layers: 0 };
        if self.layers.is_empty() {
            return Ok(reached.snapshot);
        }
        let (fetched, unpacked) = thread::scope(|scope| {
            let fetching = scope.spawn(|| self.fetch());
            let unpacked = self.go_on(&mut reached, true);
            (fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), unpacked)
        });
        // What is wrong with a download explains what is wrong with a layer.
        fetched?;
        unpacked?;
        // Downloads that were begun again, with what came in the first attempt thrown away.
        self.go_on(&mut reached, false)?;
        Ok(reached.snapshot)
    }

    /// Downloads the layers that the store does not have, several at once.
    fn fetch(&self) -> Result<(), EngineError> {
        let Self { engine, lease, reference, progress, vertex, cancel, .. } = *self;
        let all: Vec<&Descriptor> = self.layers.iter().collect();
        let fetched = engine.fetch_each(lease, &all, cancel, |layer, stop| {
            let number = self.layers.iter().position(|other| other == layer);
            let arriving = number.map(|number| &self.arrivals[number]);
            let download = LayerDownload { reference, layer, arriving, progress, vertex };
            engine.fetch_layer(lease, &download, stop)
        });
        // Those that were there, or are not fetched any more.
        self.arrivals.iter().for_each(Arriving::end);
        fetched
    }

    /// Unpacks one layer after the other; while they arrive, up to one of which the rest has to be fetched once more.
    fn go_on(&self, reached: &mut Reached, while_arriving: bool) -> Result<(), EngineError> {
        while let Some(layer) = self.layers.get(reached.layers) {
            self.cancel.check()?;
            let number = reached.layers;
            let (parent, diff_id) = (reached.snapshot, Some(&self.diff_ids[number]));
            let (store, lease, cancel) = (&self.engine.store, self.lease, self.cancel);
            // Of what is in the store already nobody says that it comes.
            let is_there = store.blob(lease, &layer.digest)?.is_some();
            let arriving = (while_arriving && !is_there).then(|| &self.arrivals[number]);
            if arriving.is_some_and(|arriving| !arriving.begins()) {
                return Ok(());
            }
            let id = format!("extracting {}", layer.digest.short());
            self.progress.status(self.vertex, &id, 0, layer.size, false);
            let snapshot = match arriving {
                Some(arriving) => {
                    match store.apply_arriving_layer(lease, parent, layer, arriving, diff_id, cancel) {
                        Err(_) if !arriving.is_whole() => return Ok(()),
                        applied => applied?,
                    }
                }
                None => store.apply_layer(lease, parent, layer, diff_id, cancel)?,
            };
            self.progress.status(self.vertex, &id, layer.size, layer.size, true);
            *reached = Reached { snapshot: Some(snapshot), layers: number + 1 };
        }
        Ok(())
    }
}
