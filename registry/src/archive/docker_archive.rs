//! Reads what `docker save` writes: `manifest.json`, which lists configs and layers by file name.
//!
//! Since Docker 25 the same archive is also an OCI layout, which is then read instead, and
//! `manifest.json` only adds names. Before, layers are uncompressed tars at `<id>/layer.tar`; for these
//! an OCI manifest is made up. Other writers compress the layers; then they are hashed once to be named.
//!
//! Source: Docker's image spec v1.2, section "Combined Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Digest;
use base::digest::Digester;
use base::image::{Descriptor, ImageConfig, Manifest, media_type};
use base::reference::Reference;
use serde::{Deserialize, Deserializer, Serialize};

use super::container::{Container, Part};
use super::error::ArchiveErrorKind;
use super::oci_layout::parse;
use super::{Archive, LoadedImage};
use crate::documents::{CONFIG_LIMIT, DocumentError, MANIFEST_LIMIT};

type Result<T> = std::result::Result<T, ArchiveErrorKind>;

/// The file that lists the images.
pub(super) const LIST_FILE: &str = "manifest.json";

/// An entry of [`LIST_FILE`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    /// The file of the config.
    pub(super) config: String,
    /// The names with their tags.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(super) repo_tags: Vec<String>,
    /// The files of the layers, base first.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub(super) layers: Vec<String>,
}

/// Go writes an empty list as `null`.
fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The list of images; `None` if there is none.
pub(super) fn read_list(container: &Container) -> Result<Option<Vec<SavedImage>>> {
    let bytes = container.read(LIST_FILE, MANIFEST_LIMIT)?;
    bytes.map(|bytes| parse(LIST_FILE, &bytes)).transpose()
}

/// Gives images of an OCI layout that have no name the names that the list has for their configs.
pub(super) fn add_names(archive: &mut Archive, saved: &[SavedImage]) -> Result<()> {
    let mut images = std::mem::take(&mut archive.images);
    let unnamed = |image: &&mut LoadedImage| image.names.is_empty();
    for image in images.iter_mut().filter(unnamed) {
        if saved.is_empty() || !media_type::is_manifest(&image.descriptor.media_type) {
            continue;
        }
        let bytes = archive.manifest_bytes(&image.descriptor)?;
        let manifest: Manifest = parse(&image.descriptor.digest.to_string(), &bytes)?;
        let listed = saved.iter().find(|entry| config_digest(&entry.config) == Some(manifest.config.digest));
        image.names = listed.map_or(Ok(Vec::new()), names)?;
    }
    archive.images = images;
    Ok(())
}

/// Loads an archive that has nothing but the list.
pub(super) fn load(archive: &mut Archive, saved: &[SavedImage]) -> Result<()> {
    if saved.is_empty() {
        return Err(ArchiveErrorKind::NoImage);
    }
    for entry in saved {
        let image = load_image(archive, entry)?;
        archive.images.push(image);
    }
    Ok(())
}

fn load_image(archive: &mut Archive, entry: &SavedImage) -> Result<LoadedImage> {
    let missing = |file: &str| ArchiveErrorKind::MissingFile { file: file.to_owned() };
    let bytes = archive.container.read(&entry.config, CONFIG_LIMIT)?.ok_or_else(|| missing(&entry.config))?;
    let config = place(archive, media_type::OCI_CONFIG, bytes.clone());
    if let Some(expected) = config_digest(&entry.config).filter(|expected| *expected != config.digest) {
        return Err(ArchiveErrorKind::DigestMismatch { expected, actual: config.digest });
    }
    let diff_ids = parse::<ImageConfig>(&entry.config, &bytes)?.rootfs.diff_ids;
    if diff_ids.len() != entry.layers.len() {
        let (layers, diff_ids) = (entry.layers.len(), diff_ids.len());
        return Err(ArchiveErrorKind::LayerCount { config: entry.config.clone(), layers, diff_ids });
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (file, diff_id) in entry.layers.iter().zip(diff_ids) {
        let part = archive.container.find(file)?.ok_or_else(|| missing(file))?;
        let layer = describe_layer(&part, diff_id)?;
        archive.placed.insert(layer.digest, part);
        layers.push(layer);
    }
    let media_type = media_type::OCI_MANIFEST.to_owned();
    let manifest = Manifest {
        artifact_type: None,
        subject: None,
        schema_version: 2,
        media_type,
        config,
        layers,
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|source| {
        let digest = manifest.config.digest;
        DocumentError::Json { media_type: media_type::OCI_MANIFEST.to_owned(), digest, source }
    })?;
    let descriptor = place(archive, media_type::OCI_MANIFEST, bytes);
    Ok(LoadedImage { names: names(entry)?, ref_name: None, descriptor })
}

/// Keeps a document in memory and describes it.
fn place(archive: &mut Archive, media_type: &str, bytes: Vec<u8>) -> Descriptor {
    let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
    archive.placed.insert(descriptor.digest, Part::Memory(Arc::from(bytes)));
    descriptor
}

/// The descriptor of a layer. An uncompressed layer's digest is its diffID, which its reader checks.
fn describe_layer(part: &Part, diff_id: Digest) -> Result<Descriptor> {
    let mut magic = [0; 4];
    let count = part.read_at(0, &mut magic)?;
    let media_type = match &magic[..count] {
        [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media_type::OCI_LAYER_ZSTD,
        _ => return Ok(Descriptor::new(media_type::OCI_LAYER, diff_id, part.size())),
    };
    Ok(Descriptor::new(media_type, hash(part)?, part.size()))
}

fn hash(part: &Part) -> Result<Digest> {
    let (mut digester, mut position, mut buffer) = (Digester::new(), 0, vec![0; 256 * 1024]);
    loop {
        match part.read_at(position, &mut buffer)? {
            0 => return Ok(digester.finish()),
            count => {
                digester.update(&buffer[..count]);
                position += count as u64;
            }
        }
    }
}

/// The digest that a config's file is named by: `<hex>.json`, `blobs/sha256/<hex>` or `sha256:<hex>`.
/// Any other name says nothing.
fn config_digest(file: &str) -> Option<Digest> {
    let name = file.rsplit('/').next()?;
    let hex = name.strip_suffix(".json").unwrap_or(name);
    format!("sha256:{}", hex.strip_prefix("sha256:").unwrap_or(hex)).parse().ok()
}

fn names(entry: &SavedImage) -> Result<Vec<Reference>> {
    let parse = |text: &String| text.parse().map_err(|source| ArchiveErrorKind::Name { source });
    entry.repo_tags.iter().map(parse).collect()
}
