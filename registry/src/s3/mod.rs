//! Objects of a bucket, at Amazon or whatever else speaks the S3 protocol.
//!
//! Only what a shared cache needs: look up, read, write (large ones in [parts]), touch and remove single objects. Requests are signed
//! ([`signature`]) and otherwise sent like a registry's: with the same certificates, proxies, patience and tries.
//!
//! Source: Amazon S3 API Reference, `GetObject`, `HeadObject`, `PutObject` (with `If-None-Match`), `CopyObject` and
//! `DeleteObject`.

mod credentials;
mod object;
mod parts;
mod profile;
mod signature;

use std::sync::Arc;

use base::time::Clock;
use base::{Digest, Timestamp};
use bytes::Bytes;
use reqwest::header::{self, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

pub use self::credentials::{KeyService, LentKeys};
pub use self::object::ObjectStream;
pub(crate) use self::object::Reader;
pub use self::parts::Parts;
pub(crate) use self::parts::read_part;
pub use self::profile::Profile;
pub use self::signature::Keys;
use self::signature::Signed;
pub(crate) use self::signature::encoded;
use crate::client::{Client, InContext as _};
use crate::error::{Context, ErrorKind, Result};
use crate::hosts;
use crate::transport::{Answer, Request};
use crate::upload::{BlobSource, Payload};

/// How much of an error document is read.
pub(crate) const ERROR_LIMIT: u64 = 64 * 1024;

/// The longest text that is taken out of a document.
const LONGEST_ELEMENT: usize = 1024;

/// The most bytes of one object that are sent with one request, which is what S3 allows.
pub const MAX_OBJECT: u64 = 5 << 30;

/// A bucket and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketOptions {
    /// The bucket's name.
    pub bucket: String,
    /// The region, which signatures are for.
    pub region: String,
    /// The URL of a server other than Amazon's.
    pub endpoint: Option<String>,
    /// Whether the bucket is in the path of URLs rather than in the host's name.
    pub path_style: bool,
    /// Who we are; without keys, requests are not signed.
    pub keys: Option<Keys>,
    /// Which objects are written in parts.
    pub parts: Parts,
}

/// A bucket. Clones are cheap.
#[derive(Clone)]
pub struct Bucket {
    client: Client,
    clock: Arc<dyn Clock>,
    options: Arc<BucketOptions>,
    base: Url,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its length in bytes.
    pub size: u64,
    /// When it was written or touched last, if the server says so.
    pub modified: Option<Timestamp>,
}

/// What became of an object that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    New,
    /// There was one, which stays.
    Existed,
}

impl Bucket {
    /// A bucket that is reached with `client`'s connections. Nothing is sent yet.
    ///
    /// # Errors
    /// When the endpoint or the bucket's name make no URL.
    pub fn new(client: Client, clock: Arc<dyn Clock>, options: BucketOptions) -> Result<Self> {
        let context =
            Context::object("use", &options.bucket, options.endpoint.as_deref().unwrap_or("S3"), "");
        let base = base_url(&options).ok_or_else(|| {
            let registry = options.endpoint.clone().unwrap_or_else(|| options.bucket.clone());
            context.error(ErrorKind::BadAddress { registry })
        })?;
        Ok(Self { client, clock, options: Arc::new(options), base })
    }

