//! Pulling: documents first, layers when something needs them, each blob once.

use std::io::Read;
use std::sync::Arc;

use base::event::EventSink;
use base::image::{Descriptor, media_type};
use base::{CancelToken, Digest, Platform, Reference};
use registry::ImageDocuments;
use snapshotter::{Arriving, BlobWriter, Expected, Lease, StoreError};

use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::parallel::each_at_once;
use crate::progress::Progress;
use crate::report::PulledImage;

/// How many layers of an image are downloaded at once.
const PARALLEL_DOWNLOADS: usize = 4;

/// A layer to download.
#[derive(Clone, Copy)]
pub(crate) struct LayerDownload<'a> {
    /// The image, and with it the repository.
    pub(crate) reference: &'a Reference,
    pub(crate) layer: &'a Descriptor,
    /// Who wants to read it meanwhile.
    pub(crate) arriving: Option<&'a Arriving>,
    /// Who is told how far it is, and as what.
    pub(crate) progress: &'a Progress,
    pub(crate) vertex: Digest,
}

impl Engine {
    /// Downloads an image with its layers and unpacks it.
    ///
    /// # Errors
    /// When the name is not one, the registry cannot be reached or refuses, or what it sends is wrong.
    /// The store is as before then.
    pub fn pull(
        &self,
        name: &str,
        platform: Option<&Platform>,
        events: Arc<dyn EventSink>,
        cancel: &CancelToken,
    ) -> Result<PulledImage, EngineError> {
        let reference: Reference = name.parse()?;
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let progress = Progress::new(events, self.clock.clone());
        let lease = self.store.lease("pull")?;
        let before = self.store.resolve(&reference.to_string())?.map(|record| record.descriptor.digest);
        let (image, digest) = progress.step(&format!("pull {reference}"), |vertex| {
            let (image, root) = self.pull_documents(&lease, &reference, &platform, cancel)?;
            self.unpack(&lease, &reference, &image, &progress, vertex, cancel)?;
            self.store.tag(&reference.to_string(), &root)?;
            Ok::<_, EngineError>((image, root.digest))
        })?;
        self.store.sync()?;
        self.tell_of_transfer("pull", &reference);
        let up_to_date = before == Some(digest) || before == Some(image.descriptor.digest);
        Ok(PulledImage { name: reference.to_string(), digest, up_to_date })
    }

    /// Fetches the documents of an image and keeps them. Gives the image and what its name leads to.
    pub(crate) fn pull_documents(
        &self,
        lease: &Lease,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<(Image, Descriptor), EngineError> {
        let network = self.network()?;
        let documents = network.wait(cancel, network.client.pull_image(reference, platform))?;
        self.keep_documents(lease, documents)
    }

    /// Writes documents to the store.
    pub(crate) fn keep_documents(
        &self,
        lease: &Lease,
        documents: ImageDocuments,
    ) -> Result<(Image, Descriptor), EngineError> {
        let root = documents.root().clone();
        let ImageDocuments { index, manifest, config } = documents;
        let index = index.map(|index| (index.descriptor, index.bytes));
        let all = [(manifest.descriptor.clone(), manifest.bytes), (config.descriptor, config.bytes)];
        for (descriptor, bytes) in all.into_iter().chain(index) {
            self.keep(lease, &descriptor, &mut bytes.as_slice())?;
        }
        let image = Image { descriptor: manifest.descriptor, manifest: manifest.value, config: config.value };
        Ok((image, root))
    }

    /// Copies a blob into the store, unless it is there.
    pub(crate) fn keep(
        &self,
        lease: &Lease,
        descriptor: &Descriptor,
        from: &mut dyn Read,
    ) -> Result<(), EngineError> {
        if self.store.blob(lease, &descriptor.digest)?.is_some() {
            return Ok(());
        }
        let mut writer = self.store.ingest(lease)?;
        writer.copy_from(from)?;
        writer.finish(Some(Expected { digest: descriptor.digest, size: descriptor.size }))?;
        Ok(())
    }

    /// Has `fetch` get the blobs that the store does not have, several at once. The first failure stops the others.
    pub(crate) fn fetch_each(
        &self,
        lease: &Lease,
        blobs: &[&Descriptor],
        cancel: &CancelToken,
        fetch: impl Fn(&Descriptor, &CancelToken) -> Result<(), EngineError> + Sync,
    ) -> Result<(), EngineError> {
        let mut missing = Vec::new();
        for blob in blobs {
            if self.store.blob(lease, &blob.digest)?.is_none() && !missing.contains(blob) {
                missing.push(*blob);
            }
        }
        each_at_once(&missing, PARALLEL_DOWNLOADS, cancel, |blob, stop| fetch(blob, stop))
    }

    /// Downloads a layer; what was downloaded of it before is not asked for again.
    pub(crate) fn fetch_layer(
        &self,
        lease: &Lease,
        download: &LayerDownload<'_>,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let LayerDownload { reference, layer, arriving, progress, vertex } = *download;
        if media_type::is_manifest(&layer.media_type) || media_type::is_index(&layer.media_type) {
            let image = reference.to_string();
            let reason = format!("{} is listed as a layer but is a {}", layer.digest, layer.media_type);
            return Err(EngineError::Inconsistent { image, reason });
        }
        let (told, id, total) = (progress.clone(), layer.digest.short(), layer.size);
        let report: registry::Progress =
            Arc::new(move |bytes| told.status(vertex, &id, bytes, total, bytes >= total));
        let expected = Expected { digest: layer.digest, size: layer.size };
        let mut writer = self.store.resume_ingest(lease, &expected)?;
        if let Some(arriving) = arriving {
            writer.tell(arriving)?;
        }
        let resumed = writer.size() > 0;
        match self.receive(writer, reference, layer, report.clone(), cancel) {
            // What was there from before may have been wrong. It is forgotten by now.
            Err(error) if resumed && is_wrong(&error) => {
                let writer = self.store.resume_ingest(lease, &expected)?;
                self.receive(writer, reference, layer, report, cancel)
            }
            received => received,
        }
    }

    /// Fetches what `writer` does not have yet. What came until an interruption is kept.
    fn receive(
        &self,
        mut writer: BlobWriter,
        reference: &Reference,
        layer: &Descriptor,
        report: registry::Progress,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        if writer.size() < layer.size {
            match self.receive_rest(&mut writer, reference, layer, report, cancel) {
                Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
                Err(error @ EngineError::Registry(_)) if !is_wrong(&error) => return Err(error),
                Err(error) => {
                    writer.discard();
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        writer.finish(Some(Expected { digest: layer.digest, size: layer.size }))?;
        Ok(())
    }

    fn receive_rest(
        &self,
        writer: &mut BlobWriter,
        reference: &Reference,
        layer: &Descriptor,
        report: registry::Progress,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let network = self.network()?;
        let before = registry::Received { size: writer.size(), digester: writer.digester() };
        let blob = network.client.rest_of_blob(reference, layer, before, Some(report));
        let mut stream = network.wait(cancel, blob)?;
        while let Some(chunk) = network.wait(cancel, stream.next())? {
            writer.append(&chunk)?;
        }
        Ok(())
    }
}

/// Whether content is not what its digest says.
fn is_wrong(error: &EngineError) -> bool {
    match error {
        EngineError::Registry(error) => error.is_wrong_content(),
        EngineError::Store(StoreError::BlobMismatch { .. }) => true,
        _ => false,
    }
}
