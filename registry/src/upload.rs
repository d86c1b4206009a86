//! Pushing: blobs and manifests, and mounting blobs across repositories.
//!
//! A blob goes up in one piece (`POST`, then `PUT`), after a look whether it is there already. Uploads
//! in chunks are not done. Source: distribution-spec, section "Push".

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};

use base::image::Descriptor;
use base::{Digest, Reference};
use bytes::Bytes;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Url};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::ReaderStream;

use crate::auth::Rights;
use crate::blob::Progress;
use crate::client::{CONTENT_DIGEST, Call, Client, InContext as _};
use crate::endpoint::Endpoint;
use crate::error::{Context, ErrorKind, Result};
use crate::retry::{self, Attempts, RetryPolicy};
use crate::transport::{Answer, ErrorSlot, Request, take_error};

/// How much of a file is read at once.
const READ_SIZE: usize = 256 * 1024;

/// How often a manifest is sent whose blobs the registry does not know. One that keeps files, as Debian's
/// `docker-registry` does, loses sight of a blob for a moment while somebody else uploads the same one.
const TRIES_FOR_BLOBS: u32 = 3;

/// Where the bytes of a blob to push come from. They may be read more than once.
#[derive(Clone)]
pub enum BlobSource {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, opened anew for each try.
    File(Arc<dyn Fn() -> io::Result<std::fs::File> + Send + Sync>),
}

impl BlobSource {
    /// The file at `path`.
    pub fn file(path: &Path) -> Self {
        let path = path.to_owned();
        Self::File(Arc::new(move || std::fs::File::open(&path)))
    }
}

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
    /// told the bytes sent so far, and starts again from zero when a try fails.
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
            Ok::<_, ErrorKind>(start.is_none().then_some(BlobPush::Mounted))
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

    /// Uploads a blob. An upload that broke is not taken up again: its bytes may be there in part, so a
    /// new one is started.
    async fn upload(
        &self,
        target: &Reference,
        digest: &Digest,
        payload: Payload,
        mount_from: Option<&str>,
    ) -> std::result::Result<BlobPush, ErrorKind> {
        let mut attempts = Attempts::new(&self.transport().retry);
        loop {
            let start = self.start_upload(target, digest, mount_from).await?;
            let Some(session) = start else { return Ok(BlobPush::Mounted) };
            let (kind, wait) = match self.finish_upload(target, session, digest, payload.clone()).await {
                Ok(()) => return Ok(BlobPush::Uploaded),
                Err(kind) if retry::is_transient(&kind) => {
                    let wait = attempts.next(kind.retry_after());
                    (kind.after(attempts.made()), wait)
                }
                Err(kind) => return Err(kind),
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(kind),
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

    /// Opens an upload and says where its bytes go; `None` when the registry mounted the blob instead.
    async fn start_upload(
        &self,
        target: &Reference,
        digest: &Digest,
        mount_from: Option<&str>,
    ) -> std::result::Result<Option<Session>, ErrorKind> {
        let mut request = Call::new(Method::POST, "blobs/uploads/".to_owned());
        let rights = match mount_from {
            None => Rights::Push,
            Some(from) => {
                let mount = [("mount", digest.to_string()), ("from", from.to_owned())];
                request.query.extend(mount.map(|(name, value)| (name.to_owned(), value)));
                Rights::PushFrom(from.to_owned())
            }
        };
        request.payload = Some(Payload { source: BlobSource::Bytes(Bytes::new()), size: 0, progress: None });
        let answer = self.send(target, &rights, &request).await?;
        if answer.status().as_u16() == 201 {
            return Ok(None);
        }
        let location = upload_location(&answer).ok_or(ErrorKind::NoUploadLocation)?;
        let endpoint = answer.endpoint.ok_or(ErrorKind::NoUploadLocation)?;
        Ok(Some(Session { endpoint, location }))
    }

    async fn finish_upload(
        &self,
        target: &Reference,
        session: Session,
        digest: &Digest,
        payload: Payload,
    ) -> std::result::Result<(), ErrorKind> {
        let Session { endpoint, mut location } = session;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut request = Request::new(Method::PUT, location).header(header::CONTENT_TYPE, octets);
        request.payload = Some(payload);
        request.repeatable = false;
        self.send_to(&endpoint, target, &Rights::Push, &request).await.map(drop)
    }
}

/// An upload that was begun.
struct Session {
    /// Where it was begun.
    endpoint: Arc<Endpoint>,
    /// Where its bytes go.
    location: Url,
}

/// The `Location` of an answer, which may be relative to the request.
fn upload_location(answer: &Answer) -> Option<Url> {
    let location = answer.header(header::LOCATION.as_str())?;
    let url = answer.url().join(&location).ok()?;
    let downgrade = answer.url().scheme() == "https" && url.scheme() != "https";
    (!downgrade).then_some(url)
}

/// The body of a request.
#[derive(Clone)]
pub(crate) struct Payload {
    pub(crate) source: BlobSource,
    /// Its length in bytes.
    pub(crate) size: u64,
    pub(crate) progress: Option<Progress>,
}

impl Payload {
    /// Opens the source as a request body that reports to `sending`.
    pub(crate) fn open(&self, sending: &mut Sending) -> io::Result<reqwest::Body> {
        let file = match &self.source {
            BlobSource::Bytes(bytes) => return Ok(bytes.clone().into()),
            BlobSource::File(open) => open()?,
        };
        let actual = file.metadata()?.len();
        if actual != self.size {
            let message = format!("the file has {actual} bytes instead of {}", self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let reader = CountingReader {
            file: tokio::fs::File::from_std(file),
            sent: sending.sent.clone(),
            error: sending.error.clone(),
            progress: self.progress.clone(),
        };
        Ok(reqwest::Body::wrap_stream(ReaderStream::with_capacity(reader, READ_SIZE)))
    }
}

/// How far a body has gone out, as its sender sees it.
#[derive(Default)]
pub(crate) struct Sending {
    sent: Arc<AtomicU64>,
    seen: u64,
    error: ErrorSlot,
}

impl Sending {
    /// Whether bytes went out since this was last asked.
    pub(crate) fn advanced(&mut self) -> bool {
        let sent = self.sent.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen, sent) != sent
    }

    /// The error that ended the source, if one did.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        take_error(&self.error)
    }
}

/// A file that counts what is read of it.
struct CountingReader {
    file: tokio::fs::File,
    sent: Arc<AtomicU64>,
    error: ErrorSlot,
    progress: Option<Progress>,
}

impl AsyncRead for CountingReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = std::task::ready!(Pin::new(&mut self.file).poll_read(task, buffer));
        if let Err(error) = outcome {
            let copy = io::Error::from(error.kind());
            *self.error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            return Poll::Ready(Err(copy));
        }
        let count = (buffer.filled().len() - before) as u64;
        let sent = self.sent.fetch_add(count, Ordering::Relaxed) + count;
        if let Some(progress) = self.progress.as_ref().filter(|_| count > 0) {
            progress(sent);
        }
        Poll::Ready(Ok(()))
    }
}
