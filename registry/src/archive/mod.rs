//! Images in files: OCI image layouts (a directory or a tar) and `docker save` archives.
//!
//! [`Archive::open`] finds out what it is, reads the small documents and lists the images; blobs are
//! then read one by one, by digest, straight out of the file. Nothing is unpacked. Names inside an
//! archive are only ever looked up in a table of that archive; they are never used as paths of the host.
//! Every blob is hashed while it is read, and its reader ends in an error if it is not what its digest
//! says.

mod all_platforms;
mod container;
mod docker_archive;
mod error;
mod oci_layout;
mod shelf;
mod tar_table;
pub(crate) mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base::digest::Digester;
use base::image::{Descriptor, Index, Manifest, media_type};
use base::{Digest, Platform, Reference};

use crate::documents::{self, CONFIG_LIMIT, Document, ImageDocuments, MANIFEST_LIMIT, Search};
pub use all_platforms::ImageTree;
use container::{Container, Part};
pub use error::{ArchiveError, ArchiveErrorKind};
pub use shelf::Shelf;

/// An opened archive.
pub struct Archive {
    /// What the user called it; for errors.
    name: String,
    container: Container,
    /// Blobs that do not lie under their digest.
    placed: HashMap<Digest, Part>,
    images: Vec<LoadedImage>,
}

/// An image in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// The complete names that the archive gives it; there may be none.
    pub names: Vec<Reference>,
    /// The value of `org.opencontainers.image.ref.name`, by which layouts tell their images apart.
    pub ref_name: Option<String>,
    /// Its manifest or index. For a `docker save` archive without one, an OCI manifest is made up.
    pub descriptor: Descriptor,
}

/// The result of reading an archive.
pub(crate) type Result<T> = std::result::Result<T, ArchiveError>;

