//! From a root filesystem to an image: layers, config with history, manifest.

use base::image::{Descriptor, History, ImageConfig, Index, Manifest, media_type};
use base::{CancelToken, Digest, Platform, Timestamp};
use frontend::LoweredImage;
use snapshotter::{Compression, LayerBlob, LayerForm, Lease, SharedLayer, SnapshotId};

use crate::Engine;
use crate::attest::{self, Predicate};
use crate::build::Prepared;
use crate::error::EngineError;
use crate::ops::{Sharing, StepResult};
use crate::progress::Progress;
use crate::report::TargetReport;
use crate::request::{AnnotationPlace, BuildRequest, LayerOptions};
use crate::shared_cache::{INLINE, RemoteLayers};

/// The build argument that asks for an index even of one platform.
pub(crate) const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// The build argument that asks for the steps in the image's config.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// What a build made, in the store.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The index of all images, or the manifest of the only one.
    pub(crate) root: Descriptor,
    /// One for each platform; at least one.
    pub(crate) images: Vec<BuiltImage>,
    /// What is told of them, in manifests of the same index.
    pub(crate) attestations: Vec<(Descriptor, Manifest)>,
}

/// A built image of one platform.
#[derive(Debug, Clone)]
pub(crate) struct BuiltImage {
    pub(crate) platform: Platform,
    /// Where the manifest is.
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    /// The root filesystem; `None` is empty, or one whose layers stay in a shared cache.
    pub(crate) root: Option<SnapshotId>,
}

impl Built {
    /// Whether the result is an index.
    pub(crate) fn is_index(&self) -> bool {
        media_type::is_index(&self.root.media_type)
    }

    pub(crate) fn report(&self, request: &BuildRequest) -> TargetReport {
        // The id of an image is its config's digest; several images have only their index in common.
        let only = self.images.first().filter(|_| !self.is_index());
        TargetReport {
            stage: request.target.clone(),
            image_id: only.map_or(self.root.digest, |image| image.manifest.config.digest),
            manifest: self.root.digest,
            descriptor: self.root.clone(),
            names: request.tags.iter().map(ToString::to_string).collect(),
        }
    }
}

/// One layer of an image, with what history needs of it.
struct Layer {
    diff_id: Digest,
    descriptor: Descriptor,
    /// When it was made, as far as the image knows: the same on every machine.
    created: Option<Timestamp>,
}

/// A target of a finished build, of which images are made.
#[derive(Clone, Copy)]
pub(crate) struct Assembly<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) lease: &'a Lease,
    pub(crate) request: &'a BuildRequest,
    /// What was built.
    pub(crate) prepared: &'a Prepared,
    /// What the frontend knows of the images, one for each platform.
    pub(crate) lowered: &'a [LoweredImage],
    /// The number of the first of them among all images of the build.
    pub(crate) first: usize,
    /// The root filesystems, one for each of them; `None` is empty.
    pub(crate) roots: &'a [Option<StepResult>],
    /// What is known of the steps, and shared with others.
    pub(crate) sharing: Sharing<'a>,
    pub(crate) progress: &'a Progress,
    pub(crate) cancel: &'a CancelToken,
}

