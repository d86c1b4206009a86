//! What the frontend asks of its surroundings.

use base::image::ImageConfig;
use base::{Digest, Platform, Reference};

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

/// Why an image could not be resolved, in the words of whoever tried.
pub type ResolveError = Box<dyn std::error::Error + Send + Sync>;

/// Finds images by name.
pub trait MetaResolver {
    /// The image `reference` for `platform`. Asked once for each image and platform of a build.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError>;
}
