//! Uploads, and how they go on where they broke.
//!
//! A blob goes up in one piece first (`POST`, then `PUT`): no other way has fewer requests. When that breaks, the registry is asked
//! how much it has, and the rest follows in chunks (`PATCH`), smaller ones after each break, until a `PUT` without content ends the
//! upload. One that the registry has lost is begun anew. Tries are bounded; they are counted anew when enough has arrived since.
//!
//! Source: distribution-spec, section "Push", for `OCI-Chunk-Min-Length` as well.

use std::ops::Range;
use std::sync::Arc;

use base::{Digest, Reference};
use bytes::Bytes;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, Url};

use super::{BlobPush, BlobSource, Payload};
use crate::auth::Rights;
use crate::client::{Call, Client};
use crate::endpoint::Endpoint;
use crate::error::ErrorKind;
use crate::http_error::ErrorCode;
use crate::retry::{self, Attempts};
use crate::transport::{Answer, Request};

/// The size of chunks after the first break, in bytes. Each further break makes them four times smaller.
const LARGEST_CHUNK: u64 = 64 << 20;

/// Chunks do not get smaller, in bytes, unless less is left. Common proxies let this pass.
const SMALLEST_CHUNK: u64 = 1 << 20;

/// How many bytes have to arrive for the next break to count as the first one.
const ENOUGH: u64 = 1 << 20;

/// The header that says of how many bytes chunks have to be, but for the last one.
const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";

type Result<T> = std::result::Result<T, ErrorKind>;

/// An upload that was begun.
pub(super) struct Session {
    /// Where it was begun.
    endpoint: Arc<Endpoint>,
    /// Where its next bytes go.
    location: Url,
    /// The fewest bytes that the registry takes as a chunk.
    least: u64,
}

impl Client {
    /// Uploads a blob, or has the registry mount it.
    pub(super) async fn upload(
        &self,
        target: &Reference,
        digest: &Digest,
        payload: Payload,
        mount_from: Option<&str>,
    ) -> Result<BlobPush> {
        let Some(session) = self.start_upload(target, digest, mount_from).await? else {
            return Ok(BlobPush::Mounted);
        };
        let mut upload = Upload { client: self, target, digest, payload, session, received: 0, chunk: None };
        let mut attempts = Attempts::new(&self.transport().retry);
        let mut most = 0;
        loop {
            let kind = match upload.send().await {
                Ok(()) => return Ok(BlobPush::Uploaded),
                Err(kind) if upload.may_go_on(&kind) => kind,
                Err(kind) => return Err(kind),
            };
            let wait = attempts.next(kind.retry_after());
            let Some(wait) = wait else { return Err(kind.after(attempts.made())) };
            tokio::time::sleep(wait).await;
            if upload.recover(&kind).await? {
                return Ok(BlobPush::Uploaded);
            }
            if upload.received >= most + ENOUGH {
                most = upload.received;
                attempts = Attempts::new(&self.transport().retry);
            }
        }
    }

    /// Opens an upload; `None` when the registry mounted the blob instead.
    pub(super) async fn start_upload(
        &self,
        target: &Reference,
        digest: &Digest,
        mount_from: Option<&str>,
    ) -> Result<Option<Session>> {
        let mut request = Call::new(Method::POST, "blobs/uploads/".to_owned());
        let rights = match mount_from {
            None => Rights::Push,
            Some(from) => {
                let mount = [("mount", digest.to_string()), ("from", from.to_owned())];
                request.query.extend(mount.map(|(name, value)| (name.to_owned(), value)));
                Rights::PushFrom(from.to_owned())
            }
        };
        request.payload = Some(nothing());
        let answer = self.send(target, &rights, &request).await?;
        if answer.status().as_u16() == 201 {
            return Ok(None);
        }
        let location = upload_location(&answer).ok_or(ErrorKind::NoUploadLocation)?;
        let least = answer.header(CHUNK_MIN_LENGTH).and_then(|text| text.parse().ok()).unwrap_or(0);
        let endpoint = answer.endpoint.ok_or(ErrorKind::NoUploadLocation)?;
        Ok(Some(Session { endpoint, location, least }))
    }

    /// Tells the registry that an upload will not be used. One that does not listen forgets it some day.
    pub(super) async fn abandon_upload(&self, target: &Reference, session: Session) {
        let mut request = Request::new(Method::DELETE, session.location);
        request.repeatable = false;
        let _ = self.send_to(&session.endpoint, target, &Rights::Push, &request).await;
    }
}

/// An upload on its way.
struct Upload<'a> {
    client: &'a Client,
    target: &'a Reference,
    digest: &'a Digest,
    payload: Payload,
    session: Session,
    /// How many bytes the registry has.
    received: u64,
    /// The size of chunks, once it broke.
    chunk: Option<u64>,
}

