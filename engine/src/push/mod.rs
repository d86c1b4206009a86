//! Pushing: an image of the store goes to a registry under its name, and nothing travels that is there already.
//!
//! First the registry is asked whether the name stands for this very image: then one request is all. If it has the image
//! under another name of the repository, only the name travels. Else each blob is looked for, taken from another
//! repository of the same registry where the store has an image with it, or sent; then come the manifests, those that
//! others refer to first, and the name last: what can be pulled by name is always complete.
//!
//! Layers that were built here and are not compressed yet are pushed with gzip, as Docker does; the name in the store then
//! stands for what was pushed, so that the next push and the registry's digest agree. Its id stays.

mod send;
mod shipment;

use std::fmt;
use std::sync::Arc;

use base::event::EventSink;
use base::image::Descriptor;
use base::{CancelToken, Digest, Platform, Reference};
use snapshotter::Lease;

use self::send::Sender;
pub(crate) use self::shipment::{Packing, Shipment};
use crate::Engine;
use crate::error::EngineError;
use crate::progress::Progress;
use crate::shared_cache::RemoteLayers;

/// What is to be pushed.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// The image's name.
    pub name: String,
    /// Push every tag that the repository has in the store.
    pub all_tags: bool,
    /// Only the image of this platform.
    pub platform: Option<Platform>,
}

/// What a registry has after a push.
#[derive(Debug, Clone)]
pub struct PushedImage {
    /// Under which name.
    pub name: Reference,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The size of that document in bytes.
    pub size: u64,
    /// What became of each config and layer; empty when the registry had the image.
    pub blobs: Vec<PushedBlob>,
    /// Platforms of the image that the store does not have, so that they were left out.
    pub left_out: Vec<Platform>,
}

/// What became of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedBlob {
    /// Its digest.
    pub digest: Digest,
    /// How the registry came to have it.
    pub outcome: PushOutcome,
}

/// How a registry came to have a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushOutcome {
    /// It had it in this repository.
    Existed,
    /// It took it from this repository, which it has as well.
    Mounted(String),
    /// It was sent.
    Sent,
}

impl fmt::Display for PushOutcome {
    /// In Docker's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existed => f.write_str("Layer already exists"),
            Self::Mounted(from) => write!(f, "Mounted from {from}"),
            Self::Sent => f.write_str("Pushed"),
        }
    }
}

impl Engine {
    /// Pushes an image under its name.
    ///
    /// # Errors
    /// When the store has no such image, or not all of it; when the registry cannot be reached or refuses.
    pub fn push(
        &self,
        request: &PushRequest,
        events: Arc<dyn EventSink>,
        cancel: &CancelToken,
    ) -> Result<Vec<PushedImage>, EngineError> {
        let progress = Progress::new(events, self.clock.clone());
        let lease = self.store.lease("push")?;
        let names = self.names_to_push(request)?;
        let mut pushed = Vec::with_capacity(names.len());
        for name in names {
            let found = self.find_and_hold(&lease, &name.to_string())?;
            let packing = Packing::Compressed { platform: request.platform.as_ref() };
            let shipment = self.shipment(&lease, &found.target, packing, cancel)?;
            pushed.push(self.push_shipment(&lease, &name, &shipment, None, &progress, cancel)?);
            if request.platform.is_none() && shipment.left_out.is_empty() {
                self.remember_pushed(&name, &found.target, &shipment.root.descriptor)?;
            }
        }
        self.store.sync()?;
        Ok(pushed)
    }

    /// Sends what the registry does not have, and gives it the name. Layers that are not in the store are among the
    /// `remote` ones, or in the registry.
    pub(crate) fn push_shipment(
        &self,
        lease: &Lease,
        name: &Reference,
        shipment: &Shipment,
        remote: Option<&RemoteLayers<'_>>,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<PushedImage, EngineError> {
        let blobs = progress.step(&format!("pushing {}", name.familiar()), |vertex| {
            Sender { engine: self, lease, name, remote, progress, vertex, cancel }.send(shipment)
        })?;
        self.tell_of_transfer("push", name);
        let Descriptor { digest, size, .. } = shipment.root.descriptor;
        Ok(PushedImage { name: name.clone(), digest, size, blobs, left_out: shipment.left_out.clone() })
    }

    /// The names that are pushed: the one that was given, or all of its repository.
    fn names_to_push(&self, request: &PushRequest) -> Result<Vec<Reference>, EngineError> {
        let name: Reference = request.name.parse()?;
        if !request.all_tags {
            return Ok(vec![name]);
        }
        let mut names: Vec<Reference> = Vec::new();
        for record in self.store.images()?.into_iter().filter(|record| !record.dangling) {
            let known: Reference = record.name.parse()?;
            if (&known.registry, &known.repository) == (&name.registry, &name.repository)
                && known.tag.is_some()
            {
                names.push(known);
            }
        }
        if names.is_empty() { Err(EngineError::NoSuchImage(request.name.clone())) } else { Ok(names) }
    }

    /// Lets the name in the store stand for what was pushed under it.
    fn remember_pushed(
        &self,
        name: &Reference,
        before: &Descriptor,
        pushed: &Descriptor,
    ) -> Result<(), EngineError> {
        if before.digest == pushed.digest {
            return Ok(());
        }
        self.store.tag(&name.to_string(), pushed)?;
        // It is the same image in another form, not one that lost its name.
        self.store.untag_dangling(before)?;
        Ok(())
    }
}
