//! Downloading and deleting blobs.

use axum::body::Body;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base::Digest;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::dispatch::{Asked, Registry, wrong_method};
use super::ranges::{Wanted, wanted};
use super::refusal::Refusal;
use super::store::{BlobRemoval, ServedBlob};
use crate::http_error::ErrorCode;

/// The header with the digest of what is sent.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How much of a file is read at once, in bytes. Each download has two of them in memory.
const PIECE: usize = 128 << 10;

impl Registry {
    pub(super) async fn blob(&self, asked: &Asked, digest: Digest) -> Result<Response, Refusal> {
        match asked.parts.method {
            Method::HEAD => self.head_blob(digest).await,
            Method::GET => self.get_blob(&asked.parts.headers, digest).await,
            Method::DELETE => self.delete_blob(digest).await,
            _ => Err(wrong_method(asked)),
        }
    }

    async fn head_blob(&self, digest: Digest) -> Result<Response, Refusal> {
        let size = self.ask(move |store| store.blob_size(&digest)).await?;
        let size = size.ok_or_else(|| unknown(digest))?;
        let mut response = Response::new(Body::empty());
        describe(response.headers_mut(), &digest, size);
        Ok(response)
    }

    async fn get_blob(&self, headers: &HeaderMap, digest: Digest) -> Result<Response, Refusal> {
        let blob = self.ask(move |store| store.open_blob(&digest)).await?;
        let ServedBlob { file, size } = blob.ok_or_else(|| unknown(digest))?;
        let (from, to, status) = match wanted(headers, size, &entity_tag(&digest)) {
            Wanted::All => (0, size, StatusCode::OK),
            Wanted::Part(from, to) => (from, to, StatusCode::PARTIAL_CONTENT),
            Wanted::Beyond => return Err(beyond(size)),
        };
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(PIECE);
        if from > 0 {
            let failed = |error| {
                Refusal::failure(StatusCode::INTERNAL_SERVER_ERROR, "the blob cannot be read", &error)
            };
            file.seek(std::io::SeekFrom::Start(from)).await.map_err(failed)?;
        }
        let stream = ReaderStream::with_capacity(file.take(to - from), PIECE);
        let mut response = Response::new(Body::from_stream(stream));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        describe(headers, &digest, to - from);
        if status == StatusCode::PARTIAL_CONTENT {
            headers.insert(header::CONTENT_RANGE, value(&format!("bytes {from}-{}/{size}", to - 1)));
        }
        Ok(response)
    }

    async fn delete_blob(&self, digest: Digest) -> Result<Response, Refusal> {
        match self.ask(move |store| store.delete_blob(&digest)).await? {
            BlobRemoval::Removed => Ok(StatusCode::ACCEPTED.into_response()),
            BlobRemoval::Unknown => Err(unknown(digest)),
            BlobRemoval::InUse => {
                let message = "an image needs this blob; delete the image's manifest";
                Err(Refusal::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message).about(vec![digest]))
            }
        }
    }
}

/// The headers that say what is sent.
fn describe(headers: &mut HeaderMap, digest: &Digest, length: u64) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, value(&entity_tag(digest)));
    headers.insert(CONTENT_DIGEST, value(&digest.to_string()));
}

fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// A header's value of text that has none but printable ASCII characters.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

pub(super) fn unknown(digest: Digest) -> Refusal {
    Refusal::absent(ErrorCode::BlobUnknown, "there is no such blob").about(vec![digest])
}

fn beyond(size: u64) -> Refusal {
    Refusal::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::SizeInvalid,
        "the range lies behind the blob's end",
    )
    .with_header(header::CONTENT_RANGE, value(&format!("bytes */{size}")))
}
