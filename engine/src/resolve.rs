//! What names of a Dockerfile stand for: images from the store or their registry, files of the web and git
//! repositories from their servers.

use std::cell::RefCell;
use std::collections::HashMap;

use base::{CancelToken, GitUrl, KeyHasher, Platform, Reference};
use frontend::{HttpRequest, MetaResolver, ResolveError, ResolvedHttp, ResolvedImage};

use crate::Engine;
use crate::error::EngineError;
use crate::layouts::Layouts;
use crate::manifest::Image;
use crate::remote::Fetcher;
use crate::remote::http::PinnedFile;
use crate::request::PullPolicy;

/// Resolves the names in FROM, `COPY --from` and ADD for one build.
pub(crate) struct SourceResolver<'a> {
    fetcher: Fetcher<'a>,
    pull: PullPolicy,
    layouts: &'a Layouts,
    files: RefCell<HashMap<HttpRequest, PinnedFile>>,
    commits: RefCell<Vec<(GitUrl, String)>>,
}

impl<'a> SourceResolver<'a> {
    /// `pull` says when registries are asked.
    pub(crate) fn new(fetcher: Fetcher<'a>, layouts: &'a Layouts, pull: PullPolicy) -> Self {
        Self { fetcher, pull, layouts, files: RefCell::default(), commits: RefCell::default() }
    }

    fn image(&self, reference: &Reference, platform: &Platform) -> Result<Image, EngineError> {
        if let Some(image) = self.layouts.image(self.fetcher.engine, reference, platform)? {
            return Ok(image);
        }
        let local = self.fetcher.engine.local_image(reference, platform)?;
        match (self.pull, local) {
            (PullPolicy::Missing | PullPolicy::Never, Some(image)) => Ok(image),
            (PullPolicy::Never, None) => Err(EngineError::NoSuchImage(reference.familiar())),
            (PullPolicy::Newer, Some(image)) => self.ask_or(reference, platform, image),
            (PullPolicy::Always | PullPolicy::Newer | PullPolicy::Missing, _) => {
                self.ask(reference, platform)
            }
        }
    }

    /// The image that the name means in its registry now, or `known` if the registry cannot be asked.
    fn ask_or(&self, reference: &Reference, platform: &Platform, known: Image) -> Result<Image, EngineError> {
        let of = format!("FROM {}", reference.familiar());
        // That it does not answer is no failure of the build.
        let asked =
            self.fetcher.step(&format!("load metadata for {reference}"), &of, false, |fetcher, _| {
                match fetcher.engine.current_image(reference, platform, fetcher.cancel) {
                    Err(EngineError::Cancelled) => Err(EngineError::Cancelled),
                    asked => Ok(asked),
                }
            })?;
        asked.or_else(|error| {
            let (name, why) = (reference.familiar(), base::fault::chain(&error));
            let message = format!("{name} is what the store has, its registry cannot be asked: {why}");
            self.fetcher.progress.warn("Offline", message);
            Ok(known)
        })
    }

    /// The image that the name means in its registry now.
    fn ask(&self, reference: &Reference, platform: &Platform) -> Result<Image, EngineError> {
        let of = format!("FROM {}", reference.familiar());
        self.fetcher.step(&format!("load metadata for {reference}"), &of, false, |fetcher, _| {
            fetcher.engine.current_image(reference, platform, fetcher.cancel)
        })
    }
}

impl SourceResolver<'_> {
    /// What the name of an image means.
    pub(crate) fn pinned_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, EngineError> {
        let image = self.image(reference, platform)?;
        let manifest = image.descriptor.digest;
        Ok(ResolvedImage { reference: reference.with_digest(manifest), manifest, config: image.config })
    }

    /// What a URL has; within one build always the same.
    fn file(&self, request: &HttpRequest) -> Result<PinnedFile, EngineError> {
        if let Some(known) = self.files.borrow().get(request) {
            return Ok(known.clone());
        }
        let found = self.fetcher.pin_file(&request.url, request.checksum)?;
        self.files.borrow_mut().insert(request.clone(), found.clone());
        Ok(found)
    }

    /// What a repository's URL stands for; within one build always the same.
    fn commit(&self, url: &GitUrl) -> Result<String, EngineError> {
        if let Some((_, commit)) = self.commits.borrow().iter().find(|(known, _)| known == url) {
            return Ok(commit.clone());
        }
        let commit = self.fetcher.pin_commit(url)?;
        self.commits.borrow_mut().push((url.clone(), commit.clone()));
        Ok(commit)
    }
}

impl MetaResolver for SourceResolver<'_> {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage, ResolveError> {
        Ok(self.pinned_image(reference, platform)?)
    }

    fn http(&self, request: &HttpRequest) -> Result<ResolvedHttp, ResolveError> {
        let PinnedFile { digest, filename, last_modified } = self.file(request)?;
        Ok(ResolvedHttp { digest, filename, last_modified })
    }

    fn git(&self, url: &GitUrl) -> Result<String, ResolveError> {
        Ok(self.commit(url)?)
    }
}

impl Engine {
    /// The image that the store has under this name for this platform.
    pub(crate) fn local_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, EngineError> {
        if let Some(record) = self.store.resolve(&reference.to_string())? {
            return self.image(&record.descriptor, platform);
        }
        // Whoever was told what a name means here may ask by the digest alone that it had then.
        let Some(digest) = reference.digest else { return Ok(None) };
        let unpinned = Reference { digest: None, ..reference.clone() };
        let Some(record) = self.store.resolve(&unpinned.to_string())? else { return Ok(None) };
        let image = self.image(&record.descriptor, platform)?;
        Ok(image.filter(|image| image.descriptor.digest == digest || record.descriptor.digest == digest))
    }

    /// The image that the name means in its registry now, under that name in the store. One request tells that nothing has
    /// changed; a digest means the same for ever.
    pub(crate) fn current_image(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<Image, EngineError> {
        let identity = match &self.credentials {
            Some(credentials) => credentials.identity(&reference.registry, &reference.repository),
            // Files are the same for everybody.
            None => Some(Vec::new()),
        };
        let Some(identity) = identity else { return self.asked_image(reference, platform, cancel) };
        let mut key = KeyHasher::new("lapstrake/lookup/v1");
        key.str(&reference.to_string()).str(&platform.to_string());
        key.bool(self.trusts_registries).bool(self.credentials.is_some()).bytes(&identity);
        self.lookups.once(&key.finish(), cancel, |cancel| self.asked_image(reference, platform, cancel))
    }

    fn asked_image(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<Image, EngineError> {
        let lease = self.store.lease("resolve")?;
        if let Some(known) = self.local_image(reference, platform)? {
            if reference.digest.is_some() {
                return Ok(known);
            }
            let network = self.network()?;
            let now = network.wait(cancel, network.client.head(reference))?;
            let known_root = self.store.resolve(&reference.to_string())?;
            if known_root.is_some_and(|record| record.descriptor.digest == now.digest) {
                return Ok(known);
            }
        }
        let (image, root) = self.pull_documents(&lease, reference, platform, cancel)?;
        self.store.tag(&reference.to_string(), &root)?;
        Ok(image)
    }
}
