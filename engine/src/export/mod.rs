//! Where a built image goes.

pub(crate) mod archive;
mod files;

use base::CancelToken;
use base::image::{Manifest, media_type};
use registry::{ArchiveFormat, ExportedImage};
use snapshotter::{Compression, LayerForm, Lease};

use crate::assemble::{Built, BuiltImage};
use crate::build::wants_store;
use crate::error::EngineError;
use crate::request::{BuildRequest, Destination, Output};
use crate::{Engine, assemble};

/// Writes what a build made to every output of `request`.
pub(crate) fn all(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    built: &Built,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    if wants_store(request) {
        to_store(engine, request, built)?;
    }
    for output in &request.outputs {
        match output {
            Output::Store => {}
            Output::Oci(to) => to_archive(engine, lease, request, built, ArchiveFormat::Oci, to, cancel)?,
            Output::OciLayout(directory) => {
                let scratch = engine.store.scratch(lease)?;
                let archive = scratch.path().join("layout.tar");
                let to = Destination::File(archive.clone());
                to_archive(engine, lease, request, built, ArchiveFormat::Oci, &to, cancel)?;
                files::unpacked(engine, lease, &archive, directory, cancel)?;
            }
            Output::Docker(_) if built.is_index() => {
                return Err(EngineError::SeveralPlatforms("a docker archive"));
            }
            Output::Docker(to) => {
                to_archive(engine, lease, request, built, ArchiveFormat::Docker, to, cancel)?
            }
            Output::Tar(to) => files::tar(engine, lease, built, request.epoch, to, cancel)?,
            Output::Local(directory) => files::directories(engine, lease, built, directory, cancel)?,
        }
    }
    Ok(())
}

fn to_store(engine: &Engine, request: &BuildRequest, built: &Built) -> Result<(), EngineError> {
    if request.tags.is_empty() {
        engine.store.tag_dangling(&built.root)?;
    }
    for tag in &request.tags {
        engine.store.tag(&tag.to_string(), &built.root)?;
    }
    Ok(())
}

fn to_archive(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    built: &Built,
    format: ArchiveFormat,
    destination: &Destination,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let mut manifests = Vec::with_capacity(built.images.len());
    for image in &built.images {
        manifests.push((image.platform.clone(), compressed(engine, lease, request, image, cancel)?));
    }
    let (root, descriptors) = assemble::root(engine, lease, request, &manifests)?;
    let manifests = manifests.into_iter().map(|(_, manifest)| manifest);
    let manifests = descriptors.into_iter().zip(manifests).collect();
    let exported = ExportedImage { names: request.tags.clone(), root, manifests };
    archive::write(engine, format, &[exported], request.epoch, destination)
}

/// The manifest of an image with its layers compressed: archives carry those, as BuildKit's do.
fn compressed(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    image: &BuiltImage,
    cancel: &CancelToken,
) -> Result<Manifest, EngineError> {
    let mut manifest = image.manifest.clone();
    let chain = match image.root {
        Some(root) => engine.store.chain(root)?,
        None => Vec::new(),
    };
    for (index, (layer, snapshot)) in manifest.layers.iter_mut().zip(chain).enumerate() {
        if layer.media_type == media_type::OCI_LAYER {
            let clamp_mtime = assemble::clamp(index, image.base_layers, request.epoch);
            let form = LayerForm { compression: Compression::GZIP, clamp_mtime };
            *layer = engine.store.layer(lease, snapshot, form, cancel)?.descriptor;
        }
    }
    Ok(manifest)
}
