//! Where a built image goes.

pub(crate) mod archive;
mod files;

use base::CancelToken;
use base::image::media_type;
use registry::{ArchiveFormat, ExportedImage};
use snapshotter::{Compression, LayerForm, Lease};

use crate::assemble::BuiltImage;
use crate::build::wants_store;
use crate::error::EngineError;
use crate::request::{BuildRequest, Destination, Output};
use crate::{Engine, assemble};

/// Writes `image` to every output of `request`.
pub(crate) fn all(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    image: &BuiltImage,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    if wants_store(request) {
        to_store(engine, request, image)?;
    }
    for output in &request.outputs {
        match output {
            Output::Store => {}
            Output::Oci(to) => to_archive(engine, lease, request, image, ArchiveFormat::Oci, to, cancel)?,
            Output::Docker(to) => {
                to_archive(engine, lease, request, image, ArchiveFormat::Docker, to, cancel)?
            }
            Output::Tar(to) => files::tar(engine, lease, image.root, request.epoch, to, cancel)?,
            Output::Local(directory) => files::directory(engine, lease, image.root, directory, cancel)?,
        }
    }
    Ok(())
}

fn to_store(engine: &Engine, request: &BuildRequest, image: &BuiltImage) -> Result<(), EngineError> {
    if request.tags.is_empty() {
        engine.store.tag_dangling(&image.descriptor)?;
    }
    for tag in &request.tags {
        engine.store.tag(&tag.to_string(), &image.descriptor)?;
    }
    Ok(())
}

/// Archives carry compressed layers, as BuildKit's do.
fn to_archive(
    engine: &Engine,
    lease: &Lease,
    request: &BuildRequest,
    image: &BuiltImage,
    format: ArchiveFormat,
    destination: &Destination,
    cancel: &CancelToken,
) -> Result<(), EngineError> {
    let mut manifest = image.manifest.clone();
    if let Some(root) = image.root {
        let chain = engine.store.chain(root)?;
        for (index, (layer, snapshot)) in manifest.layers.iter_mut().zip(chain).enumerate() {
            if layer.media_type == media_type::OCI_LAYER {
                let clamp_mtime = assemble::clamp(index, image.base_layers, request.epoch);
                let form = LayerForm { compression: Compression::GZIP, clamp_mtime };
                *layer = engine.store.layer(lease, snapshot, form, cancel)?.descriptor;
            }
        }
    }
    let root = assemble::document(engine, lease, media_type::OCI_MANIFEST, &manifest)?;
    let exported =
        ExportedImage { names: request.tags.clone(), root: root.clone(), manifests: vec![(root, manifest)] };
    archive::write(engine, format, &[exported], request.epoch, destination)
}