    /// What is known of an object; `None` when there is none.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        let answer = self.send(Method::HEAD, key, &[], None).await;
        let answer = found(answer).within(&self.context("look for", key))?;
        Ok(answer.map(|answer| ObjectInfo {
            size: answer.content_length().unwrap_or_default(),
            modified: answer.header("last-modified").and_then(|text| http_date(&text)),
        }))
    }

    /// Opens an object; `None` when there is none.
    pub async fn get(&self, key: &str) -> Result<Option<ObjectStream>> {
        let answer =
            found(self.send(Method::GET, key, &[], None).await).within(&self.context("read", key))?;
        Ok(answer.map(|answer| ObjectStream::new(self.clone(), key, answer)))
    }

    /// Writes an object whose content has this digest and length. With `if_absent`, one that is there stays, as far as the
    /// server knows the condition, which not all do for objects in parts.
    pub async fn put(
        &self,
        key: &str,
        (source, digest, size): (BlobSource, &Digest, u64),
        if_absent: bool,
    ) -> Result<Written> {
        if size > self.options.parts.above && !if_absent {
            let written = self.put_in_parts(key, (source, digest, size)).await;
            return written.map(|()| Written::New).within(&self.context("write", key));
        }
        let payload = Payload { source, size, progress: None };
        let condition = [(header::IF_NONE_MATCH, HeaderValue::from_static("*"))];
        let conditions = if if_absent { &condition[..] } else { &[] };
        match self.send(Method::PUT, key, conditions, Some((payload, digest))).await {
            Ok(_) => Ok(Written::New),
            // Somebody has written it, or is just doing so.
            Err(ErrorKind::Storage { status: 412 | 409, .. }) if if_absent => Ok(Written::Existed),
            Err(kind) => Err(self.context("write", key).error(kind)),
        }
    }

    /// Removes an object, if there is one.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let answer = self.send(Method::DELETE, key, &[], None).await;
        found(answer).map(drop).within(&self.context("remove", key))
    }

    /// Makes an object as young as if it were written now, so that rules of the bucket do not let it expire.
    pub async fn touch(&self, key: &str) -> Result<()> {
        let context = self.context("touch", key);
        let source = format!("/{}/{}", self.options.bucket, encoded(key, true));
        let bad = |_| context.error(ErrorKind::BadAddress { registry: source.clone() });
        let headers = [
            (HeaderName::from_static("x-amz-copy-source"), HeaderValue::from_str(&source).map_err(bad)?),
            (HeaderName::from_static("x-amz-metadata-directive"), HeaderValue::from_static("REPLACE")),
        ];
        let nothing = Payload { source: BlobSource::Bytes(Bytes::new()), size: 0, progress: None };
        self.send(Method::PUT, key, &headers, Some((nothing, &Digest::of(b"")))).await.within(&context)?;
        Ok(())
    }

    /// Sends a request for an object, and gives the answer if it is a success.
    async fn send(
        &self,
        method: Method,
        key: &str,
        headers: &[(HeaderName, HeaderValue)],
        payload: Option<(Payload, &Digest)>,
    ) -> std::result::Result<Answer, ErrorKind> {
        self.send_with((method, key, ""), headers, payload).await
    }

    /// The same with a query, which is escaped and in order as signatures have it.
    async fn send_with(
        &self,
        (method, key, query): (Method, &str, &str),
        headers: &[(HeaderName, HeaderValue)],
        payload: Option<(Payload, &Digest)>,
    ) -> std::result::Result<Answer, ErrorKind> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path(), encoded(key, true)));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = Request::new(method, url);
        request.headers.extend(headers.iter().cloned());
        let content = payload.as_ref().map_or_else(|| Digest::of(b""), |(_, digest)| **digest);
        request.payload = payload.map(|(payload, _)| payload);
        let mut authorization = None;
        if let Some(keys) = &self.options.keys {
            let signed = Signed { keys, region: &self.options.region, at: self.clock.now() };
            authorization = Some(signed.sign(&mut request, &content)?);
        }
        let transport = self.client.transport();
        let mut answer = transport.exchange(&request, authorization.as_ref()).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = transport.body(&mut answer, ERROR_LIMIT).await.unwrap_or_default();
        Err(refusal(status, &String::from_utf8_lossy(&body)))
    }

    fn context(&self, action: &'static str, key: &str) -> Context {
        Context::object(action, &self.options.bucket, &hosts::host_of(&self.base), key)
    }
}

