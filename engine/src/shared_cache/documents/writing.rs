//! Writing cache documents at the end of a build: what is known of its steps, as one document for each place.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::CancelToken;
use base::image::Descriptor;
use snapshotter::{Compression, SnapshotId};

use super::config::Draft;
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::error::EngineError;
use crate::ops::{Filesystem, StepResult};
use crate::parallel::each_at_once;
use crate::remote::Fetcher;
use crate::request::{CacheMode, DocumentOutput};
use crate::shared_cache::layers::Layers;
use crate::shared_cache::reading::{Elsewhere, SharedCache};
use crate::shared_cache::record::{Record, RecordedLayer};
use crate::shared_cache::told::{Told, Where};

/// Writes all of `outputs`. `roots` are the root filesystems of the images that were built.
///
/// # Errors
/// [`CacheDocumentError::Write`] for the first that could not be written, and was to be. The others are written all the same.
pub(crate) fn write(
    cache: &SharedCache<'_>,
    outputs: &[DocumentOutput],
    roots: &[Option<StepResult>],
) -> Result<(), EngineError> {
    if outputs.is_empty() || !cache.may_tell() {
        return Ok(());
    }
    let told = cache.told()?;
    let roots: Vec<StepResult> = roots.iter().copied().flatten().collect();
    let mut failed = Ok(());
    for output in outputs {
        let fetcher = cache.fetcher();
        let store = super::open(fetcher.engine, &output.place);
        let name = store.name();
        let export = Export { cache, fetcher, store, output };
        let written =
            fetcher.progress.step(&format!("exporting cache to {name}"), |_| export.write(&told, &roots));
        match written {
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            Err(error) if output.ignore_error => {
                let why = base::fault::chain(&error);
                fetcher.progress.warn("SharedCache", format!("the cache was not exported to {name}: {why}"));
            }
            Err(error) if failed.is_ok() => {
                failed = Err(CacheDocumentError::Write { name, source: Box::new(error) }.into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    failed
}

/// One document that is written.
struct Export<'a> {
    cache: &'a SharedCache<'a>,
    fetcher: &'a Fetcher<'a>,
    store: Box<dyn DocumentStore + 'a>,
    output: &'a DocumentOutput,
}

impl Export<'_> {
    fn write(&self, told: &[Told], roots: &[StepResult]) -> Result<(), EngineError> {
        let compression = self.output.layers.compression.unwrap_or(Compression::GZIP);
        let layers = Layers::new(self.fetcher, compression, self.output.layers.force);
        let images = roots.iter().map(|root| Image::new(self.cache, &layers, *root));
        let images: Vec<Image> = images.collect::<Result<_, _>>()?;
        let mut draft = Draft::default();
        let mut ours = BTreeMap::new();
        for result in told {
            let Some((layers, is_here)) = self.layers(result, &layers, &images)? else { continue };
            if is_here {
                ours.extend(layers.iter().map(|layer| (layer.digest, layer.descriptor())));
            }
            let costs = (result.cost_ms, result.path_ms);
            let record = Record::new(result.content, layers, costs, result.step.clone());
            result.keys.iter().for_each(|key| draft.add(key, &record));
        }
        let blobs: Vec<Descriptor> = ours.into_values().collect();
        let at_once = self.store.blobs_at_once();
        each_at_once(&blobs, at_once, self.fetcher.cancel, |blob, stop| self.add(blob, stop))?;
        self.store.publish(&draft.finish(), self.output.form, self.fetcher.cancel)
    }

    /// The layers of a result that belongs into the document, and whether their blobs are in the store.
    fn layers(
        &self,
        result: &Told,
        layers: &Layers<'_>,
        images: &[Image],
    ) -> Result<Option<(Vec<RecordedLayer>, bool)>, EngineError> {
        let of_image = images.iter().find_map(|image| Some((image.part(&result.place)?, image.is_here)));
        Ok(match (&result.place, of_image) {
            (_, Some((of_image, true))) => Some((of_image.to_vec(), true)),
            (Where::Elsewhere(found), Some((of_image, false))) => {
                self.copy(found)?.then(|| (of_image.to_vec(), false))
            }
            _ if self.output.mode == CacheMode::Min => None,
            (Where::Here(snapshot), _) => Some((layers.of(*snapshot)?, true)),
            // What others have lost meanwhile is only missing in the document.
            (Where::Elsewhere(found), None) => {
                self.copy(found)?.then(|| (found.record().layers.clone(), false))
            }
        })
    }

    fn add(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<(), EngineError> {
        let store = &self.fetcher.engine.store;
        // A blob of ours that is damaged is no blob for others.
        store.open_blob(&blob.digest)?;
        self.store.add_blob(blob, &store.blob_path(&blob.digest), cancel)
    }

    /// Copies the blobs of a result that is elsewhere; `false` if they cannot be had.
    fn copy(&self, found: &Arc<Elsewhere>) -> Result<bool, EngineError> {
        for layer in &found.record().layers {
            let blob = layer.descriptor();
            if self.store.has_blob(&blob, self.fetcher.cancel)? {
                continue;
            }
            match self.cache.fetch_of(found, &blob, self.fetcher.cancel) {
                Ok(()) => self.add(&blob, self.fetcher.cancel)?,
                Err(EngineError::SharedResultLost { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A built image, to which results may belong.
struct Image {
    /// The snapshots of the layers; empty if it is elsewhere.
    snapshots: Vec<SnapshotId>,
    layers: Vec<RecordedLayer>,
    /// Whether the layers are in the store.
    is_here: bool,
}

impl Image {
    fn new(cache: &SharedCache<'_>, layers: &Layers<'_>, root: StepResult) -> Result<Self, EngineError> {
        match root {
            StepResult::Here(Filesystem { snapshot, .. }) => {
                let snapshots = cache.fetcher().engine.store.chain(snapshot)?;
                Ok(Self { snapshots, layers: layers.of(snapshot)?, is_here: true })
            }
            StepResult::Shared { id, .. } => {
                let layers = cache.layers_of(id).iter().map(RecordedLayer::of).collect();
                Ok(Self { snapshots: Vec::new(), layers, is_here: false })
            }
        }
    }

    /// The layers of a result, if they are the image's from the base up.
    fn part(&self, place: &Where) -> Option<&[RecordedLayer]> {
        let length = match place {
            Where::Here(snapshot) => 1 + self.snapshots.iter().position(|own| own == snapshot)?,
            Where::Elsewhere(found) => {
                let own = self.layers.iter().map(|layer| layer.diff_id);
                let theirs = &found.record().layers;
                let same = own.zip(theirs).take_while(|(own, theirs)| *own == theirs.diff_id).count();
                if same < theirs.len() {
                    return None;
                }
                same
            }
        };
        self.layers.get(..length)
    }
}
