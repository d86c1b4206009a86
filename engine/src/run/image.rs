//! The images that a container needs, its own and those that it shows: found here or fetched, and unpacked.

use std::sync::Arc;

use base::event::NullSink;
use base::{CancelToken, Digest, Platform, Reference};
use snapshotter::{Lease, SnapshotId};

use crate::Engine;
use crate::error::EngineError;
use crate::images::Found;
use crate::progress::Progress;
use crate::request::{PullPolicy, RunRequest};

/// An image that a container shows beside its own.
pub(crate) struct ShownImage {
    /// Its id.
    pub(crate) id: Digest,
    /// What it was found by.
    pub(crate) target: Digest,
    /// All its layers; `None` for an image without any.
    pub(crate) snapshot: Option<SnapshotId>,
    /// What protects them until the container does.
    pub(crate) _lease: Option<Lease>,
}

impl Engine {
    /// Finds the image called `name`, or fetches it as `pull` says.
    pub(super) fn image_to_run(
        &self,
        name: &str,
        platform: Option<&Platform>,
        pull: PullPolicy,
    ) -> Result<(Found, Reference), EngineError> {
        let reference = name.parse::<Reference>();
        let find = || self.find_for(name, platform);
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let here = match find() {
            Ok(found) => Some(found),
            Err(EngineError::NoSuchImage(_) | EngineError::NoPlatform { .. })
                if pull != PullPolicy::Never =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        let ask = |reference: &Reference| self.current_image(reference, &platform, &CancelToken::new());
        match (pull, here, &reference) {
            (PullPolicy::Missing | PullPolicy::Never, Some(found), _)
            | (PullPolicy::Newer, Some(found), Err(_)) => {
                return Ok((found, reference.unwrap_or_else(|_| unnamed())));
            }
            (PullPolicy::Always, Some(_), Ok(reference)) => drop(ask(reference)?),
            // What is here will do.
            (PullPolicy::Newer, Some(_), Ok(reference)) => drop(ask(reference).ok()),
            _ => drop(self.pull(name, Some(&platform), Arc::new(NullSink), &CancelToken::new())?),
        }
        Ok((find()?, reference?))
    }

    /// The snapshot with all layers of an image, and what protects it if it had to be made. One that is there needs
    /// no protection: the container is refused if it is gone by then.
    pub(super) fn root_filesystem(
        &self,
        name: &str,
        found: &Found,
        reference: &Reference,
    ) -> Result<(Option<SnapshotId>, Option<Lease>), EngineError> {
        let image = &found.image;
        let chain_id = base::image::chain_id(&image.config.rootfs.diff_ids);
        let there = chain_id.map(|chain_id| self.store.find_chain_id(&chain_id)).transpose()?.flatten();
        if there.is_some() || image.config.rootfs.diff_ids.is_empty() {
            return Ok((there, None));
        }
        let lease = self.store.lease("run")?;
        self.hold(&lease, found, name)?;
        let progress = Progress::new(Arc::new(NullSink), self.clock.clone());
        let vertex = image.id();
        let made = self.unpack(&lease, reference, image, &progress, vertex, &CancelToken::new())?;
        Ok((made, Some(lease)))
    }

    /// An image that a container is to show: what is here will do, whatever is asked for about the container's own.
    pub(super) fn shown_image(&self, name: &str, request: &RunRequest) -> Result<ShownImage, EngineError> {
        let pull = if request.pull == PullPolicy::Never { PullPolicy::Never } else { PullPolicy::Missing };
        let (found, reference) = self.image_to_run(name, None, pull)?;
        let (snapshot, lease) = self.root_filesystem(name, &found, &reference)?;
        Ok(ShownImage { id: found.image.id(), target: found.target.digest, snapshot, _lease: lease })
    }
}

/// An image that was asked for by id has no name to fetch missing layers by; it never misses any.
fn unnamed() -> Reference {
    Reference {
        registry: base::reference::DEFAULT_REGISTRY.to_owned(),
        repository: "unnamed".to_owned(),
        tag: Some("latest".to_owned()),
        digest: None,
    }
}
