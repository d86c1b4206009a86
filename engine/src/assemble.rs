//! From a root filesystem to an image: layers, config with history, manifest.

use std::collections::BTreeMap;

use base::image::{Descriptor, History, ImageConfig, Index, Manifest, media_type};
use base::{CancelToken, Digest, Platform, Timestamp};
use frontend::{Lowered, LoweredImage};
use snapshotter::{Compression, LayerForm, Lease, SnapshotId};

use crate::Engine;
use crate::error::EngineError;
use crate::ops::Filesystem;
use crate::progress::Progress;
use crate::report::BuildReport;
use crate::request::BuildRequest;

/// The build argument that asks for an index even of one platform.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// What a build made, in the store.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The index of all images, or the manifest of the only one.
    pub(crate) root: Descriptor,
    /// One for each platform; at least one.
    pub(crate) images: Vec<BuiltImage>,
}

/// A built image of one platform.
#[derive(Debug, Clone)]
pub(crate) struct BuiltImage {
    pub(crate) platform: Platform,
    pub(crate) manifest: Manifest,
    /// The root filesystem; `None` is empty.
    pub(crate) root: Option<SnapshotId>,
    /// How many of the layers are the base image's, which stay as they are.
    pub(crate) base_layers: usize,
}

impl Built {
    /// Whether the result is an index.
    pub(crate) fn is_index(&self) -> bool {
        media_type::is_index(&self.root.media_type)
    }

    pub(crate) fn report(&self, request: &BuildRequest) -> BuildReport {
        // The id of an image is its config's digest; several images have only their index in common.
        let only = self.images.first().filter(|_| !self.is_index());
        BuildReport {
            image_id: only.map_or(self.root.digest, |image| image.manifest.config.digest),
            manifest: self.root.digest,
            names: request.tags.iter().map(ToString::to_string).collect(),
        }
    }
}

/// One layer of an image, with what history needs of it.
struct Layer {
    diff_id: Digest,
    descriptor: Descriptor,
    created: Timestamp,
}

/// Makes the image of a finished build; with several platforms, an index of one for each.
#[expect(clippy::too_many_arguments, reason = "the last stage brings together what all others made")]
pub(crate) fn image(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    lowered: &Lowered,
    roots: &[Option<Filesystem>],
    progress: &Progress,
    vertex: Digest,
    cancel: &CancelToken,
) -> Result<Built, EngineError> {
    let mut images = Vec::with_capacity(roots.len());
    for (lowered, root) in lowered.images.iter().zip(roots) {
        let image = one(engine, lease, request, lowered, *root, cancel)?;
        let id = image.manifest.config.digest;
        progress.status(vertex, "exporting layers", 0, 0, true);
        progress.status(vertex, &format!("writing image {id}"), 0, 0, true);
        images.push(image);
    }
    let manifests: Vec<(Platform, Manifest)> =
        images.iter().map(|image| (image.platform.clone(), image.manifest.clone())).collect();
    let (root, _) = root(engine, lease, request, &manifests)?;
    Ok(Built { root, images })
}

/// The image of one platform.
fn one(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    lowered: &LoweredImage,
    root: Option<Filesystem>,
    cancel: &CancelToken,
) -> Result<BuiltImage, EngineError> {
    let root = root.map(|filesystem| filesystem.snapshot);
    let base_layers = lowered.config.rootfs.diff_ids.len();
    let layers = layers(engine, lease, root, base_layers, request.epoch, cancel)?;
    let mut config = lowered.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    date(&mut config, &layers, request.epoch);
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        config: document(engine, lease, media_type::OCI_CONFIG, &config)?,
        layers: layers.into_iter().map(|layer| layer.descriptor).collect(),
        annotations: BTreeMap::new(),
    };
    Ok(BuiltImage { platform: lowered.platform.clone(), manifest, root, base_layers })
}

/// Writes the manifests, and an index of them if the request is for several platforms. Gives the descriptor
/// of the index or only manifest, and those of the manifests.
pub(crate) fn root(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    manifests: &[(Platform, Manifest)],
) -> Result<(Descriptor, Vec<Descriptor>), EngineError> {
    let forced =
        request.build_args.get(MULTI_PLATFORM).is_some_and(|value| base::boolean::parse(value) == Some(true));
    let mut descriptors = Vec::with_capacity(manifests.len());
    for (_, manifest) in manifests {
        descriptors.push(document(engine, lease, media_type::OCI_MANIFEST, manifest)?);
    }
    if let ([only], false) = (descriptors.as_slice(), forced) {
        return Ok((only.clone(), descriptors));
    }
    let of_platform = |(descriptor, (platform, _)): (&Descriptor, &(Platform, Manifest))| Descriptor {
        platform: Some(platform.clone()),
        ..descriptor.clone()
    };
    let index = Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests: descriptors.iter().zip(manifests).map(of_platform).collect(),
        annotations: BTreeMap::new(),
    };
    Ok((document(engine, lease, media_type::OCI_INDEX, &index)?, descriptors))
}

