//! Sending what a registry does not have yet of an image.

use std::collections::HashMap;
use std::sync::Arc;

use base::image::{Descriptor, Index, Manifest, media_type};
use base::{CancelToken, Digest, Reference};
use registry::{BlobPush, BlobSource, Client};
use snapshotter::Lease;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::shipment::{Document, Shipment};
use super::{PushOutcome, PushedBlob};
use crate::Engine;
use crate::error::EngineError;
use crate::progress::Progress;

/// How many blobs are looked for or sent at once.
const AT_ONCE: usize = 5;

/// One push under one name.
pub(super) struct Sender<'a> {
    pub(super) engine: &'a Engine,
    pub(super) lease: &'a Lease,
    pub(super) name: &'a Reference,
    pub(super) progress: &'a Progress,
    pub(super) vertex: Digest,
    pub(super) cancel: &'a CancelToken,
}

/// A blob with all that is needed to push it.
struct Item {
    blob: Descriptor,
    /// `None` when the store does not have it.
    source: Option<BlobSource>,
    /// A repository of the registry that has it.
    mount_from: Option<String>,
    report: registry::Progress,
}

impl Sender<'_> {
    /// Pushes the image; gives what became of its blobs, none when the registry had it already.
    pub(super) fn send(&self, shipment: &Shipment) -> Result<Vec<PushedBlob>, EngineError> {
        let network = self.engine.network()?;
        let client = &network.client;
        let root = &shipment.root;
        let wait = self.cancel;
        if network.wait(wait, client.stands_for(self.name, &root.descriptor.digest))? {
            return Ok(Vec::new());
        }
        let by_digest = Reference { tag: None, ..self.name.with_digest(root.descriptor.digest) };
        if self.name.digest.is_none()
            && network.wait(wait, client.stands_for(&by_digest, &root.descriptor.digest))?
        {
            self.put(self.name, root)?;
            return Ok(Vec::new());
        }
        let blobs = self.blobs(client, &shipment.blobs)?;
        for document in &shipment.below {
            let name = Reference { tag: None, ..self.name.with_digest(document.descriptor.digest) };
            self.put(&name, document)?;
        }
        self.put(self.name, root)?;
        Ok(blobs)
    }

    fn put(&self, name: &Reference, document: &Document) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let bytes = document.bytes.clone().into();
        let put = network.client.push_manifest(name, &document.descriptor.media_type, bytes);
        network.wait(self.cancel, put)?;
        let id = format!("pushing manifest for {name}");
        self.progress.status(self.vertex, &id, 0, 0, true);
        Ok(())
    }

    /// Pushes blobs, several at once. The first failure ends the others.
    fn blobs(&self, client: &Client, blobs: &[Descriptor]) -> Result<Vec<PushedBlob>, EngineError> {
        let elsewhere = self.elsewhere()?;
        let items: Vec<Item> =
            blobs.iter().map(|blob| self.item(blob, &elsewhere)).collect::<Result<_, _>>()?;
        let network = self.engine.network()?;
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        network.wait(self.cancel, async {
            let mut pushes = JoinSet::new();
            for (position, item) in items.into_iter().enumerate() {
                let (client, name, permits) = (client.clone(), self.name.clone(), Arc::clone(&permits));
                pushes.spawn(async move {
                    // The semaphore is never closed.
                    let _permit = permits.acquire().await.ok();
                    push_one(&client, &name, &item).await.map(|pushed| (position, pushed))
                });
            }
            let mut done = Vec::with_capacity(blobs.len());
            while let Some(pushed) = pushes.join_next().await {
                // None of them is aborted, so one that did not end has panicked.
                done.push(pushed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
            }
            done.sort_by_key(|(position, _)| *position);
            Ok::<_, EngineError>(done.into_iter().map(|(_, pushed)| pushed).collect())
        })
    }

    fn item(&self, blob: &Descriptor, elsewhere: &HashMap<Digest, String>) -> Result<Item, EngineError> {
        let store = &self.engine.store;
        let source = store
            .make_blob(self.lease, &blob.digest, self.cancel)?
            .map(|_| BlobSource::file(&store.blob_path(&blob.digest)));
        let (told, vertex, total) = (self.progress.clone(), self.vertex, blob.size);
        let id = blob.digest.short();
        let report: registry::Progress =
            Arc::new(move |bytes| told.status(vertex, &id, bytes, total, bytes >= total));
        Ok(Item { blob: blob.clone(), source, mount_from: elsewhere.get(&blob.digest).cloned(), report })
    }

    /// Which other repositories of the registry have which blobs, as far as the store's images tell.
    fn elsewhere(&self) -> Result<HashMap<Digest, String>, EngineError> {
        let mut found = HashMap::new();
        for record in self.engine.store.images()?.into_iter().filter(|record| !record.dangling) {
            let Ok(other) = record.name.parse::<Reference>() else { continue };
            if other.registry != self.name.registry || other.repository == self.name.repository {
                continue;
            }
            for manifest in self.manifests(&record.descriptor)? {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    found.entry(blob.digest).or_insert_with(|| other.repository.clone());
                }
            }
        }
        Ok(found)
    }

    /// The manifests of an image that the store has; what is not one is nothing to mount from.
    fn manifests(&self, target: &Descriptor) -> Result<Vec<Manifest>, EngineError> {
        let document = |digest: &Digest| self.engine.store.read_blob(digest, snapshotter::MAX_DOCUMENT);
        let mut manifests = Vec::new();
        let mut targets = vec![target.digest];
        if media_type::is_index(&target.media_type) {
            let index =
                document(&target.digest)?.and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
            targets = index.iter().flat_map(|index| &index.manifests).map(|entry| entry.digest).collect();
        }
        for digest in targets {
            manifests.extend(document(&digest)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
        }
        Ok(manifests)
    }
}

/// Pushes one blob.
async fn push_one(client: &Client, name: &Reference, item: &Item) -> Result<PushedBlob, EngineError> {
    let Item { blob, source, mount_from, report } = item;
    let from = mount_from.as_deref();
    let pushed = match source {
        Some(source) => client.push_blob(name, blob, source, from, Some(report.clone())).await?,
        None => client.mount_blob(name, blob, from).await?.ok_or_else(|| EngineError::Inconsistent {
            image: name.to_string(),
            reason: format!(
                "its layer {} is neither in the store nor in the registry; pull it again",
                blob.digest
            ),
        })?,
    };
    let outcome = match (pushed, from) {
        (BlobPush::Mounted, Some(from)) => PushOutcome::Mounted(from.to_owned()),
        (BlobPush::Uploaded, _) => PushOutcome::Sent,
        (BlobPush::Existed | BlobPush::Mounted, _) => PushOutcome::Existed,
    };
    report(blob.size);
    Ok(PushedBlob { digest: blob.digest, outcome })
}
