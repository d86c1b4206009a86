//! `lap import`: a root filesystem in an archive becomes an image of one layer.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;

use base::git_url::without_password;
use base::image::{Descriptor, History, ImageConfig, Manifest, media_type};
use base::{CancelToken, Digest, Platform};
use registry::{Download, DownloadRequest};
use snapshotter::compress::{Format, decompressor};
use snapshotter::{BlobWriter, Lease, StoreError};

use crate::error::EngineError;
use crate::request::{ImportRequest, ImportSource};
use crate::{Engine, assemble, changes};

impl Engine {
    /// Makes an image of the archive that `request` names, and gives its id. The layer is the archive as it came,
    /// but for compressions that layers do not have.
    ///
    /// # Errors
    /// When the archive cannot be had, is damaged or hostile, or a change cannot be made. The store is as before
    /// then.
    pub fn import(&self, request: ImportRequest, cancel: &CancelToken) -> Result<Digest, EngineError> {
        let ImportRequest { source, name, changes, message, platform, epoch } = request;
        let platform = platform.unwrap_or_else(Platform::host);
        // Mistakes in the changes show before anything is read.
        let mut config = changes::apply(ImageConfig::scratch(&platform), &changes)?;
        let comment = message.unwrap_or_else(|| format!("Imported from {}", source.name_in_history()));
        let lease = self.store.lease("import")?;
        let (layer, diff_id) = self.import_layer(&lease, source, cancel)?;
        let created = Some(epoch.unwrap_or_else(|| self.clock.now()));
        config.created = created;
        config.rootfs.diff_ids = vec![diff_id];
        config.history = vec![History { created, comment, ..History::default() }];
        let manifest = Manifest {
            artifact_type: None,
            subject: None,
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            config: assemble::document(self, &lease, media_type::OCI_CONFIG, &config)?,
            layers: vec![layer],
            annotations: BTreeMap::new(),
        };
        let target = assemble::document(self, &lease, media_type::OCI_MANIFEST, &manifest)?;
        match &name {
            Some(name) => self.store.tag(&name.to_string(), &target)?,
            None => self.store.tag_dangling(&target)?,
        }
        self.store.sync()?;
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        self.tell_of_image("import", &manifest.config.digest, &name);
        Ok(manifest.config.digest)
    }

    /// The archive as a layer that is unpacked, and its diffID.
    fn import_layer(
        &self,
        lease: &Lease,
        source: ImportSource,
        cancel: &CancelToken,
    ) -> Result<(Descriptor, Digest), EngineError> {
        let failed = named(source.to_string());
        let layer = self.import_blob(lease, source, cancel)?;
        let snapshot = self.store.apply_layer(lease, None, &layer, None, cancel).map_err(failed)?;
        let diff_id = self.store.layer_id(lease, snapshot, None, cancel)?.diff_id;
        Ok((layer, diff_id))
    }

    /// The archive as a blob that can be a layer.
    fn import_blob(
        &self,
        lease: &Lease,
        source: ImportSource,
        cancel: &CancelToken,
    ) -> Result<Descriptor, EngineError> {
        let archive = source.to_string();
        let failed = named(archive.clone());
        let mut writer = self.store.ingest(lease)?;
        match source {
            ImportSource::File(path) => writer.copy_from(&mut sys::fs::open(&path)?).map_err(failed)?,
            ImportSource::Stream(mut stream) => writer.copy_from(&mut stream).map_err(failed)?,
            ImportSource::Url(url) => self.download_into(&mut writer, url, cancel)?,
        };
        let blob = writer.finish(None)?;
        if blob.size == 0 {
            return Err(EngineError::EmptyImport { archive });
        }
        let mut start = Vec::new();
        let read = self.store.open_blob(&blob.digest)?.take(Format::MAGIC).read_to_end(&mut start);
        read.map_err(|source| StoreError::Content { source })?;
        let media_type = match Format::detect(&start) {
            Format::Plain => media_type::OCI_LAYER,
            Format::Gzip => media_type::OCI_LAYER_GZIP,
            Format::Zstd => media_type::OCI_LAYER_ZSTD,
            Format::Bzip2 | Format::Xz => return self.decompressed(lease, archive, &blob.digest),
        };
        Ok(Descriptor::new(media_type, blob.digest, blob.size))
    }

    /// The same archive without its compression.
    fn decompressed(
        &self,
        lease: &Lease,
        archive: String,
        digest: &Digest,
    ) -> Result<Descriptor, EngineError> {
        let mut plain = decompressor(self.store.open_blob(digest)?)?;
        let mut writer = self.store.ingest(lease)?;
        writer.copy_from(&mut plain).map_err(named(archive))?;
        let blob = writer.finish(None)?;
        Ok(Descriptor::new(media_type::OCI_LAYER, blob.digest, blob.size))
    }

    fn download_into(
        &self,
        writer: &mut BlobWriter,
        url: String,
        cancel: &CancelToken,
    ) -> Result<u64, EngineError> {
        let network = self.network()?;
        let request = DownloadRequest { url, ..DownloadRequest::default() };
        // Nothing is known of the file, so it is never the same as before.
        if let Download::File(mut stream) = network.wait(cancel, network.client.download(request, None))? {
            while let Some(chunk) = network.wait(cancel, stream.next())? {
                writer.copy_from(&mut chunk.as_ref())?;
            }
        }
        Ok(writer.size())
    }
}

/// Makes errors of the store say which archive they are about.
fn named(archive: String) -> impl FnOnce(StoreError) -> EngineError {
    |source| match source {
        StoreError::Cancelled => EngineError::Cancelled,
        source => EngineError::Import { archive, source: Box::new(source) },
    }
}

impl ImportSource {
    /// What Docker writes into the history: its client sends files like standard input.
    fn name_in_history(&self) -> String {
        match self {
            Self::File(_) | Self::Stream(_) => "-".to_owned(),
            Self::Url(url) => without_password(url),
        }
    }
}

impl fmt::Display for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stream(_) => f.write_str("the stream"),
            Self::Url(url) => f.write_str(&without_password(url)),
        }
    }
}