/// The URL below which the objects are: it ends with a slash.
fn base_url(options: &BucketOptions) -> Option<Url> {
    let amazon = format!("https://s3.{}.amazonaws.com", options.region);
    let endpoint = options.endpoint.as_deref().unwrap_or(&amazon);
    let mut url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let plain = url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
    let bucket = encoded(&options.bucket, false);
    if !plain || bucket != options.bucket || bucket.is_empty() || bucket.starts_with('.') {
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if options.path_style {
        url.set_path(&format!("{path}/{bucket}/"));
    } else {
        let host = format!("{bucket}.{}", url.host_str()?);
        url.set_host(Some(&host)).ok()?;
        url.set_path(&format!("{path}/"));
    }
    Some(url)
}

/// The answer, if there is such an object.
fn found(answer: std::result::Result<Answer, ErrorKind>) -> std::result::Result<Option<Answer>, ErrorKind> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // A look at the head has no document that says what is missing.
        Err(ErrorKind::Storage { status: 404, code, .. }) if matches!(code.as_str(), "NoSuchKey" | "") => {
            Ok(None)
        }
        Err(kind) => Err(kind),
    }
}

/// What an answer that is no success says. Source: S3 API Reference, "Error responses".
pub(crate) fn refusal(status: StatusCode, body: &str) -> ErrorKind {
    ErrorKind::Storage {
        status: status.as_u16(),
        code: element(body, "Code"),
        message: element(body, "Message"),
    }
}

/// The text of the first element that is called so; empty if there is none.
fn element(body: &str, name: &str) -> String {
    let rest = body.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    let text = rest.split_once(&format!("</{name}>")).map_or("", |(text, _)| text);
    crate::http_error::printable(text, LONGEST_ELEMENT)
}

/// Reads `Last-Modified` (RFC 9110, section 5.6.7).
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(endpoint: Option<&str>, bucket: &str, path_style: bool) -> Option<String> {
        let endpoint = endpoint.map(str::to_owned);
        let (bucket, region) = (bucket.to_owned(), "eu-west-1".to_owned());
        let options =
            BucketOptions { bucket, region, endpoint, path_style, keys: None, parts: Parts::default() };
        base_url(&options).map(|url| url.to_string())
    }

    #[test]
    fn buckets_are_in_the_host_or_in_the_path() {
        let url = |url: &str| Some(url.to_owned());
        assert_eq!(base(None, "b", false), url("https://b.s3.eu-west-1.amazonaws.com/"));
        assert_eq!(base(None, "b", true), url("https://s3.eu-west-1.amazonaws.com/b/"));
        assert_eq!(base(Some("http://127.0.0.1:9000/x/"), "b", true), url("http://127.0.0.1:9000/x/b/"));
        for (endpoint, bucket) in [
            ("ftp://x", "b"),
            ("nothing", "b"),
            ("http://u@h", "b"),
            ("http://h", "a/b"),
            ("http://h", ".."),
            ("http://h?x", "b"),
        ] {
            assert_eq!(base(Some(endpoint), bucket, true), None, "{endpoint} {bucket}");
        }
    }

    #[test]
    fn error_documents_are_read_as_far_as_they_make_sense() {
        let body =
            "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>The key\u{7} is gone.</Message>";
        let kind = refusal(StatusCode::NOT_FOUND, body);
        assert_eq!(kind.to_string(), "the object store answered 404: NoSuchKey (The key  is gone.)");
        assert!(found(Err(kind)).is_ok());
        let kind = refusal(StatusCode::FORBIDDEN, "<Code><Message>");
        assert_eq!(kind.to_string(), "the object store answered 403");
        assert!(found(Err(refusal(StatusCode::NOT_FOUND, "<Code>NoSuchBucket</Code>"))).is_err());
    }

    #[test]
    fn dates_are_those_of_http() {
        let time = http_date("Wed, 12 Oct 2009 17:50:00 GMT");
        assert_eq!(
            time.or_else(|| http_date("Mon, 12 Oct 2009 17:50:00 GMT")),
            "2009-10-12T17:50:00Z".parse().ok()
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
