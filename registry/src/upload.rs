//! Pushing: blobs and manifests, and mounting blobs across repositories.
//!
//! A blob goes up after a look whether it is there already; how, and what happens when that breaks, is in [`session`].
//! Source: distribution-spec, section "Push".

mod payload;
mod session;

use base::image::Descriptor;
use base::{Digest, Reference};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{self, HeaderValue};

pub use self::payload::BlobSource;
pub(crate) use self::payload::{Payload, Sending};
use crate::auth::Rights;
use crate::blob::Progress;
use crate::client::{CONTENT_DIGEST, Call, Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::retry::{Attempts, RetryPolicy};

/// How often a manifest is sent whose blobs the registry does not know. One that keeps files, as Debian's
/// `docker-registry` does, loses sight of a blob for a moment while somebody else uploads the same one.
const TRIES_FOR_BLOBS: u32 = 3;

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPush {
    /// It was there already.
    Existed,
    /// The registry took it from another repository.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Client {
    /// Makes sure that the repository of `target` has the blob: sends it unless it is there, or unless
    /// the registry can take it from the repository `mount_from` on the same registry. `progress` is
    /// told the bytes sent so far, and goes back to what has arrived when a try fails.
    pub async fn push_blob(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        source: &BlobSource,
        mount_from: Option<&str>,
        progress: Option<Progress>,
    ) -> Result<BlobPush> {
        let context = Context::blob("push", target, &descriptor.digest);
        let outcome = async {
            if self.has_blob(target, &descriptor.digest, &Rights::Push).await? {
                return Ok(BlobPush::Existed);
            }
            let payload = Payload { source: source.clone(), size: descriptor.size, progress };
            self.upload(target, &descriptor.digest, payload, mount_from).await
        };
        outcome.await.within(&context)
    }

    /// Sends a blob that the repository of `target` does not have, as [`mount_blob`](Self::mount_blob) has found.
    pub async fn upload_blob(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        source: &BlobSource,
        progress: Option<Progress>,
    ) -> Result<BlobPush> {
        let payload = Payload { source: source.clone(), size: descriptor.size, progress };
        let upload = self.upload(target, &descriptor.digest, payload, None);
        upload.await.within(&Context::blob("push", target, &descriptor.digest))
    }

    /// Makes sure that the repository of `target` has a blob whose bytes we do not have: it has it already, or takes it
    /// from the repository `mount_from` on the same registry. `None` when neither works.
    pub async fn mount_blob(
        &self,
        target: &Reference,
        descriptor: &Descriptor,
        mount_from: Option<&str>,
    ) -> Result<Option<BlobPush>> {
        let context = Context::blob("mount", target, &descriptor.digest);
        let outcome = async {
            if self.has_blob(target, &descriptor.digest, &Rights::Push).await? {
                return Ok(Some(BlobPush::Existed));
            }
            let Some(from) = mount_from else { return Ok(None) };
            let start = self.start_upload(target, &descriptor.digest, Some(from)).await?;
            let Some(session) = start else { return Ok(Some(BlobPush::Mounted)) };
            self.abandon_upload(target, session).await;
            Ok::<_, ErrorKind>(None)
        };
        outcome.await.within(&context)
    }

    /// Whether `target` already stands for the manifest or index `digest`. Asked with the rights of a push, so that one
    /// token serves both.
    pub async fn stands_for(&self, target: &Reference, digest: &Digest) -> Result<bool> {
        let context = Context::manifest("look up", target);
        let answer = self.request_manifest(Method::HEAD, target, &Rights::Push).await;
        match answer {
            Ok(answer) => Ok(answer.header(CONTENT_DIGEST).is_some_and(|known| known == digest.to_string())),
            Err(ErrorKind::NotFound { .. }) => Ok(false),
            Err(kind) => Err(context.error(kind)),
        }
    }

    /// Whether the repository of `reference` has the blob.
    pub async fn blob_exists(&self, reference: &Reference, digest: &Digest) -> Result<bool> {
        let context = Context::blob("look for", reference, digest);
        self.has_blob(reference, digest, &Rights::Pull).await.within(&context)
    }

    /// Stores a manifest or index under the tag or digest of `target`, and returns its digest. What it
    /// refers to must have been pushed before.
    pub async fn push_manifest(&self, target: &Reference, media_type: &str, bytes: Bytes) -> Result<Digest> {
        let context = Context::manifest("push", target);
        let digest = Digest::of(&bytes);
        let policy = &self.transport().retry;
        let patience = RetryPolicy { attempts: TRIES_FOR_BLOBS.min(policy.attempts), ..policy.clone() };
        let mut attempts = Attempts::new(&patience);
        loop {
            let kind = match self.put_manifest(target, media_type, bytes.clone(), digest).await {
                Ok(()) => return Ok(digest),
                Err(kind) if kind.misses_blob() => kind.after(attempts.made()),
                Err(kind) => return Err(context.error(kind)),
            };
            match attempts.next(None) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(context.error(kind)),
            }
        }
    }

    async fn put_manifest(
        &self,
        target: &Reference,
        media_type: &str,
        bytes: Bytes,
        digest: Digest,
    ) -> std::result::Result<(), ErrorKind> {
        if let Some(expected) = target.digest.filter(|expected| *expected != digest) {
            return Err(ErrorKind::DigestMismatch { expected, actual: digest });
        }
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| crate::documents::DocumentError::MediaType { media_type: media_type.to_owned() })?;
        let tail = format!("manifests/{}", target.manifest_name());
        let mut request = Call::new(Method::PUT, tail).header(header::CONTENT_TYPE, kind);
        let size = bytes.len() as u64;
        request.payload = Some(Payload { source: BlobSource::Bytes(bytes), size, progress: None });
        let answer = self.send(target, &Rights::Push, &request).await?;
        match answer.header(CONTENT_DIGEST) {
            Some(announced) if announced != digest.to_string() => {
                Err(ErrorKind::AnnouncedDigest { announced, actual: digest })
            }
            _ => Ok(()),
        }
    }

    async fn has_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        rights: &Rights,
    ) -> std::result::Result<bool, ErrorKind> {
        let call = Call::new(Method::HEAD, format!("blobs/{digest}"));
        match self.send(reference, rights, &call).await {
            Ok(_) => Ok(true),
            Err(ErrorKind::NotFound { .. }) => Ok(false),
            Err(kind) => Err(kind),
        }
    }
}
