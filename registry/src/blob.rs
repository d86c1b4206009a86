//! Streaming a blob: hashed while it passes, resumed where the connection broke.
//!
//! The consumer sees bytes that are not yet verified; only the end of the stream says that they are
//! right. Who keeps them must wait for it.

use std::io::{self, Read};
use std::sync::Arc;

use base::digest::Digester;
use base::image::Descriptor;
use base::{Digest, Reference};
use bytes::{Buf as _, Bytes};
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::auth::Rights;
use crate::client::{Call, Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::http_error;
use crate::retry::{self, Attempts};
use crate::transport::Answer;

/// How often a download is taken up again in all, however much comes in between.
const MAX_RESUMES: u32 = 50;

/// Is told how many bytes have passed so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What of a blob is there from an earlier time.
#[derive(Clone, Default)]
pub struct Received {
    /// How many bytes, from the first on; fewer than the whole blob.
    pub size: u64,
    /// What hashed them.
    pub digester: Digester,
}

/// A blob on its way. Digest and size are checked at the end, and only then `None` is returned.
pub struct BlobStream {
    client: Client,
    context: Context,
    reference: Reference,
    descriptor: Descriptor,
    answer: Option<Answer>,
    /// Bytes at the start of the answer that we have already.
    skip: u64,
    received: u64,
    digester: Digester,
    attempts: Attempts,
    resumes: u32,
    progress: Option<Progress>,
    done: bool,
}

impl Client {
    /// Opens the blob that `descriptor` names in the repository of `reference`. `progress` is told the
    /// bytes received so far.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: Option<Progress>,
    ) -> Result<BlobStream> {
        self.rest_of_blob(reference, descriptor, Received::default(), progress).await
    }

    /// How large a blob is, if the registry says so.
    pub async fn blob_size(&self, reference: &Reference, digest: &Digest) -> Result<Option<u64>> {
        let call = Call::new(Method::HEAD, format!("blobs/{digest}"));
        let answer = self.send(reference, &Rights::Pull, &call).await;
        let answer = answer.within(&Context::blob("look up", reference, digest))?;
        let length = answer.header(header::CONTENT_LENGTH.as_str());
        Ok(length.and_then(|length| length.parse().ok()))
    }

    /// The same for a blob of which some is there already. Only the rest comes, if the registry can do that, and
    /// only the rest is handed out; the whole is checked.
    pub async fn rest_of_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        before: Received,
        progress: Option<Progress>,
    ) -> Result<BlobStream> {
        let context = Context::blob("read", reference, &descriptor.digest);
        let mut stream = BlobStream {
            client: self.clone(),
            context,
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            answer: None,
            skip: 0,
            received: before.size,
            digester: before.digester,
            attempts: Attempts::new(&self.transport().retry),
            resumes: 0,
            progress,
            done: false,
        };
        let answer = stream.request().await;
        stream.answer = Some(answer.within(&stream.context)?);
        Ok(stream)
    }
}

impl BlobStream {
    /// The length of the whole blob in bytes.
    pub fn size(&self) -> u64 {
        self.descriptor.size
    }

