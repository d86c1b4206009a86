//! A cache document in the directory of an OCI image layout, beside any number of others.
//!
//! Files are written aside and renamed, so they are whole when they are seen. The list of documents, `index.json`, is changed
//! under a lock.
//!
//! Source: OCI image-spec, `image-layout.md`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base::image::{Descriptor, Index, media_type};
use base::{CancelToken, Digest};
use snapshotter::BlobWriter;
use sys::fs::PathContext as _;
use sys::lock::{FileLock, LockMode};

use super::super::transfer::copy_file;
use super::config::CacheConfig;
use super::envelope::{self, Envelope};
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::error::EngineError;
use crate::request::{DocumentForm, LayoutPlace};

/// The largest manifest or index that is read, in bytes.
const MAX_MANIFEST: u64 = 4 << 20;

/// The annotation with the name of an entry.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A document of a layout.
pub(crate) struct LayoutDocument(LayoutPlace);

impl LayoutDocument {
    /// The document at `place`, where nothing need be.
    pub(crate) fn new(place: LayoutPlace) -> Self {
        Self(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.directory.join(name)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    /// The list of what is there. A list that cannot be read is an empty one for who writes.
    fn index(&self) -> Result<Option<Index>, EngineError> {
        let bytes = match sys::fs::read_limited(&self.path("index.json"), MAX_MANIFEST) {
            Err(error) if error.is_not_found() => return Ok(None),
            bytes => bytes?,
        };
        let bytes = bytes.unwrap_or_default();
        let json = |source| CacheDocumentError::Json { digest: Digest::of(&bytes), source };
        Ok(Some(serde_json::from_slice(&bytes).map_err(json)?))
    }

    /// The entry that is read.
    fn entry(&self) -> Result<Descriptor, EngineError> {
        let entries = self.index()?.map(|index| index.manifests).unwrap_or_default();
        let fits = |entry: &&Descriptor| match &self.0.digest {
            Some(digest) => entry.digest == *digest,
            None => entry.annotations.get(REF_NAME) == Some(&self.0.tag),
        };
        match (entries.iter().find(fits), self.0.digest) {
            (Some(entry), _) => Ok(entry.clone()),
            // The list has only the newest documents; an older one is there as long as its blob.
            (None, Some(digest)) => self.unlisted(digest),
            (None, None) => Err(CacheDocumentError::Missing.into()),
        }
    }

    fn unlisted(&self, digest: Digest) -> Result<Descriptor, EngineError> {
        let path = self.blob_path(&digest);
        let size = match sys::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.is_not_found() => return Err(CacheDocumentError::Missing.into()),
            Err(error) => return Err(error.into()),
        };
        let entry = Descriptor::new(media_type::OCI_MANIFEST, digest, size);
        let bytes = self.fetch(&entry)?;
        let is_index = serde_json::from_slice::<Index>(&bytes).is_ok();
        let media_type = if is_index { media_type::OCI_INDEX } else { media_type::OCI_MANIFEST };
        Ok(Descriptor::new(media_type, digest, size))
    }

    fn fetch(&self, document: &Descriptor) -> Result<Vec<u8>, EngineError> {
        let damaged = || CacheDocumentError::Damaged { digest: document.digest };
        let bytes = match sys::fs::read_limited(&self.blob_path(&document.digest), document.size) {
            Err(error) if error.is_not_found() => return Err(damaged().into()),
            bytes => bytes?,
        };
        let is_right = |bytes: &Vec<u8>| Digest::of(bytes) == document.digest;
        Ok(bytes.filter(is_right).ok_or_else(damaged)?)
    }

    /// Gives a blob the content that `write` writes, unless it is there.
    fn add(
        &self,
        digest: &Digest,
        write: impl FnOnce(&mut File, &Path) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let path = self.blob_path(digest);
        if sys::fs::exists(&path)? {
            return Ok(());
        }
        let directory = self.path("blobs/sha256");
        sys::fs::create_dir_all(&directory, 0o755)?;
        let aside = self.path(&format!(".{}", sys::random::hex(16)?));
        let mut file = sys::fs::create_new(&aside, 0o644)?;
        let added = write(&mut file, &aside).and_then(|()| Ok(sys::fs::rename(&aside, &path)?));
        if added.is_err() {
            sys::fs::remove_file(&aside)?;
        }
        added
    }

    fn add_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), EngineError> {
        self.add(digest, |file, aside| Ok(file.write_all(bytes).at("write", aside)?))
    }

    /// Gives a document our name.
    fn list(&self, root: Descriptor) -> Result<(), EngineError> {
        let lock = FileLock::acquire(&self.path("index.json.lock"), LockMode::Exclusive)?;
        let empty = || Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.to_owned(),
            manifests: Vec::new(),
            annotations: std::collections::BTreeMap::new(),
        };
        // A list that nobody can read is of use to nobody.
        let mut index = self.index().ok().flatten().unwrap_or_else(empty);
        index.manifests.retain(|entry| entry.annotations.get(REF_NAME) != Some(&self.0.tag));
        let annotations = [(REF_NAME.to_owned(), self.0.tag.clone())].into();
        index.manifests.push(Descriptor { annotations, ..root });
        write_whole(&self.path("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        write_whole(&self.path("index.json"), &serde_json::to_vec(&index).unwrap_or_default())?;
        drop(lock);
        Ok(())
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    Ok(sys::fs::write_atomic(path, bytes, 0o644, sys::fs::Durability::Cached)?)
}

impl DocumentStore for LayoutDocument {
    fn name(&self) -> String {
        self.0.directory.display().to_string()
    }

    fn load(&self, _cancel: &CancelToken) -> Result<Vec<CacheConfig>, EngineError> {
        let root = self.entry()?;
        if root.size > MAX_MANIFEST {
            let Descriptor { digest, size, .. } = root;
            return Err(CacheDocumentError::TooLarge { digest, size, limit: MAX_MANIFEST }.into());
        }
        envelope::open(&root, &self.fetch(&root)?, &|document| self.fetch(document))
    }

    fn has_blob(&self, blob: &Descriptor, _cancel: &CancelToken) -> Result<bool, EngineError> {
        Ok(sys::fs::exists(&self.blob_path(&blob.digest))?)
    }

    fn add_blob(&self, blob: &Descriptor, file: &Path, _cancel: &CancelToken) -> Result<(), EngineError> {
        self.add(&blob.digest, |to, aside| {
            std::io::copy(&mut sys::fs::open(file)?, to).at("write", aside)?;
            Ok(())
        })
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        _cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        copy_file(&self.blob_path(&blob.digest), blob, to)
    }

    fn publish(
        &self,
        document: &CacheConfig,
        form: DocumentForm,
        _cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let Envelope { document, document_bytes, root, root_bytes } = envelope::wrap(document, form);
        self.add_bytes(&document.digest, &document_bytes)?;
        self.add_bytes(&root.digest, &root_bytes)?;
        self.list(root)
    }
}
