//! Writes images as an archive: an OCI image layout in a tar, for Docker with `manifest.json` beside it.
//!
//! The same images and options give the same bytes: entries are sorted by name, have one fixed time,
//! mode and owner, and nothing of the machine gets in. `podman load` and `skopeo` read both forms, `docker load`
//! the first only where it keeps images in containerd.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use base::digest::Digester;
use base::image::{Descriptor, Index, Manifest, media_type};
use base::{Digest, Reference, Timestamp};
use serde::Serialize;

use super::docker_archive::{LIST_FILE, SavedImage};
use super::error::{ArchiveError, ArchiveErrorKind};
use super::oci_layout::{
    IMAGE_NAME, INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, LayoutVersion, REF_NAME, blob_path,
};

type Result<T> = std::result::Result<T, ArchiveErrorKind>;

/// The annotation with the time an image was made.
const CREATED: &str = "org.opencontainers.image.created";
/// From this size on a tar header needs GNU's form of the number.
const USTAR_LIMIT: u64 = 8 << 30;

/// Which form of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An OCI image layout.
    Oci,
    /// The same with `manifest.json`, as `docker save` writes.
    Docker,
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct ExportedImage {
    /// Its names; may be empty.
    pub names: Vec<Reference>,
    /// The descriptor of its manifest, or of its index.
    pub root: Descriptor,
    /// Indexes between its root and its manifests.
    pub indexes: Vec<Descriptor>,
    /// Its manifests: the root itself, or those of the index that are to be written. Docker's list, which has
    /// room for one platform, names the first.
    pub manifests: Vec<(Descriptor, Manifest)>,
}

/// How an archive is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The form.
    pub format: ArchiveFormat,
    /// The time of every entry, in seconds since 1970: zero, or `SOURCE_DATE_EPOCH`.
    pub mtime: u64,
    /// The time that `index.json` gives for the images; left out if `None`.
    pub created: Option<Timestamp>,
    /// What errors call the archive.
    pub name: String,
}

/// Opens a blob by its digest.
pub type BlobOpener<'a> = dyn FnMut(&Digest) -> io::Result<Box<dyn Read>> + 'a;

/// Writes `images` to `out`. `open` gives every blob: the roots, manifests, configs and layers; each is
/// asked for once, and checked while it is copied.
pub fn write_archive(
    out: &mut dyn Write,
    images: &[ExportedImage],
    options: &WriteOptions,
    open: &mut BlobOpener<'_>,
) -> std::result::Result<(), ArchiveError> {
    let entries = entries(images, options).map_err(|kind| kind.of(&options.name))?;
    write_entries(out, &entries, options.mtime, open).map_err(|kind| kind.of(&options.name))
}

/// One entry of the tar.
enum Entry {
    Directory,
    Blob(Box<Descriptor>),
    Text(Vec<u8>),
}

/// All entries by name, which is also their order.
fn entries(images: &[ExportedImage], options: &WriteOptions) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    entries.insert("blobs/".to_owned(), Entry::Directory);
    entries.insert("blobs/sha256/".to_owned(), Entry::Directory);
    for image in images {
        let of_manifest = |(descriptor, manifest): &(Descriptor, Manifest)| {
            let mut blobs = vec![descriptor.clone(), manifest.config.clone()];
            blobs.extend(manifest.layers.iter().cloned());
            blobs
        };
        let indexes = image.indexes.iter().chain([&image.root]).cloned();
        let blobs = image.manifests.iter().flat_map(of_manifest).chain(indexes);
        entries.extend(blobs.map(|blob| (blob_path(&blob.digest), Entry::Blob(Box::new(blob)))));
    }
    let layout = LayoutVersion { version: LAYOUT_VERSION.to_owned() };
    entries.insert(LAYOUT_FILE.to_owned(), Entry::Text(json(LAYOUT_FILE, &layout)?));
    entries.insert(INDEX_FILE.to_owned(), Entry::Text(json(INDEX_FILE, &index(images, options))?));
    if options.format == ArchiveFormat::Docker {
        let list: Vec<SavedImage> = images.iter().filter_map(saved_image).collect();
        entries.insert(LIST_FILE.to_owned(), Entry::Text(json(LIST_FILE, &list)?));
    }
    Ok(entries)
}

fn json<T: Serialize>(file: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| ArchiveErrorKind::Json { file: file.to_owned(), source })
}

/// `index.json`: an entry for each name of each image.
fn index(images: &[ExportedImage], options: &WriteOptions) -> Index {
    let mut manifests = Vec::new();
    for image in images {
        let mut entry = image.root.clone();
        // Names that it had in the archive it came from.
        entry.annotations.retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
        if let Some(created) = options.created {
            entry.annotations.insert(CREATED.to_owned(), created.to_string());
        }
        manifests.extend(image.names.iter().map(|name| named(&entry, name)));
        if image.names.is_empty() {
            manifests.push(entry);
        }
    }
    Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_owned(),
        manifests,
        annotations: BTreeMap::new(),
    }
}

