//! What the frontend asks of its surroundings.

use base::image::ImageConfig;
use base::{Digest, GitUrl, Platform, Reference};

/// A base image, pinned.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// The name with the digest of the manifest.
    pub reference: Reference,
    /// The digest of the manifest for the platform.
    pub manifest: Digest,
    /// Its config.
    pub config: ImageConfig,
}

/// A file of the web that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpRequest {
    /// Its URL.
    pub url: String,
    /// What its content has to be.
    pub checksum: Option<Digest>,
}

/// A file of the web, pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedHttp {
    /// The digest of its content.
    pub digest: Digest,
    /// Its name: never empty, never a path.
    pub filename: String,
    /// When the server says it last changed, in seconds since 1970.
    pub last_modified: Option<i64>,
}

/// Why something could not be resolved, in the words of whoever tried.
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// Finds out what names from outside stand for now.
pub trait MetaResolver {
    /// The image `reference` for `platform`. Asked once for each image and platform of a build.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError>;

    /// What a URL has.
    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError>;

    /// The complete id of the commit that a repository's URL stands for.
    fn git(&self, url: &GitUrl) -> Result<String, ResolveError>;
}