/// The layers of a root filesystem, the base first. Those of the base keep their times; in those that the
/// build made, no file is younger than `epoch`.
fn layers(
    engine: &Engine,
    lease: &Lease,
    root: Option<SnapshotId>,
    base_layers: usize,
    epoch: Option<Timestamp>,
    cancel: &CancelToken,
) -> Result<Vec<Layer>, EngineError> {
    let chain = match root {
        Some(root) => engine.store.chain(root)?,
        None => Vec::new(),
    };
    let layer = |(index, id): (usize, SnapshotId)| {
        let clamp = clamp(index, base_layers, epoch);
        let blob = match clamp {
            None => engine.store.layer_id(lease, id, None, cancel)?,
            // No snapshot has these files with these times, so the layer is kept as it is in the image.
            Some(_) => {
                let form = LayerForm { compression: Compression::None, clamp_mtime: clamp };
                engine.store.layer(lease, id, form, cancel)?
            }
        };
        let created = engine.store.snapshot_info(id)?.created_at;
        let descriptor = Descriptor { media_type: oci_layer(&blob.descriptor.media_type), ..blob.descriptor };
        Ok(Layer { diff_id: blob.diff_id, descriptor, created })
    };
    chain.into_iter().enumerate().map(layer).collect()
}

/// The time that no file of a layer may be younger than, in seconds since 1970.
pub(crate) fn clamp(index: usize, base_layers: usize, epoch: Option<Timestamp>) -> Option<i64> {
    if index < base_layers { None } else { epoch.map(Timestamp::as_second) }
}

/// The OCI name of a layer's media type: an OCI manifest does not mix with Docker's names.
fn oci_layer(name: &str) -> String {
    match name {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
        other => other,
    }
    .to_owned()
}

/// Gives the history its times: a step's is its layer's, a step without a layer has that of the layer
/// before it. So an image that is built again from the cache is the same image.
fn date(config: &mut ImageConfig, layers: &[Layer], epoch: Option<Timestamp>) {
    complete(config, layers.len());
    let mut layer_times = layers.iter().map(|layer| layer.created);
    let mut last = config.created;
    for entry in &mut config.history {
        let of_layer = if entry.empty_layer { None } else { layer_times.next() };
        if entry.created.is_none() {
            entry.created = epoch.or(of_layer).or(last);
        }
        last = entry.created.or(last);
    }
    config.created = epoch.or(last);
}

/// Adds entries at the front for layers that the base's history does not tell about.
fn complete(config: &mut ImageConfig, layers: usize) {
    let told = config.history.iter().filter(|entry| !entry.empty_layer).count();
    let comment = "buildkit.exporter.image.v0";
    let untold = || History { comment: comment.to_owned(), ..History::default() };
    config.history.splice(0..0, (told..layers).map(|_| untold()));
}

/// Writes a JSON document to the store.
pub(crate) fn document<T: serde::Serialize>(
    engine: &Engine,
    lease: &Lease,
    media_type: &str,
    value: &T,
) -> Result<Descriptor, EngineError> {
    let bytes = serde_json::to_vec(value).map_err(|source| EngineError::Document {
        what: "new document",
        digest: Digest::of(media_type.as_bytes()),
        source,
    })?;
    let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
    engine.keep(lease, &descriptor, &mut bytes.as_slice())?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Platform;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn layer(seconds: i64) -> Layer {
        let digest = Digest::of(&seconds.to_le_bytes());
        Layer { diff_id: digest, descriptor: Descriptor::new("", digest, 0), created: at(seconds) }
    }

    fn config(entries: &[(Option<i64>, bool)]) -> ImageConfig {
        let mut config = ImageConfig::scratch(&Platform::host());
        let entry = |(seconds, empty): &(Option<i64>, bool)| History {
            created: seconds.map(at),
            empty_layer: *empty,
            ..History::default()
        };
        config.history = entries.iter().map(entry).collect();
        config
    }

    fn times(config: &ImageConfig) -> Vec<Option<i64>> {
        config.history.iter().map(|entry| entry.created.map(Timestamp::as_second)).collect()
    }

    #[test]
    fn steps_take_the_time_of_their_layer_or_of_the_one_before() {
        let mut dated = config(&[(Some(1), false), (None, true), (None, false), (None, true)]);
        date(&mut dated, &[layer(1), layer(9)], None);
        assert_eq!(times(&dated), [Some(1), Some(1), Some(9), Some(9)]);
        assert_eq!(dated.created, Some(at(9)));
    }

    #[test]
    fn an_epoch_dates_all_that_is_new() {
        let mut dated = config(&[(Some(1), false), (None, false)]);
        date(&mut dated, &[layer(1), layer(9)], Some(at(5)));
        assert_eq!(times(&dated), [Some(1), Some(5)]);
        assert_eq!(dated.created, Some(at(5)));
    }

    #[test]
    fn a_base_without_history_gets_entries_for_its_layers() {
        let mut dated = config(&[(None, false)]);
        date(&mut dated, &[layer(1), layer(2), layer(3)], None);
        assert_eq!(times(&dated), [Some(1), Some(2), Some(3)]);
        assert_eq!(dated.history[0].comment, "buildkit.exporter.image.v0");
    }
}