fn named(entry: &Descriptor, name: &Reference) -> Descriptor {
    let mut entry = entry.clone();
    entry.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
    if let Some(tag) = &name.tag {
        entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
    }
    entry
}

/// An image as `manifest.json` lists it.
fn saved_image(image: &ExportedImage) -> Option<SavedImage> {
    let (_, manifest) = image.manifests.first()?;
    let tagged = image.names.iter().filter(|name| name.tag.is_some());
    let without_digest = |name: &Reference| Reference { digest: None, ..name.clone() }.familiar();
    Some(SavedImage {
        config: blob_path(&manifest.config.digest),
        repo_tags: tagged.map(without_digest).collect(),
        layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
    })
}

fn write_entries(
    out: &mut dyn Write,
    entries: &BTreeMap<String, Entry>,
    mtime: u64,
    open: &mut BlobOpener<'_>,
) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    for (name, entry) in entries {
        match entry {
            Entry::Directory => append(&mut tar, &mut header(0, mtime, true), name, io::empty())?,
            Entry::Text(text) => {
                append(&mut tar, &mut header(text.len() as u64, mtime, false), name, text.as_slice())?;
            }
            Entry::Blob(blob) => append_blob(&mut tar, name, blob, mtime, open)?,
        }
    }
    tar.finish().map_err(|source| ArchiveErrorKind::io("write", source))?;
    tar.get_mut().flush().map_err(|source| ArchiveErrorKind::io("write", source))
}

fn header(size: u64, mtime: u64, directory: bool) -> tar::Header {
    let mut header = if size < USTAR_LIMIT { tar::Header::new_ustar() } else { tar::Header::new_gnu() };
    header.set_entry_type(if directory { tar::EntryType::Directory } else { tar::EntryType::Regular });
    header.set_mode(if directory { 0o755 } else { 0o444 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(mtime);
    header
}

fn append(
    tar: &mut tar::Builder<&mut dyn Write>,
    header: &mut tar::Header,
    name: &str,
    content: impl Read,
) -> Result<()> {
    tar.append_data(header, name, content).map_err(|source| ArchiveErrorKind::io("write", source))
}

fn append_blob(
    tar: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    blob: &Descriptor,
    mtime: u64,
    open: &mut BlobOpener<'_>,
) -> Result<()> {
    let source =
        open(&blob.digest).map_err(|source| ArchiveErrorKind::Source { digest: blob.digest, source })?;
    let mut checked =
        CheckedReader { source, blob, passed: 0, digester: Some(Digester::new()), failure: None };
    let written = append(tar, &mut header(blob.size, mtime, false), name, &mut checked);
    match checked.failure.take() {
        Some(kind) => Err(kind),
        None => written,
    }
}

/// Passes a blob on and fails if it is not what its descriptor says.
struct CheckedReader<'a> {
    source: Box<dyn Read>,
    blob: &'a Descriptor,
    passed: u64,
    digester: Option<Digester>,
    /// Why the blob is not usable, for the caller; the tar writer sees a bare I/O error.
    failure: Option<ArchiveErrorKind>,
}

impl CheckedReader<'_> {
    fn fail(&mut self, kind: ArchiveErrorKind) -> io::Error {
        self.failure = Some(kind);
        io::Error::from(io::ErrorKind::InvalidData)
    }

    fn check_end(&mut self) -> io::Result<()> {
        let (digest, expected, actual) = (self.blob.digest, self.blob.size, self.passed);
        if actual != expected {
            return Err(self.fail(ArchiveErrorKind::SizeMismatch { digest, expected, actual }));
        }
        match self.digester.take().map(Digester::finish) {
            Some(actual) if actual != digest => {
                Err(self.fail(ArchiveErrorKind::DigestMismatch { expected: digest, actual }))
            }
            _ => Ok(()),
        }
    }
}

impl Read for CheckedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.source.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(source) => {
                let digest = self.blob.digest;
                return Err(self.fail(ArchiveErrorKind::Source { digest, source }));
            }
        };
        if count == 0 {
            self.check_end()?;
            return Ok(0);
        }
        self.passed += count as u64;
        let (digest, expected, actual) = (self.blob.digest, self.blob.size, self.passed);
        if actual > expected {
            return Err(self.fail(ArchiveErrorKind::SizeMismatch { digest, expected, actual }));
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&buffer[..count]);
        }
        Ok(count)
    }
}