    /// The next bytes; `None` when all have come and are right.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.done {
            return Ok(None);
        }
        let outcome = self.advance().await;
        outcome.within(&self.context)
    }

    /// The whole blob. The caller has checked that its descriptor's size fits into memory.
    pub async fn read_to_end(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The blob as a blocking reader, for a thread that is not one of the runtime's.
    pub fn into_blocking(self, runtime: tokio::runtime::Handle) -> BlockingBlob {
        BlockingBlob { stream: self, runtime, chunk: Bytes::new() }
    }

    async fn advance(&mut self) -> std::result::Result<Option<Bytes>, ErrorKind> {
        loop {
            let mut answer = match self.answer.take() {
                Some(answer) => answer,
                None => self.request().await?,
            };
            match self.client.transport().chunk(&mut answer, self.received).await {
                Ok(Some(chunk)) => {
                    self.answer = Some(answer);
                    if let Some(chunk) = self.accept(chunk)? {
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) => return self.finish().map(|()| None),
                // All bytes are here; only the end of the message was lost.
                Err(_) if self.received == self.descriptor.size => return self.finish().map(|()| None),
                Err(kind) if retry::is_transient(&kind) => self.interrupted(kind).await?,
                Err(kind) => return Err(kind),
            }
        }
    }

    /// Takes a chunk into account; `None` when nothing of it is new.
    fn accept(&mut self, mut chunk: Bytes) -> std::result::Result<Option<Bytes>, ErrorKind> {
        let known = self.skip.min(chunk.len() as u64);
        self.skip -= known;
        chunk.advance(known as usize);
        if chunk.is_empty() {
            return Ok(None);
        }
        let (expected, actual) = (self.descriptor.size, self.received + chunk.len() as u64);
        if actual > expected {
            return Err(ErrorKind::SizeMismatch { expected, actual });
        }
        self.digester.update(&chunk);
        self.received = actual;
        self.attempts = Attempts::new(&self.client.transport().retry);
        if let Some(progress) = &self.progress {
            progress(actual);
        }
        Ok(Some(chunk))
    }

    /// Checks what has come, at the end of the body.
    fn finish(&mut self) -> std::result::Result<(), ErrorKind> {
        let (expected, actual) = (self.descriptor.size, self.received);
        if actual != expected {
            return Err(ErrorKind::SizeMismatch { expected, actual });
        }
        let (expected, actual) = (self.descriptor.digest, std::mem::take(&mut self.digester).finish());
        if actual != expected {
            return Err(ErrorKind::DigestMismatch { expected, actual });
        }
        self.done = true;
        Ok(())
    }

    /// Waits after the connection broke, or gives up.
    async fn interrupted(&mut self, kind: ErrorKind) -> std::result::Result<(), ErrorKind> {
        self.resumes += 1;
        let tries = self.attempts.made();
        match self.attempts.next(None).filter(|_| self.resumes <= MAX_RESUMES) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(self.gave_up(kind, tries)),
        }
    }

    fn gave_up(&self, kind: ErrorKind, attempts: u32) -> ErrorKind {
        let (received, expected) = (self.received, self.descriptor.size);
        match kind {
            ErrorKind::Interrupted { source, .. } => {
                ErrorKind::Interrupted { received, expected, attempts, source }
            }
            ErrorKind::Stalled { host, idle, .. } => ErrorKind::Stalled { host, idle, received, attempts },
            other => other,
        }
    }

    /// Asks for the blob, or for the part of it that is missing, and looks at the head of the answer.
    async fn request(&mut self) -> std::result::Result<Answer, ErrorKind> {
        let mut request = Call::new(Method::GET, format!("blobs/{}", self.descriptor.digest));
        if self.received > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
            request.headers.extend(range.ok().map(|range| (header::RANGE, range)));
        }
        let mut answer = self.client.send(&self.reference, &Rights::Pull, &request).await?;
        if answer.status() == StatusCode::PARTIAL_CONTENT {
            self.check_range(&answer)?;
            self.skip = 0;
            return Ok(answer);
        }
        // The whole blob comes, whether it was asked for or not.
        self.skip = self.received;
        let (expected, announced) = (self.descriptor.size, answer.content_length());
        if let Some(actual) = announced.filter(|announced| *announced != expected) {
            if answer.is_html() {
                let start = self.client.transport().chunk(&mut answer, 0).await?.unwrap_or_default();
                return Err(http_error::not_a_registry(&answer, &start));
            }
            return Err(ErrorKind::SizeMismatch { expected, actual });
        }
        Ok(answer)
    }

    fn check_range(&self, answer: &Answer) -> std::result::Result<(), ErrorKind> {
        let range = answer.header(header::CONTENT_RANGE.as_str()).unwrap_or_default();
        if range.starts_with(&format!("bytes {}-", self.received)) {
            return Ok(());
        }
        Err(ErrorKind::BadRange { offset: self.received, range: http_error::printable(&range, 80) })
    }
}

/// A [`BlobStream`] as a blocking reader. Its errors hold a [`crate::Error`].
pub struct BlockingBlob {
    stream: BlobStream,
    runtime: tokio::runtime::Handle,
    chunk: Bytes,
}

impl Read for BlockingBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            let next = self.runtime.block_on(self.stream.next()).map_err(io::Error::other)?;
            let Some(chunk) = next else { return Ok(0) };
            self.chunk = chunk;
        }
        let count = buffer.len().min(self.chunk.len());
        self.chunk.split_to(count).copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