impl Archive {
    /// Opens a file or, for an OCI layout, a directory. See [`Archive::open_file`].
    pub fn open(path: &Path, spool: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| ArchiveErrorKind::io("open", source).of(&name))?;
        let metadata = file.metadata().map_err(|source| ArchiveErrorKind::io("examine", source).of(&name))?;
        if metadata.is_dir() {
            return Self::read(name, Container::Directory(path.to_owned()));
        }
        Self::open_file(file, &name, spool)
    }

    /// Opens a tar, which may be compressed with gzip, bzip2, xz or zstd; a compressed one is first unpacked
    /// into a file without name in the directory `spool`. `name` is what errors call the archive.
    pub fn open_file(file: File, name: &str, spool: &Path) -> Result<Self> {
        let container = Container::from_file(file, spool).map_err(|kind| kind.of(name))?;
        Self::read(name.to_owned(), container)
    }

    /// The same for a tar that comes as a stream. Its large files go to the shelf, and what else it has is kept in `spool`.
    pub fn open_stream(stream: impl Read, name: &str, spool: &Path, shelf: &mut dyn Shelf) -> Result<Self> {
        let container = Container::from_stream(stream, spool, shelf).map_err(|kind| kind.of(name))?;
        Self::read(name.to_owned(), container)
    }

    /// The images in the archive, in its order.
    pub fn images(&self) -> &[LoadedImage] {
        &self.images
    }

    /// A reader of the blob that `descriptor` names. Its last read fails, with an [`ArchiveError`]
    /// inside, if the bytes are not those of the digest.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<BlobReader> {
        self.part(descriptor).map(|part| self.verifying(part, descriptor)).map_err(|kind| kind.of(&self.name))
    }

    /// The same without the check, for who hashes the bytes anyway; see [`Archive::forged`].
    pub fn unchecked_blob(&self, descriptor: &Descriptor) -> Result<impl Read> {
        let part = self.part(descriptor).map_err(|kind| kind.of(&self.name))?;
        Ok(PartReader { archive: self.name.clone(), part, position: 0 })
    }

    /// The error that the bytes of the blob `expected` have another digest.
    pub fn forged(&self, expected: Digest, actual: Digest) -> ArchiveError {
        ArchiveErrorKind::DigestMismatch { expected, actual }.of(&self.name)
    }

    /// The manifest of something that is no image. Its blobs are whatever their types say.
    pub fn artifact(&self, entry: &LoadedImage) -> Result<Document<Manifest>> {
        let bytes = self.manifest_bytes(&entry.descriptor).map_err(|kind| kind.of(&self.name))?;
        Document::parse(entry.descriptor.clone(), bytes)
            .map_err(|error| ArchiveErrorKind::from(error).of(&self.name))
    }

    /// A whole blob, of at most `limit` bytes.
    pub fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        self.bytes(descriptor, limit).map_err(|kind| kind.of(&self.name))
    }

    /// What errors call the archive.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The documents of an image: those for `platform` where the archive has a choice.
    pub fn image(&self, image: &LoadedImage, platform: &Platform) -> Result<ImageDocuments> {
        self.documents(&image.descriptor, platform).map_err(|kind| kind.of(&self.name))
    }

    fn read(name: String, container: Container) -> Result<Self> {
        let mut archive = Self { name, container, placed: HashMap::new(), images: Vec::new() };
        match archive.read_images() {
            Ok(()) => Ok(archive),
            Err(kind) => Err(kind.of(&archive.name)),
        }
    }

    fn read_images(&mut self) -> std::result::Result<(), ArchiveErrorKind> {
        let saved = docker_archive::read_list(&self.container)?;
        match (oci_layout::read(&self.container)?, saved) {
            (Some(images), saved) => {
                self.images = images;
                docker_archive::add_names(self, &saved.unwrap_or_default())
            }
            (None, Some(saved)) => docker_archive::load(self, &saved),
            (None, None) => Err(ArchiveErrorKind::Unrecognised),
        }
    }

    fn documents(
        &self,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> std::result::Result<ImageDocuments, ArchiveErrorKind> {
        let mut search = Search::new(platform);
        let (mut root, mut depth, mut descriptor) = (None, 0, descriptor.clone());
        while media_type::is_index(&descriptor.media_type) {
            let bytes = self.manifest_bytes(&descriptor)?;
            let index: Document<Index> = Document::parse(descriptor, bytes)?;
            search.visit(&index.value, depth);
            root.get_or_insert(index);
            (descriptor, depth) = search.next()?;
        }
        let bytes = self.manifest_bytes(&descriptor)?;
        let manifest: Document<Manifest> = Document::parse(descriptor, bytes)?;
        documents::check_config_type(&manifest.value.config)?;
        let config = self.bytes(&manifest.value.config, CONFIG_LIMIT)?;
        let config = Document::parse(manifest.value.config.clone(), config)?;
        Ok(ImageDocuments::assemble(root, manifest, config)?)
    }

    /// The bytes of a manifest or index, which must say of itself what its descriptor says.
    fn manifest_bytes(&self, descriptor: &Descriptor) -> std::result::Result<Vec<u8>, ArchiveErrorKind> {
        let bytes = self.bytes(descriptor, MANIFEST_LIMIT)?;
        documents::manifest_type(Some(&descriptor.media_type), &bytes)?;
        Ok(bytes)
    }

    /// A whole blob of at most `limit` bytes.
    fn bytes(&self, descriptor: &Descriptor, limit: u64) -> std::result::Result<Vec<u8>, ArchiveErrorKind> {
        if descriptor.size > limit {
            return Err(ArchiveErrorKind::TooLarge { item: descriptor.digest.to_string(), limit });
        }
        let part = self.part(descriptor)?;
        let bytes = part.read_all(limit)?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(ArchiveErrorKind::DigestMismatch { expected: descriptor.digest, actual });
        }
        Ok(bytes)
    }

    fn part(&self, descriptor: &Descriptor) -> std::result::Result<Part, ArchiveErrorKind> {
        let part = match self.placed.get(&descriptor.digest) {
            Some(part) => part.clone(),
            None => {
                let path = oci_layout::blob_path(&descriptor.digest);
                let missing = ArchiveErrorKind::MissingBlob { digest: descriptor.digest };
                self.container.find(&path)?.ok_or(missing)?
            }
        };
        let (expected, actual) = (descriptor.size, part.size());
        if actual != expected {
            return Err(ArchiveErrorKind::SizeMismatch { digest: descriptor.digest, expected, actual });
        }
        Ok(part)
    }

    fn verifying(&self, part: Part, descriptor: &Descriptor) -> BlobReader {
        let reader = PartReader { archive: self.name.clone(), part, position: 0 };
        BlobReader { reader, expected: descriptor.digest, digester: Some(Digester::new()) }
    }
}

/// Reads one blob.
struct PartReader {
    archive: String,
    part: Part,
    position: u64,
}

impl PartReader {
    fn fail(&self, kind: ArchiveErrorKind) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, kind.of(&self.archive))
    }
}

impl Read for PartReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.part.read_at(self.position, buffer).map_err(|kind| self.fail(kind))?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Reads one blob and checks its digest at the end.
pub struct BlobReader {
    reader: PartReader,
    expected: Digest,
    /// `None` once the digest has been checked.
    digester: Option<Digester>,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 {
            if let Some(digester) = &mut self.digester {
                digester.update(&buffer[..count]);
            }
            return Ok(count);
        }
        let at_end = self.reader.position == self.reader.part.size();
        if let Some(digester) = at_end.then(|| self.digester.take()).flatten() {
            let (expected, actual) = (self.expected, digester.finish());
            if actual != expected {
                return Err(self.reader.fail(ArchiveErrorKind::DigestMismatch { expected, actual }));
            }
        }
        Ok(0)
    }
}