impl Assembly<'_> {
    /// Makes the image with its layers as `options` ask; with several platforms or with something that is told of it, an
    /// index of one for each.
    pub(crate) fn image(
        &self,
        options: &LayerOptions,
        told: Option<&[Vec<Predicate>]>,
    ) -> Result<Built, EngineError> {
        let platforms: Vec<&Platform> = self.lowered.iter().map(|lowered| &lowered.platform).collect();
        if let Some(stranger) = options.annotations.stranger(&platforms) {
            return Err(EngineError::NoPlatformToAnnotate(stranger.to_string()));
        }
        let lowered = self.lowered.iter().zip(self.roots);
        let images: Vec<BuiltImage> =
            lowered.map(|(lowered, root)| self.one(lowered, *root, options)).collect::<Result<_, _>>()?;
        let attestations = attest::manifests(self, &images, told.unwrap_or_default(), options.artifacts)?;
        let root = root(self, &images, &attestations, options)?;
        Ok(Built { root, images, attestations })
    }

    /// Whether the result is an index also without anything that is told of it.
    pub(crate) fn is_index(&self) -> bool {
        self.lowered.len() > 1 || is_set(self.request, MULTI_PLATFORM)
    }

    /// The image of one platform.
    fn one(
        &self,
        lowered: &LoweredImage,
        root: Option<StepResult>,
        options: &LayerOptions,
    ) -> Result<BuiltImage, EngineError> {
        let types = Types::of(options);
        let root = root.map(|root| self.root(root, options)).transpose()?;
        let (root, layers) = match root {
            None => (None, Vec::new()),
            Some(Root::Here(root)) => (Some(root), self.layers(root, &lowered.config, options)?),
            Some(Root::Elsewhere(layers)) => (None, recorded(layers, &lowered.config, options)),
        };
        let mut config = lowered.config.clone();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        date(&mut config, &layers, self.request.epoch);
        // What the base has of this is about the base's steps.
        config.other.remove(INLINE);
        if let Some(root) = root.filter(|_| self.has_inline_cache())
            && let Some(records) = self.sharing.cache.inline(root)?
        {
            config.other.insert(INLINE.to_owned(), records.into());
        }
        let noted = |place| options.annotations.of(place, Some(&lowered.platform));
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: types.manifest.to_owned(),
            config: document(self.engine, self.lease, types.config, &config)?,
            layers: layers.into_iter().map(|layer| layer.descriptor).collect(),
            annotations: noted(AnnotationPlace::Manifest),
        };
        let mut descriptor = document(self.engine, self.lease, types.manifest, &manifest)?;
        descriptor.annotations = noted(AnnotationPlace::ManifestDescriptor);
        Ok(BuiltImage { platform: lowered.platform.clone(), descriptor, manifest, root })
    }

    /// Where the layers of a result are for an image with these options. It is brought here if they have to be made anew.
    fn root(&self, root: StepResult, options: &LayerOptions) -> Result<Root, EngineError> {
        let id = match root {
            StepResult::Here(filesystem) => return Ok(Root::Here(filesystem.snapshot)),
            StepResult::Shared { id, .. } => id,
        };
        let layers = self.sharing.cache.layers_of(id);
        let wanted = options.compression.filter(|_| options.force);
        let fits = |layer: &SharedLayer| {
            let media_type = &layer.descriptor.media_type;
            is_layer(media_type) && wanted.is_none_or(|wanted| wanted.is_named_by(media_type))
        };
        if !self.has_inline_cache() && layers.iter().all(fits) {
            return Ok(Root::Elsewhere(layers));
        }
        Ok(Root::Here(self.sharing.cache.bring(id, self.cancel)?.snapshot))
    }

    /// What is known of layers that stayed in shared caches.
    pub(crate) fn remote_layers(&self) -> RemoteLayers<'_> {
        let shared = self.roots.iter().flatten().filter_map(|root| root.if_shared());
        RemoteLayers::new(self.sharing.cache, shared.collect())
    }

    /// Whether the image's config has the steps that made it.
    fn has_inline_cache(&self) -> bool {
        self.request.caches.inline || is_set(self.request, INLINE_CACHE)
    }

    /// The layers of a root filesystem, the base first. Those of the base keep their times; in those that the
    /// build made, no file is younger than the request's epoch.
    fn layers(
        &self,
        root: SnapshotId,
        base: &ImageConfig,
        options: &LayerOptions,
    ) -> Result<Vec<Layer>, EngineError> {
        let store = &self.engine.store;
        let chain = store.hold_chain(self.lease, root)?;
        let layer = |(index, id): (usize, SnapshotId)| {
            let is_base = index < base.rootfs.diff_ids.len();
            let epoch = self.request.epoch.filter(|_| !is_base && !options.keep_times);
            let blob = self.layer(id, epoch.map(Timestamp::as_second), options)?;
            let created = if is_base { base.created } else { Some(store.snapshot_info(id)?.created_at) };
            let media_type = (Types::of(options).layer)(&blob.descriptor.media_type).to_owned();
            let descriptor = Descriptor { media_type, ..blob.descriptor };
            Ok(Layer { diff_id: blob.diff_id, descriptor, created })
        };
        chain.into_iter().enumerate().map(layer).collect()
    }

    /// The layer of a snapshot, with a blob if somebody needs it now.
    fn layer(
        &self,
        id: SnapshotId,
        clamp_mtime: Option<i64>,
        options: &LayerOptions,
    ) -> Result<LayerBlob, EngineError> {
        let store = &self.engine.store;
        let form = |compression| LayerForm { compression, clamp_mtime };
        let layer = match options.compression {
            Some(compression) if options.force => {
                store.converted_layer(self.lease, id, form(compression), self.cancel)
            }
            Some(compression) => store.layer(self.lease, id, form(compression), self.cancel),
            None if clamp_mtime.is_none() => store.layer_id(self.lease, id, None, self.cancel),
            // No snapshot has these files with these times, so the layer is kept as it is in the image.
            None => store.layer(self.lease, id, form(Compression::None), self.cancel),
        };
        Ok(layer?)
    }
}

/// Where the layers of an image are.
enum Root {
    /// In the store.
    Here(SnapshotId),
    /// In a shared cache, the base first.
    Elsewhere(Vec<SharedLayer>),
}

