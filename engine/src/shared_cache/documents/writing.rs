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
use crate::ops::Filesystem;
use crate::parallel::each_at_once;
use crate::remote::Fetcher;
use crate::request::{CacheMode, DocumentOutput};
use crate::shared_cache::layers::Layers;
use crate::shared_cache::reading::{Elsewhere, SharedCache};
use crate::shared_cache::record::{Record, RecordedLayer};
use crate::shared_cache::told::{Told, Where};

/// How many blobs are written at once.
const BLOBS_AT_ONCE: usize = 4;

/// Writes all of `outputs`. `roots` are the root filesystems of the images that were built.
///
/// # Errors
/// [`CacheDocumentError::Write`] for the first that could not be written, and was to be. The others are written all the same.
pub(crate) fn write(
    cache: &SharedCache<'_>,
    outputs: &[DocumentOutput],
    roots: &[Option<Filesystem>],
) -> Result<(), EngineError> {
    if outputs.is_empty() || !cache.may_tell() {
        return Ok(());
    }
    let told = cache.told()?;
    let roots: Vec<SnapshotId> = roots.iter().flatten().map(|root| root.snapshot).collect();
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
    fn write(&self, told: &[Told], roots: &[SnapshotId]) -> Result<(), EngineError> {
        let compression = self.output.layers.compression.unwrap_or(Compression::GZIP);
        let layers = Layers::new(self.fetcher, compression, self.output.layers.force);
        let images = roots.iter().map(|root| Image::new(self.fetcher, &layers, *root));
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
        each_at_once(&blobs, BLOBS_AT_ONCE, self.fetcher.cancel, |blob, stop| self.add(blob, stop))?;
        self.store.publish(&draft.finish(), self.output.form, self.fetcher.cancel)
    }

    /// The layers of a result that belongs into the document, and whether their blobs are in the store.
    fn layers(
        &self,
        result: &Told,
        layers: &Layers<'_>,
        images: &[Image],
    ) -> Result<Option<(Vec<RecordedLayer>, bool)>, EngineError> {
        let of_image = images.iter().find_map(|image| image.part(&result.place));
        Ok(match (&result.place, of_image) {
            (_, Some(of_image)) => Some((of_image.to_vec(), true)),
            _ if self.output.mode == CacheMode::Min => None,
            (Where::Here(snapshot), None) => Some((layers.of(*snapshot)?, true)),
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
    snapshots: Vec<SnapshotId>,
    layers: Vec<RecordedLayer>,
}

impl Image {
    fn new(fetcher: &Fetcher<'_>, layers: &Layers<'_>, root: SnapshotId) -> Result<Self, EngineError> {
        Ok(Self { snapshots: fetcher.engine.store.chain(root)?, layers: layers.of(root)? })
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
