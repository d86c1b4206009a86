//! What a cache document is wrapped in: a manifest or an index that names the document and all blobs of its layers.
//!
//! Three forms are read: the manifest of an artifact, whose config is the document; an index, whose entries are the layers and the
//! document; and an image that has records in its own config (`moby.buildkit.cache.v0`), or several of them in an index. The first
//! two are written.

use std::collections::BTreeMap;

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use base::{Digest, Timestamp};
use serde::de::DeserializeOwned;
use snapshotter::SharedLayer;

use super::config::{self, CacheConfig};
use super::error::CacheDocumentError;
use crate::assemble;
use crate::error::EngineError;
use crate::request::DocumentForm;

/// Longer documents are not read.
pub(super) const MAX_SIZE: u64 = 64 << 20;

/// How many images of an index are looked at.
const MOST_IMAGES: usize = 16;

/// The field of an image's config with its cache records.
pub(crate) const INLINE: &str = "moby.buildkit.cache.v0";

/// Reads a document of a descriptor's kind: a manifest or index by its name, anything else as a blob. What it gives back
/// has the digest.
pub(crate) type Fetch<'a> = dyn Fn(&Descriptor) -> Result<Vec<u8>, EngineError> + 'a;

/// The documents that a manifest or index leads to.
pub(crate) fn open(
    root: &Descriptor,
    bytes: &[u8],
    fetch: &Fetch<'_>,
) -> Result<Vec<CacheConfig>, EngineError> {
    if !media_type::is_index(&root.media_type) {
        let found = of_manifest(&parse(&root.digest, bytes)?, fetch)?;
        return Ok(vec![found.ok_or(CacheDocumentError::NoCache)?]);
    }
    let index: Index = parse(&root.digest, bytes)?;
    if let Some(document) = index.manifests.iter().find(|entry| entry.media_type == config::MEDIA_TYPE) {
        return Ok(vec![read(document, fetch)?]);
    }
    let images = index.manifests.iter().filter(|entry| media_type::is_manifest(&entry.media_type));
    let mut documents = Vec::new();
    for image in images.take(MOST_IMAGES) {
        documents.extend(of_manifest(&read(image, fetch)?, fetch)?);
    }
    if documents.is_empty() {
        return Err(CacheDocumentError::NoCache.into());
    }
    Ok(documents)
}

fn of_manifest(manifest: &Manifest, fetch: &Fetch<'_>) -> Result<Option<CacheConfig>, EngineError> {
    match manifest.config.media_type.as_str() {
        config::MEDIA_TYPE => read(&manifest.config, fetch).map(Some),
        media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => {
            Ok(of_image(manifest, &read(&manifest.config, fetch)?))
        }
        _ => Ok(None),
    }
}

/// The document that an image has in its config.
fn of_image(manifest: &Manifest, config: &ImageConfig) -> Option<CacheConfig> {
    let records = config.other.get(INLINE)?.as_str()?;
    let records = serde_json::from_slice(&base64_decode(records)?).ok()?;
    let mut times = config.history.iter().filter(|entry| !entry.empty_layer).map(|entry| entry.created);
    let layer = |(descriptor, diff_id): (&Descriptor, &Digest)| SharedLayer {
        descriptor: descriptor.clone(),
        diff_id: *diff_id,
        created_at: times.next().flatten().or(config.created).unwrap_or(Timestamp::UNIX_EPOCH),
    };
    let layers: Vec<_> = manifest.layers.iter().zip(&config.rootfs.diff_ids).map(layer).collect();
    Some(CacheConfig::of_image(records, &layers))
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn read<T: DeserializeOwned>(document: &Descriptor, fetch: &Fetch<'_>) -> Result<T, EngineError> {
    let Descriptor { digest, size, .. } = *document;
    if size > MAX_SIZE {
        return Err(CacheDocumentError::TooLarge { digest, size, limit: MAX_SIZE }.into());
    }
    Ok(parse(&digest, &fetch(document)?)?)
}

fn parse<T: DeserializeOwned>(digest: &Digest, bytes: &[u8]) -> Result<T, CacheDocumentError> {
    serde_json::from_slice(bytes).map_err(|source| CacheDocumentError::Json { digest: *digest, source })
}

/// A document, ready to be written.
pub(crate) struct Envelope {
    /// The document.
    pub(crate) document: Descriptor,
    /// Its content.
    pub(crate) document_bytes: Vec<u8>,
    /// The manifest or index.
    pub(crate) root: Descriptor,
    /// Its content.
    pub(crate) root_bytes: Vec<u8>,
}

/// Wraps a document in the form that is asked for.
pub(crate) fn wrap(document: &CacheConfig, form: DocumentForm) -> Envelope {
    let document_bytes = document.to_bytes();
    let descriptor =
        Descriptor::new(config::MEDIA_TYPE, Digest::of(&document_bytes), document_bytes.len() as u64);
    let named = |blob: Descriptor| {
        let media_type = if form.oci_media_types {
            assemble::oci_layer(&blob.media_type).to_owned()
        } else {
            assemble::docker_layer(&blob.media_type).to_owned()
        };
        Descriptor { media_type, ..blob }
    };
    let layers: Vec<Descriptor> = document.blobs().into_iter().map(named).collect();
    let annotations = BTreeMap::new();
    let (media_type, root_bytes) = if form.image_manifest {
        let media_type = media_type::OCI_MANIFEST.to_owned();
        let (schema_version, config) = (2, descriptor.clone());
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version,
            media_type,
            config,
            layers,
            annotations,
        };
        (media_type::OCI_MANIFEST, serde_json::to_vec(&manifest))
    } else {
        let media_type = if form.oci_media_types { media_type::OCI_INDEX } else { media_type::DOCKER_INDEX };
        let manifests = layers.into_iter().chain([descriptor.clone()]).collect();
        let (schema_version, own) = (2, media_type.to_owned());
        let index = Index { schema_version, media_type: own, manifests, annotations };
        (media_type, serde_json::to_vec(&index))
    };
    let root_bytes = root_bytes.unwrap_or_default();
    let root = Descriptor::new(media_type, Digest::of(&root_bytes), root_bytes.len() as u64);
    Envelope { document: descriptor, document_bytes, root, root_bytes }
}