/// The layers of an image as another builder has made them. Those of the base have the time that the base says.
fn recorded(layers: Vec<SharedLayer>, base: &ImageConfig, options: &LayerOptions) -> Vec<Layer> {
    let layer = |(index, layer): (usize, SharedLayer)| {
        let SharedLayer { descriptor, diff_id, created_at } = layer;
        let created = if index < base.rootfs.diff_ids.len() { base.created } else { Some(created_at) };
        let media_type = (Types::of(options).layer)(&descriptor.media_type).to_owned();
        Layer { diff_id, descriptor: Descriptor { media_type, ..descriptor }, created }
    };
    layers.into_iter().enumerate().map(layer).collect()
}

/// Whether a build argument that is a switch is on.
fn is_set(request: &BuildRequest, name: &str) -> bool {
    request.build_args.get(name).is_some_and(|value| base::boolean::parse(value) == Some(true))
}

/// Writes an index of the images if the request is for several platforms, and gives its descriptor, or that of
/// the only manifest.
fn root(
    assembly: &Assembly<'_>,
    images: &[BuiltImage],
    attestations: &[(Descriptor, Manifest)],
    options: &LayerOptions,
) -> Result<Descriptor, EngineError> {
    if let ([only], []) = (images, attestations)
        && !assembly.is_index()
    {
        let is_noted = |place| !options.annotations.of(place, None).is_empty();
        if [AnnotationPlace::Index, AnnotationPlace::IndexDescriptor].into_iter().any(is_noted) {
            return Err(EngineError::NoIndexToAnnotate);
        }
        return Ok(only.descriptor.clone());
    }
    let of_platform = |image: &BuiltImage| Descriptor {
        platform: Some(image.platform.clone()),
        ..image.descriptor.clone()
    };
    let types = Types::of(options);
    let index = Index {
        schema_version: 2,
        media_type: types.index.to_owned(),
        manifests: images
            .iter()
            .map(of_platform)
            .chain(attestations.iter().map(|(descriptor, _)| descriptor.clone()))
            .collect(),
        annotations: options.annotations.of(AnnotationPlace::Index, None),
    };
    let mut descriptor = document(assembly.engine, assembly.lease, types.index, &index)?;
    descriptor.annotations = options.annotations.of(AnnotationPlace::IndexDescriptor, None);
    Ok(descriptor)
}

/// What the parts of an image are called. OCI's names and Docker's do not mix in one manifest.
struct Types {
    index: &'static str,
    manifest: &'static str,
    config: &'static str,
    /// The name of a layer that has this name, perhaps of the other kind.
    layer: fn(&str) -> &str,
}

impl Types {
    fn of(options: &LayerOptions) -> Self {
        // Docker's documents have no room for notes.
        if options.docker_types && options.annotations.is_empty() {
            return Self {
                index: media_type::DOCKER_INDEX,
                manifest: media_type::DOCKER_MANIFEST,
                config: media_type::DOCKER_CONFIG,
                layer: docker_layer,
            };
        }
        Self {
            index: media_type::OCI_INDEX,
            manifest: media_type::OCI_MANIFEST,
            config: media_type::OCI_CONFIG,
            layer: oci_layer,
        }
    }
}

/// The names of layers, OCI's and Docker's.
const LAYER_TYPES: [(&str, &str); 3] = [
    (media_type::OCI_LAYER, media_type::DOCKER_LAYER),
    (media_type::OCI_LAYER_GZIP, media_type::DOCKER_LAYER_GZIP),
    (media_type::OCI_LAYER_ZSTD, media_type::DOCKER_LAYER_ZSTD),
];

/// Whether a media type is one of layers that anybody may have.
fn is_layer(name: &str) -> bool {
    LAYER_TYPES.iter().any(|(oci, docker)| [*oci, *docker].contains(&name))
}

/// The OCI name of a layer's media type.
pub(crate) fn oci_layer(name: &str) -> &str {
    LAYER_TYPES.iter().find(|(_, docker)| *docker == name).map_or(name, |(oci, _)| oci)
}

/// Docker's name of a layer's media type.
pub(crate) fn docker_layer(name: &str) -> &str {
    LAYER_TYPES.iter().find(|(oci, _)| *oci == name).map_or(name, |(_, docker)| docker)
}

/// Gives the history its times: a step's is its layer's, a step without a layer has that of the layer
/// before it. So an image that is built again from the cache is the same image.
fn date(config: &mut ImageConfig, layers: &[Layer], epoch: Option<Timestamp>) {
    complete(config, layers.len());
    let mut layer_times = layers.iter().map(|layer| layer.created);
    let mut last = config.created;
    for entry in &mut config.history {
        let of_layer = if entry.empty_layer { None } else { layer_times.next().flatten() };
        if entry.created.is_none() {
            entry.created = epoch.or(of_layer).or(last);
        }
        last = entry.created.or(last);
    }
    config.created = epoch.or(last);
}

/// Adds entries at the front for layers that the base's history does not tell about.
pub(crate) fn complete(config: &mut ImageConfig, layers: usize) {
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
        Layer { diff_id: digest, descriptor: Descriptor::new("", digest, 0), created: Some(at(seconds)) }
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
