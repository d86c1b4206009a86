//! Sending what a registry does not have yet of an image.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use base::image::{Descriptor, Index, Manifest, media_type};
use base::{CancelToken, Digest, Reference};
use registry::{BlobPush, BlobSource};
use snapshotter::Lease;

use super::shipment::{Document, Shipment};
use super::{PushOutcome, PushedBlob};
use crate::Engine;
use crate::error::EngineError;
use crate::parallel::each_at_once;
use crate::progress::Progress;
use crate::shared_cache::RemoteLayers;

/// How many blobs are looked for or sent at once.
const AT_ONCE: usize = 5;

/// One push under one name.
pub(super) struct Sender<'a> {
    pub(super) engine: &'a Engine,
    pub(super) lease: &'a Lease,
    pub(super) name: &'a Reference,
    /// Layers that are not here.
    pub(super) remote: Option<&'a RemoteLayers<'a>>,
    pub(super) progress: &'a Progress,
    pub(super) vertex: Digest,
    pub(super) cancel: &'a CancelToken,
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
        let blobs = self.blobs(&shipment.blobs)?;
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
    fn blobs(&self, blobs: &[Descriptor]) -> Result<Vec<PushedBlob>, EngineError> {
        let elsewhere = self.elsewhere()?;
        let items: Vec<(&Descriptor, OnceLock<PushedBlob>)> =
            blobs.iter().map(|blob| (blob, OnceLock::new())).collect();
        each_at_once(&items, AT_ONCE, self.cancel, |(blob, pushed), stop| {
            let from = elsewhere.get(&blob.digest).cloned();
            let outcome = self.blob(blob, from, stop)?;
            pushed.get_or_init(|| PushedBlob { digest: blob.digest, outcome });
            Ok(())
        })?;
        // None has failed, so each has an outcome.
        Ok(items.into_iter().filter_map(|(_, pushed)| pushed.into_inner()).collect())
    }

    /// Pushes one blob. Another repository of the registry may have it. What is not in the store is fetched or made only if
    /// the registry does not have it.
    fn blob(
        &self,
        blob: &Descriptor,
        elsewhere: Option<String>,
        cancel: &CancelToken,
    ) -> Result<PushOutcome, EngineError> {
        let Engine { store, .. } = self.engine;
        let network = self.engine.network()?;
        let remote = || self.remote?.repository(&self.name.registry, &blob.digest);
        let from = elsewhere.or_else(remote).filter(|from| *from != self.name.repository);
        let report = self.report(blob);
        let source = BlobSource::file(&store.blob_path(&blob.digest));
        let pushed = if store.blob(self.lease, &blob.digest)?.is_some() {
            let push =
                network.client.push_blob(self.name, blob, &source, from.as_deref(), Some(report.clone()));
            network.wait(cancel, push)?
        } else {
            match network.wait(cancel, network.client.mount_blob(self.name, blob, from.as_deref()))? {
                Some(pushed) => pushed,
                None => {
                    self.provide(blob, cancel)?;
                    let upload = network.client.upload_blob(self.name, blob, &source, Some(report.clone()));
                    network.wait(cancel, upload)?
                }
            }
        };
        report(blob.size);
        Ok(match (pushed, from) {
            (BlobPush::Mounted, Some(from)) => PushOutcome::Mounted(from),
            (BlobPush::Uploaded, _) => PushOutcome::Sent,
            (BlobPush::Existed | BlobPush::Mounted, _) => PushOutcome::Existed,
        })
    }

    /// Has a blob in the store: makes it of a snapshot, or fetches it from where it is.
    fn provide(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<(), EngineError> {
        if self.engine.store.make_blob(self.lease, &blob.digest, cancel)?.is_some() {
            return Ok(());
        }
        if let Some(remote) = self.remote
            && remote.bring(blob, cancel)?
        {
            return Ok(());
        }
        let reason =
            format!("its layer {} is neither in the store nor in the registry; pull it again", blob.digest);
        Err(EngineError::Inconsistent { image: self.name.to_string(), reason })
    }

    fn report(&self, blob: &Descriptor) -> registry::Progress {
        let (told, vertex, total) = (self.progress.clone(), self.vertex, blob.size);
        let id = blob.digest.short();
        Arc::new(move |bytes| told.status(vertex, &id, bytes, total, bytes >= total))
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
