//! Shared caches that are one document: what a build reads of them, and what it writes to them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::image::Descriptor;
use base::{Digest, Reference};
pub use registry::ActionsProtocol;
pub use registry::azblob::{AccountKey, ContainerOptions};

use super::{BucketPlace, LayerOptions};
use crate::caller::CallersBlobs;

/// Where a cache document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentPlace {
    /// Under a name in a registry.
    Registry(Reference),
    /// Under a name in a registry whose certificate does not matter, nor whether it has one.
    InsecureRegistry(Reference),
    /// In the directory of an OCI image layout.
    Layout(LayoutPlace),
    /// In GitHub's Actions cache.
    Actions(ActionsPlace),
    /// In a bucket of S3.
    Bucket(Box<BucketDocumentPlace>),
    /// In a container of Azure Blob Storage.
    Azure(Box<AzureDocumentPlace>),
    /// In a directory of who asks for the build.
    Caller(CallersPlace),
}

/// A cache document that a build reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentInput {
    /// Where it is.
    pub place: DocumentPlace,
    /// How long reading it may take; then the build goes on without it. Blobs come later, and as long as they move.
    pub timeout: Duration,
}

/// A document of a bucket, perhaps under several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketDocumentPlace {
    /// The bucket, and where blobs are in it.
    pub bucket: BucketPlace,
    /// What the names of documents begin with after the bucket's prefix.
    pub manifests_prefix: String,
    /// The names under which it is written. All are read, as far as they are there, the first before the others.
    pub names: Vec<String>,
}

/// A document of a container of Azure Blob Storage, perhaps under several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureDocumentPlace {
    /// The container and how to get there.
    pub options: ContainerOptions,
    /// What the names of all blobs begin with.
    pub prefix: String,
    /// What the names of layers begin with after that.
    pub blobs_prefix: String,
    /// What the names of documents begin with after the prefix.
    pub manifests_prefix: String,
    /// The names under which it is written. All are read, as far as they are there, the first before the others.
    pub names: Vec<String>,
}

/// A document of an OCI image layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutPlace {
    /// The layout's directory.
    pub directory: PathBuf,
    /// The document's name.
    pub tag: String,
    /// Which document is read, whatever the name means by now.
    pub digest: Option<Digest>,
}

/// A document that the caller keeps, who knows by its digest which one is meant.
#[derive(Clone)]
pub struct CallersPlace {
    /// Who has it.
    pub blobs: Arc<dyn CallersBlobs>,
    /// What the caller calls the place.
    pub store: String,
    /// Which document is read.
    pub digest: Option<Digest>,
    /// What leads to the document that was written, once it was.
    pub written: Arc<Mutex<Option<Descriptor>>>,
}

impl PartialEq for CallersPlace {
    fn eq(&self, other: &Self) -> bool {
        (&self.store, self.digest) == (&other.store, other.digest)
    }
}

impl Eq for CallersPlace {}

impl fmt::Debug for CallersPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallersPlace({}, {:?})", self.store, self.digest)
    }
}

/// A document of GitHub's Actions cache.
#[derive(Clone, PartialEq, Eq)]
pub struct ActionsPlace {
    /// Which protocol the service speaks.
    pub protocol: ActionsProtocol,
    /// The service's URL.
    pub url: String,
    /// The token of the job.
    pub token: String,
    /// The document's name.
    pub scope: String,
    /// How long one request may take.
    pub timeout: Duration,
}

impl fmt::Debug for ActionsPlace {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, url, scope, .. } = self;
        write!(f, "ActionsPlace({protocol:?}, {url}, {scope})")
    }
}

/// A cache document that a build writes at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentOutput {
    /// Where it is written.
    pub place: DocumentPlace,
    /// How much is in it.
    pub mode: CacheMode,
    /// How layers are compressed.
    pub layers: LayerOptions,
    /// What it looks like to registries.
    pub form: DocumentForm,
    /// `ignore-error`: the build is none the worse when it cannot be written.
    pub ignore_error: bool,
}

/// How much of a build is in a cache document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// The steps whose results are layers of the image.
    #[default]
    Min,
    /// All steps.
    Max,
}

/// What a cache document looks like to registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentForm {
    /// `image-manifest`: the manifest of an artifact, rather than an index whose entries are layers, which some registries refuse.
    pub image_manifest: bool,
    /// `oci-mediatypes`: OCI's media types, rather than Docker's.
    pub oci_media_types: bool,
}

impl Default for DocumentForm {
    fn default() -> Self {
        Self { image_manifest: true, oci_media_types: true }
    }
}
