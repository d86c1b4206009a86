//! Base images by name: from the store if it has them, else from their registry.

use base::{CancelToken, Platform, Reference};
use frontend::{MetaResolver, ResolveError, ResolvedImage};

use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::progress::Progress;

/// Resolves the names in FROM and `COPY --from` for one build.
pub(crate) struct ImageResolver<'a> {
    engine: &'a Engine,
    pull: bool,
    progress: &'a Progress,
    cancel: &'a CancelToken,
}

impl<'a> ImageResolver<'a> {
    /// With `pull`, the registry is asked even for what the store has.
    pub(crate) fn new(
        engine: &'a Engine,
        pull: bool,
        progress: &'a Progress,
        cancel: &'a CancelToken,
    ) -> Self {
        Self { engine, pull, progress, cancel }
    }

    fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, EngineError> {
        if !self.pull
            && let Some(image) = self.engine.local_image(reference, platform)?
        {
            return Ok(image);
        }
        self.progress.step(&format!("[internal] load metadata for {reference}"), |_| {
            let lease = self.engine.store.lease("resolve")?;
            let (image, root) = self.engine.pull_documents(&lease, reference, platform, self.cancel)?;
            self.engine.store.tag(&reference.to_string(), &root)?;
            Ok(image)
        })
    }
}

impl MetaResolver for ImageResolver<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        let image = self.image(reference, platform)?;
        let manifest = image.descriptor.digest;
        Ok(ResolvedImage { reference: reference.with_digest(manifest), manifest, config: image.config })
    }
}

impl Engine {
    /// The image that the store has under this name for this platform.
    pub(crate) fn local_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, EngineError> {
        let Some(record) = self.store.resolve(&reference.to_string())? else { return Ok(None) };
        self.image(&record.descriptor, platform)
    }
}
