//! Reads an OCI image layout: `oci-layout`, `index.json` and `blobs/sha256/…`.
//!
//! Source: OCI image-spec, `image-layout.md`; the annotation `io.containerd.image.name` is containerd's.

use base::Digest;
use base::image::{Descriptor, Index, media_type};
use base::reference::Reference;
use serde::{Deserialize, Serialize};

use super::LoadedImage;
use super::container::Container;
use super::error::ArchiveErrorKind;
use crate::documents::MANIFEST_LIMIT;

/// The file that marks a layout.
pub(super) const LAYOUT_FILE: &str = "oci-layout";
/// The file that lists the images.
pub(super) const INDEX_FILE: &str = "index.json";
/// The only version of the layout there is.
pub(super) const LAYOUT_VERSION: &str = "1.0.0";
/// The annotation with an image's tag, or its whole name, depending on who wrote it.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with an image's complete name.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";

/// The content of [`LAYOUT_FILE`].
#[derive(Serialize, Deserialize)]
pub(super) struct LayoutVersion {
    /// The version of the layout.
    #[serde(rename = "imageLayoutVersion")]
    pub(super) version: String,
}

/// Where a layout keeps a blob.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The images of a layout; `None` if this is not one.
pub(super) fn read(container: &Container) -> Result<Option<Vec<LoadedImage>>, ArchiveErrorKind> {
    let Some(layout) = container.read(LAYOUT_FILE, MANIFEST_LIMIT)? else { return Ok(None) };
    let LayoutVersion { version } = parse(LAYOUT_FILE, &layout)?;
    if version != LAYOUT_VERSION {
        return Err(ArchiveErrorKind::LayoutVersion { version });
    }
    let missing = || ArchiveErrorKind::MissingFile { file: INDEX_FILE.to_owned() };
    let index = container.read(INDEX_FILE, MANIFEST_LIMIT)?.ok_or_else(missing)?;
    let index: Index = parse(INDEX_FILE, &index)?;
    let mut images: Vec<LoadedImage> = Vec::new();
    for entry in index.manifests {
        let known = media_type::is_manifest(&entry.media_type) || media_type::is_index(&entry.media_type);
        if known {
            add(&mut images, entry)?;
        }
    }
    if images.is_empty() {
        return Err(ArchiveErrorKind::NoImage);
    }
    Ok(Some(images))
}

/// Reads a JSON file of an archive.
pub(super) fn parse<'a, T: Deserialize<'a>>(file: &str, bytes: &'a [u8]) -> Result<T, ArchiveErrorKind> {
    serde_json::from_slice(bytes).map_err(|source| ArchiveErrorKind::Json { file: file.to_owned(), source })
}

/// Adds an entry of the index. An image with several names has an entry for each.
fn add(images: &mut Vec<LoadedImage>, entry: Descriptor) -> Result<(), ArchiveErrorKind> {
    let ref_name = entry.annotations.get(REF_NAME).cloned();
    let name = match entry.annotations.get(IMAGE_NAME) {
        Some(name) => Some(name.parse().map_err(|source| ArchiveErrorKind::Name { source })?),
        None => ref_name.as_deref().and_then(complete_name),
    };
    if let Some(known) = images.iter_mut().find(|image| image.descriptor.digest == entry.digest) {
        known.names.extend(name.filter(|name| !known.names.contains(name)));
        return Ok(());
    }
    images.push(LoadedImage { names: name.into_iter().collect(), ref_name, descriptor: entry });
    Ok(())
}

/// The name that a `ref.name` is, unless it is only a tag.
fn complete_name(ref_name: &str) -> Option<Reference> {
    let complete = ref_name.contains(['/', ':']);
    complete.then(|| ref_name.parse().ok()).flatten()
}
