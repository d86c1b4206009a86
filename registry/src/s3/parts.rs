//! Writing an object in parts. S3 takes 5 GiB at most with one request, and of a part that is lost on its way little has to be sent again.
//!
//! Source: Amazon S3 API Reference, `CreateMultipartUpload`, `UploadPart`, `CompleteMultipartUpload` and `AbortMultipartUpload`.

use std::io;
use std::os::unix::fs::FileExt as _;

use base::Digest;
use base::digest::Digester;
use bytes::Bytes;
use reqwest::Method;

use super::signature::encoded;
use super::{Bucket, ERROR_LIMIT, element, refusal};
use crate::error::ErrorKind;
use crate::upload::{BlobSource, Payload};

/// The most parts that an object can have.
const MOST: u64 = 10_000;

type Result<T> = std::result::Result<T, ErrorKind>;

/// Which objects are written in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Those that are longer than this, in bytes.
    pub above: u64,
    /// How long a part is, in bytes, unless that made too many: it is in memory while it is sent. S3 wants 5 MiB at least.
    pub size: u64,
}

impl Default for Parts {
    fn default() -> Self {
        Self { above: 64 << 20, size: 8 << 20 }
    }
}

impl Parts {
    /// How long the parts of an object of `size` bytes are.
    fn size_for(self, size: u64) -> u64 {
        self.size.max(size.div_ceil(MOST)).max(1)
    }
}

impl Bucket {
    /// Writes an object in parts. One that cannot be completed leaves nothing behind, if the server can still be reached.
    pub(super) async fn put_in_parts(
        &self,
        key: &str,
        (source, digest, size): (BlobSource, &Digest, u64),
    ) -> Result<()> {
        let begun = self.post(key, "uploads=", Bytes::new()).await?;
        let upload = element(&begun, "UploadId");
        if upload.is_empty() {
            return Err(ErrorKind::NoUploadLocation);
        }
        let upload = format!("uploadId={}", encoded(&upload, false));
        let done = async {
            let list = self.send_parts(key, &upload, (source, digest, size)).await?;
            self.post(key, &upload, list.into()).await
        };
        let done = done.await;
        if done.is_err() {
            // What is there by now costs money. If this fails as well, rules of the bucket have to remove it.
            let _ = self.send_with((Method::DELETE, key, &upload), &[], None).await;
        }
        done.map(drop)
    }

    /// Sends all parts, and gives the list of them that completes the object.
    async fn send_parts(
        &self,
        key: &str,
        upload: &str,
        (source, digest, size): (BlobSource, &Digest, u64),
    ) -> Result<String> {
        let length = self.options.parts.size_for(size);
        let mut list = "<CompleteMultipartUpload>".to_owned();
        let (mut offset, mut hasher) = (0, Digester::new());
        for number in 1.. {
            let part = read_part(source.clone(), offset, length.min(size - offset)).await?;
            hasher.update(&part);
            offset += part.len() as u64;
            let query = format!("partNumber={number}&{upload}");
            let payload =
                Payload { size: part.len() as u64, source: BlobSource::Bytes(part.clone()), progress: None };
            let digest = Digest::of(&part);
            let answer = self.send_with((Method::PUT, key, &query), &[], Some((payload, &digest))).await?;
            let tag = escaped(&answer.header("etag").unwrap_or_default());
            list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
            if offset == size {
                break;
            }
        }
        let actual = hasher.finish();
        if actual != *digest {
            let message = format!("the content has the digest {actual} instead of {digest}");
            return Err(ErrorKind::Source { source: io::Error::new(io::ErrorKind::InvalidData, message) });
        }
        Ok(list + "</CompleteMultipartUpload>")
    }

    /// Sends a document and gives the one that comes back. It may tell of a failure although the status does not.
    async fn post(&self, key: &str, query: &str, content: Bytes) -> Result<String> {
        let (digest, size) = (Digest::of(&content), content.len() as u64);
        let payload = Payload { source: BlobSource::Bytes(content), size, progress: None };
        let mut answer = self.send_with((Method::POST, key, query), &[], Some((payload, &digest))).await?;
        let body = self.client.transport().body(&mut answer, ERROR_LIMIT).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        if body.contains("<Error>") { Err(refusal(answer.status(), &body)) } else { Ok(body) }
    }
}

/// A part of a source.
pub(crate) async fn read_part(source: BlobSource, offset: u64, length: u64) -> Result<Bytes> {
    let part = tokio::task::spawn_blocking(move || {
        let too_long = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let length = usize::try_from(length).map_err(too_long)?;
        match source {
            BlobSource::Bytes(bytes) => {
                let begin = usize::try_from(offset).map_err(too_long)?;
                let part = bytes.get(begin..begin.saturating_add(length));
                part.map(Bytes::copy_from_slice).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            BlobSource::File(open) => {
                let mut part = vec![0; length];
                open()?.read_exact_at(&mut part, offset)?;
                Ok(part.into())
            }
        }
    });
    // It is not aborted, so one that did not end has panicked.
    let part: io::Result<Bytes> =
        part.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    part.map_err(|source| ErrorKind::Source { source })
}

/// The text as it is written in a document.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_too_many_parts() {
        let parts = Parts::default();
        assert_eq!(parts.size_for(100 << 20), 8 << 20);
        let size: u64 = 5 << 40;
        assert!(size.div_ceil(parts.size_for(size)) <= MOST);
        assert_eq!(Parts { above: 0, size: 0 }.size_for(0), 1);
        assert_eq!(escaped("\"a\"<&"), "\"a\"&lt;&amp;");
    }
}
