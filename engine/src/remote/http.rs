//! Files of the web in the store.
//!
//! What a URL had last time is remembered with the server's validators. A build asks the server whether it
//! is still the same, and downloads only what is not. The content is a blob; should it have been collected
//! meanwhile, it is fetched again when a step really needs it.

use std::sync::Arc;

use crate::Engine;
use base::git_url::without_password;
use base::image::Descriptor;
use base::{Digest, KeyHasher, Reference};
use registry::{Download, DownloadRequest, DownloadStream, Validators};
use serde::{Deserialize, Serialize};

use super::Fetcher;
use crate::error::EngineError;
use crate::pull::LayerDownload;

/// Where the store keeps what is known of URLs.
const BUCKET: &str = "http";

/// What the identifiers of blobs in registries begin with.
const BLOB_SCHEME: &str = "docker-image+blob://";

/// What such a blob is: bytes.
const BLOB: &str = "application/octet-stream";

/// What a file without any name is called, as in BuildKit.
const UNNAMED: &str = "__unnamed__";

/// What a URL has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinnedFile {
    pub(crate) digest: Digest,
    /// A plain name.
    pub(crate) filename: String,
    /// Seconds since 1970.
    pub(crate) last_modified: Option<i64>,
}

/// What is remembered of a URL.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    digest: Digest,
    filename: Option<String>,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Remembered {
    fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), last_modified: self.last_modified.clone() }
    }

    fn pinned(&self, url: &str) -> PinnedFile {
        let named = self.filename.clone().or_else(|| registry::file_name_of_url(url));
        PinnedFile {
            digest: self.digest,
            filename: named.unwrap_or_else(|| UNNAMED.to_owned()),
            last_modified: self.validators().modified().map(|time| time.as_second()),
        }
    }
}

impl Fetcher<'_> {
    /// Finds out what a URL has now. With a checksum that is known to be this URL's and is in the store, the
    /// server is not asked.
    pub(crate) fn pin_file(&self, url: &str, checksum: Option<Digest>) -> Result<PinnedFile, EngineError> {
        if let Some(blob) = blob_of(url) {
            let digest = blob?.1;
            check(url, checksum, digest)?;
            return Ok(PinnedFile { digest, filename: digest.hex(), last_modified: Some(0) });
        }
        let known = self.remembered(url)?;
        if let Some(known) = &known
            && checksum == Some(known.digest)
            && self.engine.store.blob(self.lease, &known.digest)?.is_some()
        {
            return Ok(known.pinned(url));
        }
        let shown = without_password(url);
        let (name, of) = (format!("load metadata for {shown}"), format!("ADD {shown}"));
        self.step(&name, &of, true, |fetcher, vertex| {
            let validators = known.as_ref().map(Remembered::validators);
            let found = match (fetcher.ask(url, validators, vertex)?, &known) {
                (Download::File(stream), _) => fetcher.keep(url, *stream)?,
                (Download::Unchanged, Some(known)) => known.clone(),
                (Download::Unchanged, None) => never_unchanged(),
            };
            check(url, checksum, found.digest)?;
            Ok(found.pinned(url))
        })
    }

    /// Makes the content of a pinned file available as a blob, should it be gone. The transfer is shown as
    /// part of `vertex`.
    pub(crate) fn ensure_file(&self, url: &str, digest: Digest, vertex: Digest) -> Result<(), EngineError> {
        if self.engine.store.blob(self.lease, &digest)?.is_some() {
            return Ok(());
        }
        if let Some(blob) = blob_of(url) {
            let (repository, digest) = blob?;
            return self.fetch_blob(&repository, digest, vertex);
        }
        match self.ask(url, None, vertex)? {
            Download::File(stream) => check(url, Some(digest), self.keep(url, *stream)?.digest),
            Download::Unchanged => never_unchanged(),
        }
    }

    /// Fetches a blob of a repository.
    fn fetch_blob(&self, repository: &Reference, digest: Digest, vertex: Digest) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let size = network.wait(self.cancel, network.client.blob_size(repository, &digest))?;
        let size = size.ok_or_else(|| EngineError::BlobWithoutSize(digest))?;
        let blob = Descriptor::new(BLOB, digest, size);
        let progress = self.progress;
        let download =
            LayerDownload { reference: repository, layer: &blob, arriving: None, progress, vertex };
        self.engine.fetch_layer(self.lease, &download, self.cancel)
    }

    fn ask(&self, url: &str, known: Option<Validators>, vertex: Digest) -> Result<Download, EngineError> {
        let network = self.engine.network()?;
        let request = DownloadRequest {
            url: url.to_owned(),
            authorization: self.access.of_download(url)?,
            known: known.filter(|known| !known.is_empty()),
        };
        let told = self.progress.clone();
        let report: registry::Progress =
            Arc::new(move |bytes| told.status(vertex, "downloading", bytes, 0, false));
        network.wait(self.cancel, network.client.download(request, Some(report)))
    }

    /// Makes a download a blob, and remembers what it was.
    fn keep(&self, url: &str, mut stream: DownloadStream) -> Result<Remembered, EngineError> {
        let network = self.engine.network()?;
        let mut writer = self.engine.store.ingest(self.lease)?;
        while let Some(chunk) = network.wait(self.cancel, stream.next())? {
            writer.copy_from(&mut chunk.as_ref())?;
        }
        let digest = writer.finish(None)?.digest;
        let Validators { etag, last_modified } = stream.validators().clone();
        let filename = stream.file_name().map(str::to_owned);
        let found = Remembered { digest, filename, etag, last_modified };
        // It consists of text and a digest, which JSON can hold.
        let text = serde_json::to_vec(&found).unwrap_or_default();
        self.engine.store.kv_put(BUCKET, &key(url), &text)?;
        Ok(found)
    }

    /// What was remembered of a URL. What cannot be read is as good as nothing.
    fn remembered(&self, url: &str) -> Result<Option<Remembered>, EngineError> {
        let text = self.engine.store.kv_get(BUCKET, &key(url))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }
}

/// The repository and the digest of a blob that an identifier of LLB names, if it names one.
fn blob_of(url: &str) -> Option<Result<(Reference, Digest), EngineError>> {
    let name = url.strip_prefix(BLOB_SCHEME)?;
    let reference: Reference = match name.parse() {
        Ok(reference) => reference,
        Err(error) => return Some(Err(EngineError::from(error))),
    };
    let digest = reference.digest.ok_or_else(|| EngineError::NoSuchImage(name.to_owned()));
    Some(digest.map(|digest| (reference, digest)))
}

impl Engine {
    /// Forgets what was downloaded from where, so that all of it is asked for again.
    pub(crate) fn forget_downloads(&self) -> Result<(), EngineError> {
        Ok(self.store.kv_clear(BUCKET).map(drop)?)
    }
}

fn never_unchanged() -> ! {
    unreachable!("the client takes \"not modified\" for an answer only when it was told of a version")
}

fn key(url: &str) -> Vec<u8> {
    KeyHasher::new("lapstrake/url/v1").str(url).finish().as_bytes().to_vec()
}

fn check(url: &str, checksum: Option<Digest>, actual: Digest) -> Result<(), EngineError> {
    match checksum {
        Some(expected) if expected != actual => {
            Err(EngineError::Checksum { url: without_password(url), expected, actual })
        }
        _ => Ok(()),
    }
}
