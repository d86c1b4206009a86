//! Shared caches that are one document: what a build reads of them, and what it writes to them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base::{Digest, Reference};
pub use registry::ActionsProtocol;

use super::LayerOptions;

/// Where a cache document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentPlace {
    /// Under a name in a registry.
    Registry(Reference),
    /// In the directory of an OCI image layout.
    Layout(LayoutPlace),
    /// In GitHub's Actions cache.
    Actions(ActionsPlace),
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