impl Upload<'_> {
    /// Sends what the registry does not have, and ends the upload.
    async fn send(&mut self) -> Result<()> {
        let Some(chunk) = self.chunk else {
            return self.end(Some(self.payload.whole())).await;
        };
        let chunk = chunk.max(self.session.least);
        while self.received < self.payload.size {
            let end = self.received.saturating_add(chunk).min(self.payload.size);
            self.patch(self.received..end).await?;
        }
        self.end(None).await
    }

    /// Sends a chunk. The registry may take less of it.
    async fn patch(&mut self, part: Range<u64>) -> Result<()> {
        let range = format!("{}-{}", part.start, part.end - 1);
        let mut request = self.request(Method::PATCH, self.session.location.clone());
        request.headers.extend(HeaderValue::try_from(range).ok().map(|range| (header::CONTENT_RANGE, range)));
        request.payload = Some(self.payload.clone());
        request.part = Some(part.clone());
        let answer = self.exchange(&request).await?;
        self.session.location = upload_location(&answer).ok_or(ErrorKind::NoUploadLocation)?;
        let taken = received_in(&answer).filter(|taken| *taken > part.start && *taken < part.end);
        self.received = taken.unwrap_or(part.end);
        Ok(())
    }

    /// Says that this is all, with the last bytes.
    async fn end(&mut self, part: Option<Range<u64>>) -> Result<()> {
        let mut location = self.session.location.clone();
        location.query_pairs_mut().append_pair("digest", &self.digest.to_string());
        let mut request = self.request(Method::PUT, location);
        request.payload = Some(if part.is_some() { self.payload.clone() } else { nothing() });
        request.part = part;
        self.exchange(&request).await.map(drop)
    }

    fn request(&self, method: Method, location: Url) -> Request {
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut request = Request::new(method, location).header(header::CONTENT_TYPE, octets);
        request.repeatable = false;
        request
    }

    async fn exchange(&self, request: &Request) -> Result<Answer> {
        self.client.send_to(&self.session.endpoint, self.target, &Rights::Push, request).await
    }

    /// Whether a failure may be gone when the upload goes on, in smaller pieces or from the start.
    fn may_go_on(&self, kind: &ErrorKind) -> bool {
        match kind {
            _ if retry::is_transient(kind) => true,
            // A proxy takes no request of this size.
            ErrorKind::Status { status: 413, .. } => self.chunk.is_none_or(|chunk| chunk > SMALLEST_CHUNK),
            // What the registry knows of the upload is not what we know.
            ErrorKind::Status { status: 416, .. } | ErrorKind::NotFound { .. } => self.chunk.is_some(),
            _ => self.is_wrong(kind),
        }
    }

    /// Whether what was put together of several tries turned out to be wrong.
    fn is_wrong(&self, kind: &ErrorKind) -> bool {
        let ErrorKind::Status { messages, .. } = kind else { return false };
        let is_wrong = messages.iter().any(|message| message.code == ErrorCode::DigestInvalid);
        self.chunk.is_some() && is_wrong
    }

    /// Finds out what the registry has after a failure; begins anew if it has lost the upload. `true` when it has the
    /// whole blob: only the answer was lost.
    async fn recover(&mut self, failure: &ErrorKind) -> Result<bool> {
        let (is_wrong, before) = (self.is_wrong(failure), self.received);
        let smaller = self.chunk.map_or(LARGEST_CHUNK, |chunk| chunk / 4);
        self.chunk = Some(smaller.max(SMALLEST_CHUNK));
        let is_refused = matches!(failure, ErrorKind::Status { status: 416, .. });
        // What it says of itself and refuses then leads nowhere.
        if !is_wrong && self.ask().await? && !(is_refused && self.received == before) {
            return Ok(false);
        }
        if self.client.has_blob(self.target, self.digest, &Rights::Push).await? {
            return Ok(true);
        }
        let session = self.client.start_upload(self.target, self.digest, None).await?;
        self.received = 0;
        match session {
            Some(session) => self.session = session,
            None => return Ok(true),
        }
        Ok(false)
    }

    /// Asks how far the upload is; `false` when the registry does not say.
    async fn ask(&mut self) -> Result<bool> {
        let request = Request::new(Method::GET, self.session.location.clone());
        let answer = match self.exchange(&request).await {
            Ok(answer) => answer,
            Err(kind) if retry::is_transient(&kind) => return Err(kind),
            Err(_) => return Ok(false),
        };
        if let Some(location) = upload_location(&answer) {
            self.session.location = location;
        }
        self.received = received_in(&answer).unwrap_or(0);
        Ok(self.received <= self.payload.size)
    }
}

/// How many bytes of an upload a registry says that it has. `0-0` is what many say of an upload without any.
fn received_in(answer: &Answer) -> Option<u64> {
    let range = answer.header(header::RANGE.as_str())?;
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(&range).split_once('-')?;
    match (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// A body without content.
fn nothing() -> Payload {
    Payload { source: BlobSource::Bytes(Bytes::new()), size: 0, progress: None }
}

/// The `Location` of an answer, which may be relative to the request.
fn upload_location(answer: &Answer) -> Option<Url> {
    let location = answer.header(header::LOCATION.as_str())?;
    let url = answer.url().join(&location).ok()?;
    let downgrade = answer.url().scheme() == "https" && url.scheme() != "https";
    (!downgrade).then_some(url)
}
