//! What the server needs of the store behind it. The calls block; the server makes them on threads of their own.

use std::error::Error;
use std::fs::File;

use base::Digest;
use base::image::Descriptor;

/// A repository as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Repository {
    /// Its name within the registry, which fits the grammar of the specification.
    pub name: String,
    /// The registry whose repository is meant, where the client says so: `?ns=docker.io`, as containerd asks mirrors.
    pub origin: Option<String>,
}

/// A manifest or index within a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestName {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
}

/// A manifest or index that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedManifest {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes, as they were pushed.
    pub bytes: Vec<u8>,
}

/// A manifest or index that a client pushes. Its bytes have the digest and were read as what the media type says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedManifest {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The blobs that it refers to, which must be there.
    pub blobs: Vec<Descriptor>,
    /// The manifests and indexes that it refers to, which must be there.
    pub manifests: Vec<Descriptor>,
    /// What it says of another manifest, if it does.
    pub referral: Option<Referral>,
}

/// That a manifest says something about another one, as a signature does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referral {
    /// The other one. It may be missing.
    pub subject: Digest,
    /// How the manifest is listed among what refers to it.
    pub descriptor: Descriptor,
}

/// A blob, opened.
#[derive(Debug)]
pub struct ServedBlob {
    /// Its content, from the beginning.
    pub file: File,
    /// Its length in bytes.
    pub size: u64,
}

/// What became of a blob that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobRemoval {
    /// The registry does not have it any more.
    Removed,
    /// An image needs it.
    InUse,
    /// There was none.
    Unknown,
}

/// Why the store did not do what a client asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A manifest refers to what is not there.
    #[error("the manifest refers to what is not here")]
    MissingParts(Vec<Digest>),
    /// The content is not what its digest says.
    #[error("the content has the digest {actual} instead of {expected}")]
    Mismatch {
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// A document cannot be kept, because of what is in it.
    #[error("the manifest cannot be kept")]
    Document(#[source] Box<dyn Error + Send + Sync>),
    /// The name belongs to the machine and not to the registry.
    #[error("{0} is an image of the machine that serves it and is not changed through the registry")]
    NotOurs(String),
    /// An index that stays needs it.
    #[error("an index of this repository needs the manifest; delete the index")]
    InUse(Digest),
    /// The disk is full.
    #[error("the registry has no room left")]
    Full(#[source] Box<dyn Error + Send + Sync>),
    /// The store failed.
    #[error("the store failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// A blob that is being received. Dropping it forgets what came.
pub trait Upload: Send {
    /// Adds bytes. What was written before an error is lost with the upload.
    fn write(&mut self, bytes: &[u8]) -> Result<(), ServeError>;

    /// Makes all of it the blob `expected`, which is kept for a while without an image.
    ///
    /// # Errors
    /// [`ServeError::Mismatch`] when it has another digest.
    fn finish(self: Box<Self>, expected: &Digest) -> Result<(), ServeError>;
}

/// The store behind the server. Any number of threads call it at once.
pub trait ServedStore: Send + Sync {
    /// The names of all repositories, sorted.
    fn repositories(&self) -> Result<Vec<String>, ServeError>;

    /// The tags of a repository, sorted; `None` when there is no such repository.
    fn tags(&self, repository: &Repository) -> Result<Option<Vec<String>>, ServeError>;

    /// A manifest or index.
    fn manifest(
        &self,
        repository: &Repository,
        name: &ManifestName,
    ) -> Result<Option<ServedManifest>, ServeError>;

    /// Keeps a manifest or index under a name, in place of what had it.
    ///
    /// # Errors
    /// [`ServeError::MissingParts`], [`ServeError::Document`]
    fn put_manifest(
        &self,
        repository: &Repository,
        name: &ManifestName,
        manifest: &PushedManifest,
    ) -> Result<(), ServeError>;

    /// Takes a tag away; or, by its digest, a manifest with all of its tags. `false` when there was none.
    fn delete_manifest(&self, repository: &Repository, name: &ManifestName) -> Result<bool, ServeError>;

    /// What says something about a manifest, which may be missing itself.
    fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, ServeError>;

    /// The length of a blob in bytes. One that is there is kept for a while, also without an image, because the client
    /// that asked may rely on it.
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, ServeError>;

    /// Opens a blob, which is made if it only could be.
    fn open_blob(&self, digest: &Digest) -> Result<Option<ServedBlob>, ServeError>;

    /// Forgets a blob that no image needs.
    fn delete_blob(&self, digest: &Digest) -> Result<BlobRemoval, ServeError>;

    /// Begins a blob.
    fn upload(&self) -> Result<Box<dyn Upload>, ServeError>;
}
