//! Where a built image goes.

pub(crate) mod archive;
mod exact;
mod files;

use base::Reference;
use registry::{ArchiveFormat, ExportedImage};

use crate::Engine;
use crate::assemble::{Assembly, Built, BuiltImage};
use crate::attest::{self, Predicate};
use crate::error::EngineError;
use crate::push::Packing;
use crate::registries::RegistriesError;
use crate::request::{BuildRequest, Compression, Destination, FileOptions, LayerOptions, Output, PushOutput};

/// Refuses outputs that no build can be written to, before anything is built.
pub(crate) fn check(request: &BuildRequest) -> Result<(), EngineError> {
    for output in &request.outputs {
        if let Output::Registry(push) = output
            && push.by_digest.is_empty()
            && request.tags.is_empty()
        {
            return Err(RegistriesError::NoNameToPush.into());
        }
        if let Output::Tar(_, FileOptions { prefix, .. }) | Output::Local(_, FileOptions { prefix, .. }) =
            output
            && prefix.contains(['/', '\0'])
        {
            return Err(EngineError::AttestationPrefix(prefix.clone()));
        }
        if let Output::Local(directory, FileOptions { is_exact: true, .. }) = output {
            exact::check(directory, request)?;
        }
        let Output::Docker(_, options) = output else { continue };
        if request.platforms.len() > 1 {
            return Err(EngineError::SeveralPlatforms("a docker archive"));
        }
        if matches!(options.compression, Some(Compression::Zstd(_))) {
            return Err(EngineError::DockerCompression("zstd"));
        }
    }
    Ok(())
}

/// Whether the image only goes to registries, so that what they have, or can get elsewhere, need not be here.
pub(crate) fn only_pushes(request: &BuildRequest) -> bool {
    let is_push = |output: &Output| matches!(output, Output::Registry(_));
    !request.outputs.is_empty() && request.outputs.iter().all(is_push)
}

/// Makes the image for every output of the request and writes it there. `made` is told each different image.
/// Gives the first.
pub(crate) fn all(assembly: &Assembly<'_>, mut made: impl FnMut(&BuiltImage)) -> Result<Built, EngineError> {
    let to_store = [Output::Store(LayerOptions::default())];
    let outputs = match assembly.request.outputs.as_slice() {
        [] => &to_store,
        outputs => outputs,
    };
    let told = attest::gather(assembly)?;
    let mut all: Vec<Built> = Vec::with_capacity(outputs.len());
    for output in outputs {
        let of_output = attest::of_output(&told, output, assembly.is_index());
        let built = assembly.image(&layer_options(output), of_output)?;
        let known = |image: &BuiltImage| {
            let ids = all.iter().flat_map(|built| &built.images).map(|image| image.manifest.config.digest);
            ids.into_iter().any(|id| id == image.manifest.config.digest)
        };
        built.images.iter().filter(|image| !known(image)).for_each(&mut made);
        write(assembly, &built, &told, output)?;
        all.push(built);
    }
    Ok(all.swap_remove(0))
}

/// How the layers are written for `output`.
fn layer_options(output: &Output) -> LayerOptions {
    match output {
        Output::Store(options) => options.clone(),
        // What is carried elsewhere has compressed layers, as BuildKit's has.
        Output::Registry(PushOutput { layers: options, .. })
        | Output::Oci(_, options)
        | Output::OciLayout(_, options)
        | Output::Docker(_, options) => {
            LayerOptions { compression: options.compression.or(Some(Compression::GZIP)), ..options.clone() }
        }
        Output::Tar(..) | Output::Local(..) | Output::CacheOnly => LayerOptions::default(),
    }
}

fn write(
    assembly: &Assembly<'_>,
    built: &Built,
    told: &[Vec<Predicate>],
    output: &Output,
) -> Result<(), EngineError> {
    let Assembly { engine, lease, request, cancel, .. } = *assembly;
    match output {
        Output::Store(_) => to_store(engine, request, built),
        Output::Registry(push) => to_registry(assembly, built, push),
        Output::Oci(to, _) => to_archive(engine, request, built, ArchiveFormat::Oci, to),
        Output::OciLayout(directory, _) => {
            let scratch = engine.store.scratch(lease)?;
            let archive = scratch.path().join("layout.tar");
            let to = Destination::File(archive.clone());
            to_archive(engine, request, built, ArchiveFormat::Oci, &to)?;
            files::unpacked(engine, lease, &archive, directory, cancel)
        }
        Output::Docker(..) if built.is_index() => Err(EngineError::SeveralPlatforms("a docker archive")),
        Output::Docker(to, _) => to_archive(engine, request, built, ArchiveFormat::Docker, to),
        Output::Tar(to, options) => files::tar(assembly, (built, told, options), to),
        Output::Local(directory, options) => {
            files::directories(assembly, (built, told, options), directory)?;
            if options.is_exact { exact::make(assembly, (built, told, options), directory) } else { Ok(()) }
        }
        Output::CacheOnly => Ok(()),
    }
}

fn to_store(engine: &Engine, request: &BuildRequest, built: &Built) -> Result<(), EngineError> {
    if request.tags.is_empty() {
        engine.store.tag_dangling(&built.root)?;
    }
    for tag in &request.tags {
        engine.store.tag(&tag.to_string(), &built.root)?;
        if let Some(image) = built.images.first() {
            engine.tell_of_image("tag", &image.manifest.config.digest, &tag.to_string());
        }
    }
    Ok(())
}

/// Keeps the image in the store as well: what the registry has is then here under the same digest. Layers that were not
/// here are fetched when something needs them.
fn to_registry(assembly: &Assembly<'_>, built: &Built, push: &PushOutput) -> Result<(), EngineError> {
    let Assembly { engine, lease, request, progress, cancel, .. } = *assembly;
    to_store(engine, request, built)?;
    let shipment = engine.shipment(lease, &built.root, Packing::AsItIs, cancel)?;
    let by_digest = |repository: &Reference| Reference {
        tag: None,
        digest: Some(built.root.digest),
        ..repository.clone()
    };
    let names: Vec<Reference> = match push.by_digest.as_slice() {
        [] => request.tags.clone(),
        repositories => repositories.iter().map(by_digest).collect(),
    };
    let remote = assembly.remote_layers();
    let trusting = push.insecure.then(|| engine.trusting_registries());
    let engine = trusting.as_ref().unwrap_or(engine);
    for name in &names {
        engine.push_shipment(lease, name, &shipment, Some(&remote), progress, cancel)?;
    }
    Ok(())
}

fn to_archive(
    engine: &Engine,
    request: &BuildRequest,
    built: &Built,
    format: ArchiveFormat,
    destination: &Destination,
) -> Result<(), EngineError> {
    let manifest = |image: &BuiltImage| (image.descriptor.clone(), image.manifest.clone());
    let manifests = built.images.iter().map(manifest).chain(built.attestations.iter().cloned()).collect();
    let exported = ExportedImage {
        names: request.tags.clone(),
        root: built.root.clone(),
        indexes: Vec::new(),
        manifests,
    };
    archive::write(engine, format, &[exported], request.epoch, destination)
}
