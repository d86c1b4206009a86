//! Reading an object, from where the connection broke if it did.

use bytes::Bytes;
use reqwest::header::{self, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::time::sleep;

use super::Bucket;
use crate::client::InContext as _;
use crate::error::{Context, ErrorKind, Result};
use crate::retry::{self, Attempts};
use crate::transport::{Answer, Transport};

/// Where objects are read.
pub(crate) trait Reader: Clone + Send + Sync {
    /// What its requests are sent with.
    fn transport(&self) -> &Transport;

    /// What is done with an object, for errors.
    fn context(&self, action: &'static str, key: &str) -> Context;

    /// Opens a part of an object.
    fn open_from(
        &self,
        key: &str,
        range: HeaderValue,
    ) -> impl Future<Output = std::result::Result<Answer, ErrorKind>> + Send;
}

impl Reader for Bucket {
    fn transport(&self) -> &Transport {
        self.client.transport()
    }

    fn context(&self, action: &'static str, key: &str) -> Context {
        self.context(action, key)
    }

    async fn open_from(&self, key: &str, range: HeaderValue) -> std::result::Result<Answer, ErrorKind> {
        self.send(Method::GET, key, &[(header::RANGE, range)], None).await
    }
}

/// An object on its way. Nothing is checked but its length: callers know what it should be.
pub struct ObjectStream<B = Bucket> {
    bucket: B,
    key: String,
    answer: Answer,
    /// The announced length of the whole.
    size: Option<u64>,
    received: u64,
    attempts: Attempts,
}

#[expect(private_bounds, reason = "who reads what is opened here need not know how")]
impl<B: Reader> ObjectStream<B> {
    pub(crate) fn new(bucket: B, key: &str, answer: Answer) -> Self {
        let attempts = Attempts::new(&bucket.transport().retry);
        let size = answer.content_length();
        Self { bucket, key: key.to_owned(), answer, size, received: 0, attempts }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.advance().await.within(&self.bucket.context("read", &self.key))
    }

    /// All of it; `None` when it is longer than `limit` bytes.
    pub async fn read_to_end(mut self, limit: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some(bytes))
    }

    async fn advance(&mut self) -> std::result::Result<Option<Bytes>, ErrorKind> {
        loop {
            let bucket = self.bucket.clone();
            let chunk = bucket.transport().chunk(&mut self.answer, self.received).await;
            let kind = match chunk {
                Ok(Some(chunk)) => {
                    self.received += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                Err(kind) => kind,
            };
            let wait = self.attempts.next(None).filter(|_| retry::is_transient(&kind)).ok_or(kind)?;
            sleep(wait).await;
            self.resume().await?;
        }
    }

    /// Asks for the rest. A server that sends all of it again has another object, or knows no ranges.
    async fn resume(&mut self) -> std::result::Result<(), ErrorKind> {
        let range = format!("bytes={}-", self.received);
        let value = HeaderValue::from_str(&range).map_err(|_| self.no_range(range.clone()))?;
        let answer = self.bucket.open_from(&self.key, value).await?;
        let rest = self.size.map(|size| size - self.received.min(size));
        if answer.status() != StatusCode::PARTIAL_CONTENT || answer.content_length() != rest {
            return Err(self.no_range(answer.header("content-range").unwrap_or_default()));
        }
        self.answer = answer;
        Ok(())
    }

    fn no_range(&self, range: String) -> ErrorKind {
        ErrorKind::BadRange { offset: self.received, range }
    }
}
